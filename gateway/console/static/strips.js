// The face of the product: one stream as a strip of the last thirty seconds, drawn token by token. One canvas a row, one draw a frame.

import { BLAME } from "./format.js";
import { colour } from "./plots.js";

export const SPAN = 30; // seconds across a strip
export const COLUMN = 0.05; // seconds of one column, as the feed counts
const KEEP = Math.ceil(SPAN / COLUMN) + 40;
const UNOWNED = 1.1; // seconds: a longer silence whose owner nobody has told is marked as such
const GRID = 10; // seconds between two lines
const FADED = [[0.1, 1], [0.3, 0.72], [Infinity, 0.5]]; // the longer the gap before a token, the paler it is
const OWNERS = ["upstream", "client", "gateway"];

/** What is known of one stream's recent tokens: columns of 50 ms with their count and the gap before them, and stalls with their owner. */
export class Track {
  /** `received` and `known` are seconds on the server's clock; before `known` nobody has told us anything. */
  constructor(received, known = received, spoke = null) {
    this.received = received;
    this.spoke = spoke; // when its first token came, which may be before anything else that is known
    this.known = known;
    this.columns = new Map();
    this.stalls = [];
    this.raced = null;
    this.first = this.last = this.ended = this.answer = null;
    this.newest = -1;
  }

  /** `many[i]` tokens came at or before `times[i]`, in the same column; what came before `answer` is reasoning. */
  add(times, many, answer = this.received) {
    for (const [place, at] of times.entries()) this.column(Math.floor(at / COLUMN), many[place], at);
    if (answer !== null) this.answer = Math.min(answer, this.answer ?? answer); // whoever began the answer, if it was resumed
    this.known = Math.min(this.known, times[0]);
    if (this.columns.size > KEEP) for (const column of this.columns.keys()) if (column < this.newest - KEEP) this.columns.delete(column);
  }

  column(column, tokens, at) {
    const known = this.columns.get(column);
    if (known) known.tokens += tokens;
    else this.columns.set(column, { tokens, gap: this.newest < 0 ? 0 : (column - this.newest) * COLUMN });
    this.newest = Math.max(this.newest, column);
    this.first ??= at;
    if (this.spoke === null && this.known <= this.received) this.spoke = at;
    this.last = at;
    this.closeStall(at);
  }

  stall(since, blame) {
    const open = this.stalls.at(-1);
    if (open?.from === since) open.blame = blame;
    else this.stalls.push({ from: since, to: this.after(since), blame });
    this.known = Math.min(this.known, since);
    if (this.stalls.length > 40) this.stalls.shift();
  }

  /** A stall that was over before we looked on. */
  past(from, to, blame) {
    this.stalls.push({ from, to, blame });
    this.known = Math.min(this.known, from);
  }

  /** When the first token came that is known after a moment; null when none has. */
  after(since) {
    if (this.last === null || this.last <= since + COLUMN) return null;
    let first = this.newest;
    for (const column of this.columns.keys()) if (column * COLUMN > since && column < first) first = column;
    return first * COLUMN;
  }

  /** Silences that are over and long enough to be stalls, but of which nobody has said whose they were. */
  unowned() {
    return [...this.columns].filter(([, { gap }]) => gap > UNOWNED).map(([column, { gap }]) => ({ from: column * COLUMN - gap, to: column * COLUMN, blame: null }))
      .filter(({ from, to }) => !this.stalls.some((stall) => stall.from < to - COLUMN && (stall.to ?? Infinity) > from + 2 * COLUMN));
  }

  closeStall(at) {
    const open = this.stalls.at(-1);
    if (open && open.to === null && at > open.from) open.to = at;
  }

  end(now) {
    this.ended = now;
    this.closeStall(now);
  }

  /** When the last token that is drawn as of `now` came; null when none has. */
  lastBy(now) {
    if (this.last === null || this.last <= now) return this.last;
    const from = Math.floor(now / COLUMN);
    for (let column = from; column > from - KEEP; column -= 1) if (this.columns.has(column)) return Math.min(now, (column + 1) * COLUMN);
    return null;
  }
}

let palette = null;
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => (palette = null));

function colours(ctx) {
  if (!palette) {
    palette = Object.fromEntries(["flow", "reasoning", "waiting", "line", "panel", ...OWNERS].map((name) => [name, colour(name)]));
    palette.hatched = Object.fromEntries([...OWNERS, "waiting"].map((name) => [name, hatched(ctx, palette[name])]));
  }
  return palette;
}

function hatched(ctx, shade) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.strokeStyle = shade;
  pen.lineWidth = 2.4;
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift - 1, 9);
    pen.lineTo(shift + 9, -1);
  }
  pen.stroke();
  return ctx.createPattern(tile, "repeat");
}

const sizes = new WeakMap();
const resized = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) sizes.set(target, [contentRect.width, contentRect.height]);
});

