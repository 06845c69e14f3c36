// A stream's life as pictures that keep to scale: its phases on one line, its owners' shares, its attempts as lanes.

import { colour } from "./plots.js";
import { h } from "./dom.js";
import { seconds } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const LEFT = 150;
const OWNERS = [
  ["queue", "queue", "waiting"],
  ["connect", "connect", "reasoning"],
  ["upstream_wait", "upstream", "flow"],
  ["client_blocked", "client blocked", "client"],
  ["guard_held", "guard held", "reasoning"],
  ["gateway", "gateway", "gateway"],
];
let patterns = 0;

function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children.flat().filter(Boolean));
  return element;
}

const title = (text) => s("title", {}, text);

/** A hatch in an owner's colour: stalls are told by their texture too. */
function hatch(owner) {
  const id = `hatch-${owner}-${(patterns += 1)}`;
  const pattern = s("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    s("rect", { width: 3, height: 6, fill: colour(owner) }));
  return [id, s("defs", {}, pattern)];
}

function ruler(end, height) {
  const scale = (at) => LEFT + (Math.min(at, end) / end) * (WIDTH - LEFT - 4);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    return s("text", { x: scale(share * end), y: height - 2, "text-anchor": anchor }, seconds(share * end));
  });
  return [scale, marks];
}

function lifetime(record) {
  return Math.max(record.derived.duration ?? record.age ?? 0, 1e-3);
}

/** The phases from request to end on one line, with the stalls hatched in their owner's colour. */
export function timeline(record) {
  const height = 62;
  const end = lifetime(record);
  const [scale, marks] = ruler(end, height);
  const { offsets } = record;
  const served = record.attempts[record.winner ?? record.attempts.length - 1];
  const sent = served?.offsets.sent;
  const first = offsets.first_token;
  const last = offsets.last_token ?? first;
  const spans = [
    [0, served?.offsets.dialed ?? end, "waiting", "before the served attempt"],
    [served?.offsets.dialed, sent ?? end, "reasoning", "queue and connect"],
    [sent, first ?? end, "waiting", "waiting for the first token"],
    [first, last, "flow", "streaming"],
    [last, end, "waiting", "until the end"],
  ].filter(([from, to]) => from !== undefined && to > from);
  const bars = spans.map(([from, to, name, words]) =>
    s("rect", { x: scale(from), y: 12, width: Math.max(1, scale(to) - scale(from)), height: 20, fill: colour(name), opacity: name === "waiting" ? 0.35 : 0.85 },
      title(`${words}: ${seconds(to - from)}`)));
  const stalls = record.cadence.stalls.map((stall) => {
    const [id, defs] = hatch(stall.blame);
    const x = scale(stall.offset);
    const width = Math.max(2, scale(stall.offset + stall.length) - x);
    return [defs, s("rect", { x, y: 12, width, height: 20, fill: colour("panel") }), s("rect", { x, y: 12, width, height: 20, fill: `url(#${id})` },
      title(`stall of ${seconds(stall.length)}, held by the ${stall.blame}`))];
  });
  const token = first === undefined ? null : [s("line", { x1: scale(first), x2: scale(first), y1: 6, y2: 38, stroke: colour("ink"), "stroke-width": 1.5 }),
    s("text", { x: scale(first) + 4, y: 10, class: "strong" }, `first token ${seconds(first)}`)];
  return s("svg", { class: "hops", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "Phases of the stream from request to end" },
    s("text", { x: 0, y: 27 }, "life of the stream"), bars, stalls.flat(), token, marks);
}

/** Whose the time was: one bar per owner, and what they sum to. */
export function ledger(record) {
  const told = OWNERS.map(([key, name, shade]) => [name, record.seconds[key] ?? 0, shade]).filter(([, value]) => value > 0);
  if (!told.length) return h("p", { class: "muted" }, "Who owned its time is known when it has ended.");
  const sum = told.reduce((total, [, value]) => total + value, 0);
  const rows = told.map(([name, value, shade]) =>
    h("tr", {}, h("td", {}, name), h("td", { class: "right" }, seconds(value)),
      h("td", { style: { width: "70%" } }, h("span", { class: "meter", style: { width: "100%" } }, h("i", { style: { width: `${(100 * value) / sum}%`, background: `var(--${shade})` } })))));
  return h("table", { "data-sum": sum.toFixed(6) }, h("caption", { class: "visually-hidden" }, "Seconds by owner"), h("tbody", {}, rows,
    h("tr", {}, h("td", { class: "muted" }, "sums to"), h("td", { class: "right" }, seconds(sum)), h("td"))));
}

/** The attempts, one lane each on one axis: dial, wait, tokens, and how it ended. */
export function lanes(record) {
  if (!record.attempts.length) return h("p", { class: "muted" }, "No upstream was asked.");
  const height = 30 * record.attempts.length + 22;
  const end = lifetime(record);
  const [scale, marks] = ruler(end, height);
  const rows = record.attempts.map((attempt, place) => {
    const y = 30 * place + 4;
    const o = attempt.offsets;
    const over = o.ended ?? (record.state === "ended" ? record.offsets.ended : end) ?? end;
    const won = place === record.winner;
    const bar = (from, to, name, opacity, words) =>
      from === undefined || !(to > from) ? null
        : s("rect", { x: scale(from), y: y + 6, width: Math.max(1.5, scale(to) - scale(from)), height: 12, rx: 2, fill: colour(name), opacity }, title(`${words}: ${seconds(to - from)}`));
    const label = `${place + 1} ${attempt.upstream}`;
    const verdict = [attempt.why === "first" ? "" : attempt.why, won && attempt.outcome === "won" ? "" : attempt.outcome, attempt.error].filter(Boolean).join(" · ");
    const room = WIDTH - scale(over) > 190;
    return [
      s("text", { x: 0, y: y + 16, class: won ? "strong" : null }, label),
      bar(o.dialed, o.sent ?? over, "reasoning", 0.9, "queue and connect"),
      bar(o.sent, o.first_token ?? over, "waiting", 0.5, "waiting for the first token"),
      bar(o.first_token, over, won ? "flow" : "waiting", won ? 0.9 : 0.8, "speaking"),
      won ? null : s("text", { x: scale(over) - 3, y: y + 16, class: "strong", "text-anchor": "end", "aria-hidden": "true" }, "✕"),
      s("text", { x: room ? scale(over) + 8 : scale(over) - 14, y: y + 16, "text-anchor": room ? "start" : "end", class: "strong" }, verdict),
    ];
  });
  return s("svg", { class: "lanes hops", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "Attempts at upstreams as lanes" }, rows.flat(), marks);
}

