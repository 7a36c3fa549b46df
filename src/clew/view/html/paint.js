// @ts-check
/** Draws the time view on its canvas. */
import { milliseconds, NEAR_GAP, NOT_SURE, ON_PATH, REPLY } from "./data.js";
import { AXIS, HEAD, LABELS, LANE } from "./lanes.js";

const FEW = 800; // hops that are drawn one by one
const COLUMN = 3; // pixels: what is narrower is painted once

/** @param {import("./chart.js").Chart} chart */
export function paint(chart) {
  const { g, width, height } = chart;
  g.fillStyle = chart.color("ground");
  g.fillRect(0, 0, width, height);
  g.save();
  g.beginPath();
  g.rect(LABELS, AXIS, width - LABELS, height - AXIS);
  g.clip();
  g.translate(0, AXIS - chart.top);
  paintLanes(chart);
  paintGaps(chart);
  paintActs(chart);
  paintHops(chart);
  g.restore();
  paintLabels(chart);
  paintAxis(chart);
}

/** @param {import("./chart.js").Chart} chart */
function paintLanes(chart) {
  const { g } = chart;
  for (const group of chart.lanes.groups) {
    if (!chart.visible(group.y, group.bottom)) continue;
    g.fillStyle = chart.color("frame");
    g.fillRect(LABELS, group.y, chart.width - LABELS, group.bottom - group.y);
  }
  g.strokeStyle = chart.color("hair");
  g.lineWidth = 1;
  g.beginPath();
  for (const lane of chart.lanes.lanes) {
    if (!chart.visible(lane.y, lane.y + LANE)) continue;
    const y = Math.round(lane.y + LANE / 2) + 0.5;
    g.moveTo(LABELS, y);
    g.lineTo(chart.width, y);
  }
  g.stroke();
}

/**
 * Idle time that was squeezed: a band, with how long it was.
 * @param {import("./chart.js").Chart} chart
 */
function paintGaps(chart) {
  const { g } = chart;
  g.font = "10px system-ui, sans-serif";
  g.textAlign = "center";
  for (const gap of chart.scale.squeezed) {
    const from = chart.x(chart.scale.place(gap.from)), to = chart.x(chart.scale.place(gap.to));
    if (to < LABELS || from > chart.width) continue;
    g.fillStyle = chart.color("gap");
    g.fillRect(from, chart.top, Math.max(to - from, 1), chart.height);
    if (to - from > 46) {
      g.fillStyle = chart.color("pale");
      g.fillText(`⋯ ${milliseconds(gap.to - gap.from)} ⋯`, (from + to) / 2, chart.top + 12);
    }
  }
}

/** @param {import("./chart.js").Chart} chart */
function paintActs(chart) {
  const { g, flow } = chart;
  g.font = "11px system-ui, sans-serif";
  g.textAlign = "left";
  g.textBaseline = "middle";
  const narrow = { path: new Path2D(), other: new Path2D() };
  /** Where a lane has been painted up to, so that what is narrower than a column is painted once. */
  const upTo = new Map();
  for (let i = 0; i < chart.acts.length; i++) {
    const middle = chart.ay[i];
    if (middle < chart.top - LANE || middle > chart.top + chart.height) continue;
    const from = chart.x(chart.ax1[i]), to = Math.max(chart.x(chart.ax2[i]), from + 2);
    if (to < LABELS || from > chart.width) continue;
    const onPath = flow.act.on_path[chart.acts[i]] !== 0;
    if (to - from < 6) {
      if (to <= (upTo.get(middle) ?? -Infinity)) continue;
      upTo.set(middle, from + COLUMN);
      (onPath ? narrow.path : narrow.other).rect(from, middle - 9, COLUMN, 18);
    } else paintAct(chart, chart.acts[i], from, to, middle, onPath);
  }
  g.fillStyle = chart.color("plain");
  g.fill(narrow.other);
  g.fillStyle = chart.color("soft");
  g.fill(narrow.path);
}

/**
 * @param {import("./chart.js").Chart} chart
 * @param {number} act @param {number} from @param {number} to @param {number} middle @param {boolean} onPath
 */
