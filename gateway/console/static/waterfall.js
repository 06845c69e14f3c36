// Where a stream's time went, to scale: its phases on one line, its attempts as lanes, and whose each moment was.

import { answerAt, arrivals, bars, columns, mark, piece, scale, stallPiece } from "./band.js";
import { h, named } from "./dom.js";
import { BLAME, NONE, seconds } from "./format.js";

const TENTH = 1e4; // tenths of a millisecond in a second: what the ledger is told in
const OWNERS = [
  ["queue", "queue", "before a connection was asked for", null],
  ["connect", "connect", "name, connection, handshake", null],
  ["upstream_wait", "upstream", "Weir read and nothing came, or it flowed", "upstream"],
  ["client_blocked", "client blocked", "the client did not take its bytes", "client"],
  ["guard_held", "guard held", "a guard read what was to go out", "gateway", true],
  ["gateway", "gateway", "Weir's own time, waiting before another attempt included", "gateway"],
];

export function lifetime(record) {
  return Math.max(record.derived.duration ?? record.age ?? 0, 1e-3);
}

/** One line of a chart: its name, its track on the common axis, what is said of it. */
function line(name, track, told, more = {}) {
  return h("div", { class: "rung", ...more }, h("div", { class: "rung-name" }, name), h("div", { class: "track" }, track), h("div", { class: "rung-told" }, told));
}

function axisLine(end) {
  return h("div", { class: "rung" }, h("div", {}), scale(end), h("div", {}));
}

/** The phases from request to end, with stalls hatched in their owner's colour and the seams of a resumed answer. */
export function timeline(record) {
  const end = lifetime(record);
  const { offsets } = record;
  const served = record.attempts[record.winner ?? record.attempts.length - 1];
  const sent = served?.offsets.sent;
  const first = offsets.first_token;
  const last = offsets.last_token ?? first;
  const track = [
    piece(0, served?.offsets.dialed ?? end, end, "before", record.attempts.length > 1 ? "earlier attempts, before the one that served" : "before dialling"),
    piece(served?.offsets.dialed, sent ?? end, end, "dialling", "queue and connect"),
    piece(sent, first ?? end, end, "dots", "waiting for the first token"),
    piece(first, answerAt(record), end, "thinking", "reasoning"),
    piece(answerAt(record) || first, last, end, "flowing", "streaming"),
    piece(last, end, end, "after", "after the last token"),
    record.cadence.stalls.map((stall) => stallPiece(stall.offset, stall.length, stall.blame, end)),
    first === undefined ? null : mark(first, end, "first", `first token after ${seconds(first)}`),
    record.seams.map((seam) => mark(seam.offset, end, "seam", `${seam.target} went on here for ${seam.source}: ${seam.why}`)),
  ];
  const told = first === undefined ? "no token" : ["first token ", h("strong", {}, seconds(first))];
  return h("div", { class: "lines", role: "img", "aria-label": phases(record, served, first, last, end) }, line("life", track, told));
}

/** The same in words. */
function phases(record, served, first, last, end) {
  const stalled = record.cadence.stalls.map((stall) => `stall of ${seconds(stall.length)} by the ${stall.blame}`);
  const told = first === undefined ? ["no token came"] : [`first token after ${seconds(first)}`, `streamed for ${seconds(last - first)}`];
  return [`${seconds(end)} in all, served by ${served?.upstream ?? "nobody"}`, ...told, ...stalled].join("; ");
}

/** Durations in tenths of a millisecond that sum to what their sum rounds to: the shown figures add up, too. */
export function apportion(values) {
  const exact = values.map((value) => value * TENTH);
  const whole = exact.map(Math.floor);
  let left = Math.round(exact.reduce((sum, value) => sum + value, 0)) - whole.reduce((sum, value) => sum + value, 0);
  const order = exact.map((value, place) => [value - whole[place], place]).sort((one, other) => other[0] - one[0]);
  for (const [, place] of order) if (left-- > 0) whole[place] += 1;
  return whole;
}

function tenths(value) {
  return value < TENTH ? `${(value / 10).toFixed(1)} ms` : `${(value / TENTH).toFixed(4)} s`;
}

/** Whose the time was: each owner's seconds as a share of the whole, wherever in it they lay. All begin at nothing and sum to the span. */
export function ledger(record) {
  const known = Object.values(record.seconds).some((value) => value > 0);
  if (!known) return h("p", { class: "muted" }, "Who owned its time went with the worker that died.");
  const told = OWNERS.filter(([key, , , , rare]) => record.seconds[key] > 0 || !rare);
  const shown = apportion(told.map(([key]) => record.seconds[key] ?? 0));
  const sum = shown.reduce((total, value) => total + value, 0);
  const end = Math.max(sum / TENTH, 1e-4);
  const lines = told.map(([key, name, words, blame], place) => {
    const length = shown[place] / TENTH;
    const track = key === "upstream_wait" ? upstreamPieces(record, length, end) : piece(0, length, end, `owned ${key}`, name);
    const label = [name, blame ? [" ", h("span", { class: `blame ${blame}`, "aria-hidden": "true" }, BLAME[blame])] : null];
    const share = Math.round((100 * shown[place]) / sum);
    return line(label, track, [h("strong", { "data-seconds": length.toFixed(4), "data-owner": key }, tenths(shown[place])), h("span", { class: "faint share" }, share || !shown[place] ? `${share} %` : "<1 %")],
      { title: words, class: shown[place] ? "rung" : "rung nothing" });
  });
  const total = line("sums to", null, [h("strong", { "data-sum": end.toFixed(4) }, tenths(sum)), h("span", { class: "faint share" }, "100 %")], { class: "rung sum" });
  return h("div", { class: "lines ledger", role: "group", "aria-label": "Whose the time was" },
    h("div", { class: "rung heads" }, h("div", {}, "whose it was"), h("div", {}, "added up, wherever it lay: shares of the whole, not moments"), h("div")), lines, total,
    h("div", { class: "rung" }, h("div"), shares(), h("div")));
}

