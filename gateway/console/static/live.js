// What runs now: figures of the last quarter of an hour, every running stream as a strip, and the ones that have just ended.

import { Failure, follow, get } from "./api.js";
import { Board } from "./board.js";
import { fill, h, say } from "./dom.js";
import { clock, count, seconds, usd } from "./format.js";
import { Rows } from "./rows.js";
import { badge, choice, stalls } from "./streams.js";
import { figures, tiles } from "./tiles.js";

const SPOKEN_EVERY = 4000; // a screen reader hears of stalls at most so often
const QUIET = 15_000; // milliseconds without an event after which the feed is asked for anew
const WORDS_EVERY = 200;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export async function show(main, _, signal) {
  const route = new URLSearchParams(location.search).get("route") ?? "";
  const board = new Board();
  const view = layout(main, await get("/api/routes", signal), route);
  const state = { paused: null, broken: null, rows: null };
  const toggle = () => {
    state.paused = state.paused === null ? new Date().toLocaleTimeString([], { hour12: false }) : null;
    view.pause.setAttribute("aria-pressed", String(state.paused !== null));
    say(view.pause, state.paused === null ? "pause" : "resume");
    say(view.note, note(board, state));
  };
  view.pause.addEventListener("click", toggle);
  addEventListener("keydown", (event) => {
    if (event.key === "p" && !event.target.closest?.("input, select, textarea, dialog") && !event.metaKey && !event.ctrlKey && !event.altKey) toggle();
  }, { signal });
  figures(view.tiles, route, signal);
  const told = (event) => {
    state.broken = null;
    board.take(event);
  };
  follow(`/api/live${route ? `?route=${encodeURIComponent(route)}` : ""}`, told, (error) => (state.broken = error), signal, QUIET);
  announce(view.spoken, board, signal);
  draw(view, board, state, signal);
}

/** Draw once a frame; words change more slowly than strips, so that they can be read. */
function draw(view, board, state, signal) {
  const rows = (state.rows = new Rows(view.rows, view.scroll, signal));
  let said = 0;
  const frame = (at) => {
    if (signal.aborted) return;
    requestAnimationFrame(frame);
    if (document.hidden || (still.matches && at - said < 1000)) return;
    const words = at - said >= WORDS_EVERY;
    if (words) {
      said = at;
      say(view.note, note(board, state));
      view.scroll.classList.toggle("deaf", board.deaf() !== null);
    }
    if (state.paused !== null || !board.told) return;
    rows.draw(board, words, still.matches);
    if (!words) return;
    view.ended(board.ended);
    say(view.active, count(board.active));
    say(view.tiles.find(({ key }) => key === "rate").figure, count(board.active));
    if (!view.route) dispatchEvent(new CustomEvent("weir:active", { detail: board.active }));
    vacant(view, board);
  };
  requestAnimationFrame(frame);
}

/** Without a running stream the list makes room, and says when the last one ended; without any, how to make one. */
function vacant(view, board) {
  const none = board.streams.size === 0;
  view.empty.hidden = !none || board.ended.length > 0;
  view.over.hidden = !none || !board.ended.length;
  view.scroll.classList.toggle("vacant", none);
  if (!view.over.hidden) say(view.over, `No stream runs now; the last one ended ${seconds(Math.max(0, Math.round(board.now() - board.endedAt)))} ago.`);
}

/** What the page has to say for itself: that it knows nothing new, that it stands still, or that it shows only some of the streams. */
function note(board, state) {
  const deaf = board.deaf();
  if (state.broken instanceof Failure) return `${state.broken.message}; trying again`;
  if (deaf !== null) return `nothing heard for ${Math.floor(deaf)} s: this is how it was`;
  if (state.broken) return "the feed broke off; trying again";
  if (state.paused !== null) return `paused at ${state.paused}`;
  if (state.rows?.held && board.streams.size > 1) return "the order is held while you are on the list (Esc)";
  const all = Object.values(board.stalledBy).reduce((sum, hits) => sum + hits, 0);
  const stalls = board.unshown ? `${count(all - board.unshown)} of ${count(all)} stalls` : "every stall";
  if (board.share < 1 || board.unshown) return `one stream in ${1 / board.share} is shown, and ${stalls}: ${count(board.shown)} of ${count(board.active)}`;
  return board.shown < board.active ? `${count(board.shown)} of ${count(board.active)} streams are shown` : "";
}

