// All streams of one trace on one axis: which step kept the user waiting, and what the whole thing cost.

import { get } from "./api.js";
import { bars, mark, piece, scale, stallPiece, stripColumns } from "./band.js";
import { copyable, fill, h, named } from "./dom.js";
import { ago, BLAME, clock, count, NONE, seconds, usd } from "./format.js";
import { buttons, span } from "./links.js";
import { Steady } from "./steady.js";
import { badge, stalls } from "./streams.js";

const LIVE_EVERY = 2000;

export async function show(main, [id], signal) {
  const [outward, room, steady] = [h("span", { class: "outward" }), h("div"), new Steady()];
  for (let first = true; !signal.aborted; await new Promise((resolve) => setTimeout(resolve, LIVE_EVERY))) {
    const told = await steady.ask(() => get(`/api/traces/${encodeURIComponent(id)}`, signal), signal);
    if (first) fill(main, steady.note, room);
    first = false;
    if (!told) continue;
    const over = told.streams.every((stream) => stream.state === "ended");
    if (over || !marking(room)) keepingFocus(room, () => draw(room, told, outward));
    if (outward.childNodes.length === 0) buttons(known(told), signal).then((links) => fill(outward, links), () => {});
    if (over) return;
  }
}

/** Whether somebody marks text here, to copy it: it would be lost if all were drawn anew. */
function marking(room) {
  const marked = getSelection();
  return !marked.isCollapsed && room.contains(marked.anchorNode);
}

/** Draw anew, and give the focus back to what leads to, or copies, the same as before. */
function keepingFocus(room, redraw) {
  const name = (each) => each.getAttribute("href") ?? each.title;
  const before = room.contains(document.activeElement) ? name(document.activeElement) : null;
  redraw();
  if (before) [...room.querySelectorAll("a, button")].find((each) => name(each) === before)?.focus();
}

function known(told) {
  const { from, to } = axis(told.streams);
  return { trace_id: told.trace_id, ...span(from, to) };
}

const lasted = (step) => step.duration ?? step.age ?? 0;

function axis(streams) {
  const from = Math.min(...streams.map((step) => step.received));
  const to = Math.max(...streams.map((step) => step.received + lasted(step)));
  return { from, to, all: Math.max(to - from, 1e-3) };
}

function draw(main, told, outward) {
  const steps = nested(told.streams);
  const { from, to, all } = axis(told.streams);
  const most = longest(steps.map(({ step }) => step), from);
  const running = steps.some(({ step }) => step.state !== "ended");
  fill(main,
    h("div", { class: "heading" },
      h("div", { class: "bar" }, h("h1", {}, "Trace ", copyable(told.trace_id)), running ? h("span", { class: "badge streaming" }, "running") : null,
        h("span", { class: "muted", title: clock(from) }, `${clock(from)}, ${ago(from, told.now)}`), h("span", { class: "grow" }), outward),
      h("p", { class: "verdict" }, verdict(most, steps, all)),
      h("dl", { class: "facts totals" }, totals(told, steps, to - from).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))),
    h("section", { class: "panel" }, h("h2", {}, "Steps"),
      h("div", { class: "lines steps" }, h("div", { class: "rung heads" }, h("div", {}, "model → upstream"), h("div"), h("div", {}, "TTFT / lasted, cost")), steps.map((each, place) => line(each, place, from, all, most.step)), h("div", { class: "rung" }, h("div"), scale(all), h("div")))),
  );
}

function totals(told, steps, all) {
  const unpriced = steps.filter(({ step }) => step.state === "ended" && step.cost_usd === null).length;
  return [
    ["streams", [count(told.total.streams), told.cut ? h("span", { class: "faint" }, ` the first ${count(steps.length)} are shown`) : null]],
    ["from first to last", seconds(all)],
    ["tokens in", count(told.total.input_tokens)],
    ["tokens out", count(told.total.output_tokens)],
    ["cost", [usd(told.total.cost_usd), unpriced && told.total.cost_usd !== null ? h("span", { class: "faint" }, ` without ${unpriced} of no known price`) : null]],
    ["stalls", count(steps.reduce((sum, { step }) => sum + (step.stalls ?? 0), 0))],
  ];
}

/** Steps in the order of their beginning, each below its parent and as deep as it is nested. */
export function nested(streams) {
  const byParent = new Map();
  const spans = new Set(streams.map((stream) => stream.span_id));
  for (const stream of [...streams].sort((one, other) => one.received - other.received)) {
    const parent = spans.has(stream.parent_id) && stream.parent_id !== stream.span_id ? stream.parent_id : null;
    byParent.set(parent, [...(byParent.get(parent) ?? []), stream]);
  }
  const ordered = [];
  const seen = new Set();
  const add = (step, depth) => {
    if (seen.has(step)) return;
    seen.add(step);
    ordered.push({ step, depth });
    for (const child of byParent.get(step.span_id) ?? []) add(child, Math.min(depth + 1, 12));
  };
  for (const step of byParent.get(null) ?? []) add(step, 0);
  for (const step of streams) add(step, 0); // spans that name each other as parents
  return ordered;
}

