// The table of running streams. Rows are kept and moved, never rebuilt, and none moves while it is pointed at or has the focus.

import { copyable, fill, h, say } from "./dom.js";
import { BLAME, NONE, seconds } from "./format.js";
import { stop } from "./stream.js";
import { COLUMN, paint, SPAN } from "./strips.js";

const NEW_A_FRAME = 40;
const NEAR = 30; // rows on top that are painted when they get a new place, before the browser has said whether they are in view
const REORDER = 1; // seconds: an order that changes more often cannot be read
const HELD = 10_000; // milliseconds for which a row that has the focus keeps all rows in their places, unless something is done there
const LATE = 0.4; // seconds that strips are drawn behind the present, so that tokens are there before their place is
const STEP = 10; // seconds by which a strip that does not scroll turns its page

export class Rows {
  /** `body` is filled; `scroll` is what it scrolls in. */
  constructor(body, scroll, signal) {
    this.body = body;
    this.rows = new Map();
    this.seen = new Set();
    this.ordered = this.touched = 0;
    this.held = false;
    this.at = null;
    for (const kind of ["focusin", "keydown", "pointermove"]) body.addEventListener(kind, () => (this.touched = performance.now()));
    body.addEventListener("keydown", walk);
    body.addEventListener("focusin", (event) => this.stop(event.target.closest("tr")));
    this.watch = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) isIntersecting ? this.seen.add(target.dataset.id) : this.seen.delete(target.dataset.id);
    }, { root: scroll });
    signal.addEventListener("abort", () => this.watch.disconnect(), { once: true });
  }

  /** Show the streams of the board; `words` says that texts may change too, `still` that nothing may scroll. */
  draw(board, words, still) {
    const now = board.now();
    const held = (this.held = this.body.matches(":hover") || (this.body.contains(document.activeElement) && performance.now() - this.touched < HELD));
    const turn = now - this.ordered > REORDER || !this.rows.size;
    if (turn) {
      this.ordered = now;
      this.order(board, now, held);
    } else if (words) this.add(board);
    const shown = [...this.rows].map(([id, row]) => [row, board.streams.get(id), this.seen.has(id)]).filter(([, stream]) => stream);
    for (const [row, stream, seen] of shown) if (seen ? words : turn) row.say(stream, now); // words out of sight are read by machines only, which have time
    for (const [row, stream, seen] of shown) if (seen || (turn && row.place < NEAR)) row.paint(stream, now - LATE, still); // all after all words: nothing is laid out in between
  }

  /** Put rows into the order of the board; while they are held, only ones that are new come, at the end. */
  order(board, now, held) {
    for (const [id, row] of this.rows) if (!board.streams.has(id) && !(held && this.seen.has(id))) this.remove(id, row);
    if (held) return this.add(board);
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    this.place(board, now);
    if (!focused?.isConnected || document.activeElement === focused) return;
    const { touched } = this;
    focused.focus({ preventScroll: true }); // moving a row takes the focus away from it
    this.touched = touched;
  }

  /** Make a row the one of the list that Tab stops at. */
  stop(element) {
    if (this.at === element) return;
    if (this.at) this.at.tabIndex = -1;
    this.at = element;
    element.tabIndex = 0;
  }

  place(board, now) {
    let made = 0;
    let place = 0;
    for (const stream of board.ordered(now)) {
      const known = this.rows.get(stream.id);
      if (!known && (stream.outcome || (made += 1) > NEW_A_FRAME)) continue;
      const row = known ?? this.make(stream);
      const { element } = row;
      row.place = place;
      const there = this.body.children[place];
      if (there !== element) this.body.insertBefore(element, there ?? null);
      place += 1;
    }
    if (!this.at?.isConnected && this.body.firstElementChild) this.stop(this.body.firstElementChild);
  }

  add(board) {
    let made = 0;
    for (const stream of board.streams.values()) {
      if (this.rows.has(stream.id) || stream.outcome || (made += 1) > NEW_A_FRAME) continue;
      this.body.append(this.make(stream).element);
    }
  }

  remove(id, row) {
    this.watch.unobserve(row.element);
    row.element.remove();
    this.rows.delete(id);
    this.seen.delete(id);
  }

  make(stream) {
    const row = new Row(stream);
    this.rows.set(stream.id, row);
    this.watch.observe(row.element);
    row.say(stream, stream.track.known);
    return row;
  }
}

