// What is known of one stream in words and figures: a sentence, four big figures, and all the rest in groups.

import { h, named } from "./dom.js";
import { BLAME, bytes, count, NONE, seconds, usd } from "./format.js";

const letter = (owner) => h("span", { class: `blame ${owner}`, title: owner }, BLAME[owner]);
const strong = (words) => h("strong", {}, words);

/** One sentence: how much of an ended stream was silence, and whose. */
export function verdict(record) {
  const { derived, cadence } = record;
  const all = seconds(derived.duration);
  const owners = Object.entries(cadence.stall_time).sort((one, other) => other[1] - one[1]);
  const stalled = owners.reduce((sum, [, held]) => sum + held, 0);
  const first = derived.ttft;
  if (first === null || first === undefined) return h("p", { class: "verdict" }, "No token came in ", strong(all), ".");
  const silent = Math.min(first + stalled, derived.duration ?? Infinity);
  const times = cadence.stall_count;
  const stalls = times ? [" and ", strong(seconds(stalled)), ` in ${count(times)} ${times === 1 ? "stall" : "stalls"}, held by `, owners.map(([owner], place) => [place ? ", " : "", `the ${owner} `, letter(owner)])] : "; once it spoke, it never stalled";
  return h("p", { class: "verdict" }, strong(seconds(silent)), ` of ${all} was silence: `, strong(seconds(first)), " before the first token", stalls, ".");
}

/** The four figures that are asked for first. */
export function figures(record) {
  const { derived, cadence, usage } = record;
  const stalled = Object.values(cadence.stall_time).reduce((sum, held) => sum + held, 0);
  const pace = derived.per_token > 0 ? `${count(1 / derived.per_token)} tokens/s` : "";
  const told = [
    ["first token", seconds(derived.ttft), derived.slow ? "above the objective ▲" : ""],
    ["duration", seconds(derived.duration), pace],
    ["stalls", cadence.stall_count ? seconds(stalled) : "none", cadence.stall_count ? [`${count(cadence.stall_count)} × `, Object.keys(cadence.stall_time).map(letter)] : ""],
    ["cost", usd(record.cost_usd), usage ? `${count(usage.input)} in, ${count(usage.output)} out` : ""],
  ];
  return h("dl", { class: "figures" }, told.map(([name, value, beside]) => h("div", {}, h("dt", {}, name), h("dd", {}, strong(value), " ", h("span", { class: "muted" }, beside)))));
}

/** All that is known, in groups; what is not known is left out. */
export function facts(record) {
  const { usage, derived } = record;
  const over = record.state === "ended";
  const groups = {
    Call: [
      ["asked model", record.asked_model],
      ["served model", record.served_model],
      ["attempts", over ? count(record.attempts.length) : null],
      ["fallback because", record.fallback_reason],
      ["dialect", record.dialect],
      ["HTTP status", record.status],
      ["finish", record.finish.join(", ")],
      ["response id", record.response_id],
    ],
    Times: [
      ["first byte", seconds(derived.ttfb)],
      ["first event", seconds(record.offsets.first_event)],
      ["first token", seconds(derived.ttft)],
      ["first answer", seconds(derived.first_answer)],
      ["per output token", seconds(derived.per_token)],
      ["duration", seconds(derived.duration)],
    ],
    Amounts: [
      ["input tokens", count(usage?.input)],
      ["cached input", count(usage?.cached)],
      ["output tokens", count(usage?.output)],
      ["reasoning tokens", count(usage?.reasoning)],
      ["bytes", over ? bytes(record.bytes) : null],
      ["cost", usd(record.cost_usd)],
    ],
    Whose: [
      ["tenant", record.tenant],
      ["session", record.session_id],
      ["prompt", [record.prompt_name, record.prompt_version].filter(Boolean).join(" @ ")],
      ["feedback", record.feedback ? [["disliked", "neither liked nor disliked", "liked"][record.feedback.score + 1], record.feedback.comment].filter(Boolean).join(": ") : null],
      ["client's retry", record.client_retry],
      ["came back", record.reconnects ? `${record.reconnects} ×` : null],
      ...Object.entries(record.tags).map(([name, value]) => [`tag ${name}`, value]),
    ],
    Findings: [
      ...Object.entries(record.mutations).map(([kind, times]) => [`changed: ${kind}`, count(times)]),
      ...Object.entries(record.parser_errors).map(([reason, times]) => [`unread: ${reason}`, count(times)]),
    ],
  };
  return h("div", { class: "groups" }, Object.entries(groups).map(([name, told]) => group(name, told.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== NONE))));
}

function group(name, told) {
  if (!told.length) return null;
  return h("section", {}, h("h3", {}, name), h("dl", { class: "facts" }, told.map(([fact, value]) => h("div", {}, h("dt", {}, named(fact)), h("dd", {}, named(value))))));
}
