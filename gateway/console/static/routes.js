// What each route thinks of its targets and what streams met there of late, and where the next request would go and why.

import { get } from "./api.js";
import { fill, h, named } from "./dom.js";
import { count, NONE, percent, seconds } from "./format.js";
import { buttons } from "./links.js";
import { dot } from "./streams.js";
import { introduce } from "./plots.js";
import { Steady } from "./steady.js";

const EVERY = 2000;
const MOST_MODELS = 8; // rows that a target unfolds into: clients name as many models as they like
const HEADS = [["Target", "name"], ["Score", ""], ["TTFT p50", "right"], ["TTFT p95", "right"], ["Share", ""], ["In flight", "right"], ["Stalls", "right"], ["Breaker", ""], ["Last error", "wide"]];
/** How a policy chooses, for who wonders why the first in the order is not always the first asked. */
const DRAWS = {
  "least-latency": "The better of two drawn at random, and now and then one not tried for long: the first below is asked most often, not always.",
  "priority": "The lowest priority first; equals by score, the better of two drawn at random.",
  "weighted": "Drawn by weight at every request.",
  "round-robin": "In turn, each request the next.",
  "cheapest-within-slo": "The cheapest whose first token is expected within the objective.",
};
const TERMS = { estimate: "first token in", waiting: "calls waiting", failing: "failing lately" };

export async function show(main, _, signal) {
  const [cards, head, steady] = [h("div"), h("div", { class: "bar", role: "status" }), new Steady()];
  fill(main, h("div", { class: "bar" }, h("h1", {}, "Routes")), steady.note, head, cards);
  const outward = new Map();
  let told = null;
  /** The targets whose models are unfolded, by their key on this page. */
  const unfolded = { keys: new Set(), toggle: (key) => {
    unfolded.keys.delete(key) || unfolded.keys.add(key);
    draw(cards, told, outward, unfolded);
  } };
  for (; !signal.aborted; await new Promise((resolve) => setTimeout(resolve, EVERY))) {
    const newer = await steady.ask(async () => {
      const answer = await get("/api/routes", signal);
      await Promise.all(answer.routes.map(async (route) => outward.has(route.name) || outward.set(route.name, await links(route.name, answer.now, signal))));
      return answer;
    }, signal);
    if (!newer) continue;
    told = newer;
    introduce(told.routes.flatMap((route) => route.targets.map((target) => target.upstream)));
    fill(head, state(told));
    draw(cards, told, outward, unfolded);
  }
}

/** Draw all cards anew; what was unfolded stays so, and the focus stays where it was. */
function draw(cards, told, outward, unfolded) {
  const open = new Set([...cards.querySelectorAll("details[open]")].map((each) => each.dataset.route));
  const focus = cards.contains(document.activeElement) ? document.activeElement.closest("[data-keep]")?.dataset.keep : null;
  fill(cards, told.routes.length ? told.routes.map((route) => card(route, outward.get(route.name), open.has(route.name), unfolded)) : h("p", { class: "empty" }, "No route is configured."));
  if (focus) cards.querySelector(`[data-keep="${CSS.escape(focus)}"]`)?.focus();
}

/** A lasting state's age: it is read at a glance, and does not flicker. */
function lasting(value) {
  if (value < 60) return `${Math.floor(value)} s`;
  return value < 7200 ? `${Math.floor(value / 60)} min` : `${Math.floor(value / 3600)} h`;
}

/** A route's buttons lead to its last hour. */
const links = (route, now, signal) => buttons({ route, from_ms: Math.floor((now - 3600) * 1000), to_ms: Math.ceil(now * 1000) }, signal);

/** Which configuration runs, since when, and why a newer one does not. */
function state(told) {
  return [
    h("span", { class: "muted" }, "config ", h("code", {}, told.config_hash.slice(0, 12)), `, taken on ${lasting(told.configured)} ago`),
    told.reload_error ? h("span", { class: "banner", role: "alert" }, h("strong", {}, "The last reload was refused; this one goes on: "), h("code", {}, told.reload_error)) : h("span", { class: "faint" }, "last reload: nothing refused"),
  ];
}

function card(route, outward, open, unfolded) {
  const most = Math.max(...route.targets.flatMap((target) => target.seen.map((seen) => seen.score)), 1e-3);
  const rows = route.targets.map((target, place) => models(route, target, most, unfolded, `${route.name} ${place}`));
  const objective = route.slo.ttft === null ? "none" : ["first token within ", h("strong", {}, seconds(route.slo.ttft)), " for ", h("strong", {}, percent(route.slo.objective))];
  return h("section", { class: "panel route", "data-route": route.name },
    h("div", { class: "bar tight" }, h("h2", { class: "plainly" }, named(route.name)), h("span", { class: "badge" }, route.policy), h("span", { class: "muted names" }, "models ", route.models.map((model, place) => [place ? ", " : "", named(model)])),
      h("span", { class: "grow" }), outward ?? [],
      h("a", { class: "plain button", "data-keep": `streams-${route.name}`, href: `/streams?route=${encodeURIComponent(route.name)}` }, "its streams")),
    h("p", { class: "muted terms-of" }, h("span", {}, "objective: ", objective), h("span", {}, "a stall is a silence above ", h("strong", {}, seconds(route.stall_threshold))),
      h("span", {}, h("strong", {}, count(route.streams)), ` streams in the last ${seconds(route.window)}`)),
    h("div", { class: "scroll" }, h("table", { class: "targets" }, h("thead", {}, h("tr", {}, HEADS.map(([name, side]) => h("th", { scope: "col", class: side }, name)))), h("tbody", {}, rows))),
    why(route, open));
}

