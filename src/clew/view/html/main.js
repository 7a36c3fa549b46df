// @ts-check
/** The page: reads what it holds, and connects chart, tree, panel, search and filters. */
import { Chart } from "./chart.js";
import { Flow, ON_PATH, REPLY } from "./data.js";
import { fill, make } from "./panel.js";
import { Tree } from "./tree.js";

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function found(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${id}`);
  return element;
}

const started = performance.now();
const flow = new Flow(JSON.parse(found("flow", HTMLScriptElement).textContent || "{}"));
document.documentElement.classList.add("scripted");

const panel = found("panel", HTMLElement), search = found("search", HTMLInputElement);
const hits = found("hits", HTMLElement), help = found("help", HTMLElement);
const filters = found("filters", HTMLElement);
let selected = -1;
/** @type {number[]} */
let matches = [];
/** @type {string[] | null} */
let haystacks = null;

const chart = new Chart(found("chart", HTMLCanvasElement), flow, choose);
const tree = new Tree(found("tree", HTMLElement), flow, choose);

const state = {
  part: flow.path.length ? "path" : "all",
  replies: true,
  squeeze: true,
  kind: "",
  process: -1,
  view: "time",
};

/** Hops that the filters leave. */
function shownHops() {
  const near = nearPath();
  const shown = [];
  for (let hop = 0; hop < flow.count; hop++) {
    if (state.part === "path" && !near.has(hop)) continue;
    if (!state.replies && flow.is(hop, REPLY) && !flow.is(hop, ON_PATH)) continue;
    if (state.kind && flow.kind(hop) !== state.kind) continue;
    if (state.process >= 0 && ![flow.hop.from[hop], flow.hop.to[hop]].some((task) => flow.head.tasks[task][0] === state.process)) continue;
    shown.push(hop);
  }
  return shown;
}

/** The path, and what its stretches of work said to each other besides. */
function nearPath() {
  const inside = new Set(), near = new Set();
  for (let hop = 0; hop < flow.count; hop++) {
    if (flow.is(hop, ON_PATH)) inside.add(flow.hop.act_from[hop]).add(flow.hop.act_to[hop]);
  }
  for (let hop = 0; hop < flow.count; hop++) {
    if (flow.is(hop, ON_PATH) || inside.has(flow.hop.act_from[hop]) && inside.has(flow.hop.act_to[hop])) near.add(hop);
  }
  return near;
}

function refresh() {
  const shown = shownHops();
  chart.show({ hops: shown, squeeze: state.squeeze });
  if (state.view === "causes") tree.show(shown);
  found("shown", HTMLElement).textContent = `${shown.length.toLocaleString("en")} of ${flow.count.toLocaleString("en")} hops`;
  for (const button of filters.querySelectorAll("button[data-set]")) {
    if (!(button instanceof HTMLElement)) continue;
    const [name, value] = (button.dataset.set || "").split("=");
    button.setAttribute("aria-pressed", String(String(Reflect.get(state, name)) === value));
  }
}

/** @param {string} view */
function showView(view) {
  state.view = view;
  document.body.dataset.view = view;
  refresh();
}

/** @param {number} hop */
function choose(hop) {
  selected = hop;
  fill(panel, flow, hop);
  panel.hidden = false;
  chart.measure();
  chart.reveal(hop);
  history.replaceState(null, "", `#hop=${flow.hop.n[hop]}`);
}

function close() {
  panel.hidden = help.hidden = true;
  selected = chart.selected = -1;
  chart.measure();
  chart.draw();
  history.replaceState(null, "", "#");
}

/**
 * Select the next of what is listed: of the matches, else of the path, else of all.
 * @param {number} by
 */
function step(by) {
  const list = matches.length ? matches : state.part === "path" ? flow.path.map((n) => flow.byNumber.get(n) ?? -1) : [...chart.hops];
  if (!list.length) return;
  const at = list.indexOf(selected);
  choose(list[at < 0 ? (by > 0 ? 0 : list.length - 1) : (at + by + list.length) % list.length]);
}

function find() {
  const wanted = search.value.trim().toLowerCase();
  matches = [];
  if (wanted) {
    haystacks = haystacks || Array.from({ length: flow.count }, (_, hop) => flow.haystack(hop));
    haystacks.forEach((text, hop) => text.includes(wanted) && matches.push(hop));
  }
  chart.marked = new Set(matches);
  hits.textContent = wanted ? `${matches.length.toLocaleString("en")} hop${matches.length === 1 ? "" : "s"}` : "";
  if (matches.length && state.part === "path" && !matches.some((hop) => chart.hops.includes(hop))) {
    state.part = "all";
    refresh();
  }
  chart.draw();
}

/** @param {HTMLSelectElement} select @param {string} all @param {[string, string][]} choices */
function choices(select, all, choices) {
  for (const [value, text] of [["", all], ...choices]) {
    const option = make("option", text);
    option.setAttribute("value", value);
    select.append(option);
  }
}

function listen() {
  filters.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("button[data-set]") : null;
    if (!(button instanceof HTMLElement)) return;
    const [name, value] = (button.dataset.set || "").split("=");
    if (name === "view") return showView(value);
    const now = Reflect.get(state, name);
    Reflect.set(state, name, typeof now === "boolean" ? !now : value);
    refresh();
  });
  const kind = found("kind", HTMLSelectElement), process = found("process", HTMLSelectElement);
  choices(kind, "every kind", flow.head.kinds.map((name) => [name, name]));
  choices(process, "every process", flow.head.processes.slice(0, 2000).map(([pid, name], i) => [String(i), `${flow.s[name]} ${pid}`]));
  kind.addEventListener("change", () => { state.kind = kind.value; refresh(); });
  process.addEventListener("change", () => { state.process = process.value === "" ? -1 : Number(process.value); refresh(); });
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") { search.value = ""; find(); search.blur(); }
  });
  window.addEventListener("hashchange", fromHash);
  window.addEventListener("keydown", key);
}

/** @type {Record<string, () => void>} */
const KEYS = {
  w: () => chart.zoomBy(1.4), s: () => chart.zoomBy(1 / 1.4), a: () => chart.pan(-90, 0), d: () => chart.pan(90, 0),
  "+": () => chart.zoomBy(1.4), "-": () => chart.zoomBy(1 / 1.4),
  ArrowLeft: () => chart.pan(-60, 0), ArrowRight: () => chart.pan(60, 0),
  ArrowUp: () => chart.pan(0, -52), ArrowDown: () => chart.pan(0, 52),
  f: () => chart.fit(), n: () => step(1), p: () => step(-1),
  c: () => showView(state.view === "time" ? "causes" : "time"),
  "/": () => search.focus(), "?": () => { help.hidden = !help.hidden; }, Escape: close,
};

/** @param {KeyboardEvent} event */
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (event.target instanceof HTMLButtonElement && event.key === "Enter")) return;
  event.preventDefault();
  act();
}

function fromHash() {
  const wanted = /^#hop=(\d{1,9})$/.exec(location.hash);
  const hop = wanted ? flow.byNumber.get(Number(wanted[1])) : undefined;
  if (hop === undefined) return;
  if (!chart.hops.includes(hop)) { state.part = "all"; state.kind = ""; state.process = -1; refresh(); }
  choose(hop);
}

listen();
showView("time");
fromHash();
// For whoever measures: how long the page took, and how often the chart was painted.
Reflect.set(window, "clew", { chart, tree, flow, state, choose, ready: performance.now() - started });
