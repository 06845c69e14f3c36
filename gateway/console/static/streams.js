// The history: what ended and what lives, filtered by the address, sorted by a click, with time by TTFT above it.

import { get } from "./api.js";
import { copyable, fill, h, named, say } from "./dom.js";
import { change, choice, filterBar, narrowed, question } from "./filters.js";
import { ago, BLAME, clock, count, NONE, seconds, usd } from "./format.js";
import { hue, introduce, scatter } from "./plots.js";

export { choice };

const PAGE = 200;
const FULL = 40; // rows that a page should have before we stop asking for more of what only the page can tell apart
const MOST_PAGES = 10;
const AGES_EVERY = 5000;
const COLUMNS = [
  ["received", "When", (row) => h("span", { class: "when", "data-at": row.received, title: clock(row.received) })],
  ["stream_id", "Stream", (row) => copyable(row.stream_id)],
  ["route", "Route", (row) => (row.route ? named(row.route, { title: row.route }) : NONE)],
  ["upstream", "Upstream", (row) => (row.upstream ? [dot(row.upstream), named(row.upstream, { title: row.upstream })] : NONE)],
  ["model", "Model", (row) => (row.model ? named(row.model, { title: row.model }) : NONE)],
  ["outcome", "Outcome", (row) => (row.outcome === "completed" ? h("span", { class: "plainly" }, "completed") : badge(row))],
  ["ttft", "TTFT", (row) => h("span", { class: row.slow ? "warning" : "", title: row.slow ? "above the route's objective" : null }, seconds(row.ttft), row.slow ? " ▲" : ""), true],
  ["duration", "Duration", (row) => seconds(row.duration ?? row.age), true],
  ["chunks", "Chunks", (row) => count(row.chunks), true],
  ["tokens_per_second", "Tok/s", (row) => (row.tokens_per_second === null ? NONE : row.tokens_per_second < 1000 ? row.tokens_per_second.toFixed(1) : count(row.tokens_per_second)), true],
  ["stall_seconds", "Stalls", (row) => stalls(row), true],
  ["cost_usd", "Cost", (row) => usd(row.cost_usd), true],
  ["tags", "Tags", (row) => tags(row)],
];

export function badge(row) {
  const word = row.outcome ?? row.state;
  return h("span", { class: `badge ${word}`, title: row.error ?? null }, word.replaceAll("_", " "));
}

export function stalls(row) {
  if (!row.stalls) return h("span", { class: "faint" }, NONE);
  const owners = Object.keys(row.stall_time ?? {});
  return h("span", {}, owners.map((owner) => h("span", { class: `blame ${owner}`, title: `${owner} held ${seconds(row.stall_time[owner])}` }, BLAME[owner])),
    ` ${row.stalls}${row.stall_seconds ? ` · ${seconds(row.stall_seconds)}` : ""}`);
}

/** A name's colour as a dot before it. */
export function dot(name) {
  return h("i", { class: "hue", "aria-hidden": "true", style: { background: hue(name) } });
}

/** Tags, prompt and session: each a filter for more of its kind. */
function tags(row) {
  const found = Object.entries(row.tags ?? {}).map(([name, value]) => [`${name}=${value}`, { [`tag.${name}`]: value }]);
  if (row.prompt) found.push([`${row.prompt}${row.prompt_version ? ` @ ${row.prompt_version}` : ""}`, { prompt: row.prompt, prompt_version: row.prompt_version ?? "" }]);
  if (row.session) found.push([`session ${row.session}`, { session: row.session }]);
  if (row.score) found.push([row.score > 0 ? "▲ liked" : "▼ disliked", { feedback: String(row.score) }]);
  return found.slice(0, 5).map(([words, changes]) => h("button", { class: "pill small", type: "button", title: `Only ${words}`, onclick: () => change(changes) }, named(words)));
}

export async function show(main, _, signal) {
  const asked = new URLSearchParams(location.search);
  const { routes, base_url: base } = await get("/api/routes", signal);
  introduce(routes.flatMap((route) => route.targets.map((target) => target.upstream)));
  const view = { ...layout(main, asked, routes), base };
  const list = new List(asked, view, signal);
  view.search.addEventListener("input", () => list.look(view.search.value));
  view.more.addEventListener("click", () => list.load(1));
  view.heads.forEach((head, place) => head.firstChild.addEventListener("click", () => list.sortBy(COLUMNS[place][0])));
  signal.addEventListener("abort", () => clearInterval(list.clock), { once: true });
  await list.load();
}