function shares() {
  return h("div", { class: "axis", "aria-hidden": "true" }, [0, 25, 50, 75].map((share) => h("span", { style: { left: `${share}%` } }, `${share} %`)));
}

/** The upstream's share: silence before the first token, flow, and its stalls; the pieces are scaled to what it owned in all. */
function upstreamPieces(record, length, end) {
  const served = record.attempts[record.winner ?? record.attempts.length - 1];
  const first = record.offsets.first_token;
  const wait = first === undefined ? length : Math.max(0, first - (served?.offsets.sent ?? first));
  const stalled = record.cadence.stall_time.upstream ?? 0;
  const waited = Math.min(length, wait);
  const silent = Math.min(length - waited, stalled);
  const flow = length - waited - silent;
  return [
    piece(0, waited, end, "dots", "until its first token"),
    piece(waited, waited + flow, end, "flowing", "between tokens, below the stall threshold"),
    piece(waited + flow, length, end, "stall hatch-upstream", "stalls"),
  ];
}

/** The attempts, one lane each on one axis: dial, wait, tokens as they came, and how it ended. */
export function lanes(record) {
  if (!record.attempts.length) return h("p", { class: "muted" }, "No upstream was asked.");
  const end = lifetime(record);
  const came = arrivals(record);
  const drawn = record.attempts.map((attempt, place) => lane(record, attempt, place, came, end));
  return h("div", { class: "lines lanes" }, drawn, axisLine(end));
}

function lane(record, attempt, place, came, end) {
  const o = attempt.offsets;
  const over = o.ended ?? (record.state === "ended" ? record.offsets.ended : end) ?? end;
  const heard = hears(record, attempt, place);
  const next = heard ? record.seams.find((seam) => seam.offset >= o.first_token) : null; // where another one went on for it
  const until = next?.offset ?? over;
  const stalls = record.cadence.stalls.filter((stall) => heard && stall.offset >= o.first_token - 1e-3 && stall.offset < until);
  const mine = attempt.why === "resume" ? record.seams.findLast((seam) => seam.offset <= (o.first_token ?? -1)) : null;
  const track = [
    piece(o.dialed, o.sent ?? over, end, "dialling", "queue and connect"),
    piece(o.sent, o.first_token ?? over, end, "dots", "waiting for the first token"),
    heard ? piece(o.first_token, until, end, "ground", "speaking") : piece(o.first_token, over, end, "unheard", "spoke, but was not the one to be heard"),
    heard ? bars(columns(came, end, o.first_token - 1e-3, next ? until : Infinity), end, { answer: answerAt(record) }) : null,
    stalls.map((stall) => stallPiece(stall.offset, stall.length, stall.blame, end)),
    heard ? mark(o.first_token, end, "first", `first token after ${seconds(o.first_token)}`) : null,
    heard && mine ? mark(o.first_token, end, "seam", `went on here for ${mine.source}, after ${mine.chunks} tokens: ${mine.why}`) : null,
    record.state !== "ended" && o.ended === undefined ? null : mark(over, end, attempt.outcome === "won" ? "over" : "cross", attempt.outcome.replaceAll("_", " ")),
  ];
  const name = [h("span", { class: "faint" }, `${place + 1} `), h("strong", { class: heard ? "" : "muted" }, named(attempt.upstream)), attempt.why === "first" ? null : h("span", { class: "faint" }, ` ${attempt.why}`)];
  return line(name, track, verdict(record, attempt), { class: `rung lane ${heard ? "winner" : "loser"}`, "data-outcome": attempt.outcome, title: `${attempt.model} at ${attempt.address || attempt.upstream}` });
}

/** Whether the client heard an attempt: it began the answer, or went on with it. */
function hears(record, attempt, place) {
  if (attempt.offsets.first_token === undefined) return false;
  return place === record.winner || (attempt.why === "resume" && record.seams.some((seam) => seam.target === attempt.upstream));
}

/** How an attempt ended, in a word or two and with its own time to first token. */
function verdict(record, attempt) {
  const o = attempt.offsets;
  const own = o.first_token !== undefined && o.sent !== undefined ? seconds(o.first_token - o.sent) : NONE;
  const running = record.state !== "ended" && o.ended === undefined;
  const word = running ? (o.first_token === undefined ? "asked" : "speaking") : attempt.outcome.replaceAll("_", " ");
  const error = attempt.error && attempt.error !== attempt.outcome ? attempt.error.replace(/^(\d{3})$/, "HTTP $1") : null;
  return [h("span", { class: `badge ${attempt.outcome === "won" ? "completed" : ""}` }, word), error ? [" ", named(error, { class: "muted", title: error })] : h("span", { class: "faint", title: "first token after the request was sent" }, ` ${own}`)];
}
