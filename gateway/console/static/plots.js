// The few plots of the console, drawn with uPlot in the colours of the page; they follow its width and its theme.

import uPlot from "./vendor/uPlot.js";
import { h } from "./dom.js";
import { BLAME, count, seconds } from "./format.js";

/** A colour of the style sheet by its name there. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const HUES = 8;
const FONT = "12px system-ui, sans-serif";
const NEAR = 14; // pixels around a point in which the pointer means it
/** One colour for each of a few names; `introduce` them in a fixed order, so that every page and every reload gives the same ones. */
const given = new Map();

export function introduce(names) {
  for (const name of names) if (!given.has(name)) given.set(name, (given.size % HUES) + 1);
}

/** A name's colour as CSS; none of them is one that means something elsewhere. */
export function hue(name) {
  introduce([name]);
  return `var(--hue-${given.get(name)})`;
}

const shade = (name) => colour(`hue-${given.get(name) ?? (introduce([name]), given.get(name))}`);

function axis(more = {}) {
  const line = { stroke: () => colour("line"), width: 1 };
  return { stroke: () => colour("soft"), grid: line, ticks: { ...line, size: 4 }, font: FONT, ...more };
}

const timeAxis = () => axis({ size: 34, space: 76, values: (_, marks) => marks.map((mark) => new Date(mark * 1000).toLocaleTimeString([], { hour12: false })) });
const briefly = (value) => (value === null ? "" : value === 0 ? "0" : seconds(value).replace(/\.0+(?= )/, "").replace(/(\.\d*?)0+(?= )/, "$1"));
export const secondsAxis = (more = {}) => axis({ size: 62, values: (_, marks) => marks.map(briefly), ...more });

/** Put a plot into an element; it follows the element's width and the page's theme, and goes when `signal` aborts. Returns the plot. */
export function plot(parent, options, data, signal) {
  const width = () => Math.max(240, parent.clientWidth);
  const made = new uPlot({ width: width(), height: 220, legend: { show: false }, ...options }, data, parent);
  const watch = new ResizeObserver(() => made.width !== width() && made.setSize({ width: width(), height: made.height }));
  watch.observe(parent);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => made.redraw(false, true), { signal });
  signal.addEventListener("abort", () => {
    watch.disconnect();
    made.destroy();
  }, { once: true });
  return made;
}

/** Paint on a plot with its own state put back after. */
function painted(u, paint) {
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
  paint(u.ctx, devicePixelRatio || 1);
  u.ctx.restore();
}

/** Draws the points of a scatter itself: filled by name, a cross for what did not complete. */
function dots(points) {
  return (u) => painted(u, (ctx, ratio) => {
    ctx.lineWidth = 1.6 * ratio;
    const size = (points.length > 400 ? 2.4 : 3.4) * ratio;
    for (const point of points) {
      const x = u.valToPos(point.x, "x", true);
      const y = u.valToPos(point.y, "y", true);
      ctx.fillStyle = ctx.strokeStyle = shade(point.name);
      ctx.globalAlpha = point.whole ? 0.8 : 1;
      ctx.beginPath();
      if (point.whole) {
        ctx.arc(x, y, size, 0, 7);
        ctx.fill();
      } else {
        for (const turn of [1, -1]) {
          ctx.moveTo(x - size * 1.2, y - size * 1.2 * turn);
          ctx.lineTo(x + size * 1.2, y + size * 1.2 * turn);
        }
        ctx.stroke();
      }
    }
  });
}

/** Decades are too few marks when all values lie within one or two: then a mark at every 1, 2 and 5. */
function decades(_, __, min, max) {
  const marks = [];
  const span = Math.log10(max / min);
  const within = span < 2.2 ? [1, 2, 5] : span < 3.2 ? [1, 5] : [1];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power += 1) {
    for (const step of within) marks.push(step * 10 ** power);
  }
  return marks.filter((mark) => mark >= min && mark <= max);
}

/** A logarithmic range a little wider than what is shown, and never without height. */
function around(_, min, max) {
  if (!(min > 0)) return [0.001, 1];
  return max / min < 2 ? [min / 2, max * 2] : [min / 1.3, max * 1.3];
}

const logAxis = () => secondsAxis({ splits: decades, filter: (_, marks) => marks });

/**
 * Time by TTFT; `points` are {x, y, name, whole, id}. `on.box(x0, x1, y0, y1)` hears of a dragged box, `on.open(id)` of a click on a
 * point, and `words(point)` is what is shown of the point under the pointer.
 */
