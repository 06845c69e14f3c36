// Two sets of streams side by side: is one really faster, or is the difference noise, or are its answers just shorter?

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { choice } from "./filters.js";
import { clock, count, NONE, percent, seconds, usd } from "./format.js";
import { ecdf } from "./plots.js";
import { histogramQuantile, histogramSteps, mannWhitney, mean, proportions, quantile, steps, wilson } from "./statistics.js";

const WINDOWS = [
  ["since:15m", "last 15 min"], ["since:30m,until:15m", "the 15 min before"], ["since:1h", "last hour"], ["since:2h,until:1h", "the hour before"],
  ["since:1d", "last day"], ["since:2d,until:1d", "the day before"], ["since:7d", "last 7 days"], ["", "all that is stored"],
];
const KINDS = [["upstream", "targets"], ["window", "windows"], ["model", "models"], ["prompt_version", "prompt versions"]];
const TYPED = ["route", "upstream", "model", "prompt", "prompt_version", "session", "outcome"];
const ENOUGH = 20; // streams of each side below which nothing is said
const SURE = 0.01; // p below which a difference is called one
const LONGER = 1.2; // how many times as long prompts or answers of one side are before it is warned of
const HUES = ["hue-1", "hue-2"];

export async function show(main, _, signal) {
  const asked = new URLSearchParams(location.search);
  const { routes } = await get("/api/routes", signal);
  const known = {
    upstream: [...new Set(routes.flatMap((route) => route.targets.map((target) => target.upstream)))],
    model: [...new Set(routes.flatMap((route) => route.targets.map((target) => target.model).concat(route.models)).filter((model) => model && !model.includes("*")))],
    route: routes.map((route) => route.name),
  };
  const sides = ["a", "b"].map((side, place) => asked.get(side) ?? preset("upstream", known)[place]);
  const sets = await Promise.all(sides.map((text, place) => load(text, place, signal)));
  const [ttft, gap] = [h("div", { class: "plots" }), h("div", { class: "plots" })];
  fill(main,
    h("div", { class: "bar" }, h("h1", {}, "Compare"), h("span", { class: "choices", role: "group", "aria-label": "What to compare" },
      KINDS.map(([kind, words]) => h("a", { class: "plain button", href: address(...preset(kind, known)) }, words)))),
    h("section", { class: "panel sides" }, sets.map((set, place) => side(place, sides, set, known))),
    h("section", { class: "panel" }, h("div", { role: "status" }, verdicts(sets), warnings(sets))),
    h("div", { class: "grid" }, figure("Time to first token", "share of streams at or below", ttft, sets), figure("Gap between tokens", "share of all gaps at or below", gap, sets)),
    h("section", { class: "panel scroll" }, table(sets)),
  );
  draw(ttft, sets, (set) => steps(set.told.ttft), signal);
  draw(gap, sets, (set) => histogramSteps(set.told.gaps), signal);
}

const address = (a, b) => `/compare?${new URLSearchParams({ a, b })}`;

/** What a first look at two of a kind shows. */
function preset(kind, known) {
  if (kind === "window") return ["since:30m,until:15m", "since:15m"];
  const [one, other] = known[kind] ?? [];
  return [one, other ?? one].map((value) => written({ [kind]: value ?? "", since: "1h" }));
}

