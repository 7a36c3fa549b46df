// @ts-check
/** The time view: lanes, activations as boxes, hops as numbered arrows, on a canvas that pans and zooms. */
import { AXIS, LABELS, LANE, Lanes } from "./lanes.js";
import { paint } from "./paint.js";
import { Scale } from "./scale.js";

const NEAR = 7, EDGE = 24; // pixels

/** @typedef {{ hops: number[], squeeze: boolean }} Shown */

export class Chart {
  /**
   * Hops shown, in the order they were made.
   * @type {number[]}
   */
  hops = [];
  /**
   * Activations shown, by where they begin.
   * @type {number[]}
   */
  acts = [];
  selected = -1;
  /**
   * Hops that were searched for.
   * @type {Set<number>}
   */
  marked = new Set();
  /** How often it was painted. */
  frames = 0;
  width = 0;
  height = 0;
  /** The place at the left edge, pixels for a unit of place, pixels scrolled down. */
  left = 0;
  zoom = 1;
  top = 0;
  pending = false;
  scale = new Scale([], false);
  // Where the hops and activations begin and end.
  x1 = new Float64Array();
  x2 = new Float64Array();
  y1 = new Float64Array();
  y2 = new Float64Array();
  ay = new Float64Array();
  ax1 = new Float64Array();
  ax2 = new Float64Array();

  /**
   * @param {HTMLCanvasElement} canvas @param {import("./data.js").Flow} flow
   * @param {(hop: number) => void} chosen called when a hop is clicked
   */
  constructor(canvas, flow, chosen) {
    this.canvas = canvas;
    this.flow = flow;
    this.chosen = chosen;
    const context = canvas.getContext("2d");
    if (!context) throw new Error("this browser draws no canvas");
    this.g = context;
    this.lanes = new Lanes(flow, []);
    this.show({ hops: [...Array(flow.count).keys()], squeeze: true });
    this.listen();
  }

  /**
   * A colour of the page's style sheet.
   * @param {string} name
   */
  color(name) {
    let color = this.colors.get(name);
    if (color === undefined) {
      color = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
      this.colors.set(name, color);
    }
    return color;
  }

  /** @type {Map<string, string>} */
  colors = new Map();

  /**
   * Draw these hops from now on.
   * @param {Shown} shown
   */
  show(shown) {
    const flow = this.flow;
    this.hops = shown.hops;
    this.lanes = new Lanes(flow, shown.hops);
    const acts = new Set();
    const moments = [0];
    for (const hop of shown.hops) {
      moments.push(flow.hop.t[hop], flow.hop.arrived[hop]);
      acts.add(flow.hop.act_from[hop]).add(flow.hop.act_to[hop]);
    }
    this.acts = [];
    for (const id of acts) {
      const at = flow.actIndex.get(id);
      if (at !== undefined) this.acts.push(at);
    }
    this.acts.sort((a, b) => flow.act.start[a] - flow.act.start[b]);
    for (const act of this.acts) moments.push(flow.act.start[act], flow.act.end[act]);
    this.scale = new Scale(moments, shown.squeeze);
    this.x1 = Float64Array.from(shown.hops, (hop) => this.scale.place(flow.hop.t[hop]));
    this.x2 = Float64Array.from(shown.hops, (hop) => this.scale.place(Math.max(flow.hop.arrived[hop], flow.hop.t[hop])));
    this.y1 = Float64Array.from(shown.hops, (hop) => this.lanes.middle[flow.hop.from[hop]]);
    this.y2 = Float64Array.from(shown.hops, (hop) => this.lanes.middle[flow.hop.to[hop]]);
    this.ay = Float64Array.from(this.acts, (act) => this.lanes.middle[flow.act.task[act]]);
    this.ax1 = Float64Array.from(this.acts, (act) => this.scale.place(flow.act.start[act]));
    this.ax2 = Float64Array.from(this.acts, (act) => this.scale.place(flow.act.end[act]));
    this.fit();
  }

  fit() {
    this.measure();
    const room = Math.max(this.width - LABELS - 2 * EDGE, 50);
    this.zoom = room / Math.max(this.scale.length, 1);
    this.left = this.scale.shown[0] - EDGE / this.zoom;
    this.top = 0;
    this.draw();
  }

