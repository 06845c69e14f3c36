// One stream: where its time went, its attempts as lanes, its cadence, the facts, the whole record; and while it runs, its strip.

import { Failure, follow, get, post } from "./api.js";
import { answerAt } from "./band.js";
import { Board } from "./board.js";
import { cadencePanel } from "./cadence.js";
import { copyable, fill, h, say, toast } from "./dom.js";
import { ago, BLAME, bytes, clock, count, NONE, seconds, usd } from "./format.js";
import { buttons, span } from "./links.js";
import { replayPanel } from "./replay.js";
import { badge } from "./streams.js";
import { paint } from "./strips.js";
import { along, said } from "./text.js";
import { lanes, ledger, timeline } from "./waterfall.js";

const LIVE_EVERY = 1000;
const PATIENCE = 3000; // milliseconds between a stream's end and its row in the store, at most
const LATE = 0.4; // seconds that the strip is drawn behind the present, so that tokens are there before their place is
const still = matchMedia("(prefers-reduced-motion: reduce)");

export async function show(main, [id], signal) {
  let page = null;
  for (let since = performance.now(); !signal.aborted; ) {
    const record = await ask(id, signal);
    if (record?.state === "ended") return ended(main, record, signal);
    if (record) {
      page ??= running(main, record, signal);
      page(record);
      since = performance.now();
    } else if (performance.now() - since > PATIENCE) {
      return missing(main, id);
    }
    await new Promise((resolve) => setTimeout(resolve, record ? LIVE_EVERY : 250));
  }
}

/** The record, or null when no such stream is live or stored: one that has just ended may be between the two. */
async function ask(id, signal) {
  try {
    return await get(`/api/streams/${encodeURIComponent(id)}`, signal);
  } catch (error) {
    if (error instanceof Failure && error.status === 404) return null;
    throw error;
  }
}

function missing(main, id) {
  fill(main, h("div", { class: "empty", role: "alert" }, h("p", {}, "No stream ", h("code", {}, id), " is running or stored."),
    h("p", {}, "It may be older than telemetry.store.retention, or the store may be off. ", h("a", { href: "/streams" }, "See the streams that are there"))));
}

function ended(main, record, signal) {
  const stage = h("div");
  const play = h("button", { class: "plain", type: "button", "aria-expanded": "false", onclick: () => replay() }, "Replay ▷");
  const text = h("div"); // the room of a stream's text, where it is kept
  const heard = [];
  fill(main, heading(record, [play], signal), timePanel(record), lanesPanel(record), stage, cadencePanel(record, signal), text, factsPanel(record), rawPanel(record));
  said(text, record, signal, heard);

  function replay() {
    const open = play.getAttribute("aria-expanded") === "true";
    play.setAttribute("aria-expanded", String(!open));
    if (open) {
      heard.forEach((each) => each(Infinity));
      return fill(stage);
    }
    const { panel, start } = replayPanel(record, signal, (at) => heard.forEach((each) => each(at)));
    fill(stage, panel);
    start();
  }
}

/** The page of a running stream: drawn once, then only what changes is put anew. Returns what takes a newer record. */
function running(main, first, signal) {
  const [state, where, age, silence, note, told] = [h("span"), h("span", { class: "muted" }), h("strong"), h("strong", {}, NONE), h("span", { class: "note" }), h("div")];
  const canvas = h("canvas", { class: "strip tall", role: "img", "aria-label": "Tokens of the last 30 seconds" });
  const text = h("div"); // the room of a running stream's text, where it is kept
  const halt = h("button", { class: "plain danger", type: "button", onclick: () => stop(first.stream_id) }, "Stop ■");
  const strip = h("section", { class: "panel" }, h("div", { class: "bar" }, h("h2", {}, "Now"), where, h("span", { class: "muted" }, "age ", age), h("span", { class: "muted" }, "last token ", silence), note), canvas,
    h("p", { class: "faint slim" }, "The last 30 seconds. Hops, attempts and cadence are told when it has ended."));
  fill(main, heading(first, [halt], signal, state), strip, text, h("section", { class: "panel" }, h("h2", {}, "Facts"), told));
  watch(first, canvas, { age, silence, note }, signal);
  along(text, first, signal);
  return (record) => {
    fill(state, badge(record), record.stall_blame ? [" ", h("span", { class: `blame ${record.stall_blame}` }, BLAME[record.stall_blame])] : null);
    fill(where, h("strong", {}, record.upstream || "no upstream yet"), ` · ${record.state.replaceAll("_", " ")} for ${seconds(record.in_state)}`);
    fill(told, facts(record));
  };
}

/** Draw a running stream's strip from the live feed until the page is left. */
function watch(record, canvas, told, signal) {
  const board = new Board();
  const path = record.route ? `/api/live?route=${encodeURIComponent(record.route)}` : "/api/live";
  follow(path, (event) => board.take(event), () => say(told.note, "the feed broke off; trying again"), signal);
  let drawn = 0;
  const frame = (at) => {
    if (signal.aborted || !canvas.isConnected) return;
    requestAnimationFrame(frame);
    if (!board.told || (still.matches && at - drawn < 1000)) return;
    drawn = at;
    const now = board.now();
    const track = board.streams.get(record.stream_id)?.track;
    say(told.age, seconds(Math.max(0, now - record.received_at)));
    say(told.note, track ? "" : `the feed shows ${count(board.shown)} of ${count(board.active)} streams, and this one is not among them`);
    if (!track) return;
    say(told.silence, track.last === null ? NONE : `${seconds(Math.max(0, now - track.last))} ago`);
    paint(canvas, track, now - LATE);
  };
  requestAnimationFrame(frame);
}

