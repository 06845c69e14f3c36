// One stream: its hops, its attempts as lanes, its cadence, the facts, the whole record.

import { Failure, get, post } from "./api.js";
import { copyable, fill, h, toast } from "./dom.js";
import { BLAME, bytes, clock, count, NONE, seconds, usd } from "./format.js";
import { lanes, ledger, timeline } from "./waterfall.js";
import { gaps, line } from "./plots.js";
import { badge } from "./streams.js";

const TICK = 1e-4; // seconds: what `cadence.ticks` counts in
const LIVE_EVERY = 1000;

export async function show(main, [id], signal) {
  const page = h("div");
  fill(main, page);
  for (;;) {
    const record = await get(`/api/streams/${encodeURIComponent(id)}`, signal);
    const room = new AbortController();
    signal.addEventListener("abort", () => room.abort(), { once: true });
    draw(page, record, room.signal);
    if (record.state === "ended" || signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, LIVE_EVERY));
    room.abort();
    if (signal.aborted) return;
  }
}

function draw(page, record, signal) {
  const plots = h("div");
  fill(
    page,
    heading(record),
    h("section", { class: "panel" }, h("h2", {}, "Hops"), timeline(record), ledger(record)),
    h("section", { class: "panel" }, h("h2", {}, record.attempts.length === 1 ? "Attempt" : "Attempts"), lanes(record)),
    h("section", { class: "panel" }, cadenceHead(record), plots, stallList(record)),
    h("section", { class: "panel" }, h("h2", {}, "Facts"), facts(record)),
    h("section", { class: "panel" }, h("details", {}, h("summary", {}, "The whole record"), h("pre", {}, JSON.stringify(record, null, 2)))),
  );
  cadence(plots, record, "gaps", signal);
  for (const choice of page.querySelectorAll("[data-plot]")) {
    choice.addEventListener("click", () => {
      for (const other of page.querySelectorAll("[data-plot]")) other.setAttribute("aria-pressed", String(other === choice));
      fill(plots);
      cadence(plots, record, choice.dataset.plot, signal);
    });
  }
}

function heading(record) {
  const ended = record.state === "ended";
  return h(
    "div",
    { class: "bar" },
    h("h1", {}, `${record.operation} · ${record.asked_model || NONE} → ${(record.attempts[record.winner ?? record.attempts.length - 1] ?? {}).upstream ?? NONE}`),
    badge(record),
    record.error ? h("span", { class: "muted" }, record.error) : null,
    h("span", { class: "muted" }, usd(record.cost_usd)),
    h("span", { class: "grow" }),
    h("span", { class: "muted" }, "stream ", copyable(record.stream_id)),
    h("span", { class: "muted" }, h("a", { href: `/traces/${record.trace_id}` }, "trace"), " ", copyable(record.trace_id)),
    ended ? null : h("button", { class: "plain danger", type: "button", onclick: () => stop(record.stream_id) }, "Stop"),
    h("a", { href: `/api/streams/${record.stream_id}`, target: "_blank", rel: "noopener" }, "JSON"),
  );
}

/** End a running stream, after asking once. */
export async function stop(id) {
  if (!confirm("Stop this stream? Its client gets an error event.")) return;
  try {
    await post(`/api/streams/${id}/abort`);
    toast("Stopped");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    toast(error.message);
  }
}

/** When its reads with tokens came, in seconds since the request, and how many tokens each brought. */
function arrivals(record) {
  const cadence = record.cadence;
  const many = new Map(cadence.counts ?? []);
  let at = record.offsets.first_token ?? 0;
  return (cadence.ticks ?? []).map((tick, place) => {
    at = place ? at + tick * TICK : at;
    return { at, tokens: many.get(place) ?? 1 };
  });
}