/**
 * Whom the user waited for: from the end backwards along the steps that led there. Before a step began its time is the one's that had
 * ended last, or ran on. Returns the step with the most silence in that time, the seconds of it, and those in which no step ran.
 */
export function longest(streams, from) {
  const spans = streams.map((step) => ({ step, start: step.received - from, end: step.received - from + lasted(step) }));
  let at = Math.max(...spans.map(({ end }) => end));
  let [most, idle] = [{ step: streams[0], waited: -1 }, 0];
  const left = new Set(spans);
  while (left.size) {
    const before = [...left].filter(({ start }) => start < at || at <= 0);
    if (!before.length) break;
    const next = before.reduce((found, each) => (nearer(each, found, at) ? each : found));
    const until = Math.min(next.end, at);
    idle += at - until;
    const waited = silence(next.step, until - next.start);
    if (waited > most.waited) most = { step: next.step, waited };
    at = next.start;
    left.delete(next);
  }
  return { ...most, idle };
}

/** How much of a step's first seconds was waiting: all until its first token, and its stalls. Who speaks keeps nobody waiting. */
function silence(step, length) {
  const first = Math.min(step.ttft ?? length, length);
  return first + Math.min(step.stall_seconds ?? 0, length - first);
}

/** Whether a step is more likely than another what was waited for until a moment: it ended later, or, of those that ran on, sooner after. */
function nearer(one, other, at) {
  const [a, b] = [Math.min(one.end, at), Math.min(other.end, at)];
  return a === b ? one.end < other.end : a > b;
}

/** One sentence: which step kept the user waiting, and with what. */
function verdict({ step, waited, idle }, steps, all) {
  const place = steps.findIndex((each) => each.step === step) + 1;
  const link = h("a", { href: `/streams/${step.stream_id}` }, steps.length === 1 ? "The one stream" : `Step ${place}`);
  const spoke = step.ttft !== null && step.ttft !== undefined;
  const owners = Object.entries(step.stall_time ?? {}).sort((one, other) => other[1] - one[1]);
  const silent = !spoke ? ", without a token" : owners.length ? [", ", h("strong", {}, seconds(Math.min(step.ttft, waited))), " before its first token"] : ", all before its first token";
  const stalled = spoke && owners.length ? [" and ", h("strong", {}, seconds(step.stall_seconds)), " in stalls ", owners.map(([owner]) => h("span", { class: `blame ${owner}`, title: owner }, BLAME[owner]))] : null;
  const rest = idle > 0.05 * all ? ` Between the steps, for ${seconds(idle)}, nothing was asked of any model.` : "";
  return [link, " (", named(step.model || step.route), " at ", named(step.upstream || "no upstream"), ") kept the user waiting longest: ", h("strong", {}, seconds(waited)), ` of ${seconds(all)}`, silent, stalled, ".", rest];
}

function line({ step, depth }, place, from, all, most) {
  const start = step.received - from;
  const length = lasted(step);
  const first = step.ttft === null || step.ttft === undefined ? null : start + step.ttft;
  const strip = step.strip;
  const track = [
    piece(start, first ?? start + length, all, "dots", first === null ? "no token" : "waiting for the first token"),
    first === null ? null : piece(first, start + length, all, strip ? "ground" : "flowing", "from the first token to the end"),
    strip ? bars(stripColumns(strip), all, { shift: start, answer: strip.answer ?? 0 }) : null,
    (strip?.stalls ?? []).map(([at, wide, blame]) => stallPiece(start + at, wide, blame, all)),
    (strip?.seams ?? []).map((at) => mark(start + at, all, "seam", "another upstream went on here")),
    first === null ? null : mark(first, all, "first", `first token after ${seconds(step.ttft)}`),
    step.state === "ended" ? mark(start + length, all, step.outcome === "completed" ? "over" : "cross", step.outcome.replaceAll("_", " ")) : null,
  ];
  const open = (event) => event.target.closest("a, button") || dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${step.stream_id}` }));
  const name = h("div", { class: "step-name", title: `${step.model || step.route} → ${step.upstream || NONE}`, style: { paddingLeft: `${depth * 1.1}rem` } }, depth ? h("span", { class: "faint", "aria-hidden": "true" }, "└ ") : null,
    h("span", { class: "faint" }, `${place + 1} `), h("a", { href: `/streams/${step.stream_id}` }, named(step.model || step.route || step.stream_id.slice(0, 8))), h("span", { class: "muted" }, " → ", named(step.upstream || NONE)));
  const told = [step.outcome === "completed" ? null : badge(step), h("span", { title: "time to first token" }, seconds(step.ttft)), h("span", { class: "faint", title: "duration" }, ` / ${seconds(length)}`), step.stalls ? stalls(step) : null, step.cost_usd === null ? null : h("span", { class: "faint" }, ` ${usd(step.cost_usd)}`)];
  return h("div", { class: `rung step ${step === most ? "most" : ""}`, onclick: open, "data-stream": step.stream_id, "data-depth": depth, title: `begins ${seconds(start)} after the first, lasts ${seconds(length)}` },
    h("div", { class: "rung-name" }, name), h("div", { class: "track" }, track), h("div", { class: "rung-told" }, told));
}