/** One row a target: the model that is asked most of it; the others unfold below. */
function models(route, target, most, unfolded, key) {
  const [first = null, ...others] = target.seen;
  if (!others.length) return row(route, target, first, most);
  const open = unfolded.keys.has(key);
  const toggle = h("button", { class: "pill small", type: "button", "data-keep": `models ${key}`, "aria-expanded": String(open), onclick: () => unfolded.toggle(key) }, open ? "fewer" : `+ ${count(target.models - 1)} models`);
  const left = target.models - MOST_MODELS;
  return [row(route, target, first, most, toggle), open ? others.slice(0, MOST_MODELS - 1).map((seen) => row(route, target, seen, most)) : null,
    open && left > 0 ? h("tr", {}, h("td", { colspan: HEADS.length, class: "faint" }, `and ${count(left)} less used models`)) : null];
}

function row(route, target, seen, most, more = null) {
  const said = [target.priority ? `priority ${target.priority}` : "", target.weight !== 1 ? `weight ${target.weight}` : ""].filter(Boolean).join(", ");
  const model = seen?.model ?? target.model ?? "model as asked";
  const name = h("span", { class: "target" }, h("span", { class: "names" }, dot(target.upstream), h("strong", {}, named(target.upstream)), said ? h("span", { class: "faint" }, ` ${said}`) : null),
    h("span", { class: "names muted", title: model }, named(model)), more);
  const keys = { "data-upstream": target.upstream, "data-breaker": seen?.breaker ?? "" };
  if (!seen) return h("tr", keys, h("td", {}, name), h("td", { colspan: HEADS.length - 1, class: "faint" }, "never asked yet"));
  const { lately } = seen;
  const over = route.slo.ttft !== null && lately.ttft_p95 > route.slo.ttft;
  const cells = [
    [name],
    [h("span", { class: "meter" }, h("i", { style: { width: `${(100 * seen.score) / most}%` } })), seconds(seen.score)],
    [seconds(lately.ttft_p50)],
    [h("span", { class: over ? "warning" : "", title: over ? "above the objective" : null }, seconds(lately.ttft_p95), over ? " ▲" : "")],
    [h("span", { class: "meter narrow" }, h("i", { class: "share", style: { width: `${100 * (seen.share ?? 0)}%` } })), percent(seen.share)],
    [count(seen.in_flight)],
    [percent(lately.stall_rate)],
    [h("span", { class: `badge ${seen.breaker}` }, seen.breaker.replace("_", " ")), h("span", { class: "faint" }, ` for ${lasting(seen.since)}`)],
    [trouble(seen)],
  ];
  return h("tr", keys, cells.map((cell, place) => h("td", { class: HEADS[place][1], "data-label": HEADS[place][0] }, h("span", {}, cell))));
}

/** What went wrong last, when, and the stream to look at. */
function trouble(seen) {
  if (!seen.trouble) return seen.last_error ? named(seen.last_error, { class: "muted" }) : h("span", { class: "faint" }, NONE);
  const { error, ago, stream_id: id } = seen.trouble;
  return [h("a", { href: `/streams/${id}`, "data-keep": `trouble-${id}`, title: error }, named(error.replace(/^(\d{3})$/, "HTTP $1"))), h("span", { class: "faint" }, ` ${lasting(ago)} ago`)];
}

/** The order the next request would get: each target's score with its terms, the unusable ones last and why. */
function why(route, open) {
  if (!route.next.length) return null;
  const usable = route.next.filter((each) => each.usable);
  const several = route.next_model !== null && route.targets.some((target) => target.models > 1);
  const asked = several ? ["Next request for ", named(route.next_model, { class: "names short", title: route.next_model }), ": "] : "Next request: ";
  const first = usable.length ? [asked, usable.map((each, place) => [place ? ", then " : "", h("strong", {}, named(each.upstream))])] : h("span", { class: "warning" }, "No target is usable now: the one that opens soonest is tried.");
  const rows = route.next.map((each, place) => h("tr", { class: each.usable ? "" : "refused" },
    h("td", { class: "right faint" }, each.usable ? `${place + 1}.` : "✕"), h("td", {}, dot(each.upstream), h("strong", {}, named(each.upstream)), " ", named(each.model, { class: "muted names short", title: each.model })),
    h("td", {}, each.usable ? terms(each) : h("span", { class: "warning" }, each.because)), h("td", { class: "muted" }, each.usable ? each.because.replace(/(, )?score .*$/, "") : "")));
  return h("details", { class: "why", "data-route": route.name, open }, h("summary", { "data-keep": `why-${route.name}` }, first, h("span", { class: "faint" }, " · why")),
    h("p", { class: "muted slim" }, DRAWS[route.policy] ?? ""), h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, rows))));
}

/** "first token in 212 ms × 1.5 calls waiting = 318 ms": a score is the product of its terms. */
function terms(place) {
  if (place.score === null) return h("span", { class: "faint" }, "never asked");
  const { estimate, ...factors } = place.terms;
  const told = Object.entries(factors).map(([name, factor]) => h("span", { class: factor === 1 ? "faint" : "" }, ` × ${factor.toFixed(2)} ${TERMS[name] ?? name}`));
  return h("span", { class: "terms" }, estimate === undefined ? null : `${TERMS.estimate} ${seconds(estimate)}`, told, " = ", h("strong", {}, seconds(place.score)));
}