function cadenceHead(record) {
  const cadence = record.cadence;
  const toggle = (name, words, pressed) => h("button", { class: "plain", type: "button", "data-plot": name, "aria-pressed": String(pressed) }, words);
  return h(
    "div",
    { class: "bar" },
    h("h2", { style: { margin: 0 } }, "Cadence"),
    h("span", { class: "muted" }, `${count(cadence.chunks)} chunks in ${count(cadence.arrivals)} reads, gap p50 ${seconds(cadence.gap_p50)}, p95 ${seconds(cadence.gap_p95)}, longest ${seconds(cadence.gap_max)}`),
    cadence.burst ? h("span", { class: "note" }, "came in a burst: a hop on the way holds tokens back") : null,
    h("span", { class: "grow" }),
    toggle("gaps", "gaps", true), toggle("sum", "tokens so far", false), toggle("rate", "tokens/s", false),
  );
}

function cadence(parent, record, kind, signal) {
  const came = arrivals(record);
  const stalls = record.cadence.stalls;
  if (came.length < 2) return fill(parent, h("p", { class: "empty" }, came.length ? "One read brought every token: there is no gap to show." : "No token came."));
  if (kind === "gaps") {
    const pairs = came.slice(1).map((each, place) => [each.at, Math.max(1e-4, each.at - came[place].at)]);
    const marks = [[record.cadence.gap_p50, "median", true], [record.cadence.gap_p95, "p95"]];
    gaps(parent, pairs.map(([at]) => at), pairs.map(([, gap]) => gap), stalls, marks, signal);
  } else if (kind === "sum") {
    let sum = 0;
    line(parent, came.map((each) => each.at), came.map((each) => (sum += each.tokens)), signal);
  } else {
    const start = came[0].at;
    const width = Math.max(0.25, (came.at(-1).at - start) / 60);
    const rates = new Array(Math.ceil((came.at(-1).at - start) / width) + 1).fill(0);
    for (const each of came) rates[Math.floor((each.at - start) / width)] += each.tokens / width;
    line(parent, rates.map((_, place) => start + place * width), rates, signal);
  }
  if (record.cadence.arrivals > came.length) parent.append(h("p", { class: "note" }, `Shown are the first ${came.length} of ${record.cadence.arrivals} reads: no more are kept.`));
}

function stallList(record) {
  const { stalls, stall_count: all } = record.cadence;
  if (!stalls.length) return null;
  const rows = stalls.map((stall) =>
    h("tr", {}, h("td", {}, seconds(stall.offset)), h("td", {}, seconds(stall.length)), h("td", {}, h("span", { class: `blame ${stall.blame}` }, BLAME[stall.blame]), ` ${stall.blame}`), h("td", {}, `after chunk ${stall.chunk}`)));
  const note = all > stalls.length ? h("p", { class: "note" }, `${all} stalls in all; the first and the longest are listed.`) : null;
  return [h("table", {}, h("thead", {}, h("tr", {}, ["Stall at", "For", "Owner", "Where"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)), note];
}

function facts(record) {
  const { offsets, usage, derived } = record;
  const told = [
    ["received", clock(record.received_unix)],
    ["dialect", record.dialect],
    ["asked model", record.asked_model],
    ["served model", record.served_model],
    ["HTTP status", record.status],
    ["time to first byte", seconds(derived.ttfb)],
    ["time to first token", seconds(derived.ttft)],
    ["to first answer", seconds(derived.first_answer)],
    ["per output token", seconds(derived.per_token)],
    ["duration", seconds(derived.duration)],
    ["finish", record.finish.join(", ")],
    ["input tokens", count(usage?.input)],
    ["cached input", count(usage?.cached)],
    ["output tokens", count(usage?.output)],
    ["reasoning tokens", count(usage?.reasoning)],
    ["bytes", bytes(record.bytes)],
    ["response id", record.response_id],
    ["fallback because", record.fallback_reason],
    ["session", record.session_id],
    ["prompt", [record.prompt_name, record.prompt_version].filter(Boolean).join(" ")],
    ["client retry", record.client_retry],
    ["committed at", seconds(offsets.committed)],
    ...Object.entries(record.tags).map(([name, value]) => [`tag ${name}`, value]),
    ...Object.entries(record.mutations).map(([kind, times]) => [`changed: ${kind}`, count(times)]),
    ...Object.entries(record.parser_errors).map(([reason, times]) => [`unread: ${reason}`, count(times)]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== NONE);
  return h("dl", { class: "facts" }, told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}
