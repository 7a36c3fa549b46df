// @ts-check
/** The cause view: what began the request, what that caused, and so on; alike causes are one line with their number. */
import { milliseconds, ON_PATH } from "./data.js";

const ALIKE = 3, MOST = 200;

/** @typedef {{ hops: number[], act: number }} Node a hop (or alike ones), and the activation the first one began; -1: none */

export class Tree {
  /**
   * Hops by the activation they left.
   * @type {Map<number, number[]>}
   */
  leaving = new Map();
  /**
   * The hop that first began an activation.
   * @type {Map<number, number>}
   */
  began = new Map();
  /**
   * How many hops an activation led to.
   * @type {Map<number, number>}
   */
  sizes = new Map();
  /**
   * Hops that the path passes, or that led to it.
   * @type {Set<number>}
   */
  leads = new Set();

  /**
   * @param {HTMLElement} element @param {import("./data.js").Flow} flow
   * @param {(hop: number) => void} chosen
   */
  constructor(element, flow, chosen) {
    this.element = element;
    this.flow = flow;
    this.chosen = chosen;
    this.index([...Array(flow.count).keys()]);
    element.setAttribute("role", "tree");
    element.addEventListener("keydown", (event) => this.key(event));
  }

  /**
   * Show only these hops.
   * @param {number[]} hops
   */
  show(hops) {
    this.index(hops);
    this.element.replaceChildren();
    const list = document.createElement("ul");
    list.setAttribute("role", "group");
    for (const node of this.roots(hops)) list.append(this.line(node, 1));
    this.element.append(list);
    const first = this.element.querySelector("[role=treeitem]");
    if (first instanceof HTMLElement) first.tabIndex = 0;
    this.open(list, 3);
  }

  /** @param {number[]} hops */
  index(hops) {
    const { flow } = this;
    this.leaving = new Map();
    this.began = new Map();
    this.sizes = new Map();
    for (const hop of hops) {
      const from = flow.hop.act_from[hop], to = flow.hop.act_to[hop];
      const leaving = this.leaving.get(from);
      if (leaving) leaving.push(hop);
      else this.leaving.set(from, [hop]);
      const at = flow.actIndex.get(to);
      const triggers = at === undefined ? [] : flow.head.triggers[at];
      if (to !== from && triggers.includes(flow.hop.n[hop]) && !this.began.has(to)) this.began.set(to, hop);
    }
    this.leads = new Set();
    for (const hop of hops) if (flow.is(hop, ON_PATH)) this.trace(hop);
  }

  /**
   * Note what led to a hop.
   * @param {number} hop
   */
  trace(hop) {
    /** @type {number | undefined} */
    let at = hop;
    while (at !== undefined && !this.leads.has(at)) {
      this.leads.add(at);
      at = this.began.get(this.flow.hop.act_from[at]);
    }
  }

  /**
   * Hops that no shown hop led to.
   * @param {number[]} hops @returns {Node[]}
   */
  roots(hops) {
    return this.grouped(hops.filter((hop) => !this.began.has(this.flow.hop.act_from[hop])));
  }

  /**
   * The activation that a hop began, -1 if it began none.
   * @param {number} hop
   */
  begins(hop) {
    const act = this.flow.hop.act_to[hop];
    return this.began.get(act) === hop ? act : -1;
  }

  /**
   * Alike hops together: to the same program by the same way.
   * @param {number[]} hops @returns {Node[]}
   */
  grouped(hops) {
    const { flow } = this;
    /** @type {Map<string, number[]>} */
    const alike = new Map();
    for (const hop of hops) {
      const key = [flow.hop.kind[hop], flow.head.tasks[flow.hop.to[hop]][2], flow.hop.how[hop], this.leads.has(hop)].join();
      const group = alike.get(key);
      if (group) group.push(hop);
      else alike.set(key, [hop]);
    }
    /** @type {Node[]} */
    const nodes = [];
    for (const group of alike.values()) {
      if (group.length > ALIKE && !this.leads.has(group[0])) nodes.push({ hops: group, act: -1 });
      else for (const hop of group) nodes.push({ hops: [hop], act: this.begins(hop) });
    }
    return nodes.sort((a, b) => a.hops[0] - b.hops[0]);
  }

  /**
   * Hops below an activation, itself included.
   * @param {number} act @returns {number}
   */
  size(act) {
    const known = this.sizes.get(act);
    if (known !== undefined) return known;
    this.sizes.set(act, 0); // against circles
    /** @type {number[]} */
    const todo = [act];
    let total = 0;
    while (todo.length) {
      const one = /** @type {number} */ (todo.pop());
      for (const hop of this.leaving.get(one) || []) {
        total++;
        const next = this.begins(hop);
        if (next >= 0) todo.push(next);
      }
    }
    this.sizes.set(act, total);
    return total;
  }

  /** @param {Node} node @returns {Node[]} */
  children(node) {
    if (node.hops.length > 1) return node.hops.map((hop) => ({ hops: [hop], act: this.begins(hop) }));
    return node.act < 0 ? [] : this.grouped(this.leaving.get(node.act) || []);
  }

