// @ts-check
/** What is known of one hop: both backtraces with their source, what carried it, and the command that holds there. */
import { milliseconds, NEAR_GAP, NOT_SURE, ON_PATH, REPLY } from "./data.js";

/** @param {string} tag @param {string} [text] @param {string} [name] */
export function make(tag, text = "", name = "") {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (name) element.className = name;
  return element;
}

/**
 * Fill the panel with a hop.
 * @param {HTMLElement} panel @param {import("./data.js").Flow} flow @param {number} hop
 */
export function fill(panel, flow, hop) {
  const h = flow.hop, s = flow.s;
  panel.replaceChildren();
  panel.append(make("h2", `Hop ${h.n[hop]}`), make("p", flow.heading(hop), "heading"));
  const facts = make("dl");
  const fact = (/** @type {string} */ name, /** @type {string} */ value) => {
    if (value) facts.append(make("dt", name), make("dd", value));
  };
  fact("by", flow.by(hop));
  fact("", s[h.detail[hop]]);
  fact("left", `${milliseconds(h.t[hop])} after the beginning`);
  fact("took", milliseconds(Math.max(0, h.arrived[hop] - h.t[hop])));
  fact("calls", [s[h.call_from[hop]], s[h.call_to[hop]]].filter(Boolean).join(" → "));
  fact("evidence", s[h.evidence[hop]]);
  const marks = [];
  if (flow.is(hop, ON_PATH)) marks.push("on the path");
  if (flow.is(hop, REPLY)) marks.push("a reply");
  if (flow.is(hop, NEAR_GAP)) marks.push("events were lost near here");
  fact("", marks.join(", "));
  panel.append(facts);
  for (const caveat of s[h.caveats[hop]].split("\n").filter(Boolean)) panel.append(make("p", caveat, flow.is(hop, NOT_SURE) ? "caveat" : "note"));
  const command = s[h.hold[hop]];
  if (command) panel.append(make("h3", "To stop there on the next run"), copied(command));
  const core = s[h.core[hop]];
  if (core && h.stack_from[hop] >= 0) panel.append(make("h3", "To look at it in gdb"), copied(core));
  panel.append(...backtrace(flow, h.stack_from[hop], "Where it left"), ...backtrace(flow, h.stack_to[hop], "Where it arrived"));
}

/**
 * A command with a button that copies it.
 * @param {string} command
 */
function copied(command) {
  const line = make("div", "", "command"), code = make("code", command), button = make("button", "copy");
  button.setAttribute("type", "button");
  button.addEventListener("click", async () => {
    button.textContent = await copy(command, code) ? "copied" : "press Ctrl+C";
  });
  line.append(code, button);
  return line;
}

/** @param {string} text @param {HTMLElement} shown */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A page from a file may not be allowed to: select it, so that the reader can.
    const range = document.createRange(), selection = getSelection();
    range.selectNodeContents(shown);
    selection?.removeAllRanges();
    selection?.addRange(range);
    return document.execCommand("copy");
  }
}

/** @param {import("./data.js").Flow} flow @param {number} stack @param {string} title */
function backtrace(flow, stack, title) {
  const frames = flow.frames(stack);
  if (!frames.length) return [];
  const list = make("ol", "", "frames");
  list.setAttribute("start", "0");
  for (const frame of frames) {
    const item = make("li", "", frame.kept ? "kept" : "plumbing");
    item.append(make("span", frame.place, "place"));
    item.title = frame.full;
    if (frame.source) item.append(source(frame.source));
    list.append(item);
  }
  return [make("h3", title), list];
}

/**
 * Some lines of a file, the frame's own marked.
 * @param {[number, number, string[]]} found first line, own line, lines
 */
function source([first, own, lines]) {
  const text = make("pre", "", "source");
  lines.forEach((line, i) => {
    const row = make(first + i === own ? "b" : "span", `${String(first + i).padStart(5)}  ${line}\n`);
    text.append(row);
  });
  return text;
}
