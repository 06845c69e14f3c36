// What each route thinks of its targets, and where the next request would go and why.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { count, percent, seconds } from "./format.js";

const EVERY = 2000;

export async function show(main, _, signal) {
  const cards = h("div");
  const head = h("span", { class: "muted" });
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Routes"), head), cards);
  while (!signal.aborted) {
    const [told, health] = await Promise.all([get("/api/routes", signal), get("/healthz", signal)]);
    fill(head, "config ", h("span", { class: "mono" }, told.config_hash.slice(0, 12)), health.last_reload_error ? h("span", { class: "note" }, ` a newer one was refused: ${health.last_reload_error}`) : null);
    fill(cards, told.routes.map(card));
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

function card(route) {
  const scores = route.targets.flatMap((target) => target.seen.map((seen) => seen.score));
  const most = Math.max(...scores, 1e-3);
  const rows = route.targets.flatMap((target) => (target.seen.length ? target.seen : [null]).map((seen) => row(target, seen, most)));
  return h("section", { class: "panel scroll" },
    h("div", { class: "bar" }, h("h1", {}, route.name), h("span", { class: "badge" }, route.policy), h("span", { class: "muted" }, route.models.join(", ")),
      h("span", { class: "grow" }), h("span", { class: "muted" }, `objective: TTFT ≤ ${seconds(route.slo.ttft)} for ${percent(route.slo.objective)} · stall above ${seconds(route.stall_threshold)}`)),
    h("table", {}, h("thead", {}, h("tr", {}, ["Target", "Model", "Score", "TTFT estimate", "Share", "In flight", "Breaker", "Last error"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)),
    why(route));
}

function row(target, seen, most) {
  const weight = target.priority ? `priority ${target.priority}` : target.weight !== 1 ? `weight ${target.weight}` : "";
  if (!seen) return h("tr", {}, h("td", {}, target.upstream, " ", h("span", { class: "faint" }, weight)), h("td", {}, target.model ?? "as asked"), h("td", { colspan: 6, class: "faint" }, "never asked yet"));
  return h("tr", {},
    h("td", {}, target.upstream, " ", h("span", { class: "faint" }, weight)), h("td", {}, seen.model),
    h("td", {}, h("span", { class: "meter" }, h("i", { style: { width: `${(100 * seen.score) / most}%` } })), seconds(seen.score)),
    h("td", {}, seconds(seen.ttft)), h("td", {}, percent(seen.share)), h("td", {}, count(seen.in_flight)),
    h("td", {}, h("span", { class: `badge ${seen.breaker}` }, seen.breaker.replace("_", " ")), h("span", { class: "faint" }, ` ${seconds(seen.since)}`)),
    h("td", { class: "wide", title: seen.last_error }, seen.last_error ?? "–"));
}

function why(route) {
  if (!route.next?.length) return null;
  return h("p", { class: "muted" }, "Next request: ", route.next.map((each, place) => [place ? ", then " : "", h("strong", { title: each.because }, each.upstream), h("span", { class: "faint" }, ` (${each.because})`)]));
}