function layout(main, asked, routes) {
  const view = {
    search: h("input", { type: "search", placeholder: "search in what is shown   /", "aria-label": "Search in what is shown" }),
    plotted: h("div", { class: "plots", role: "img", "aria-label": "Time to first token over time; a cross did not complete. The table below has the same streams." }),
    hues: h("div", { class: "legend" }),
    told: h("span", { class: "muted", role: "status" }),
    body: h("tbody"),
    more: h("button", { class: "plain", type: "button", hidden: true }, "Older ones"),
    heads: COLUMNS.map(([key, name, , right]) => h("th", { class: `${right ? "right" : ""} c-${key}`, scope: "col" }, h("button", { type: "button" }, name, h("span", { class: "sorted", "aria-hidden": "true" })))),
    routes,
  };
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Streams"), view.told, h("span", { class: "grow" }), h("span", { class: "faint keys" }, "j k move · enter opens · / searches")),
    filterBar(asked, routes, view.search),
    h("section", { class: "panel" }, h("div", { class: "bar tight" }, h("h2", {}, "Time to first token"), h("span", { class: "faint" }, "drag a box to filter"), h("span", { class: "grow" }), view.hues), view.plotted),
    h("section", { class: "panel scroll whole" }, h("table", { class: "streams" }, h("thead", {}, h("tr", {}, view.heads)), view.body)), view.more);
  return view;
}

/** The rows that have been loaded, and how they are shown. */
class List {
  constructor(asked, view, signal) {
    Object.assign(this, { asked, view, signal, rows: [], next: null, text: "", room: null, loadedAt: 0, now: 0 });
    this.most = Number(asked.get("most") || Infinity);
    this.clock = setInterval(() => this.tellAges(), AGES_EVERY);
  }

  get sort() {
    return this.asked.get("sort") ?? "";
  }

