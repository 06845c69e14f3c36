// One stream: where its time went, its attempts as lanes, its cadence, the facts, the whole record; and while it runs, its strip.

import { Failure, follow, get, post } from "./api.js";
import { answerAt } from "./band.js";
import { Board } from "./board.js";
import { cadencePanel } from "./cadence.js";
import { copyable, fill, h, named, say, toast } from "./dom.js";
import { facts, figures, verdict } from "./facts.js";
import { age, ago, BLAME, clock, count, NONE, seconds } from "./format.js";
import { buttons, span } from "./links.js";
import { replayPanel } from "./replay.js";
import { Steady } from "./steady.js";
import { badge } from "./streams.js";
import { paint, SPAN } from "./strips.js";
import { along, said } from "./text.js";
import { lanes, ledger, timeline } from "./waterfall.js";

const LIVE_EVERY = 1000;
const PATIENCE = 3000; // milliseconds between a stream's end and its row in the store, at most
const LATE = 0.4; // seconds that the strip is drawn behind the present, so that tokens are there before their place is
const TURN = 10; // seconds by which a strip that does not scroll turns its page
const still = matchMedia("(prefers-reduced-motion: reduce)");

export async function show(main, [id], signal) {
  const steady = new Steady();
  let page = null;
  for (let since = performance.now(); !signal.aborted; ) {
    const record = await steady.ask(() => ask(id, signal), signal);
    if (record?.state === "ended") return ended(main, record, signal);
    if (record === undefined) {
      if (!page) fill(main, steady.note);
      since = performance.now();
    } else if (record) {
      page ??= running(main, record, signal, steady.note);
      page(record);
      since = performance.now();
    } else if (performance.now() - since > PATIENCE) {
      return missing(main, id);
    }
    await new Promise((resolve) => setTimeout(resolve, record || record === undefined ? LIVE_EVERY : 250));
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
  fill(main, heading(record, [play], signal), verdict(record), figures(record), timePanel(record), lanesPanel(record), stage, cadencePanel(record, signal), text, factsPanel(record), rawPanel(record));
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
function running(main, first, signal, stale) {
  const [state, where, passed, silence, note, told] = [h("span"), h("span", { class: "muted" }), h("strong"), h("strong", {}, NONE), h("span", { class: "note" }), h("div")];
  const canvas = h("canvas", { class: "strip tall", role: "img", "aria-label": "Tokens of the last 30 seconds" });
  const text = h("div"); // the room of a running stream's text, where it is kept
  const halt = h("button", { class: "plain danger", type: "button", onclick: () => stop(first.stream_id) }, "Stop ■");
  const strip = h("section", { class: "panel" }, h("div", { class: "bar" }, h("h2", {}, "Now"), where, h("span", { class: "muted" }, "age ", passed), h("span", { class: "muted" }, "last token ", silence), note), canvas,
    h("p", { class: "faint slim" }, "The last 30 seconds. Hops, attempts and cadence are told when it has ended."));
  fill(main, stale, heading(first, [halt], signal, state), strip, text, h("section", { class: "panel" }, h("h2", {}, "Facts"), told));
  watch(first, canvas, { passed, silence, note }, signal);
  along(text, first, signal);
  return (record) => {
    fill(state, badge(record), record.stall_blame ? [" ", h("span", { class: `blame ${record.stall_blame}` }, BLAME[record.stall_blame])] : null);
    fill(where, h("strong", {}, named(record.upstream || "no upstream yet")), ` · ${record.state.replaceAll("_", " ")} for ${seconds(record.in_state)}`);
    fill(told, facts(record));
  };
}

/** Draw a running stream's strip from the live feed until the page is left. */
function watch(record, canvas, told, signal) {
  const board = new Board();
  const path = record.route ? `/api/live?route=${encodeURIComponent(record.route)}` : "/api/live";
  let broken = ""; // why the feed is not heard
  const take = (event) => {
    broken = "";
    board.take(event);
  };
  follow(path, take, (error) => (broken = error instanceof Failure ? error.message : "the feed broke off"), signal);
  let drawn = 0;
  const frame = (at) => {
    if (signal.aborted || !canvas.isConnected) return;
    requestAnimationFrame(frame);
    if (still.matches && at - drawn < 1000) return;
    drawn = at;
    if (!board.told) return say(told.note, broken && `${broken}; trying again`);
    const now = board.now();
    const track = board.streams.get(record.stream_id)?.track;
    say(told.passed, age(now - record.received_at));
    say(told.note, broken ? `${broken}; trying again` : track ? "" : `the feed shows ${count(board.shown)} of ${count(board.active)} streams, and this one is not among them`);
    if (!track) return;
    const last = track.lastBy(now - LATE);
    const silent = now - LATE - last;
    say(told.silence, last === null ? NONE : silent < 0.05 ? "< 50 ms ago" : `${seconds(silent)} ago`);
    const turned = Math.max(0, Math.ceil((now - LATE - track.received - SPAN) / TURN)) * TURN;
    still.matches ? paint(canvas, track, now - LATE, track.received + turned) : paint(canvas, track, now - LATE);
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
      h("h1", {}, named(record.route || record.operation), " · ", named(record.asked_model || NONE), " ", h("span", { class: "muted" }, "→ "), served(record).map((name, place) => [place ? " ↷ " : "", named(name)])),
      state ?? badge(record), record.error && record.error !== record.outcome ? named(record.error, { class: "muted" }) : null,
      record.derived.slow ? h("span", { class: "badge slow", title: "its first token came later than the route's objective" }, "slow") : null,
      h("span", { class: "grow" }), actions, outward,
      h("a", { class: "plain button", href: `/api/streams/${record.stream_id}`, target: "_blank", rel: "noopener" }, "JSON ↗")),
    h("p", { class: "muted ids" }, "stream ", copyable(record.stream_id), " · ", h("a", { href: `/traces/${record.trace_id}` }, "trace"), " ", copyable(record.trace_id),
      " · ", h("span", { title: clock(record.received_unix) }, `received ${clock(record.received_unix)}${record.now && record.state === "ended" ? `, ${ago(record.received_unix, record.now)}` : ""}`)));
}

/** End a running stream, after asking once whether this one is meant: rows move while one aims. */
export async function stop(id) {
  const known = await get(`/api/streams/${encodeURIComponent(id)}`, AbortSignal.timeout(1000)).catch(() => null);
  const which = known ? ` of ${[known.route, known.upstream].filter(Boolean).join(" at ") || "no route"}, ${age(known.age)} old` : "";
  if (!confirm(`Stop stream ${id.slice(0, 8)}${which}? Its client gets an error event.`)) return;
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
  const seams = record.seams.map((seam) => h("p", { class: "seam-note" }, `Resumed: at ${seconds(seam.offset)}, after ${count(seam.chunks)} tokens, `, named(seam.source), ` failed (${seam.why}), and `, named(seam.target), " went on with the answer."));
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
