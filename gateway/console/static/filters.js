// The filters of the streams: all of them live in the address, so that a view can be sent to somebody; each is a control or a pill.

import { h } from "./dom.js";
import { clock, seconds } from "./format.js";

export const OUTCOMES = [
  "completed", "client_disconnect", "client_stalled", "upstream_error", "upstream_truncated", "upstream_stalled", "first_token_timeout",
  "guard_blocked", "operator_abort", "rejected", "shutdown", "gateway_error",
];
const SELECTS = ["route", "upstream", "model", "outcome"];
const AGES = [["", "any time"], ["5m", "last 5 min"], ["15m", "last 15 min"], ["1h", "last hour"], ["6h", "last 6 hours"], ["1d", "last day"], ["7d", "last 7 days"]];
const TYPED = [["prompt", "prompt"], ["prompt_version", "version"], ["session", "session"]];
/** What the page reads from its address and keeps from the API. */
const PAGES_OWN = new Set(["sort", "most"]);

/** The address's filters as a question to /api/streams. */
export function question(asked) {
  return new URLSearchParams([...asked].filter(([name, value]) => value && !PAGES_OWN.has(name)));
}

/** Whether anything narrows what is shown. */
export function narrowed(asked) {
  return [...asked].some(([name, value]) => value && name !== "sort");
}

/** Go to the same page with some of its filters changed; an empty value takes one away. */
export function change(changes) {
  const asked = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? asked.set(name, value) : asked.delete(name);
  dispatchEvent(new CustomEvent("weir:go", { detail: `/streams${asked.size ? `?${asked}` : ""}` }));
}

export function choice(name, options, chosen, onchange) {
  const select = h("select", { "aria-label": name || null, onchange: (event) => onchange(event.target.value) }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", { class: "filter" }, name, select);
}

/** The bar: choices of what is configured, flags, and what else can be asked for behind "more". */
export function filterBar(asked, routes, search) {
  const known = {
    route: routes.map((route) => route.name),
    upstream: [...new Set(routes.flatMap((route) => route.targets.map((target) => target.upstream)))],
    model: [...new Set(routes.flatMap((route) => route.models.filter((model) => !model.includes("*"))))],
    outcome: OUTCOMES,
  };
  const selects = SELECTS.map((name) => {
    const [chosen, values] = [asked.get(name) ?? "", known[name]];
    const all = chosen && !values.includes(chosen) ? [chosen, ...values] : values;
    return choice(name, [["", "any"], ...all.map((value) => [value, value.replaceAll("_", " ")])], chosen, (value) => change({ [name]: value }));
  });
  const since = asked.get("since") ?? "";
  const ages = AGES.some(([age]) => age === since) ? AGES : [[since, "a window"], ...AGES];
  return [
    h("div", { class: "bar filters" }, selects, choice("ended", ages, since, (value) => change({ since: value, until: "" })), flag(asked, "stalled"), flag(asked, "slow"), search, more(asked)),
    h("div", { class: "bar pills" }, pills(asked)),
  ];
}

function flag(asked, name) {
  const on = asked.get(name) === "true";
  return h("button", { class: "plain", type: "button", "aria-pressed": String(on), onclick: () => change({ [name]: on ? "" : "true" }) }, name);
}

/** What is asked for and has no control of its own in the bar, each to be taken away. */
function pills(asked) {
  const pill = (words, changes) => h("button", { class: "pill", type: "button", title: "Take this filter away", onclick: () => change(changes) }, words, h("span", { "aria-hidden": "true" }, " ×"));
  const found = [];
  const [since, until, slow, most] = ["since", "until", "slow", "most"].map((name) => asked.get(name));
  const at = (value) => (value && Number.isFinite(Number(value)) ? clock(Number(value)) : value);
  if (until || (since && !AGES.some(([age]) => age === since))) found.push(pill(`ended ${at(since) ?? "…"} to ${at(until) ?? "now"}`, { since: "", until: "" }));
  const least = slow && slow !== "true" && slow !== "false" ? slow : null;
  if (least || most) found.push(pill(`TTFT ${least ?? "0"} to ${most ? seconds(Number(most)) : "any"}`, { slow: least ? "" : slow, most: "" }));
  for (const [name, words] of TYPED) if (asked.get(name)) found.push(pill(`${words} ${asked.get(name)}`, { [name]: "" }));
  if (asked.get("feedback")) found.push(pill(`feedback ${asked.get("feedback")}`, { feedback: "" }));
  for (const [name, value] of asked) if (name.startsWith("tag.")) found.push(pill(`${name.slice(4)} = ${value}`, { [name]: "" }));
  if (found.length > 1) found.push(h("a", { href: "/streams" }, "take all away"));
  return found;
}

/** Filters that are typed: by prompt, session and tag, and by the least time to the first token. */
function more(asked) {
  const typed = TYPED.map(([name, words]) => h("label", { class: "filter" }, words, h("input", { name, value: asked.get(name) ?? "", autocomplete: "off" })));
  const tag = [h("label", { class: "filter" }, "tag", h("input", { name: "tag", placeholder: "team", autocomplete: "off" })), h("label", { class: "filter" }, "=", h("input", { name: "value", placeholder: "blue", autocomplete: "off" }))];
  const least = h("label", { class: "filter" }, "TTFT at least", h("input", { name: "slow", placeholder: "800ms", pattern: "[0-9]+(\\.[0-9]+)?(ms|s|m)", value: (asked.get("slow") ?? "").replace("true", ""), autocomplete: "off" }));
  const send = (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    const changes = Object.fromEntries(TYPED.map(([name]) => [name, given.get(name).trim()]));
    if (given.get("tag").trim() && given.get("value").trim()) changes[`tag.${given.get("tag").trim()}`] = given.get("value").trim();
    change({ ...changes, slow: given.get("slow").trim() || (asked.get("slow") === "true" ? "true" : "") });
  };
  return h("details", { class: "more" }, h("summary", {}, "more filters"), h("form", { class: "bar", onsubmit: send }, typed, tag, least, h("button", { class: "plain" }, "Filter")));
}
