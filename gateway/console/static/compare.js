// Two sets of streams side by side: is one really faster, or is the difference noise, or its answers just shorter?

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { count, percent, seconds, usd } from "./format.js";
import { colour, ecdf } from "./plots.js";
import { choice } from "./streams.js";

const MOST = 1000;
const WINDOWS = [["15m", "last 15 min"], ["1h", "last hour"], ["6h", "last 6 hours"], ["1d", "last day"], ["7d", "last 7 days"]];
const KEYS = ["upstream", "model", "route", "prompt"];
const ENOUGH = 20;

export async function show(main, _, signal) {
  const asked = new URLSearchParams(location.search);
  const told = await get("/api/routes", signal);
  const upstreams = [...new Set(told.routes.flatMap((route) => route.targets.map((target) => target.upstream)))];
  const sides = ["a", "b"].map((side, place) => asked.get(side) ?? (upstreams[place] ? `upstream:${upstreams[place]},since:1h` : "since:1h"));
  const known = { upstream: upstreams, route: told.routes.map((route) => route.name), model: [], prompt: [] };
  const sets = await Promise.all(sides.map((text) => load(text, signal)));
  const shades = [colour("flow"), colour("upstream")];
  sets.forEach((set, place) => Object.assign(set, { colour: shades[place], name: sides[place].replaceAll(",", " ").replaceAll(":", " ") }));
  const [ttft, gap] = [h("div"), h("div")];
  fill(
    main,
    h("div", { class: "bar" }, h("h1", {}, "Compare")),
    h("section", { class: "panel" }, sets.map((set, place) => side(place, sides, set, known))),
    h("section", { class: "panel" }, verdict(sets)),
    h("div", { class: "grid" },
      h("section", { class: "panel" }, h("h2", {}, "Time to first token: share of streams at or below"), ttft),
      h("section", { class: "panel" }, h("h2", {}, "Median gap of a stream: share at or below"), gap)),
    h("section", { class: "panel scroll" }, table(sets)),
  );
  draw(ttft, sets, "ttft", signal);
  draw(gap, sets, "gap_p50", signal);
}

/** "upstream:fast,since:1h" as a question, and the streams that answer it: the newest thousand. */
async function load(text, signal) {
  const wanted = new URLSearchParams(text.split(",").filter(Boolean).map((part) => {
    const at = part.indexOf(":");
    return [part.slice(0, at), part.slice(at + 1)];
  }));
  wanted.set("limit", MOST);
  const told = await get(`/api/streams?${wanted}`, signal);
  return { wanted, cut: told.next !== null, rows: told.streams.filter((row) => row.state === "ended") };
}

function side(place, sides, set, known) {
  const letter = "AB"[place];
  const key = KEYS.find((name) => set.wanted.get(name)) ?? "upstream";
  const value = set.wanted.get(key) ?? "";
  const change = (changes) => {
    const next = { [key]: value, since: set.wanted.get("since") ?? "", ...changes };
    const text = Object.entries(next).filter(([name, each]) => each && name !== "limit").map(([name, each]) => `${name}:${each}`).join(",");
    const asked = new URLSearchParams(location.search);
    sides.forEach((each, other) => asked.set("ab"[other], other === place ? text : each));
    dispatchEvent(new CustomEvent("weir:go", { detail: `/compare?${asked}` }));
  };
  const values = [["", "all"], ...new Set([value, ...(known[key] ?? [])].filter(Boolean))].map((each) => (Array.isArray(each) ? each : [each, each]));
  return h("div", { class: "bar" }, h("strong", { style: { color: set.colour } }, letter),
    choice("by", KEYS.map((each) => [each, each]), key, (each) => change({ [key]: "", [each]: known[each]?.[0] ?? "" })),
    known[key]?.length ? choice("", values, value, (each) => change({ [key]: each }))
      : h("input", { value, "aria-label": `${key} of ${letter}`, placeholder: key, onchange: (event) => change({ [key]: event.target.value }) }),
    choice("in the", WINDOWS, set.wanted.get("since") ?? "1h", (since) => change({ since })),
    h("span", { class: "muted" }, `${count(set.rows.length)} streams${set.cut ? " (the newest)" : ""}`));
}

const values = (set, key) => set.rows.map((row) => row[key]).filter((value) => value !== null && value !== undefined).sort((one, other) => one - other);
const quantile = (sorted, q) => (sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : null);

/** Wilson's interval of a share at 95 %, so that three of three is not "always". */
function interval(hits, all) {
  if (!all) return [null, null];
  const [z, p] = [1.96, hits / all];
  const middle = (p + (z * z) / (2 * all)) / (1 + (z * z) / all);
  const half = (z / (1 + (z * z) / all)) * Math.sqrt((p * (1 - p)) / all + (z * z) / (4 * all * all));
  return [middle - half, middle + half];
}