export function scatter(parent, points, on, signal) {
  const sorted = [...points].sort((one, other) => one.x - other.x);
  const tip = h("div", { class: "tip", hidden: true });
  const options = {
    height: 190,
    scales: { x: { range: (_, min, max) => (max - min < 10 ? [min - 5, max + 5] : [min - (max - min) * 0.02, max + (max - min) * 0.02]) }, y: { distr: 3, range: around } },
    axes: [timeAxis(), logAxis()],
    series: [{}, { paths: () => null, points: { show: false } }],
    cursor: { drag: { x: true, y: true, setScale: false }, points: { show: false } },
    hooks: {
      draw: [dots(sorted)],
      setSelect: [(u) => {
        const { left, top, width, height } = u.select;
        if (width < 5 && height < 5) return;
        on.box(u.posToVal(left, "x"), u.posToVal(left + width, "x"), u.posToVal(top + height, "y"), u.posToVal(top, "y"));
      }],
    },
  };
  const made = plot(parent, options, [sorted.map((point) => point.x), sorted.map((point) => point.y)], signal);
  made.over.append(tip);
  made.over.addEventListener("mousemove", (event) => point(event));
  made.over.addEventListener("mouseleave", () => (tip.hidden = true));
  made.over.addEventListener("click", (event) => {
    const found = made.select.width < 5 && made.select.height < 5 && nearest(made, sorted, event);
    if (found) on.open(found.id);
  });

  function point(event) {
    const found = nearest(made, sorted, event);
    tip.hidden = !found;
    made.over.style.cursor = found ? "pointer" : "crosshair";
    if (!found) return;
    tip.replaceChildren(...on.words(found));
    const left = made.valToPos(found.x, "x");
    tip.classList.toggle("leftward", left > made.over.clientWidth - 240);
    Object.assign(tip.style, { left: `${left}px`, top: `${made.valToPos(found.y, "y")}px` });
  }
  return made;
}

function nearest(u, points, event) {
  const box = u.over.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let found = null;
  let least = NEAR;
  for (const point of points) {
    const away = Math.hypot(u.valToPos(point.x, "x") - x, u.valToPos(point.y, "y") - y);
    if (away < least) [found, least] = [point, away];
  }
  return found;
}

/** A note at the pointer; `words(idx)` are what is said of the place in the data that is nearest to it. */
function readout(u, words, signal) {
  const tip = h("div", { class: "tip", hidden: true });
  u.over.append(tip);
  u.over.addEventListener("mousemove", () => {
    const { idx, left, top } = u.cursor;
    const told = idx === null || idx === undefined ? null : words(idx);
    tip.hidden = !told;
    if (!told) return;
    tip.replaceChildren(told);
    tip.classList.toggle("leftward", left > u.over.clientWidth - 220);
    Object.assign(tip.style, { left: `${left}px`, top: `${Math.max(34, top)}px` });
  }, { signal });
  u.over.addEventListener("mouseleave", () => (tip.hidden = true), { signal });
  return u;
}

/** Stalls as hatched areas with their owner's letter, seams as dashed lines. */
function shaded(stalls, seams) {
  return (u) => painted(u, (ctx, ratio) => {
    const { top, height } = u.bbox;
    for (const { offset, length, blame } of stalls) {
      const left = u.valToPos(offset, "x", true);
      const width = Math.max(2 * ratio, u.valToPos(offset + length, "x", true) - left);
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      ctx.fillStyle = ctx.strokeStyle = colour(blame);
      ctx.globalAlpha = 0.12;
      ctx.fillRect(left, top, width, height);
      ctx.globalAlpha = 0.45;
      ctx.lineWidth = 1.5 * ratio;
      ctx.beginPath();
      for (let x = left - height; x < left + width; x += 8 * ratio) {
        ctx.moveTo(x, top + height);
        ctx.lineTo(x + height, top);
      }
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.font = `bold ${11 * ratio}px system-ui, sans-serif`;
      if (width > 12 * ratio) ctx.fillText(BLAME[blame], left + 4 * ratio, top + 13 * ratio);
      ctx.restore();
    }
    ctx.strokeStyle = colour("ink");
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    for (const seam of seams) across(ctx, u.valToPos(seam, "x", true), top, u.valToPos(seam, "x", true), top + height);
  });
}