/** Keys of the list: up and down lead from row to row, right into a row and left out of it, Esc out of the list. */
function walk(event) {
  const row = event.target.closest("tr");
  const inside = [row, ...row.querySelectorAll("button:not([hidden])")];
  const at = inside.indexOf(event.target);
  const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling, ArrowRight: inside[at + 1], ArrowLeft: inside[at - 1] }[event.key];
  if (event.key === "Escape") document.activeElement.blur();
  if (!next) return;
  event.preventDefault();
  next.focus();
}

/** How long ago a token came; the feed counts by columns, and knows no less than one of them. */
function since(last, now) {
  if (last === null) return NONE;
  return now - last < COLUMN ? `< ${seconds(COLUMN)}` : seconds(now - last);
}

/** One stream's row: texts that change only when they differ, and its strip. */
class Row {
  constructor({ id, route }) {
    const open = (event) => {
      if (!event.target.closest("button, a")) dispatchEvent(new CustomEvent("weir:go", { detail: `/streams/${id}` }));
    };
    const cell = (name) => h("td", { class: name });
    [this.upstream, this.state, this.age, this.last] = [cell("upstream"), cell("state"), cell("age right"), cell("last right")];
    this.canvas = h("canvas", { class: "strip", role: "img", "aria-label": "Tokens of the last 30 seconds" });
    this.end = h("button", { class: "stop", type: "button", title: "Stop this stream", "aria-label": `Stop stream ${id.slice(0, 8)}`, onclick: () => stop(id) }, h("span", { "aria-hidden": "true" }, "■"));
    const name = copyable(id);
    name.tabIndex = this.end.tabIndex = -1;
    this.element = h("tr", { tabindex: -1, onclick: open, "data-id": id }, h("td", { class: "name" }, name), h("td", { class: "route" }, route), this.upstream, this.state, this.age, this.last,
      h("td", { class: "strip-cell" }, this.canvas), h("td", {}, this.end));
    this.told = "";
    this.place = 0;
  }

  say(stream, now) {
    const { state, blame, track } = stream;
    const word = `${state} ${state === "stalled" ? blame : ""}`.trim();
    if (this.told !== word) {
      this.told = word;
      const letter = state === "stalled" && blame ? h("span", { class: `blame ${blame}`, title: `held by the ${blame}` }, BLAME[blame]) : null;
      fill(this.state, h("span", { class: `badge ${state}${letter ? ` by-${blame}` : ""}` }, state.replaceAll("_", " ")), letter && " ", letter);
      this.element.setAttribute("aria-label", `Stream ${stream.id.slice(0, 8)} on ${stream.upstream || "no upstream yet"}: ${word.replace("_", " ")}`);
      if (letter) this.element.dataset.blame = blame;
      else delete this.element.dataset.blame;
      this.element.classList.toggle("over", Boolean(stream.outcome));
      this.end.hidden = Boolean(stream.outcome);
    }
    const at = Math.min(now, track.ended ?? now);
    const exact = state === "stalled" || stream.outcome;
    const last = exact ? track.last : track.lastBy(at - LATE);
    say(this.upstream, stream.where);
    say(this.age, seconds(Math.max(0, at - track.received)));
    say(this.last, since(last, exact ? at : at - LATE));
  }

  /** Paint the strip; one that must not scroll is filled in place, and turns its page when it is full. */
  paint({ track }, now, still) {
    if (!still) return paint(this.canvas, track, now);
    const turned = Math.max(0, Math.ceil((now - track.received - SPAN) / STEP)) * STEP;
    paint(this.canvas, track, now, track.received + turned);
  }
}
