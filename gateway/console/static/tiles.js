// The figures on top of the Live page: five tiles, each with how it went, and an arrow where it has become worse lately.

import { get } from "./api.js";
import { fill, h, say } from "./dom.js";
import { BLAME, count, percent, seconds } from "./format.js";
import { spark } from "./plots.js";

const EVERY = 2000;
const LEAST_POINTS = 12; // a curve of less than two minutes is drawn as wide as one of two
const NAMES = { ttft_p50: "p50 TTFT", ttft_p95: "p95 TTFT", stall_rate: "stall rate", abort_rate: "abort rate", rate: "streams" };

/** The tiles, empty as yet. */
export function tiles() {
  return Object.entries(NAMES).map(([key, name]) => {
    const tile = { key, figure: h("span", { class: "figure" }, "–"), beside: h("span", { class: "beside" }), over: h("span", { class: "span" }), canvas: h("canvas", { "aria-hidden": "true" }) };
    tile.element = h("div", { class: "tile", "data-figure": key }, h("div", { class: "name" }, h("span", {}, name), tile.over), h("div", { class: "line" }, tile.figure, tile.beside), tile.canvas);
    return tile;
  });
}

/** Keep the tiles up to date, of one route or of all, until `signal` aborts; how many streams run is for the feed to say. */
export async function figures(made, route, signal) {
  while (!signal.aborted) {
    try {
      const told = await get(`/api/overview${route ? `?route=${encodeURIComponent(route)}` : ""}`, signal);
      for (const tile of made) update(tile, told);
    } catch (error) {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

function update(tile, told) {
  const { key } = tile;
  const { total, points, objective, covered, step } = told;
  const limit = key.startsWith("ttft") ? objective : null;
  const kept = Math.max(LEAST_POINTS, Math.min(points.length, Math.ceil(covered / step)));
  const share = key.endsWith("_rate");
  if (key !== "rate") say(tile.figure, share ? percent(total[key]) : seconds(total[key]));
  say(tile.over, covered < 119.5 ? `${Math.round(covered)} s` : `${Math.round(covered / 60)} min`);
  fill(tile.beside, arrow(key, told.worse[key], share), limit && total[key] > limit ? h("span", { class: "chip", title: `the objective is ${seconds(limit)}` }, "over SLO") : null, extra(key, total));
  const whole = key === "rate" ? points.slice(0, -1) : points; // the last step is not over: a rate of it would be too low
  spark(tile.canvas, whole.slice(-kept).map((point) => point[key]), limit);
}

function extra(key, total) {
  if (key === "rate") return h("span", {}, `active · ${count(total.rate)} /s`);
  return key === "stall_rate" ? blamed(total.stalls_by ?? {}) : null;
}

/** An arrow where the last two minutes are worse than the time before. */
function arrow(key, worse, share) {
  if (!worse) return null;
  const words = share ? percent : seconds;
  const title = `worse: ${words(worse[0])} in the last two minutes, ${words(worse[1])} before`;
  return h("span", { class: "worse", role: "img", "aria-label": title, title }, "▲");
}

/** Who held the stalls: a bar in the colours of their owners, a letter and a share for each. */
function blamed(stalls) {
  const all = Object.values(stalls).reduce((sum, hits) => sum + hits, 0);
  const owners = Object.keys(BLAME).filter((owner) => stalls[owner]);
  return owners.map((owner) => h("span", { class: "part", title: `${stalls[owner]} of ${all} stalls were held by the ${owner}` }, h("span", { class: `blame ${owner}` }, BLAME[owner]), ` ${Math.round((stalls[owner] / all) * 100)} %`));
}
