// @ts-check
/** Time on the chart: stretches in which nothing happens are squeezed, and known to be. */

const WIDEST = 1 / 20, OF_FEW = 4; // the part of the page that one gap may have; of few gaps, OF_FEW / their number

export class Scale {
  /** @param {number[]} moments times at which something is drawn, in any order @param {boolean} squeeze */
  constructor(moments, squeeze) {
    const sorted = Float64Array.from(moments).sort();
    /** @type {number[]} */
    const real = [];
    for (const t of sorted) if (!real.length || t > real[real.length - 1]) real.push(t);
    if (!real.length) real.push(0);
    if (real.length === 1) real.push(real[0] + 1);
    const longest = squeeze ? longestGap(real) : Infinity;
    this.real = Float64Array.from(real);
    this.shown = new Float64Array(real.length);
    /**
     * Gaps that are shorter on the page than they were.
     * @type {{ from: number, to: number }[]}
     */
    this.squeezed = [];
    for (let i = 1; i < real.length; i++) {
      const gap = real[i] - real[i - 1];
      this.shown[i] = this.shown[i - 1] + Math.min(gap, longest);
      if (gap > longest) this.squeezed.push({ from: real[i - 1], to: real[i] });
    }
    this.length = this.shown[real.length - 1];
  }

  /**
   * Place of a time.
   * @param {number} t
   */
  place(t) {
    return through(this.real, this.shown, t);
  }

  /**
   * Time at a place.
   * @param {number} place
   */
  time(place) {
    return through(this.shown, this.real, place);
  }
}

/**
 * The length from which on a gap is cut, so that none takes too much of the whole.
 * @param {number[]} real
 */
function longestGap(real) {
  const widest = Math.max(WIDEST, OF_FEW / real.length);
  let longest = real[real.length - 1] - real[0];
  for (let round = 0; round < 20; round++) {
    let total = 0;
    for (let i = 1; i < real.length; i++) total += Math.min(real[i] - real[i - 1], longest);
    const next = total * widest;
    if (next >= longest) break;
    longest = next;
  }
  return Math.max(longest, 1);
}

/**
 * Linear between the steps of `from`, and beyond its ends.
 * @param {Float64Array} from @param {Float64Array} to @param {number} x
 */
function through(from, to, x) {
  const last = from.length - 1;
  if (x <= from[0]) return to[0] + (x - from[0]);
  if (x >= from[last]) return to[last] + (x - from[last]);
  let low = 0, high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from[middle] <= x) low = middle;
    else high = middle;
  }
  const part = (x - from[low]) / (from[high] - from[low] || 1);
  return to[low] + part * (to[high] - to[low]);
}
