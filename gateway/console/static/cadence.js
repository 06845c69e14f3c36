// How steadily a stream spoke: the gap before each token with stalls shaded, tokens so far, tokens a second, and the list of its stalls.

import { arrivals } from "./band.js";
import { fill, h } from "./dom.js";
import { BLAME, count, seconds } from "./format.js";
import { gaps, line } from "./plots.js";
import { lifetime } from "./waterfall.js";

const KINDS = [["gaps", "gaps"], ["sum", "tokens so far"], ["rate", "tokens/s"]];

export function cadencePanel(record, signal) {
  const came = arrivals(record);
  const plots = h("div", { class: "plots" });
  const told = record.cadence;
  const toggles = KINDS.map(([kind, words]) => h("button", { class: "plain", type: "button", "data-plot": kind, "aria-pressed": "false", onclick: () => pick(kind) }, words));
  let room = null;

  function pick(kind) {
    room?.abort();
    room = new AbortController();
    signal.addEventListener("abort", () => room.abort(), { once: true });
    for (const toggle of toggles) toggle.setAttribute("aria-pressed", String(toggle.dataset.plot === kind));
    fill(plots);
    draw(plots, record, came, kind, room.signal);
  }

  const enough = came.length > 1;
  const figures = enough ? `gap p50 ${seconds(told.gap_p50)} · p95 ${seconds(told.gap_p95)} · longest ${seconds(told.gap_max)} · ${count(told.chunks)} chunks in ${count(told.arrivals)} reads` : "";
  const panel = h("section", { class: "panel cadence" },
    h("div", { class: "bar" }, h("h2", {}, "Cadence"), h("span", { class: "muted" }, figures), h("span", { class: "grow" }), enough ? h("span", { class: "choices", role: "group", "aria-label": "What is drawn" }, toggles) : null),
    told.burst ? h("p", { class: "note" }, "It came in a burst: a hop on the way holds tokens back.") : null,
    plots, stallList(record));
  if (enough) requestAnimationFrame(() => signal.aborted || pick("gaps"));
  else fill(plots, h("p", { class: "empty" }, came.length ? "One read brought every token: there is no gap to show." : record.state === "ended" ? "No token came." : "Drawn when it has ended; until then the strip above is its cadence."));
  return panel;
}

function draw(parent, record, came, kind, signal) {
  const end = lifetime(record);
  const seams = record.seams.map((seam) => seam.offset);
  const place = () => aligned(parent);
  if (kind === "gaps") {
    const pairs = came.slice(1).map((each, place) => [each.at, Math.max(1e-4, each.at - came[place].at)]);
    const marks = [[record.cadence.gap_p50, "median", true], [record.cadence.gap_p95, "p95", false]];
    gaps(parent, { at: pairs.map(([at]) => at), lengths: pairs.map(([, gap]) => gap), stalls: record.cadence.stalls, marks, seams, end, place }, signal);
  } else if (kind === "sum") {
    let sum = 0;
    line(parent, { at: came.map((each) => each.at), values: came.map((each) => (sum += each.tokens)), unit: "tokens", stalls: record.cadence.stalls, seams, end, place }, signal);
  } else {
    const { at, values } = rates(came);
    line(parent, { at, values, unit: "tokens/s", stalls: record.cadence.stalls, seams, end, place }, signal);
  }
  if (record.cadence.arrivals > came.length) parent.append(h("p", { class: "note" }, `Drawn are the first ${came.length} of ${record.cadence.arrivals} reads: no more are kept.`));
}

/** How far the tracks of the lanes above lie from the edges of a plot's element: what stands below each other happened together. */
function aligned(parent) {
  const track = document.querySelector(".lanes .track")?.getBoundingClientRect();
  const mine = parent.getBoundingClientRect();
  return track && track.left - mine.left > 56 ? [track.left - mine.left, Math.max(0, mine.right - track.right)] : null;
}

/** Tokens a second in equal steps, at least a quarter of a second each: less would draw every single token as a peak. */
export function rates(came) {
  const start = came[0].at;
  const width = Math.max(0.25, (came.at(-1).at - start) / 60);
  const sums = new Array(Math.floor((came.at(-1).at - start) / width) + 1).fill(0);
  for (const each of came) sums[Math.floor((each.at - start) / width)] += each.tokens / width;
  return { at: sums.map((_, place) => start + (place + 0.5) * width), values: sums };
}

function stallList(record) {
  const { stalls, stall_count: all } = record.cadence;
  if (!stalls.length) return null;
  const cells = (stall) => [seconds(stall.offset), seconds(stall.length), [h("span", { class: `blame ${stall.blame}`, "aria-hidden": "true" }, BLAME[stall.blame]), ` ${stall.blame}`], `after chunk ${stall.chunk}`];
  const rows = stalls.map((stall) => h("tr", {}, cells(stall).map((cell) => h("td", {}, cell))));
  const note = all > stalls.length ? h("p", { class: "note" }, `${all} stalls in all; the first and the longest are listed.`) : null;
  return h("div", { class: "scroll" }, h("table", { class: "stalls" }, h("thead", {}, h("tr", {}, ["Stall at", "For", "Held by", "Where"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)), note);
}