function paintAct(chart, act, from, to, middle, onPath) {
  const { g, flow } = chart;
  g.fillStyle = chart.color(onPath ? "soft" : "plain");
  g.fillRect(from, middle - 9, to - from, 18);
  g.strokeStyle = chart.color(onPath ? "path" : "faint");
  g.strokeRect(from + 0.5, middle - 8.5, to - from - 1, 17);
  const start = Math.max(from, LABELS);
  if (to - start <= 30) return;
  g.fillStyle = chart.color("ink");
  g.fillText(cut(chart, flow.s[flow.act.label[act]], to - start - 8), start + 4, middle + 0.5);
}

/**
 * As much of a text as fits.
 * @param {import("./chart.js").Chart} chart @param {string} text @param {number} room
 */
function cut(chart, text, room) {
  if (chart.g.measureText(text).width <= room) return text;
  let keep = Math.max(0, Math.floor(text.length * room / Math.max(chart.g.measureText(text).width, 1)) - 1);
  while (keep > 0 && chart.g.measureText(text.slice(0, keep) + "…").width > room) keep--;
  return keep > 1 ? text.slice(0, keep) + "…" : "";
}

/** @param {import("./chart.js").Chart} chart */
function paintHops(chart) {
  const seen = chart.onScreen();
  if (seen.length > FEW) paintMany(chart, seen);
  else for (const i of seen) paintHop(chart, i, seen.length < 120);
}

/**
 * Too many to tell apart: a column of pixels shows once which lanes hops crossed there; long ones are drawn.
 * @param {import("./chart.js").Chart} chart @param {number[]} seen
 */
function paintMany(chart, seen) {
  const { g, flow } = chart;
  const columns = Math.ceil((chart.width - LABELS) / COLUMN) + 1;
  const above = new Float64Array(columns).fill(Infinity), below = new Float64Array(columns).fill(-Infinity);
  const long = new Path2D(), onPath = new Path2D();
  let lines = 0;
  for (const i of seen) {
    const x1 = chart.x(chart.x1[i]), x2 = chart.x(chart.x2[i]), y1 = chart.y1[i], y2 = chart.y2[i];
    const path = flow.is(chart.hops[i], ON_PATH);
    if (path || x2 - x1 > 3 * COLUMN && lines++ < FEW) {
      (path ? onPath : long).moveTo(x1, y1);
      (path ? onPath : long).lineTo(x2, y2);
      continue;
    }
    const column = Math.min(Math.max(Math.floor((x1 - LABELS) / COLUMN), 0), columns - 1);
    above[column] = Math.min(above[column], y1, y2);
    below[column] = Math.max(below[column], y1, y2);
  }
  const bars = new Path2D();
  for (let column = 0; column < columns; column++) {
    if (below[column] > above[column]) bars.rect(LABELS + column * COLUMN, above[column], 1, below[column] - above[column]);
  }
  g.fillStyle = chart.color("faint");
  g.fill(bars);
  g.lineWidth = 1;
  g.strokeStyle = chart.color("faint");
  g.stroke(long);
  g.lineWidth = 2;
  g.strokeStyle = chart.color("path");
  g.stroke(onPath);
  for (const i of seen) {
    if (chart.hops[i] === chart.selected || chart.marked.has(chart.hops[i])) paintHop(chart, i, true);
  }
}

/** @param {import("./chart.js").Chart} chart @param {number} i @param {boolean} labelled */
function paintHop(chart, i, labelled) {
  const { g, flow } = chart, hop = chart.hops[i];
  const [x1, y1, x2, y2] = chart.ends(i);
  const path = flow.is(hop, ON_PATH), reply = flow.is(hop, REPLY), chosen = hop === chart.selected;
  const color = chart.color(chosen || chart.marked.has(hop) ? "brand" : path ? "path" : reply ? "faint" : "pale");
  g.strokeStyle = g.fillStyle = color;
  g.lineWidth = chosen ? 3 : path ? 2.4 : 1.2;
  g.setLineDash(flow.is(hop, NOT_SURE | NEAR_GAP) ? [2, 3] : reply ? [6, 4] : []);
  g.beginPath();
  g.moveTo(x1, y1);
  if (y1 === y2) g.quadraticCurveTo((x1 + x2) / 2, y1 - 18, x2, y2);
  else g.lineTo(x2, y2);
  g.stroke();
  g.setLineDash([]);
  head(chart, x1, y1, x2, y2);
  if (labelled || path || chosen) label(chart, hop, (x1 + x2) / 2, (y1 + y2) / 2 - (y1 === y2 ? 12 : 0), path, chosen);
}

