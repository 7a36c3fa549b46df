// @ts-check
/** What the page holds, turned from the columns it was written in into something to ask. */

/**
 * @typedef {{
 *   title: string, outcome: string, ended: string, losses: string, lost: boolean, notes: string[],
 *   kinds: string[], strings: string[], path: number[],
 *   processes: [number, number][],
 *   tasks: [number, number, number, number][],
 *   hops: Record<string, number[]>,
 *   acts: Record<string, number[]>,
 *   triggers: number[][],
 *   stacks: number[][],
 *   frames: [number, number, number, number][],
 *   sources: [number, number, string[]][],
 * }} Payload
 */

export const ON_PATH = 1, REPLY = 2, NEAR_GAP = 4, NOT_SURE = 8;

export class Flow {
  /** @param {Payload} payload */
  constructor(payload) {
    this.head = payload;
    this.s = payload.strings;
    this.hop = payload.hops;
    this.act = payload.acts;
    this.count = payload.hops.n.length;
    this.path = payload.path;
    /**
     * Index of a hop by its number.
     * @type {Map<number, number>}
     */
    this.byNumber = new Map(payload.hops.n.map((n, i) => [n, i]));
    /**
     * Index of an activation by its id.
     * @type {Map<number, number>}
     */
    this.actIndex = new Map(payload.acts.id.map((id, i) => [id, i]));
    this.end = 0;
    for (let i = 0; i < this.count; i++) this.end = Math.max(this.end, this.hop.arrived[i], this.hop.t[i]);
    for (const end of payload.acts.end) this.end = Math.max(this.end, end);
  }

  /** @param {number} hop @param {number} flag */
  is(hop, flag) {
    return (this.hop.flags[hop] & flag) !== 0;
  }

  /** @param {number} task */
  who(task) {
    return this.s[this.head.tasks[task][2]];
  }

  /** @param {number} task */
  ids(task) {
    return this.s[this.head.tasks[task][3]];
  }

  /**
   * What carried the hop, in words.
   * @param {number} hop
   */
  by(hop) {
    return this.s[this.hop.by[hop]];
  }

  /** @param {number} hop */
  kind(hop) {
    return this.head.kinds[this.hop.kind[hop]];
  }

  /** @param {number} hop */
  heading(hop) {
    const from = this.hop.from[hop], to = this.hop.to[hop];
    return `${this.who(from)} ${this.ids(from)} → ${this.who(to)} ${this.ids(to)}`;
  }

  /**
   * Frames of a stack, innermost first.
   * @param {number} stack
   */
  frames(stack) {
    return (this.head.stacks[stack] || []).map((f) => {
      const [place, full, source, kept] = this.head.frames[f];
      return { place: this.s[place], full: this.s[full], source: source < 0 ? null : this.head.sources[source], kept: kept !== 0 };
    });
  }

  /**
   * Everything of a hop that can be searched for, in lower case.
   * @param {number} hop
   */
  haystack(hop) {
    const words = [String(this.hop.n[hop]), this.heading(hop), this.by(hop), this.kind(hop), this.s[this.hop.detail[hop]]];
    for (const stack of [this.hop.stack_from[hop], this.hop.stack_to[hop]]) {
      for (const frame of this.head.stacks[stack] || []) words.push(this.s[this.head.frames[frame][1]]);
    }
    return words.join(" ").toLowerCase();
  }
}

/**
 * Milliseconds with as many digits as help.
 * @param {number} ns
 */
export function milliseconds(ns) {
  const ms = ns / 1e6;
  return ms >= 10000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(ms >= 100 ? 1 : 3)} ms`;
}