  /** @param {Node} node @param {number} level */
  line(node, level) {
    const { flow } = this, hop = node.hops[0], many = node.hops.length > 1;
    const item = document.createElement("li");
    item.setAttribute("role", "treeitem");
    item.setAttribute("aria-level", String(level));
    item.tabIndex = -1;
    item.dataset.hop = String(flow.hop.n[hop]);
    const row = document.createElement("div");
    row.className = "row";
    if (flow.is(hop, ON_PATH)) row.classList.add("on-path");
    if (this.leads.has(hop) && !many) row.classList.add("leads");
    const below = many ? node.hops.length : node.act < 0 ? 0 : this.size(node.act);
    const add = (/** @type {string} */ name, /** @type {string} */ text) => {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      row.append(part);
    };
    add("fold", below ? "▸" : "·");
    add("number", many ? `${node.hops.length.toLocaleString("en")} ×` : String(flow.hop.n[hop]));
    add("what", flow.s[flow.hop.how[hop]]);
    add("who", `→ ${flow.who(flow.hop.to[hop])}${many ? "" : " " + flow.ids(flow.hop.to[hop])}`);
    const label = node.act < 0 ? undefined : flow.actIndex.get(node.act);
    if (label !== undefined) add("did", flow.s[flow.act.label[label]]);
    if (below && !many) add("below", `${below.toLocaleString("en")} hop${below === 1 ? "" : "s"} below`);
    add("time", milliseconds(flow.hop.t[hop]));
    item.append(row);
    row.addEventListener("click", () => {
      item.focus();
      if (below) this.toggle(item);
      if (!many) this.chosen(hop);
    });
    if (below) {
      item.setAttribute("aria-expanded", "false");
      this.made.set(item, () => this.list(node, level + 1));
    }
    return item;
  }

  /**
   * How to make what is below a line, until it is made.
   * @type {WeakMap<Element, () => HTMLElement>}
   */
  made = new WeakMap();

  /** @param {Node} node @param {number} level */
  list(node, level) {
    const list = document.createElement("ul");
    list.setAttribute("role", "group");
    const children = this.children(node);
    const add = (/** @type {number} */ from) => {
      for (const child of children.slice(from, from + MOST)) list.append(this.line(child, level));
      const left = children.length - from - MOST;
      if (left <= 0) return;
      const more = document.createElement("li");
      const button = document.createElement("button");
      button.textContent = `${left.toLocaleString("en")} more`;
      button.addEventListener("click", () => {
        more.remove();
        add(from + MOST);
      });
      more.append(button);
      list.append(more);
    };
    add(0);
    return list;
  }

  /** @param {Element} item @param {boolean} [open] */
  toggle(item, open = item.getAttribute("aria-expanded") !== "true") {
    const make = this.made.get(item);
    if (!make) return;
    item.setAttribute("aria-expanded", String(open));
    const fold = item.querySelector(".fold");
    if (fold) fold.textContent = open ? "▾" : "▸";
    const below = item.querySelector(":scope > ul");
    if (open && !below) item.append(make());
    else if (below instanceof HTMLElement) below.hidden = !open;
  }

  /**
   * Open lines along the path, and the first levels where few are below.
   * @param {Element} list @param {number} depth
   */
  open(list, depth) {
    for (const item of [...list.children]) {
      const onPath = item.querySelector(":scope > .row.leads") !== null;
      const few = list.children.length <= 4;
      if (!(onPath || (depth > 0 && few))) continue;
      this.toggle(item, true);
      const below = item.querySelector(":scope > ul");
      if (below && (below.children.length < 40 || onPath)) this.open(below, depth - 1);
    }
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const items = [...this.element.querySelectorAll("[role=treeitem]")].filter((item) => item instanceof HTMLElement && item.offsetParent !== null);
    const at = items.indexOf(/** @type {Element} */ (document.activeElement));
    if (at < 0) return;
    const item = items[at];
    /** @type {Element | null | undefined} */
    let next = null;
    if (event.key === "ArrowDown") next = items[at + 1];
    else if (event.key === "ArrowUp") next = items[at - 1];
    else if (event.key === "ArrowRight") item.getAttribute("aria-expanded") === "false" ? this.toggle(item, true) : (next = items[at + 1]);
    else if (event.key === "ArrowLeft") item.getAttribute("aria-expanded") === "true" ? this.toggle(item, false) : (next = item.parentElement?.closest("[role=treeitem]"));
    else if (event.key === "Enter" || event.key === " ") {
      const hop = this.flow.byNumber.get(Number(/** @type {HTMLElement} */ (item).dataset.hop));
      if (hop !== undefined) this.chosen(hop);
    } else return;
    event.preventDefault();
    event.stopPropagation();
    if (next instanceof HTMLElement) {
      /** @type {HTMLElement} */ (item).tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  }
}