/** "upstream:fast,since:1h" to {upstream: "fast", since: "1h"}; values are encoded, so that they may hold commas. */
function read(text) {
  return Object.fromEntries(text.split(",").filter((part) => part.includes(":")).map((part) => {
    const at = part.indexOf(":");
    return [part.slice(0, at), decoded(part.slice(at + 1))];
  }));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function written(wanted) {
  return Object.entries(wanted).map(([name, value]) => `${name}:${encodeURIComponent(value).replaceAll("%2F", "/").replaceAll("%3A", ":")}`).join(",");
}

async function load(text, place, signal) {
  const wanted = read(text);
  const told = await get(`/api/sample?${new URLSearchParams(Object.entries(wanted).filter(([, value]) => value))}`, signal);
  return { wanted, told, letter: "AB"[place], hue: HUES[place] };
}

/** The controls of one side. Whatever it narrows by has a control; what it does not can be chosen. */
function side(place, sides, set, known) {
  const { wanted, told, letter } = set;
  const window = written(Object.fromEntries(["since", "until"].filter((name) => wanted[name]).map((name) => [name, wanted[name]])));
  const go = (changed) => {
    const text = written(Object.fromEntries(Object.entries(changed).filter(([name, value]) => value || name in wanted)));
    const next = sides.map((each, other) => (other === place ? text : each));
    dispatchEvent(new CustomEvent("weir:go", { detail: address(...next) }));
  };
  const put = (name) => (value) => go({ ...wanted, [name]: value });
  const windows = WINDOWS.some(([each]) => each === window) ? WINDOWS : [[window, "a window"], ...WINDOWS];
  const pick = (value) => go({ ...Object.fromEntries(Object.entries(wanted).filter(([name]) => name !== "since" && name !== "until")), ...read(value) });
  const fields = Object.keys(wanted).filter((name) => name !== "since" && name !== "until");
  const free = TYPED.filter((name) => !(name in wanted));
  const without = (name) => h("button", { class: "id", type: "button", title: `Not by ${name}`, "aria-label": `Not by ${name}`, onclick: () => {
    const { [name]: _, ...rest } = wanted;
    dispatchEvent(new CustomEvent("weir:go", { detail: address(...sides.map((each, other) => (other === place ? written(rest) : each))) }));
  } }, " ×");
  return h("div", { class: "bar side" }, h("strong", { class: "letter", style: { background: `var(--${set.hue})` } }, letter),
    fields.map((name) => h("span", { class: "field" }, field(name, wanted[name], known[name], put(name)), without(name))),
    choice("ended in", windows, window, pick), choice("", [["", "+ narrow by"], ...free.map((name) => [name, name.replace("_", " ")])], "", (name) => name && go({ ...wanted, [name]: known[name]?.[0] ?? " " })),
    h("span", { class: "grow" }), h("span", { class: "muted" }, size(told)));
}

function field(name, value, values, onchange) {
  if (!values?.length) return h("label", { class: "filter" }, name.replace("_", " "), h("input", { value: value.trim(), autocomplete: "off", onchange: (event) => onchange(event.target.value.trim()) }));
  const all = value && !values.includes(value) ? [value, ...values] : values;
  return choice(name, [["", "any"], ...all.map((each) => [each, each])], value, onchange);
}

/** How many streams a side is, and of when. */
function size(told) {
  if (!told.streams) return "no stream fits";
  return `${count(told.streams)} streams${told.cut ? ", the newest only" : ""}, ended ${clock(told.from)} to ${clock(told.to)}`;
}

/** One sentence for each question; a difference is one when chance alone would show it less often than once in a hundred. */
function verdicts(sets) {
  const [a, b] = sets.map((set) => set.told);
  if (!a.streams || !b.streams) return h("p", { class: "verdict" }, `There is nothing to compare: no stream fits ${!a.streams ? "A" : ""}${!a.streams && !b.streams ? " or " : ""}${!b.streams ? "B" : ""}.`);
  return [
    sentence(a.ttft, b.ttft, { lower: "speaks sooner", same: "time to first token", what: "stream", lead: true }),
    sentence(a.gap_p50, b.gap_p50, { lower: "speaks faster", same: "the pace of tokens (median gap of each stream)", what: "stream" }),
  ];
}

function sentence(ones, others, { lower, same, what, lead = false }) {
  const kind = lead ? "verdict" : "verdict second";
  const sizes = `n = ${count(ones.length)} and ${count(others.length)}`;
  if (ones.length < ENOUGH || others.length < ENOUGH) return h("p", { class: kind, "data-verdict": "few" }, `Too few streams to tell of ${same}: ${sizes}; ${ENOUGH} of each are needed.`);
  const { share, p } = mannWhitney(ones, others);
  const test = h("span", { class: "faint" }, ` Mann-Whitney, two-sided, p ${p < 0.0001 ? "< 0.0001" : `= ${p.toFixed(p < 0.1 ? 4 : 2)}`}, ${sizes}.`);
  const [median, other] = [quantile(ones, 0.5), quantile(others, 0.5)];
  if (p >= SURE) return h("p", { class: kind, "data-verdict": "noise" }, `No difference beyond noise in ${same}: medians ${seconds(median)} (A) and ${seconds(other)} (B).`, test);
  const [winner, loser, won, lost, odds] = share > 0.5 ? ["A", "B", median, other, share] : ["B", "A", other, median, 1 - share];
  return h("p", { class: kind, "data-verdict": winner }, h("strong", {}, `${winner} ${lower}`), `: median ${seconds(won)} against ${seconds(lost)}; a ${what} of ${winner} beats one of ${loser} ${percent(odds)} of the time. That is more than noise.`, test);
}

/** Prompts or answers of other lengths make times that say nothing of who is faster. */
function warnings(sets) {
  const [a, b] = sets.map((set) => set.told);
  return [["input_tokens", "Prompts", "a sooner first token may simply be a shorter prompt"], ["output_tokens", "Answers", "a faster stream may simply be a shorter answer"]].map(([key, what, so]) => {
    const [one, other] = [quantile(a[key], 0.5), quantile(b[key], 0.5)];
    if (!one || !other || Math.max(one, other) < LONGER * Math.min(one, other) || mannWhitney(a[key], b[key]).p >= SURE) return null;
    return h("p", { class: "warning", "data-warning": key }, `⚠ ${what} differ in length (median ${count(one)} against ${count(other)} tokens): ${so}.`);
  });
}

function figure(name, words, plot, sets) {
  return h("section", { class: "panel" }, h("div", { class: "bar tight" }, h("h2", {}, name), h("span", { class: "faint" }, words), h("span", { class: "grow" }),
    h("span", { class: "legend" }, sets.map((set, place) => h("span", {}, h("i", { class: `stroke ${place ? "dashed" : ""}`, style: { borderColor: `var(--${set.hue})` } }), set.letter)))), plot);
}

function draw(parent, sets, of, signal) {
  const lines = sets.map((set) => ({ name: set.letter, hue: set.hue, steps: of(set) }));
  if (lines.every((each) => !each.steps.length)) fill(parent, h("p", { class: "empty" }, "Nothing to draw yet."));
  else ecdf(parent, lines, signal);
}

/** Rows of [name, how A and B read, whether and how they differ]. */
function table(sets) {
  const [a, b] = sets.map((set) => set.told);
  const share = (name, hits, of) => ({ name, cells: rates([a, b].map((told) => [told[hits], told[of]])), p: proportions(a[hits], a[of], b[hits], b[of]), change: ratio(a[hits] / a[of], b[hits] / b[of]) });
  const middle = (name, key, show, by = (list) => quantile(list, 0.5)) => ({ name, cells: [a, b].map((told) => show(by(told[key]))), p: Math.min(a[key].length, b[key].length) < ENOUGH ? undefined : mannWhitney(a[key], b[key]).p, change: ratio(by(a[key]), by(b[key])) });
  const plain = (name, cells) => ({ name, cells });
  const rows = [
    plain("streams", [a, b].map((told) => count(told.streams))),
    middle("TTFT, median", "ttft", seconds),
    plain("TTFT, p95", [a, b].map((told) => seconds(quantile(told.ttft, 0.95)))),
    middle("gap of a stream, median", "gap_p50", seconds),
    plain("gap of all tokens, p95", [a, b].map((told) => seconds(histogramQuantile(told.gaps, 0.95)))),
    middle("time per output token, median", "per_token", seconds),
    share("stalled", "stalled", "spoke"),
    share("left by their client", "left", "streams"),
    share("failed", "failed", "streams"),
    middle("prompt, tokens, median", "input_tokens", count),
    middle("answer, tokens, median", "output_tokens", count),
    middle("cost a stream, mean", "cost", usd, mean),
  ];
  return h("table", { class: "compared" }, h("thead", {}, h("tr", {}, h("th"), sets.map((set) => h("th", { scope: "col", class: "head" }, h("strong", { class: "letter", style: { background: `var(--${set.hue})` } }, set.letter))), h("th", { scope: "col" }, "B against A"))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name), row.cells.map((cell) => h("td", {}, cell)), h("td", { class: "muted" }, against(row, a, b))))),
    h("caption", {}, "Shares with their 95 % intervals (Wilson). More than noise: p < 0.01, of shares in the two-proportion test, of the rest in Mann-Whitney's."));
}