  /** Ask for the next page, and for further ones while what only this page can tell apart leaves too few to see. */
  async load() {
    const [before, wanted] = [this.chosen().length, this.most === Infinity ? 1 : FULL];
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const asked = question(this.asked);
      asked.set("limit", PAGE);
      if (this.next) asked.set("cursor", this.next);
      const told = await get(`/api/streams?${asked}`, this.signal);
      this.rows.push(...told.streams);
      [this.next, this.now, this.loadedAt] = [told.next, told.now, performance.now()];
      if (!this.next || this.chosen().length - before >= wanted) break;
    }
    this.view.more.hidden = !this.next;
    this.draw();
  }

  look(text) {
    this.text = text.toLowerCase();
    this.draw();
  }

  sortBy(key) {
    this.asked.set("sort", this.sort === `-${key}` ? key : `-${key}`);
    history.replaceState(null, "", `/streams?${this.asked}`);
    this.draw();
  }

  /** What is loaded and fits what is searched for, in the order asked for. */
  chosen() {
    const fits = (row) => (this.most === Infinity || (row.ttft !== null && row.ttft <= this.most)) && (!this.text || searched(row).includes(this.text));
    const rows = this.rows.filter(fits);
    const key = this.sort.replace(/^-/, "");
    if (!COLUMNS.some(([column]) => column === key)) return rows;
    const sign = this.sort.startsWith("-") ? -1 : 1;
    const value = (row) => (key === "duration" ? (row.duration ?? row.age) : key === "tags" ? Object.values(row.tags ?? {}).join() || null : row[key]) ?? null;
    return rows.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);
      return (a > b ? 1 : a < b ? -1 : 0) * sign;
    });
  }

  draw() {
    const rows = this.chosen();
    fill(this.view.body, rows.length ? rows.map(line) : h("tr", {}, h("td", { colspan: COLUMNS.length }, this.empty())));
    const without = { cost: rows.every((row) => row.cost_usd === null), tags: rows.every((row) => !tags(row).length) };
    for (const [name, none] of Object.entries(without)) this.view.body.parentElement.classList.toggle(`without-${name}`, none);
    const sorted = this.sort.replace(/^-/, "");
    this.view.heads.forEach((head, place) => {
      const way = sorted !== COLUMNS[place][0] ? "none" : this.sort.startsWith("-") ? "descending" : "ascending";
      head.setAttribute("aria-sort", way);
      say(head.querySelector(".sorted"), { none: "", descending: " ▾", ascending: " ▴" }[way]);
    });
    const among = sorted && this.next ? ", sorted among themselves; older ones are not loaded" : "";
    say(this.view.told, `${this.next ? "the newest " : ""}${count(rows.length)} ${rows.length === 1 ? "stream" : "streams"}${among} · as of ${clock(this.now)}`);
    this.tellAges();
    this.plot(rows);
  }

  /** Relative times by the server's clock, which may not be this machine's. */
  tellAges() {
    const now = this.now + (performance.now() - this.loadedAt) / 1000;
    for (const cell of this.view.body.querySelectorAll(".when")) say(cell, ago(Number(cell.dataset.at), now));
  }

  plot(rows) {
    this.room?.abort();
    this.room = new AbortController();
    this.signal.addEventListener("abort", () => this.room.abort(), { once: true });
    const points = rows.filter((row) => row.ttft > 0).map((row) => ({ x: row.ended ?? row.received, y: row.ttft, name: row.upstream, whole: row.outcome === "completed" || !row.outcome, id: row.stream_id, row }));
    const names = [...new Set(points.map((point) => point.name))].sort();
    fill(this.view.hues, names.map((name) => h("span", {}, dot(name), named(name))), points.some((point) => !point.whole) ? h("span", {}, h("b", {}, "✕ "), "did not complete") : null);
    fill(this.view.plotted, points.length ? null : h("p", { class: "empty" }, "No first token in what is shown."));
    const open = (id) => dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${id}` }));
    if (points.length) scatter(this.view.plotted, points, { box, open, words }, this.room.signal);
  }

  empty() {
    if (narrowed(this.asked) || this.text) return h("div", { class: "empty" }, "No stream fits. ", h("a", { href: "/streams" }, "Take the filters away"));
    const model = this.view.routes[0]?.models.find((each) => !each.includes("*")) ?? "gpt-4o-mini";
    return h("div", { class: "empty" }, "No stream is stored yet. Point an app's base_url at the gateway, or send one by hand:",
      h("pre", {}, `curl -N ${this.view.base ?? "http://HOST:PORT"}/v1/chat/completions -H 'Content-Type: application/json' \\\n  -d '{"model": "${model}", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'`));
  }
}

/** What a search looks through: what is shown of a row and its whole ids, not how its fields are called. */
function searched(row) {
  row.searched ??= [row.stream_id, row.trace_id, row.route, row.upstream, row.model, (row.outcome ?? row.state).replaceAll("_", " "), row.outcome, row.error, row.prompt, row.prompt_version, row.session,
    ...Object.entries(row.tags ?? {}).map((tag) => tag.join("=")), ...Object.keys(row.stall_time ?? {}).map((owner) => `stall ${owner}`)].filter(Boolean).join("\n").toLowerCase();
  return row.searched;
}

/** A dragged box as filters: when streams ended, and their least and most time to first token. */
function box(from, to, least, most) {
  change({ since: from.toFixed(2), until: to.toFixed(2), slow: `${Math.max(0, Math.floor(least * 1000))}ms`, most: most.toFixed(3) });
}

function words({ row }) {
  return [h("strong", {}, seconds(row.ttft)), " · ", named(row.upstream), ` · ${(row.outcome ?? row.state).replaceAll("_", " ")}`, h("br"), h("span", { class: "muted" }, `${row.stream_id.slice(0, 8)} · ${clock(row.ended ?? row.received)}`)];
}

function line(row) {
  const open = (event) => {
    if (!event.target.closest("button, a")) dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${row.stream_id}` }));
  };
  const cells = COLUMNS.map(([key, , cell, right]) => h("td", { class: `${right ? "right" : "wide"} c-${key}` }, cell(row)));
  return h("tr", { tabindex: 0, onclick: open, "aria-label": `Stream ${row.stream_id.slice(0, 8)}, ${row.outcome ?? row.state}` }, cells);
}