/** How often a value of one set is below one of the other, and how sure that is (Mann-Whitney, normal approximation, ties shared). */
export function precedence(ones, others) {
  let wins = 0;
  for (const one of ones) {
    let [low, high] = [0, others.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      others[middle] < one ? (low = middle + 1) : (high = middle);
    }
    const equalFrom = low;
    high = others.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      others[middle] <= one ? (low = middle + 1) : (high = middle);
    }
    wins += others.length - low + (low - equalFrom) / 2;
  }
  const [n, m] = [ones.length, others.length];
  const spread = Math.sqrt((n * m * (n + m + 1)) / 12);
  return { share: wins / (n * m), z: (wins - (n * m) / 2) / spread };
}

function verdict(sets) {
  const [a, b] = sets.map((set) => values(set, "ttft"));
  if (a.length < ENOUGH || b.length < ENOUGH) return h("p", { class: "verdict" }, `Too few streams to tell: ${a.length} and ${b.length} with a first token, ${ENOUGH} of each are needed.`);
  const { share, z } = precedence(a, b);
  const faster = share > 0.5 ? "A" : "B";
  const sure = Math.abs(z) > 2.58;
  const [slow, fast] = [quantile(faster === "A" ? b : a, 0.5), quantile(faster === "A" ? a : b, 0.5)];
  const said = sure
    ? `${faster} speaks sooner: a stream of ${faster} beats one of the other ${percent(Math.max(share, 1 - share))} of the time (median ${seconds(fast)} against ${seconds(slow)}). That is more than noise.`
    : `No difference beyond noise: a stream of ${faster} is sooner ${percent(Math.max(share, 1 - share))} of the time.`;
  const lengths = sets.map((set) => [quantile(values(set, "input_tokens"), 0.5), quantile(values(set, "output_tokens"), 0.5)]);
  const differs = (place) => lengths[0][place] && lengths[1][place] && Math.max(lengths[0][place], lengths[1][place]) > 1.5 * Math.min(lengths[0][place], lengths[1][place]);
  const warnings = [[0, "Prompts"], [1, "Answers"]].filter(([place]) => differs(place)).map(([place, what]) =>
    h("p", { class: "warning" }, `${what} differ in length (median ${count(lengths[0][place])} against ${count(lengths[1][place])} tokens): a faster stream may simply be a shorter one.`));
  return [h("p", { class: "verdict" }, said), warnings];
}

function draw(parent, sets, key, signal) {
  const lines = sets.map((set) => ({ name: set.name, colour: set.colour, values: values(set, key) }));
  if (lines.every((each) => !each.values.length)) fill(parent, h("p", { class: "empty" }, "Nothing to show yet."));
  else ecdf(parent, lines, signal);
}

function table(sets) {
  const share = (set, test) => {
    const hits = set.rows.filter(test).length;
    const [low, high] = interval(hits, set.rows.length);
    return set.rows.length ? `${percent(hits / set.rows.length)} (${percent(low)} to ${percent(high)})` : "–";
  };
  const mean = (set, key) => {
    const known = values(set, key);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  };
  const rows = [
    ["streams", (set) => count(set.rows.length)],
    ["TTFT p50 / p95", (set) => `${seconds(quantile(values(set, "ttft"), 0.5))} / ${seconds(quantile(values(set, "ttft"), 0.95))}`],
    ["gap p50 / p95, medians over streams", (set) => `${seconds(quantile(values(set, "gap_p50"), 0.5))} / ${seconds(quantile(values(set, "gap_p95"), 0.5))}`],
    ["stalled (95 % interval)", (set) => share(set, (row) => row.stalls > 0)],
    ["left by the client", (set) => share(set, (row) => row.outcome === "client_disconnect")],
    ["failed", (set) => share(set, (row) => !["completed", "client_disconnect", "client_stalled", "rejected"].includes(row.outcome))],
    ["tokens/s", (set) => count(mean(set, "tokens_per_second"))],
    ["output tokens per stream", (set) => count(mean(set, "output_tokens"))],
    ["cost per stream", (set) => usd(mean(set, "cost_usd"))],
  ];
  return h("table", {}, h("thead", {}, h("tr", {}, h("th"), sets.map((set, place) => h("th", { scope: "col", style: { color: set.colour } }, "AB"[place])))),
    h("tbody", {}, rows.map(([name, cell]) => h("tr", {}, h("th", { scope: "row" }, name), sets.map((set) => h("td", {}, cell(set)))))));
}
