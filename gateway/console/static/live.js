// What runs now: figures of the last quarter of an hour, every running stream as a strip, and the ones that have just ended.

import { follow, get } from "./api.js";
import { copyable, fill, h, say } from "./dom.js";
import { BLAME, count, percent, seconds, usd } from "./format.js";
import { spark } from "./plots.js";
import { stop } from "./stream.js";
import { badge, choice, stalls } from "./streams.js";
import { paint, Track } from "./strips.js";

const FIGURES_EVERY = 2000;
const ROWS = 60; // strips drawn at once; the longest silences first
const ENDED = 20;
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** All that the feed has told: tracks by stream id, and how far the server's clock is from ours. */
class Board {
  constructor() {
    this.streams = new Map();
    this.ended = [];
    this.offset = null;
    this.note = "";
    this.active = 0;
  }

  now() {
    return this.offset === null ? 0 : performance.now() / 1000 + this.offset;
  }

  /** Take one event of the feed; times are seconds on the recorder's monotonic clock. */
  take(event) {
    const offset = event.now - performance.now() / 1000;
    this.offset = this.offset === null || offset > this.offset ? offset : this.offset + (offset - this.offset) * 0.05;
    if (event.reset) this.streams.clear();
    this.active = event.active;
    this.note = event.shown < event.active ? `${event.shown} of ${event.active} streams are shown` : "";
    for (const row of event.begun ?? []) this.begin(row);
    for (const row of event.moved ?? []) Object.assign(this.streams.get(row.id)?.row ?? {}, row);
    for (const [id, times, many] of event.tokens ?? []) this.streams.get(id)?.track.add(times, many);
    for (const row of event.stalled ?? []) this.stalled(row);
    for (const id of event.gone ?? []) this.streams.delete(id);
    for (const row of event.ended ?? []) this.end(row);
  }

  begin(row) {
    if (!this.streams.has(row.id)) this.streams.set(row.id, { row, track: new Track(row.received) });
    else Object.assign(this.streams.get(row.id).row, row);
  }

  stalled({ id, since, blame }) {
    const stream = this.streams.get(id);
    if (!stream) return;
    stream.track.stall(since, blame);
    Object.assign(stream.row, { state: "stalled", blame });
  }

  end(row) {
    this.ended.unshift(row);
    this.ended.length = Math.min(this.ended.length, ENDED);
  }

  /** Streams in the order of the page: the longest silence first. */
  shown(route) {
    const silence = ({ track }) => track.last ?? track.received;
    return [...this.streams.values()].filter(({ row }) => !route || row.route === route).sort((one, other) => silence(one) - silence(other));
  }
}

export async function show(main, _, signal) {
  const asked = new URLSearchParams(location.search);
  const board = new Board();
  const view = layout(main, await get("/api/routes", signal), asked.get("route") ?? "");
  const state = { paused: false, route: asked.get("route") ?? "" };
  view.pause.addEventListener("click", () => {
    state.paused = !state.paused;
    view.pause.setAttribute("aria-pressed", String(state.paused));
    say(view.pause, state.paused ? "resume" : "pause");
  });
  figures(view, state.route, signal);
  follow("/api/live", (event) => board.take(event), () => say(view.note, "the feed broke off; trying again"), signal);
  const rows = new Rows(view.rows);
  let drawn = 0;
  const frame = (at) => {
    if (signal.aborted) return;
    requestAnimationFrame(frame);
    if (state.paused || document.hidden || (still.matches && at - drawn < 1000)) return;
    drawn = at;
    rows.draw(board.shown(state.route).slice(0, ROWS), board.now());
    view.ended(board.ended.filter((row) => !state.route || row.route === state.route));
    say(view.active, count(board.active));
    say(view.note, board.note);
    view.empty.hidden = board.streams.size > 0 || board.ended.length > 0;
  };
  requestAnimationFrame(frame);
}

/** The table of running streams: rows are kept and moved, never rebuilt, so that nothing jumps under the pointer. */
class Rows {
  constructor(body) {
    this.body = body;
    this.rows = new Map();
    this.ordered = 0;
  }

  draw(streams, now) {
    const keep = new Set(streams.map(({ row }) => row.id));
    for (const [id, row] of this.rows) {
      if (!keep.has(id)) {
        row.element.remove();
        this.rows.delete(id);
      }
    }
    const reorder = now - this.ordered > 1; // an order that changes every frame cannot be read
    for (const [place, stream] of streams.entries()) {
      const row = this.rows.get(stream.row.id) ?? this.make(stream);
      if (reorder && this.body.children[place] !== row.element) this.body.insertBefore(row.element, this.body.children[place] ?? null);
      row.update(stream, now);
    }
    if (reorder) this.ordered = now;
  }