/** Shares with their intervals, in words and as bars on one scale. */
function rates(sides) {
  const intervals = sides.map(([hits, all]) => wilson(hits, all));
  const most = Math.max(0.01, ...intervals.map(([, high]) => high ?? 0));
  return sides.map(([hits, all], place) => {
    if (!all) return NONE;
    const [low, high] = intervals[place];
    const x = (share) => `${((100 * share) / most).toFixed(2)}%`;
    return h("span", { class: "rate" }, h("span", { class: "share" }, percent(hits / all)),
      h("span", { class: "interval", "aria-hidden": "true" }, h("i", { style: { left: x(low), width: x(high - low) } }), h("b", { style: { left: x(hits / all) } })),
      h("span", { class: "faint" }, `${percent(low)} to ${percent(high)}, ${hits} of ${all}`));
  });
}

const ratio = (one, other) => (one && other ? other / one - 1 : null);

function against({ p, change }, a, b) {
  if (p === undefined || Math.min(a.streams, b.streams) < ENOUGH) return "";
  if (p >= SURE) return "no more than noise";
  return [change === null ? "differs" : h("strong", {}, change >= 1 ? `${(1 + change).toFixed(1)} ×` : `${change > 0 ? "+" : "−"}${percent(Math.abs(change))}`), ", more than noise"];
}