/** Who served it: the one that began the answer, and those that went on with it. */
function served(record) {
  const first = record.state === "ended" ? record.attempts[record.winner ?? record.attempts.length - 1]?.upstream : record.upstream;
  return [first || "nobody", ...record.seams.map((seam) => seam.target)];
}

function heading(record, actions, signal, state = null) {
  const outward = h("span", { class: "outward" });
  const known = { trace_id: record.trace_id, span_id: record.span_id, stream_id: record.stream_id, route: record.route, upstream: served(record).at(-1),
    ...span(record.received_unix, record.received_unix + (record.derived.duration ?? record.age ?? 0)) };
  buttons(known, signal).then((links) => fill(outward, links), () => {});
  return h("div", { class: "heading" },
    h("div", { class: "bar" },
      h("h1", {}, `${record.route || record.operation} · ${record.asked_model || NONE} `, h("span", { class: "muted" }, "→ "), served(record).join(" ↷ ")),
      state ?? badge(record), record.error && record.error !== record.outcome ? h("span", { class: "muted" }, record.error) : null,
      record.derived.slow ? h("span", { class: "badge slow", title: "its first token came later than the route's objective" }, "slow") : null,
      record.cost_usd === null ? null : h("span", { class: "muted", title: "cost" }, usd(record.cost_usd)),
      h("span", { class: "grow" }), actions, outward,
      h("a", { class: "plain button", href: `/api/streams/${record.stream_id}`, target: "_blank", rel: "noopener" }, "JSON ↗")),
    h("p", { class: "muted ids" }, "stream ", copyable(record.stream_id), " · ", h("a", { href: `/traces/${record.trace_id}` }, "trace"), " ", copyable(record.trace_id),
      " · ", h("span", { title: clock(record.received_unix) }, `received ${clock(record.received_unix)}${record.now ? `, ${ago(record.received_unix, record.now)}` : ""}`)));
}

/** End a running stream, after asking once. */
export async function stop(id) {
  if (!confirm("Stop this stream? Its client gets an error event.")) return;
  try {
    await post(`/api/streams/${encodeURIComponent(id)}/abort`);
    toast("Stopped");
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    toast(error.message);
  }
}

function timePanel(record) {
  return h("section", { class: "panel hops" }, h("div", { class: "bar tight" }, h("h2", {}, "Hops"), h("span", { class: "grow" }), legend(record)), timeline(record), ledger(record));
}

/** What the colours mean that are on this page. */
function legend(record) {
  const owners = [...new Set(record.cadence.stalls.map((stall) => stall.blame))].filter((owner) => owner in BLAME);
  const item = (kind, words) => h("span", {}, h("i", { class: kind }), words);
  return h("span", { class: "legend" }, item("dotted-waiting", "waiting"), answerAt(record) ? item("solid-reasoning", "reasoning") : null, item("solid-flow", "tokens"), owners.map((owner) => item(`hatch-${owner}`, `stall: ${owner} ${BLAME[owner]}`)));
}

function lanesPanel(record) {
  const seams = record.seams.map((seam) => h("p", { class: "note" }, `Resumed: at ${seconds(seam.offset)}, after ${count(seam.chunks)} tokens, ${seam.source} failed (${seam.why}), and ${seam.target} went on with the answer.`));
  return h("section", { class: "panel" }, h("h2", {}, record.attempts.length === 1 ? "Attempt" : "Attempts"), lanes(record), seams);
}

function factsPanel(record) {
  return h("section", { class: "panel" }, h("h2", {}, "Facts"), facts(record));
}

function rawPanel(record) {
  const raw = h("pre");
  const details = h("details", {}, h("summary", {}, "The whole record"), raw);
  details.addEventListener("toggle", () => details.open && !raw.textContent && say(raw, JSON.stringify(record, null, 2)));
  return h("section", { class: "panel" }, details);
}

function facts(record) {
  const { usage, derived } = record;
  const told = [
    ["asked model", record.asked_model],
    ["served model", record.served_model],
    ["attempts", count(record.attempts.length)],
    ["fallback because", record.fallback_reason],
    ["dialect", record.dialect],
    ["HTTP status", record.status],
    ["first byte", seconds(derived.ttfb)],
    ["first event", seconds(record.offsets.first_event)],
    ["first token", seconds(derived.ttft)],
    ["first answer", seconds(derived.first_answer)],
    ["per output token", seconds(derived.per_token)],
    ["duration", seconds(derived.duration)],
    ["input tokens", count(usage?.input)],
    ["cached input", count(usage?.cached)],
    ["output tokens", count(usage?.output)],
    ["reasoning tokens", count(usage?.reasoning)],
    ["finish", record.finish.join(", ")],
    ["bytes", record.state === "ended" ? bytes(record.bytes) : null],
    ["tenant", record.tenant],
    ["session", record.session_id],
    ["prompt", [record.prompt_name, record.prompt_version].filter(Boolean).join(" @ ")],
    ["feedback", record.feedback ? [["disliked", "neither liked nor disliked", "liked"][record.feedback.score + 1], record.feedback.comment].filter(Boolean).join(": ") : null],
    ["client's retry", record.client_retry],
    ["came back", record.reconnects ? `${record.reconnects} ×` : null],
    ["response id", record.response_id],
    ...Object.entries(record.tags).map(([name, value]) => [`tag ${name}`, value]),
    ...Object.entries(record.mutations).map(([kind, times]) => [`changed: ${kind}`, count(times)]),
    ...Object.entries(record.parser_errors).map(([reason, times]) => [`unread: ${reason}`, count(times)]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== NONE);
  return h("dl", { class: "facts" }, told.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
}
