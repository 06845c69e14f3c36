// The few plots of the console, drawn with uPlot in the colours of the page.

import uPlot from "./vendor/uPlot.js";
import { seconds } from "./format.js";

/** A colour of the style sheet by its name there. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const SERIES = ["#2dd4bf", "#f2a93b", "#7c93c9", "#b58cf5", "#f2616b", "#8fbf5a", "#d98cb3", "#9db0ac"];
/** One colour for each of a few names, the same on every page of a session. */
const given = new Map();
export function hue(name) {
  if (!given.has(name)) given.set(name, SERIES[given.size % SERIES.length]);
  return given.get(name);
}

function axis(more = {}) {
  const line = { stroke: colour("line"), width: 1 };
  return { stroke: colour("soft"), grid: line, ticks: { ...line, size: 4 }, font: "12px system-ui, sans-serif", ...more };
}

const timeAxis = () => axis({ values: (_, marks) => marks.map((mark) => new Date(mark * 1000).toLocaleTimeString([], { hour12: false })) });
export const secondsAxis = (more = {}) => axis({ size: 64, values: (_, marks) => marks.map((mark) => (mark === null ? "" : seconds(mark))), ...more });

/** Put a plot into an element; it follows the element's width, and goes when `signal` aborts. Returns the plot. */
export function plot(parent, options, data, signal) {
  const made = new uPlot({ width: Math.max(280, parent.clientWidth), height: 220, legend: { show: false }, ...options }, data, parent);
  const watch = new ResizeObserver(() => made.setSize({ width: Math.max(280, parent.clientWidth), height: made.height }));
  watch.observe(parent);
  signal.addEventListener("abort", () => {
    watch.disconnect();
    made.destroy();
  });
  return made;
}

/** Draws the points of a scatter itself: filled by name, a cross for what did not complete. */
function dots(points) {
  return (u) => {
    const { ctx } = u;
    ctx.save();
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const point of points) {
      const x = u.valToPos(point.x, "x", true);
      const y = u.valToPos(point.y, "y", true);
      const size = 3 * devicePixelRatio;
      ctx.fillStyle = ctx.strokeStyle = hue(point.name);
      ctx.beginPath();
      if (point.whole) {
        ctx.globalAlpha = 0.75;
        ctx.arc(x, y, size, 0, 7);
        ctx.fill();
      } else {
        ctx.globalAlpha = 1;
        ctx.moveTo(x - size, y - size);
        ctx.lineTo(x + size, y + size);
        ctx.moveTo(x + size, y - size);
        ctx.lineTo(x - size, y + size);
        ctx.stroke();
      }
    }
    ctx.restore();
  };
}

/** Time by TTFT; `points` are {x, y, name, whole}. `onbox(x0, x1)` hears of a dragged range of time. */
export function scatter(parent, points, onbox, signal) {
  const sorted = [...points].sort((one, other) => one.x - other.x);
  const options = {
    height: 190,
    scales: { y: { distr: 3 } },
    axes: [timeAxis(), secondsAxis()],
    series: [{}, { paths: () => null, points: { show: false } }],
    cursor: { drag: { x: true, y: false, setScale: false } },
    hooks: {
      draw: [dots(sorted)],
      setSelect: [(u) => u.select.width > 4 && onbox(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"))],
    },
  };
  return plot(parent, options, [sorted.map((point) => point.x), sorted.map((point) => point.y)], signal);
}

/** Gaps between arrivals over the life of a stream, on a logarithmic scale, stalls shaded by their owner. */
export function gaps(parent, at, lengths, stalls, marks, signal) {
  const shade = (u) => {
    for (const stall of stalls) {
      const left = u.valToPos(stall.offset, "x", true);
      const right = u.valToPos(stall.offset + stall.length, "x", true);
      u.ctx.save();
      u.ctx.globalAlpha = 0.22;
      u.ctx.fillStyle = colour(stall.blame);
      u.ctx.fillRect(left, u.bbox.top, Math.max(2, right - left), u.bbox.height);
      u.ctx.restore();
    }
    for (const [value, name, below] of marks) {
      if (!value) continue;
      const y = u.valToPos(value, "y", true);
      u.ctx.save();
      u.ctx.strokeStyle = u.ctx.fillStyle = colour("soft");
      u.ctx.setLineDash([4, 4]);
      u.ctx.beginPath();
      u.ctx.moveTo(u.bbox.left, y);
      u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
      u.ctx.stroke();
      u.ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      u.ctx.fillText(`${name} ${seconds(value)}`, u.bbox.left + 6, below ? y + 13 * devicePixelRatio : y - 4);
      u.ctx.restore();
    }
  };
  const options = {
    scales: { x: { time: false }, y: { distr: 3 } },
    axes: [secondsAxis({ size: 40 }), secondsAxis()],
    series: [{}, { stroke: colour("flow"), width: 1.5, points: { show: lengths.length < 400, size: 4, fill: colour("flow") } }],
    hooks: { drawClear: [shade] },
  };
  return plot(parent, options, [at, lengths], signal);
}

/** One line over the life of a stream: tokens so far, or tokens a second. */
export function line(parent, at, values, signal) {
  const options = {
    scales: { x: { time: false } },
    axes: [secondsAxis({ size: 40 }), axis({ size: 52 })],
    series: [{}, { stroke: colour("flow"), width: 1.5, fill: `${colour("flow")}22` }],
  };
  return plot(parent, options, [at, values], signal);
}

/** Shares of streams at or below a value, one step line for each of `sets`: {name, values in ascending order}. */
export function ecdf(parent, sets, signal) {
  const xs = [...new Set(sets.flatMap((set) => set.values))].filter((value) => value > 0).sort((one, other) => one - other);
  const shares = sets.map((set) => {
    let below = 0;
    return xs.map((x) => {
      while (below < set.values.length && set.values[below] <= x) below += 1;
      return set.values.length ? below / set.values.length : null;
    });
  });
  const options = {
    height: 260,
    scales: { x: { time: false, distr: 3 }, y: { range: [0, 1] } },
    axes: [secondsAxis({ size: 40 }), axis({ size: 48, values: (_, marks) => marks.map((mark) => `${Math.round(mark * 100)} %`) })],
    series: [{}, ...sets.map((set) => ({ label: set.name, stroke: set.colour, width: 2, paths: uPlot.paths.stepped({ align: 1 }) }))],
  };
  return plot(parent, options, [xs, ...shares], signal);
}

/** A small line without axes, with the objective as a dashed one where there is one. */
export function spark(canvas, values, objective) {
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = canvas.clientHeight * devicePixelRatio);
  const ctx = canvas.getContext("2d");
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, objective ?? 0, 1e-9) * 1.15;
  const x = (place) => (place / Math.max(1, values.length - 1)) * width;
  const y = (value) => height - 2 - (value / top) * (height - 4);
  if (objective) {
    ctx.strokeStyle = colour("faint");
    ctx.setLineDash([3, 3]);
    ctx.beginPath();
    ctx.moveTo(0, y(objective));
    ctx.lineTo(width, y(objective));
    ctx.stroke();
    ctx.setLineDash([]);
  }
  ctx.strokeStyle = colour("flow");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.lineJoin = "round";
  ctx.beginPath();
  let pen = false;
  values.forEach((value, place) => {
    if (value === null) pen = false;
    else {
      pen ? ctx.lineTo(x(place), y(value)) : ctx.moveTo(x(place), y(value));
      pen = true;
    }
  });
  ctx.stroke();
}