/** @param {import("./chart.js").Chart} chart @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
function head(chart, x1, y1, x2, y2) {
  const { g } = chart, angle = y1 === y2 ? Math.PI / 4 : Math.atan2(y2 - y1, x2 - x1);
  g.beginPath();
  g.moveTo(x2, y2);
  for (const side of [-0.45, 0.45]) g.lineTo(x2 - 8 * Math.cos(angle + side), y2 - 8 * Math.sin(angle + side));
  g.fill();
}

/** @param {import("./chart.js").Chart} chart @param {number} hop @param {number} x @param {number} y @param {boolean} path @param {boolean} chosen */
function label(chart, hop, x, y, path, chosen) {
  const { g, flow } = chart, number = String(flow.hop.n[hop]);
  g.font = "bold 10px system-ui, sans-serif";
  g.textAlign = "center";
  const half = Math.max(8, g.measureText(number).width / 2 + 4);
  pill(g, x - half, y - 8, 2 * half, 16);
  g.fillStyle = chart.color(chosen ? "brand" : path ? "path" : "ground");
  g.fill();
  if (!path && !chosen) {
    g.lineWidth = 1;
    g.stroke();
  }
  g.fillStyle = chart.color(path || chosen ? "on" : "ink");
  g.fillText(number, x, y + 0.5);
  if (!path && !chosen) return;
  g.font = "11px system-ui, sans-serif";
  g.textAlign = "left";
  g.lineWidth = 3;
  g.strokeStyle = chart.color("frame");
  const text = cut(chart, flow.by(hop), 260);
  g.strokeText(text, x + half + 4, y + 0.5);
  g.fillStyle = chart.color(chosen ? "brand" : "path");
  g.fillText(text, x + half + 4, y + 0.5);
}

/** @param {import("./chart.js").Chart} chart */
function paintLabels(chart) {
  const { g, flow } = chart;
  g.save();
  g.beginPath();
  g.rect(0, AXIS, LABELS, chart.height - AXIS);
  g.clip();
  g.fillStyle = chart.color("ground");
  g.fillRect(0, AXIS, LABELS, chart.height);
  g.translate(0, AXIS - chart.top);
  g.textBaseline = "middle";
  g.textAlign = "left";
  for (const group of chart.lanes.groups) {
    if (!chart.visible(group.y, group.bottom)) continue;
    g.fillStyle = chart.color("frame");
    g.fillRect(0, group.y, LABELS, group.bottom - group.y);
    g.fillStyle = chart.color("ink");
    g.font = "bold 12px system-ui, sans-serif";
    const [pid, name] = flow.head.processes[group.process];
    g.fillText(cut(chart, `${flow.s[name]} ${pid}`, LABELS - 12), 6, group.y + HEAD / 2 + 1);
  }
  g.font = "11px system-ui, sans-serif";
  g.fillStyle = chart.color("pale");
  for (const lane of chart.lanes.lanes) {
    if (chart.visible(lane.y, lane.y + LANE)) {
      g.fillText(cut(chart, `${flow.who(lane.task)} ${flow.ids(lane.task)}`, LABELS - 22), 16, lane.y + LANE / 2);
    }
  }
  g.restore();
  g.fillStyle = chart.color("edge");
  g.fillRect(LABELS - 1, 0, 1, chart.height);
}

/** @param {import("./chart.js").Chart} chart */
function paintAxis(chart) {
  const { g } = chart;
  g.fillStyle = chart.color("ground");
  g.fillRect(0, 0, chart.width, AXIS);
  g.fillStyle = chart.color("edge");
  g.fillRect(0, AXIS - 1, chart.width, 1);
  g.font = "11px system-ui, sans-serif";
  g.fillStyle = chart.color("pale");
  g.textAlign = "center";
  g.textBaseline = "middle";
  let last = -Infinity;
  for (let x = LABELS + 10; x < chart.width; x += 110) {
    const time = chart.scale.time(chart.left + (x - LABELS) / chart.zoom);
    if (time < 0 || time > chart.flow.end * 1.01 || x - last < 100) continue;
    g.fillText(milliseconds(time), x, AXIS / 2);
    last = x;
  }
}

/**
 * A rectangle with round ends, as the path to draw.
 * @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} width @param {number} height
 */
function pill(g, x, y, width, height) {
  const r = height / 2;
  g.beginPath();
  g.arc(x + r, y + r, r, Math.PI / 2, 1.5 * Math.PI);
  g.arc(x + width - r, y + r, r, 1.5 * Math.PI, Math.PI / 2);
  g.closePath();
}
