// A stream drawn again at its own speed, token by token as its client saw it; or faster, or slower.

import { answerAt, arrivals, bars, columns, mark, piece, scale, stallPiece } from "./band.js";
import { fill, h, say, toast } from "./dom.js";
import { BLAME, count, seconds } from "./format.js";
import { lifetime } from "./waterfall.js";

const SPEEDS = [["0.25", "¼ ×"], ["0.5", "½ ×"], ["1", "1 ×"], ["2", "2 ×"], ["4", "4 ×"], ["16", "16 ×"]];
const SHOWN = 700; // tokens on the screen at once

/**
 * The panel of a replay. `heard(offset)` is told the position in seconds since the request at every frame that is drawn, so that the
 * text, where it is kept, can be shown as it came.
 */
export function replayPanel(record, signal, heard = () => {}) {
  const came = arrivals(record);
  const end = lifetime(record);
  const state = { at: 0, playing: false, frame: 0, stamp: null, shown: 0 };
  const head = h("span", { class: "mark head" });
  const veil = h("span", { class: "veil" });
  const screen = h("div", { class: "screen", "aria-hidden": "true" });
  const play = h("button", { class: "plain primary", type: "button", onclick: () => (state.playing ? pause() : start()) }, "▷ play");
  const speed = h("select", { "aria-label": "Speed" }, SPEEDS.map(([value, words]) => h("option", { value, selected: value === "1" }, words)));
  const slider = h("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Position", oninput: (event) => seek((event.target.value / 1000) * end) });
  const told = h("span", { class: "muted told" });
  const first = record.offsets.first_token;
  const track = h("div", { class: "track tall" }, piece(0, first ?? end, end, "dots", "waiting"), bars(columns(came, end), end, { answer: answerAt(record) }),
    record.cadence.stalls.map((stall) => stallPiece(stall.offset, stall.length, stall.blame, end)), record.seams.map((seam) => mark(seam.offset, end, "seam", `${seam.target} went on here`)), veil, head);

  function start() {
    if (state.at >= end) seek(0);
    state.playing = true;
    state.stamp = null;
    say(play, "❚❚ pause");
    state.frame = requestAnimationFrame(step);
  }

  function pause() {
    state.playing = false;
    cancelAnimationFrame(state.frame);
    say(play, "▷ play");
  }

  function step(stamp) {
    if (!state.playing || signal.aborted) return;
    const passed = state.stamp === null ? 0 : (stamp - state.stamp) / 1000;
    state.stamp = stamp;
    seek(Math.min(end, state.at + passed * Number(speed.value)));
    if (state.at >= end) return pause();
    state.frame = requestAnimationFrame(step);
  }

  function seek(at) {
    state.at = at;
    const place = `${(100 * at) / end}%`;
    head.style.left = veil.style.left = place;
    slider.value = String(Math.round((1000 * at) / end));
    const shown = upTo(came, at);
    words(screen, came, state.shown, shown);
    state.shown = shown;
    fill(told, now(record, came, at, shown));
    heard(at);
  }

  const command = `weir replay ${record.stream_id}`;
  const panel = h("section", { class: "panel replay" },
    h("div", { class: "bar" }, h("h2", {}, "Replay"), play, speed, told, h("span", { class: "grow" }), commandLine(command)),
    h("div", { class: "replay-track" }, track, slider, scale(end)), screen);
  seek(0);
  return { panel, start };
}

function commandLine(command) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command);
      toast("Copied");
    } catch {
      toast(command);
    }
  };
  return h("button", { class: "id command", type: "button", title: "Copy: the same in a terminal", onclick: copy }, `${command.slice(0, 20)}…`, h("span", { class: "faint" }, " copy"));
}

/** How many reads had come at a moment. */
function upTo(came, at) {
  let [low, high] = [0, came.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    came[middle].at <= at ? (low = middle + 1) : (high = middle);
  }
  return low;
}

/** Each token as a block about as wide as a word; the answer's shape without its words. */
function words(screen, came, before, after) {
  if (after < before || after - before > SHOWN) {
    fill(screen);
    before = Math.max(0, after - SHOWN);
  }
  for (let place = before; place < after; place += 1) {
    for (let token = 0; token < Math.min(came[place].tokens, 40); token += 1) {
      screen.append(h("i", { style: { width: `${0.5 + ((place * 7 + token * 3) % 5) * 0.28}em` } }));
    }
  }
  while (screen.childElementCount > SHOWN) screen.firstElementChild.remove();
}

/** What is to be said at a moment: waiting, speaking, or silent and through whom. */
function now(record, came, at, shown) {
  const tokens = came.slice(0, shown).reduce((sum, each) => sum + each.tokens, 0);
  const stall = record.cadence.stalls.find((each) => at > each.offset && at < each.offset + each.length);
  const recent = came.slice(0, shown).filter((each) => each.at > at - 1).reduce((sum, each) => sum + each.tokens, 0);
  const state = stall ? [h("span", { class: `blame ${stall.blame}` }, BLAME[stall.blame]), ` silent for ${seconds(at - stall.offset)}`] : shown ? `${count(recent)} tokens/s` : "waiting";
  return [h("span", { class: "clock" }, seconds(at)), ` · ${count(tokens)} tokens · `, state];
}