function across(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** Dashed lines with their names: [value, name, below]. */
function levels(marks) {
  return (u) => painted(u, (ctx, ratio) => {
    ctx.fillStyle = ctx.strokeStyle = colour("soft");
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    for (const [value, name, below] of marks) {
      if (!value) continue;
      const y = u.valToPos(value, "y", true);
      across(ctx, u.bbox.left, y, u.bbox.left + u.bbox.width, y);
      label(ctx, `${name} ${seconds(value)}`, u.bbox.left + u.bbox.width - 6 * ratio, below ? y + 13 * ratio : y - 5 * ratio, ratio);
    }
  });
}

/** Words that stay readable over what is drawn. */
function label(ctx, words, right, y, ratio) {
  const wide = ctx.measureText(words).width;
  ctx.fillStyle = colour("panel");
  ctx.globalAlpha = 0.85;
  ctx.fillRect(right - wide - 4 * ratio, y - 10 * ratio, wide + 8 * ratio, 13 * ratio);
  ctx.globalAlpha = 1;
  ctx.fillStyle = colour("soft");
  ctx.textAlign = "right";
  ctx.fillText(words, right, y);
}

const QUIET = { drag: { x: false, y: false }, points: { show: false } };

/** Where a plot lies within its parent, in pixels: [left, right] of what is drawn; so that it keeps to the axis of the lanes above it. */
const within = (place, side, fallback) => () => place?.()?.[side] ?? fallback;

/** The range of gaps: a few that are tiny beside the median would press all others together, and run out of the picture instead. */
const fromMedian = (median) => (u, min, max) => around(u, Math.max(min, (median ?? 0) / 30), max);

/** Gaps between arrivals over the life of a stream, on a logarithmic scale, stalls shaded by their owner. */
export function gaps(parent, { at, lengths, stalls, marks, seams, end, place }, signal) {
  const options = {
    padding: [8, within(place, 1, 8), 0, 0],
    scales: { x: { time: false, range: [0, end] }, y: { distr: 3, range: fromMedian(marks[0]?.[0]) } },
    axes: [secondsAxis({ size: 34 }), { ...logAxis(), size: within(place, 0, 62) }],
    series: [{}, { stroke: () => colour("flow"), fill: () => colour("flow"), width: 0, paths: uPlot.paths.bars({ size: [0.7, 4, 1] }), fillTo: (u) => u.scales.y.min, points: { show: false } }],
    cursor: QUIET,
    hooks: { drawClear: [shaded(stalls, seams)], draw: [levels(marks)] },
  };
  return readout(plot(parent, options, [at, lengths], signal), (idx) => `${seconds(lengths[idx])} before read ${idx + 2}, at ${seconds(at[idx])}`, signal);
}

/** One line over the life of a stream: tokens so far, or tokens a second. */
export function line(parent, { at, values, unit, stalls, seams, end, place }, signal) {
  const options = {
    padding: [8, within(place, 1, 8), 0, 0],
    scales: { x: { time: false, range: [0, end] }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.08)] } },
    axes: [secondsAxis({ size: 34 }), axis({ size: within(place, 0, 62) })],
    series: [{}, { stroke: () => colour("flow"), width: 1.6, fill: () => `${colour("flow")}22`, points: { show: false } }],
    cursor: QUIET,
    hooks: { drawClear: [shaded(stalls, seams)] },
  };
  return readout(plot(parent, options, [at, values], signal), (idx) => `${count(values[idx])} ${unit} at ${seconds(at[idx])}`, signal);
}

/** Shares at or below a value, one step line for each of `sets`: {name, hue, steps: [[value, share], ...] ascending}. */
export function ecdf(parent, sets, signal) {
  const xs = [...new Set(sets.flatMap((set) => set.steps.map(([value]) => value)))].filter((value) => value > 0).sort((one, other) => one - other);
  const lines = sets.map(({ steps }) => {
    let place = 0;
    return xs.map((x) => {
      while (place < steps.length && steps[place][0] <= x) place += 1;
      return !steps.length ? null : place ? steps[place - 1][1] : 0;
    });
  });
  const options = {
    height: 250,
    scales: { x: { time: false, distr: 3, range: around }, y: { range: [0, 1.02] } },
    axes: [{ ...logAxis(), size: 34 }, axis({ size: 48, values: (_, marks) => marks.map((mark) => `${Math.round(mark * 100)} %`) })],
    series: [{}, ...sets.map((set, place) => ({ label: set.name, stroke: () => colour(set.hue), width: 2, dash: place ? [6, 3] : undefined, paths: uPlot.paths.stepped({ align: 1 }) }))],
    cursor: QUIET,
  };
  const words = (idx) => `${seconds(xs[idx])}: ${sets.map((set, place) => `${set.name} ${lines[place][idx] === null ? "–" : `${Math.round(lines[place][idx] * 100)} %`}`).join(", ")}`;
  return readout(plot(parent, options, [xs, ...lines], signal), words, signal);
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
    across(ctx, 0, y(objective), width, y(objective));
    ctx.setLineDash([]);
  }
  ctx.strokeStyle = colour("flow");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.lineJoin = "round";
  ctx.fillStyle = colour("flow");
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
  const alone = (value, place) => value !== null && (values[place - 1] ?? null) === null && (values[place + 1] ?? null) === null;
  values.forEach((value, place) => alone(value, place) && dab(ctx, x(place), y(value), 1.8 * devicePixelRatio));
}

/** A point that has no neighbour to be joined with. */
function dab(ctx, x, y, size) {
  ctx.beginPath();
  ctx.arc(Math.max(size, Math.min(ctx.canvas.width - size, x)), Math.min(ctx.canvas.height - size, y), size, 0, 7);
  ctx.fill();
}