  make({ row }) {
    const cells = Object.fromEntries(["route", "upstream", "state", "age", "last"].map((name) => [name, h("td")]));
    const canvas = h("canvas", { class: "strip", role: "img", "aria-label": "Tokens of the last 30 seconds" });
    const open = (event) => {
      if (!event.target.closest("button, a")) dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${row.id}` }));
    };
    const end = h("button", { class: "id", type: "button", title: "Stop this stream", "aria-label": "Stop this stream", onclick: () => stop(row.id) }, "■");
    const element = h("tr", { tabindex: 0, onclick: open }, h("td", {}, copyable(row.id)), Object.values(cells), h("td", { class: "strip-cell" }, canvas), h("td", {}, end));
    this.body.append(element);
    const update = (stream, now) => {
      const { row: told, track } = stream;
      say(cells.route, told.route);
      say(cells.upstream, told.upstream || "–");
      if (cells.state.dataset.told !== told.state + (told.blame ?? "")) {
        cells.state.dataset.told = told.state + (told.blame ?? "");
        fill(cells.state, h("span", { class: `badge ${told.state}` }, told.state.replace("_", " ")), told.state === "stalled" && told.blame ? [" ", h("span", { class: `blame ${told.blame}`, title: told.blame }, BLAME[told.blame])] : null);
      }
      say(cells.age, seconds(Math.max(0, now - track.received)));
      say(cells.last, track.last === null ? "–" : seconds(Math.max(0, now - track.last)));
      paint(canvas, track, now);
    };
    const made = { element, update };
    this.rows.set(row.id, made);
    return made;
  }
}

function layout(main, told, route) {
  const tile = (name) => ({ name, figure: h("div", { class: "figure" }, "–"), canvas: h("canvas", { "aria-hidden": "true" }) });
  const tiles = ["p50 TTFT", "p95 TTFT", "stall rate", "abort rate", "streams a second"].map(tile);
  const view = { tiles, rows: h("tbody"), note: h("span", { class: "note", role: "status" }), active: h("span"), pause: h("button", { class: "plain", type: "button", "aria-pressed": "false" }, "pause") };
  const endedBody = h("tbody");
  const go = (value) => dispatchEvent(new CustomEvent("weir:go", { detail: value ? `/?route=${encodeURIComponent(value)}` : "/" }));
  view.empty = h("div", { class: "empty", hidden: true }, "No stream yet. Point an app's base_url at the gateway, or send one by hand:",
    h("pre", {}, `curl -N http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n  -d '{"model": "${told.routes[0]?.models[0]?.replace("*", "gpt-4o-mini") ?? "gpt-4o-mini"}", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'`));
  view.ended = endedRows(endedBody);
  fill(
    main,
    h("h1", { class: "visually-hidden" }, "Live"),
    h("div", { class: "tiles" }, tiles.map(({ name, figure, canvas }) => h("div", { class: "tile" }, h("div", { class: "name" }, name), figure, canvas))),
    h("section", { class: "panel scroll" },
      h("div", { class: "bar" }, h("h2", { style: { margin: 0 } }, view.active, " active, longest silence first"), view.note, h("span", { class: "grow" }), legend(),
        choice("route", [["", "all"], ...told.routes.map((each) => [each.name, each.name])], route, go), view.pause),
      h("table", { class: "live" }, h("thead", {}, h("tr", {}, ["Stream", "Route", "Upstream", "State", "Age", "Last token", "30 s", ""].map((name) => h("th", { scope: "col" }, name)))), view.rows), view.empty),
    h("section", { class: "panel scroll" }, h("h2", {}, "Just ended"),
      h("table", {}, h("thead", {}, h("tr", {}, ["Stream", "Route", "Upstream", "Outcome", "TTFT", "Tokens", "Tok/s", "Stalls", "Cost"].map((name, place) => h("th", { scope: "col", class: place > 3 ? "right" : "" }, name)))), endedBody)),
  );
  return view;
}

function endedRows(body) {
  let newest = null;
  return (rows) => {
    if (rows[0]?.stream_id === newest) return;
    newest = rows[0]?.stream_id;
    fill(body, rows.map((row) => {
      const open = () => dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${row.stream_id}` }));
      const cells = [row.route, row.upstream, badge(row), seconds(row.ttft), count(row.output_tokens ?? row.chunks), count(row.tokens_per_second), stalls(row), usd(row.cost_usd)];
      return h("tr", { tabindex: 0, onclick: open }, h("td", {}, copyable(row.stream_id)), cells.map((cell, place) => h("td", { class: place > 2 ? "right" : "" }, cell)));
    }));
  };
}

function legend() {
  const item = (shade, words) => h("span", {}, h("i", { class: shade }), words);
  return h("div", { class: "legend" }, item("solid-waiting", "waiting"), item("solid-flow", "tokens"), item("hatch-upstream", "stall: upstream U"), item("hatch-client", "client C"), item("hatch-gateway", "gateway G"));
}

/** The tiles: figures of the last 15 minutes, and how they went. */
async function figures(view, route, signal) {
  while (!signal.aborted) {
    try {
      const told = await get(`/api/overview${route ? `?route=${encodeURIComponent(route)}` : ""}`, signal);
      const { total, points, objective } = told;
      const blamed = Object.entries(total.stalls_by ?? {}).filter(([, hits]) => hits);
      const rows = [
        [seconds(total.ttft_p50), "ttft_p50", objective, total.ttft_p50 > objective],
        [seconds(total.ttft_p95), "ttft_p95", objective, total.ttft_p95 > objective],
        [[percent(total.stall_rate), blamed.map(([owner, hits]) => h("small", {}, h("span", { class: `blame ${owner}` }, BLAME[owner]), ` ${count(hits)}`))], "stall_rate"],
        [percent(total.abort_rate), "abort_rate"],
        [count(total.rate), "rate"],
      ];
      rows.forEach(([figure, key, limit, over], place) => {
        const tile = view.tiles[place];
        fill(tile.figure, figure);
        tile.figure.classList.toggle("over", Boolean(over));
        spark(tile.canvas, points.map((point) => point[key]), limit);
      });
    } catch (error) {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, FIGURES_EVERY));
  }
}
