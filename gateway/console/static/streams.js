// The history: what ended and what lives, filtered by the address, sorted by a click, with time by TTFT above it.

import { get } from "./api.js";
import { copyable, fill, h } from "./dom.js";
import { ago, BLAME, clock, count, NONE, seconds, usd } from "./format.js";
import { scatter, hue } from "./plots.js";

const FILTERS = ["route", "upstream", "model", "outcome"];
const OUTCOMES = [
  "completed", "client_disconnect", "client_stalled", "upstream_error", "upstream_truncated", "upstream_stalled", "first_token_timeout",
  "guard_blocked", "operator_abort", "rejected", "shutdown", "gateway_error",
];
const AGES = [["", "any time"], ["5m", "5 min"], ["15m", "15 min"], ["1h", "1 hour"], ["6h", "6 hours"], ["1d", "1 day"]];
const PAGE = 200;
const COLUMNS = [
  ["received", "When", (row) => h("span", { title: clock(row.received) }, ago(row.received))],
  ["stream_id", "Stream", (row) => copyable(row.stream_id)],
  ["route", "Route", (row) => row.route || NONE],
  ["upstream", "Upstream", (row) => h("span", {}, h("span", { "aria-hidden": "true", style: { color: hue(row.upstream) } }, "● "), row.upstream || NONE)],
  ["model", "Model", (row) => h("span", { title: row.model }, row.model || NONE)],
  ["outcome", "Outcome", (row) => badge(row)],
  ["ttft", "TTFT", (row) => h("span", { class: row.slow ? "warning" : "", title: row.slow ? "above the route's objective" : null }, seconds(row.ttft)), true],
  ["duration", "Duration", (row) => seconds(row.duration ?? row.age), true],
  ["chunks", "Chunks", (row) => count(row.chunks), true],
  ["tokens_per_second", "Tok/s", (row) => count(row.tokens_per_second), true],
  ["stall_seconds", "Stalls", (row) => stalls(row), true],
  ["cost_usd", "Cost", (row) => usd(row.cost_usd), true],
];

export function badge(row) {
  const word = row.outcome ?? row.state;
  return h("span", { class: `badge ${word}`, title: row.error ?? null }, word);
}

export function stalls(row) {
  if (!row.stalls) return h("span", { class: "faint" }, NONE);
  const owners = Object.keys(row.stall_time ?? {});
  return h("span", {}, owners.map((owner) => h("span", { class: `blame ${owner}`, title: `${owner} held ${seconds(row.stall_time[owner])}` }, BLAME[owner])),
    ` ${row.stalls} · ${seconds(row.stall_seconds)}`);
}