  measure() {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    this.width = box.width;
    this.height = box.height;
    const w = Math.max(1, Math.round(box.width * ratio)), h = Math.max(1, Math.round(box.height * ratio));
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    this.g.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.colors.clear();
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.paintNow();
    });
  }

  paintNow() {
    this.frames++;
    paint(this);
  }

  /** @param {number} place */
  x(place) {
    return LABELS + (place - this.left) * this.zoom;
  }

  /**
   * Whether something from `top` to `bottom` of the lanes is on the screen.
   * @param {number} top @param {number} bottom
   */
  visible(top, bottom) {
    return bottom >= this.top && top <= this.top + this.height;
  }

  /** Hops that are on the screen, as positions in `hops`. */
  onScreen() {
    const found = [], { x1, x2, y1, y2 } = this;
    const from = this.left, to = this.left + (this.width - LABELS) / this.zoom;
    const top = this.top, bottom = this.top + this.height;
    for (let i = 0; i < x1.length; i++) {
      if (x2[i] < from || x1[i] > to) continue;
      if (y1[i] < top && y2[i] < top || y1[i] > bottom && y2[i] > bottom) continue;
      found.push(i);
    }
    return found;
  }

  /** @param {number} i @returns {[number, number, number, number]} */
  ends(i) {
    const hop = this.hops[i], same = this.flow.hop.from[hop] === this.flow.hop.to[hop];
    const x1 = this.x(this.x1[i]), x2 = this.x(this.x2[i]);
    const y1 = this.y1[i], y2 = this.y2[i];
    return [x1, y1, same ? Math.max(x2, x1 + 10) : x2, y2];
  }

  // --- moving -----------------------------------------------------------------------------------------

  /** @param {number} x by so many pixels @param {number} y */
  pan(x, y) {
    this.left += x / this.zoom;
    this.top = Math.max(0, Math.min(this.top + y, Math.max(0, this.lanes.height - this.height + AXIS + 40)));
    this.draw();
  }

  /** @param {number} factor @param {number} [x] the pixel that stays where it is */
  zoomBy(factor, x = LABELS + (this.width - LABELS) / 2) {
    const place = this.left + (x - LABELS) / this.zoom;
    const least = 0.2 * (this.width - LABELS) / Math.max(this.scale.length, 1);
    this.zoom = Math.max(least, Math.min(this.zoom * factor, 1e3));
    this.left = place - (x - LABELS) / this.zoom;
    this.draw();
  }

  /**
   * Bring a hop to where it can be seen.
   * @param {number} hop
   */
  reveal(hop) {
    this.selected = hop;
    const at = this.hops.indexOf(hop);
    if (at >= 0) {
      const width = (this.width - LABELS) / this.zoom, x = (this.x1[at] + this.x2[at]) / 2;
      if (x < this.left || x > this.left + width) this.left = x - width / 2;
      const y = this.lanes.middle[this.flow.hop.to[hop]];
      if (y < this.top || y > this.top + this.height - AXIS - LANE) this.top = Math.max(0, y - this.height / 2);
    }
    this.draw();
  }

  /**
   * The hop nearest to a point of the canvas; -1 if none is near.
   * @param {number} x @param {number} y
   */
  at(x, y) {
    let best = -1, least = NEAR;
    for (const i of this.onScreen()) {
      const [x1, y1, x2, y2] = this.ends(i);
      const lift = y1 === y2 ? -12 : 0;
      const middle = Math.hypot(x - (x1 + x2) / 2, y - AXIS + this.top - (y1 + y2) / 2 - lift) - 6;
      const away = Math.min(middle, distance(x, y - AXIS + this.top, x1, y1, x2, y2));
      if (away < least) {
        least = away;
        best = this.hops[i];
      }
    }
    return best;
  }

  listen() {
    let from = /** @type {{ x: number, y: number, moved: boolean } | null} */ (null);
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      from = { x: event.offsetX, y: event.offsetY, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      if (!from.moved && Math.hypot(event.offsetX - from.x, event.offsetY - from.y) < 4) return;
      this.pan(from.x - event.offsetX, from.y - event.offsetY);
      from = { x: event.offsetX, y: event.offsetY, moved: true };
    });
    canvas.addEventListener("pointerup", (event) => {
      if (from && !from.moved) {
        const hop = this.at(event.offsetX, event.offsetY);
        if (hop >= 0) this.chosen(hop);
      }
      from = null;
    });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey || !event.shiftKey && Math.abs(event.deltaY) > Math.abs(event.deltaX) && event.altKey) {
        this.zoomBy(Math.exp(-event.deltaY / 300), event.offsetX);
      } else if (event.shiftKey) this.pan(event.deltaY, 0);
      else this.pan(event.deltaX, event.deltaY);
    }, { passive: false });
    window.addEventListener("resize", () => {
      this.measure();
      this.draw();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.measure();
      this.draw();
    });
  }
}

/**
 * How far a point is from a line between two others.
 * @param {number} x @param {number} y @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2
 */
function distance(x, y, x1, y1, x2, y2) {
  const dx = x2 - x1, dy = y2 - y1, length = dx * dx + dy * dy || 1;
  const part = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / length));
  return Math.hypot(x - x1 - part * dx, y - y1 - part * dy);
}