/** Say in words how many streams stall, for who cannot see the strips. */
function announce(element, board, signal) {
  const words = () => {
    if (board.deaf() !== null) return say(element, "Nothing is heard from the gateway");
    const held = Object.entries(board.stalledBy);
    const all = held.reduce((sum, [, hits]) => sum + hits, 0);
    const owners = held.map(([owner, hits]) => `${hits} held by the ${owner}`).join(", ");
    say(element, all ? `${all} ${all === 1 ? "stream is" : "streams are"} stalled, ${owners}` : board.told ? "No stream is stalled" : "");
  };
  const timer = setInterval(words, SPOKEN_EVERY);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

function layout(main, told, route) {
  const view = {
    route,
    over: h("p", { class: "lull", hidden: true }),
    tiles: tiles(),
    rows: h("tbody"),
    note: h("span", { class: "note" }),
    spoken: h("p", { class: "visually-hidden", role: "status" }),
    active: h("span", {}, "–"),
    pause: h("button", { class: "plain", type: "button", "aria-pressed": "false", title: "Stop the picture, not the streams (p)" }, "pause"),
  };
  const endedBody = h("tbody");
  view.ended = endedRows(endedBody);
  view.empty = empty(told);
  const go = (value) => dispatchEvent(new CustomEvent("weir:go", { detail: value ? `/?route=${encodeURIComponent(value)}` : "/" }));
  const names = told.routes.map((each) => each.name);
  const known = route && !names.includes(route) ? [route, ...names] : names;
  const filter = choice("route", [["", "all"], ...known.map((name) => [name, name])], route, go);
  filter.querySelector("select").dataset.slash = "";
  const heads = ["Stream", "Route", "Upstream", "State", "Age", "Last token"].map((name, place) => h("th", { scope: "col", class: place > 3 ? "right" : "" }, name));
  view.scroll = h("div", { class: "live-scroll" },
    h("table", { class: "live" }, h("thead", {}, h("tr", {}, heads, h("th", { scope: "col", class: "strip-cell" }, scale()), h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Stop")))), view.rows), view.empty, view.over);
  fill(
    main,
    h("h1", { class: "visually-hidden" }, "Live"),
    view.spoken,
    h("div", { class: "tiles" }, view.tiles.map((tile) => tile.element)),
    h("section", { class: "panel", "aria-label": "Running streams" },
      h("div", { class: "bar" }, h("h2", {}, view.active, " active, longest silence first"), view.note, h("span", { class: "grow" }), legend(), filter, view.pause), view.scroll),
    h("section", { class: "panel scroll", "aria-label": "Just ended" }, h("h2", {}, "Just ended"), h("table", { class: "ended" }, endedHead(), endedBody)),
  );
  return view;
}

function empty({ routes, base_url: base }) {
  const model = routes[0]?.models[0]?.replace("*", "gpt-4o-mini") ?? "gpt-4o-mini";
  const body = `{"model": "${model}", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}`;
  return h("div", { class: "empty", hidden: true }, "No stream yet. Point an app's base_url at the gateway, or send one by hand:",
    h("pre", {}, `curl -N ${base ?? "http://HOST:PORT"}/v1/chat/completions -H 'Content-Type: application/json' \\\n  -d '${body}'`));
}

/** What the strip's width means. */
function scale() {
  return h("span", { class: "scale" }, ["30 s ago", "20 s", "10 s", "now"].map((words) => h("span", {}, words)));
}

function endedHead() {
  return h("thead", {}, h("tr", {}, ["Stream", "Route", "Upstream", "Outcome", "TTFT", "Tokens", "Tok/s", "Stalls", "Cost"].map((name, place) => h("th", { scope: "col", class: place > 3 ? "right" : "" }, name))));
}

/** The last ones to end. Rows that are known stay as they are: only new ones are put on top, and the oldest leave. */
function endedRows(body) {
  const known = new Map();
  return (rows) => {
    if (body.contains(document.activeElement) || body.matches(":hover")) return; // a list that is being read or pointed at stands still
    const ids = new Set(rows.map((row) => row.stream_id));
    for (const [id, element] of known) {
      if (!ids.has(id)) {
        element.remove();
        known.delete(id);
      }
    }
    rows.forEach((row, place) => {
      if (!known.has(row.stream_id)) known.set(row.stream_id, endedRow(row));
      const element = known.get(row.stream_id);
      if (body.children[place] !== element) body.insertBefore(element, body.children[place] ?? null);
    });
  };
}

function endedRow(row) {
  const open = (event) => {
    if (!event.target.closest("button, a")) dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${row.stream_id}` }));
  };
  const cells = [row.route, row.upstream, badge(row), seconds(row.ttft), count(row.output_tokens ?? row.chunks), count(row.tokens_per_second), stalls(row), usd(row.cost_usd)];
  const id = h("a", { class: "id", href: `/streams/${row.stream_id}`, title: `${row.stream_id}, received ${clock(row.received)}`, tabindex: -1 }, row.stream_id.slice(0, 8));
  return h("tr", { tabindex: 0, onclick: open, "aria-label": `Stream ${row.stream_id.slice(0, 8)}, ${row.outcome}` }, h("td", {}, id), cells.map((cell, place) => h("td", { class: place > 2 ? "right" : "" }, cell)));
}

function legend() {
  const item = (shade, words) => h("span", {}, h("i", { class: shade }), words);
  return h("div", { class: "legend" }, item("dotted-waiting", "waiting"), item("solid-flow", "tokens"), item("solid-reasoning", "reasoning"), h("span", {}, "stalled by"),
    item("hatch-upstream", "U upstream"), item("hatch-client", "C client"), item("hatch-gateway", "G gateway"));
}