export async function show(main, _, signal) {
  const asked = new URLSearchParams(location.search);
  const state = { rows: [], next: null, sort: asked.get("sort") ?? "", text: "" };
  const plotted = h("div", { "aria-label": "Time to first token over time; a cross did not complete", role: "img" });
  const body = h("tbody");
  const more = h("button", { class: "plain", type: "button", onclick: () => load() }, "More");
  const heads = COLUMNS.map(([key, name, , right]) => h("th", { class: right ? "right" : "", scope: "col" }, h("button", { type: "button", onclick: () => sortBy(key) }, name)));
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Streams"), h("span", { class: "grow" }), ...(await controls(asked, state, draw, signal))),
    h("section", { class: "panel" }, plotted), h("section", { class: "panel scroll" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), body)), more);
  const room = { controller: null };

  async function load() {
    const question = new URLSearchParams([...asked].filter(([name]) => !["sort", "from", "to"].includes(name)));
    question.set("limit", PAGE);
    if (state.next) question.set("cursor", state.next);
    const told = await get(`/api/streams?${question}`, signal);
    state.rows.push(...told.streams);
    state.next = told.next;
    more.hidden = !told.next;
    draw();
  }

  function chosen() {
    const [from, to] = [Number(asked.get("from") ?? 0), Number(asked.get("to") ?? Infinity)];
    const text = state.text.toLowerCase();
    const fits = (row) => row.received >= from && row.received <= to && (!text || JSON.stringify(row).toLowerCase().includes(text));
    const rows = state.rows.filter(fits);
    const key = state.sort.replace(/^-/, "");
    const sign = state.sort.startsWith("-") ? -1 : 1;
    const value = (row) => row[key] ?? (key === "duration" ? row.age : null);
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return (a > b ? 1 : a < b ? -1 : 0) * sign;
    };
    return key ? rows.sort(order) : rows;
  }

  function draw() {
    const rows = chosen();
    fill(body, rows.length ? rows.map(row) : h("tr", {}, h("td", { colspan: COLUMNS.length, class: "empty" }, "No stream fits. ", h("a", { href: "/streams" }, "Take the filters away"))));
    heads.forEach((head, place) => {
      const mine = state.sort.replace(/^-/, "") === COLUMNS[place][0];
      head.setAttribute("aria-sort", mine ? (state.sort.startsWith("-") ? "descending" : "ascending") : "none");
    });
    room.controller?.abort();
    room.controller = new AbortController();
    signal.addEventListener("abort", () => room.controller.abort(), { once: true });
    const points = rows.filter((each) => each.ttft > 0).map((each) => ({ x: each.received, y: each.ttft, name: each.upstream, whole: each.outcome === "completed" || !each.outcome }));
    fill(plotted, points.length ? null : h("p", { class: "empty" }, "No first token in what is shown."));
    if (points.length) scatter(plotted, points, (from, to) => change({ from: from.toFixed(1), to: to.toFixed(1) }), room.controller.signal);
  }

  function sortBy(key) {
    state.sort = state.sort === `-${key}` ? key : `-${key}`;
    asked.set("sort", state.sort);
    history.replaceState(null, "", `/streams?${asked}`);
    draw();
  }

  more.hidden = true;
  await load();
}

function row(each) {
  const open = (event) => {
    if (!event.target.closest("button, a")) dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${each.stream_id}` }));
  };
  const cells = COLUMNS.map(([, , cell, right]) => h("td", { class: right ? "right" : "wide" }, cell(each)));
  return h("tr", { tabindex: 0, onclick: open, "aria-label": `Stream ${each.stream_id.slice(0, 8)}, ${each.outcome ?? each.state}` }, cells);
}

/** Go to the same page with some of its filters changed; an empty value takes one away. */
function change(changes) {
  const asked = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? asked.set(name, value) : asked.delete(name);
  dispatchEvent(new CustomEvent("weir:go", { detail: `/streams?${asked}` }));
}

async function controls(asked, state, draw, signal) {
  const told = await get("/api/routes", signal);
  const known = {
    route: told.routes.map((route) => route.name),
    upstream: [...new Set(told.routes.flatMap((route) => route.targets.map((target) => target.upstream)))],
    model: [...new Set(told.routes.flatMap((route) => route.models.filter((model) => !model.includes("*"))))],
    outcome: OUTCOMES,
  };
  const selects = FILTERS.map((name) => {
    const values = known[name].includes(asked.get(name)) || !asked.get(name) ? known[name] : [asked.get(name), ...known[name]];
    return choice(name, [["", "any"], ...values.map((value) => [value, value])], asked.get(name) ?? "", (value) => change({ [name]: value }));
  });
  const flag = (name, words) =>
    h("button", { class: "plain", type: "button", "aria-pressed": String(asked.get(name) === "true"), onclick: () => change({ [name]: asked.get(name) === "true" ? "" : "true" }) }, words);
  const search = h("input", { type: "search", placeholder: "id, tag, error … ( / )", "aria-label": "Search in what is shown", oninput: (event) => {
    state.text = event.target.value;
    draw();
  } });
  const boxed = asked.get("from") ? h("button", { class: "plain", type: "button", onclick: () => change({ from: "", to: "" }) }, "whole time ×") : null;
  return [...selects, choice("since", AGES, asked.get("since") ?? "", (value) => change({ since: value })), flag("stalled", "stalled"), flag("slow", "slow"), boxed, search];
}

export function choice(name, options, chosen, onchange) {
  const select = h("select", { onchange: (event) => onchange(event.target.value) }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", { class: "filter" }, name, select);
}
