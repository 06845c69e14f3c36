// All streams of one trace on one axis: which step kept the user waiting, and what the whole thing cost.

import { get } from "./api.js";
import { copyable, fill, h } from "./dom.js";
import { count, seconds, usd } from "./format.js";
import { badge, stalls } from "./streams.js";

export async function show(main, [id], signal) {
  const told = await get(`/api/traces/${encodeURIComponent(id)}`, signal);
  const steps = nested(told.streams);
  const start = Math.min(...steps.map(({ step }) => step.received));
  const end = Math.max(...steps.map(({ step }) => step.received + (step.duration ?? step.age ?? 0)));
  const all = Math.max(end - start, 1e-3);
  const waited = steps.reduce((most, each) => ((each.step.ttft ?? 0) > (most.step.ttft ?? 0) ? each : most), steps[0]);
  fill(
    main,
    h("div", { class: "bar" }, h("h1", {}, "Trace"), copyable(id), h("span", { class: "muted" },
      `${steps.length} stream${steps.length === 1 ? "" : "s"} in ${seconds(all)} · ${count(told.total.input_tokens)} tokens in, ${count(told.total.output_tokens)} out · ${usd(told.total.cost_usd)}`)),
    waited.step.ttft ? h("p", { class: "verdict" }, "The longest wait for a first token was ", h("a", { href: `/streams/${waited.step.stream_id}` }, seconds(waited.step.ttft)), ` at ${waited.step.upstream}.`) : null,
    h("section", { class: "panel scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Step", "Route", "Upstream", "Outcome", "TTFT", "Stalls", "Cost", "Time"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, steps.map((each) => row(each, start, all))))),
  );
}

/** Steps in the order of their beginning, each below its parent and as deep as it is nested. */
function nested(streams) {
  const byParent = new Map();
  const known = new Set(streams.map((stream) => stream.span_id));
  for (const stream of [...streams].sort((one, other) => one.received - other.received)) {
    const parent = known.has(stream.parent_id) && stream.parent_id !== stream.span_id ? stream.parent_id : null;
    byParent.set(parent, [...(byParent.get(parent) ?? []), stream]);
  }
  const ordered = [];
  const add = (parent, depth) => {
    for (const step of byParent.get(parent) ?? []) {
      ordered.push({ step, depth });
      if (depth < 16) add(step.span_id, depth + 1);
    }
  };
  add(null, 0);
  return ordered;
}

function row({ step, depth }, start, all) {
  const left = (100 * (step.received - start)) / all;
  const length = step.duration ?? step.age ?? 0;
  const waiting = (100 * Math.min(step.ttft ?? length, length)) / all;
  const speaking = (100 * Math.max(0, length - (step.ttft ?? length))) / all;
  const open = () => dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${step.stream_id}` }));
  const bar = (from, width, shade, opacity) => h("i", { style: { position: "absolute", left: `${from}%`, width: `max(2px, ${width}%)`, top: "6px", bottom: "6px", background: `var(--${shade})`, opacity, borderRadius: "2px" } });
  return h("tr", { tabindex: 0, onclick: open },
    h("td", { style: { paddingLeft: `${0.6 + depth * 1.2}rem` } }, h("span", { class: "mono" }, step.stream_id.slice(0, 8)), ` ${step.model}`),
    h("td", {}, step.route), h("td", {}, step.upstream), h("td", {}, badge(step)), h("td", { class: "right" }, seconds(step.ttft)), h("td", { class: "right" }, stalls(step)), h("td", { class: "right" }, usd(step.cost_usd)),
    h("td", { style: { position: "relative", width: "40%", minWidth: "16rem" }, title: `${seconds(step.received - start)} after the first, for ${seconds(length)}` }, bar(left, waiting, "waiting", 0.45), speaking ? bar(left + waiting, speaking, "flow", 0.9) : null));
}
