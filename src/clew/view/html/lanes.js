// @ts-check
/** Rows of the chart: a lane for each task, the tasks of a process together, in order of appearance. */

export const LANE = 26, HEAD = 20; // pixels high: a task, the name of its process
export const LABELS = 190, AXIS = 26; // wide: their names; high: the times

/** @typedef {{ task: number, y: number }} Lane */
/** @typedef {{ process: number, y: number, bottom: number }} Group */

export class Lanes {
  /**
   * @param {import("./data.js").Flow} flow
   * @param {Iterable<number>} hops those shown
   */
  constructor(flow, hops) {
    /** @type {Map<number, number[]>} */
    const byProcess = new Map();
    const seen = new Set();
    for (const hop of hops) {
      for (const task of [flow.hop.from[hop], flow.hop.to[hop]]) {
        if (seen.has(task)) continue;
        seen.add(task);
        const process = flow.head.tasks[task][0];
        const tasks = byProcess.get(process);
        if (tasks) tasks.push(task);
        else byProcess.set(process, [task]);
      }
    }
    /** @type {Lane[]} */
    this.lanes = [];
    /** @type {Group[]} */
    this.groups = [];
    /**
     * Middle of a task's lane; -1 if it is not shown.
     * @type {Float64Array}
     */
    this.middle = new Float64Array(flow.head.tasks.length).fill(-1);
    let y = 0;
    for (const [process, tasks] of byProcess) {
      const top = y;
      y += HEAD;
      for (const task of tasks) {
        this.lanes.push({ task, y });
        this.middle[task] = y + LANE / 2;
        y += LANE;
      }
      this.groups.push({ process, y: top, bottom: y });
      y += 4;
    }
    this.height = y;
  }
}
