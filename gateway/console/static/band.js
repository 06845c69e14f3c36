// Tokens of an ended stream as a band: bars on one axis, dots before the first, hatching where it stalled. It stretches with its place.

import { BLAME, seconds } from "./format.js";
import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const TICK = 1e-4; // seconds: what `cadence.ticks` counts in
const COLUMNS = 400;
const NARROW = 160; // as many on a phone: finer ones would blur into each other

/** When its first answer came, where it thought before; 0 where it did not: seconds since the request. */
export function answerAt(record) {
  const { first_answer: answer, first_token: first } = record.offsets;
  return answer !== undefined && answer > first ? answer : 0;
}

/** When reads with tokens came, in seconds since the request, and how many tokens each brought. */
export function arrivals(record) {
  const cadence = record.cadence;
  const many = new Map(cadence.counts ?? []);
  let at = record.offsets.first_token ?? 0;
  return (cadence.ticks ?? []).map((tick, place) => {
    at += place ? tick * TICK : 0;
    return { at, tokens: many.get(place) ?? 1 };
  });
}

/** Arrivals between two moments as columns [at, width, tokens] for `bars`; all times are seconds. */
export function columns(came, end, from = 0, to = Infinity) {
  const many = innerWidth < 760 ? NARROW : COLUMNS;
  const width = end / many;
  const sums = new Map();
  for (const { at, tokens } of came) {
    if (at < from || at >= to) continue;
    const place = Math.min(many - 1, Math.floor(at / width));
    sums.set(place, (sums.get(place) ?? 0) + tokens);
  }
  return [...sums].map(([place, tokens]) => [place * width, width, tokens]);
}

/** The columns of a strip as /api/traces gives it. */
export function stripColumns(strip) {
  return strip.columns.map((tokens, place) => [strip.first + place * strip.step, strip.step, tokens]).filter(([, , tokens]) => tokens);
}

/** Bars of columns on an axis that is `end` seconds long, `shift` seconds into it; those before `answer` are of reasoning. */
export function bars(told, end, { shift = 0, answer = 0 } = {}) {
  const most = Math.log2(1 + Math.max(2, ...told.map(([, , tokens]) => tokens)));
  const path = ([at, width, tokens]) => {
    const x = ((at + shift) / end) * 1000;
    const high = 25 + 65 * (Math.log2(1 + tokens) / most);
    return `M${x.toFixed(2)} 100v-${high.toFixed(1)}h${Math.max(1.1, (width / end) * 1000 * 0.82).toFixed(2)}v${high.toFixed(1)}z`;
  };
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "bars");
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [kind, of] of [["reasoning", (at, width) => at + width <= answer], ["answer", (at, width) => at + width > answer]]) {
    const drawn = document.createElementNS(SVG, "path");
    drawn.setAttribute("class", kind);
    drawn.setAttribute("d", told.filter(([at, width]) => of(at, width)).map(path).join(""));
    svg.append(drawn);
  }
  return svg;
}

/** One piece of a track, from one moment to another, of `end` seconds. */
export function piece(from, to, end, kind, words, ...inside) {
  if (!(from < end) || !(to > from)) return null;
  const [left, width] = [(100 * from) / end, (100 * (Math.min(to, end) - from)) / end];
  return h("span", { class: `piece ${kind}`, title: words ? `${words}: ${seconds(to - from)}` : null, style: { left: `${left}%`, width: `${width}%` } }, inside);
}

/** A stall on a track: hatched in its owner's colour, with the owner's letter where there is room. */
export function stallPiece(at, length, blame, end) {
  const wide = length / end > 0.02;
  return piece(at, at + length, end, `stall hatch-${blame}`, `stall, held by the ${blame}`, wide ? h("b", { class: `blame ${blame}` }, BLAME[blame]) : null);
}

/** A moment on a track. */
export function mark(at, end, kind, words) {
  return h("span", { class: `mark ${kind}`, title: words, style: { left: `${(100 * Math.min(at, end)) / end}%` } });
}

/** The scale below tracks: round steps, so that an eye can read off it. */
export function scale(end) {
  const step = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600].find((each) => end / each <= 6) ?? end;
  const marks = [];
  for (let at = 0; at <= end * 0.96; at += step) marks.push(at);
  const words = (at) => (at === 0 ? "0" : seconds(at).replace(/\.0+(?= )|(?<=\.\d)0+(?= )/, ""));
  return h("div", { class: "axis", "aria-hidden": "true" }, marks.map((at) => h("span", { style: { left: `${(100 * at) / end}%` } }, words(at))));
}
