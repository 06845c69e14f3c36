// The face of the product: one stream as a strip of the last thirty seconds, drawn token by token. One canvas a row, one draw a frame.

import { colour } from "./plots.js";

export const SPAN = 30; // seconds across a strip
const COLUMN = 0.05; // seconds of one column
const KEEP = Math.ceil(SPAN / COLUMN) + 4;

/** What is known of one stream's recent tokens: columns of 50 ms with a count each, silences with their owner. */
export class Track {
  constructor(received) {
    this.received = received; // on the server's clock, seconds
    this.columns = new Map();
    this.stalls = [];
    this.first = null;
    this.last = null;
    this.ended = null;
  }

  /** Tokens at times (seconds on the server's clock); `many[i]` came at `times[i]`. */
  add(times, many) {
    for (const [place, at] of times.entries()) {
      this.first ??= at;
      this.closeStall(at);
      this.last = at;
      const column = Math.floor(at / COLUMN);
      this.columns.set(column, (this.columns.get(column) ?? 0) + (many?.[place] ?? 1));
    }
    if (this.columns.size > KEEP) {
      const oldest = Math.floor(this.last / COLUMN) - KEEP;
      for (const column of this.columns.keys()) if (column < oldest) this.columns.delete(column);
    }
  }

  stall(since, blame) {
    if (this.stalls.at(-1)?.from !== since) this.stalls.push({ from: since, to: null, blame });
    if (this.stalls.length > 40) this.stalls.shift();
  }

  closeStall(at) {
    const open = this.stalls.at(-1);
    if (open && open.to === null) open.to = at;
  }
}

let palette = null;
let patterns = null;
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => (palette = null));

function colours(ctx) {
  if (palette) return palette;
  palette = Object.fromEntries(["flow", "waiting", "upstream", "client", "gateway", "line"].map((name) => [name, colour(name)]));
  patterns = Object.fromEntries(["upstream", "client", "gateway"].map((name) => [name, hatched(ctx, palette[name])]));
  return palette;
}

function hatched(ctx, shade) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.strokeStyle = shade;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(-1, 7);
  pen.lineTo(7, -1);
  pen.moveTo(-1, 1);
  pen.lineTo(1, -1);
  pen.moveTo(5, 7);
  pen.lineTo(7, 5);
  pen.stroke();
  return ctx.createPattern(tile, "repeat");
}

/** Paint a track as of `now` (the server's clock). Dots while it waits, a bar per column of tokens, hatching for stalls. */
export function paint(canvas, track, now) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const ctx = canvas.getContext("2d");
  const shades = colours(ctx);
  const until = track.ended ?? now;
  const x = (at) => width * (1 - (now - at) / SPAN);
  const base = height - 3 * ratio;
  ctx.clearRect(0, 0, width, height);
  ctx.fillStyle = shades.line;
  ctx.fillRect(Math.max(0, x(track.received)), base, x(until) - Math.max(0, x(track.received)), ratio);
  dots(ctx, shades.waiting, x, track.received, track.first ?? until, base, ratio, now);
  for (const stall of track.stalls) block(ctx, patterns[stall.blame], x(stall.from), x(stall.to ?? until), height, ratio);
  bars(ctx, track, shades.flow, x, base, width, ratio);
  if (track.first !== null && x(track.first) >= 0) {
    ctx.fillStyle = shades.flow;
    ctx.fillRect(x(track.first), 2 * ratio, ratio, base - 2 * ratio);
  }
}

function dots(ctx, shade, x, from, to, base, ratio, now) {
  ctx.fillStyle = shade;
  for (let at = Math.max(from, now - SPAN); at < to; at += 0.25) ctx.fillRect(x(at), base - 5 * ratio, 1.6 * ratio, 1.6 * ratio);
}

function block(ctx, pattern, from, to, height, ratio) {
  if (to < 0) return;
  ctx.fillStyle = pattern;
  ctx.fillRect(Math.max(0, from), 5 * ratio, Math.max(2 * ratio, to - Math.max(0, from)), height - 9 * ratio);
}

function bars(ctx, track, shade, x, base, width, ratio) {
  const wide = Math.max(ratio, (width * COLUMN) / SPAN - 0.4 * ratio);
  ctx.fillStyle = shade;
  for (const [column, tokens] of track.columns) {
    const left = x(column * COLUMN);
    if (left < -wide) continue;
    const high = Math.min(base - 2 * ratio, (4 + 5 * Math.log2(1 + tokens)) * ratio);
    ctx.fillRect(left, base - high, wide, high);
  }
}