/** A canvas's width and height. They are measured once and then told by the browser: to ask at every frame makes it lay out the page at every frame. */
function sizeOf(canvas) {
  if (!sizes.has(canvas)) {
    sizes.set(canvas, [canvas.clientWidth, canvas.clientHeight]);
    resized.observe(canvas);
  }
  return sizes.get(canvas);
}

/** Paint a track as of `now`, the right edge; with `left` given the strip stands still and is filled from there on. */
export function paint(canvas, track, now, left = now - SPAN) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = sizeOf(canvas).map((length) => Math.round(length * ratio));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const ctx = canvas.getContext("2d");
  const pen = { ctx, ratio, width, base: height - 3 * ratio, top: 3 * ratio, shades: colours(ctx), x: (at) => ((at - left) / SPAN) * width };
  const until = Math.min(now, track.ended ?? now);
  ctx.clearRect(0, 0, width, height);
  grid(pen, left);
  baseline(pen, Math.max(left, track.known, track.received), until);
  waiting(pen, track, left, until);
  for (const stall of track.stalls) block(pen, stall, until);
  for (const gap of track.unowned()) block(pen, gap, until);
  bars(pen, track, until);
  if (track.ended !== null && track.ended <= now) rect(pen, pen.shades.waiting, track.ended, 1.5 * ratio, pen.top, pen.base + ratio);
}

function rect({ ctx, x }, shade, at, wide, top, bottom) {
  ctx.fillStyle = shade;
  ctx.fillRect(x(at), top, wide, bottom - top);
}

function grid(pen, left) {
  for (let at = GRID; at < SPAN; at += GRID) rect(pen, pen.shades.line, left + at, pen.ratio, pen.top, pen.base + pen.ratio);
}

function baseline({ ctx, x, base, ratio, shades }, from, until) {
  if (until <= from) return;
  ctx.fillStyle = shades.waiting;
  ctx.globalAlpha = 0.55;
  ctx.fillRect(x(from), base, x(until) - x(from), ratio);
  ctx.globalAlpha = 1;
}

/** Dots until the first token; while two upstreams race there are two lanes of them. */
function waiting(pen, track, left, until) {
  const end = Math.min(track.spoke ?? track.first ?? until, until);
  const { raced } = track;
  const known = track.spoke === null ? track.known : track.received;
  dots(pen, Math.max(track.received, known, left), end, pen.base - 5 * pen.ratio);
  if (raced) {
    dots(pen, Math.max(raced.from, left), Math.min(raced.to ?? end, end), pen.base - 13 * pen.ratio);
    if (raced.from >= left) rect(pen, pen.shades.waiting, raced.from, pen.ratio, pen.top, pen.base);
  }
}

function dots({ ctx, x, ratio, shades }, from, to, y) {
  ctx.fillStyle = shades.waiting;
  for (let at = Math.ceil(from / 0.25) * 0.25; at < to; at += 0.25) ctx.fillRect(x(at), y, 1.8 * ratio, 1.8 * ratio);
}

/** A stall: hatched in its owner's colour, with the owner's letter where there is room. */
function block({ ctx, x, base, top, ratio, shades }, stall, until) {
  const [from, to] = [Math.max(0, x(stall.from)), x(Math.min(stall.to ?? until, until))];
  if (to <= from) return;
  ctx.fillStyle = shades.hatched[stall.blame ?? "waiting"];
  ctx.fillRect(from, top + ratio, to - from, base - top - 2 * ratio);
  if (!stall.blame || to - from < 22 * ratio) return;
  const middle = (from + to) / 2;
  ctx.fillStyle = shades.panel;
  ctx.fillRect(middle - 7 * ratio, top + ratio, 14 * ratio, base - top - 2 * ratio);
  ctx.fillStyle = shades[stall.blame];
  ctx.font = `700 ${11 * ratio}px system-ui, sans-serif`;
  [ctx.textAlign, ctx.textBaseline] = ["center", "middle"];
  ctx.fillText(BLAME[stall.blame], middle, (top + base) / 2 + ratio / 2);
}

function bars({ ctx, x, base, top, width, ratio, shades }, track, until) {
  const wide = Math.max(ratio, Math.ceil((width * COLUMN) / SPAN - 0.5 * ratio));
  for (const [column, { tokens, gap }] of track.columns) {
    const at = column * COLUMN;
    const left = x(at);
    if (left < -wide || at > until) continue;
    const high = Math.min(base - top, (5 + 4.2 * Math.log2(1 + tokens)) * ratio);
    ctx.fillStyle = track.answer === null || at + COLUMN < track.answer ? shades.reasoning : shades.flow;
    ctx.globalAlpha = FADED.find(([longest]) => gap <= longest)[1];
    ctx.fillRect(left, base - high, wide, high);
  }
  ctx.globalAlpha = 1;
  const { spoke } = track;
  const first = spoke === null ? -1 : x(spoke);
  if (first < 0 || spoke > until) return;
  ctx.fillStyle = track.answer === null || spoke + COLUMN < track.answer ? shades.reasoning : shades.flow;
  ctx.fillRect(first, top, 1.5 * ratio, base - top);
}
