// The frame around every page: which page an address is, the health line, keys, and links that do not reload.

import { get } from "./api.js";
import { fill, h, say, toast } from "./dom.js";
import { count, NONE, seconds } from "./format.js";
import * as compare from "./compare.js";
import * as live from "./live.js";
import * as routes from "./routes.js";
import * as stream from "./stream.js";
import * as streams from "./streams.js";
import * as trace from "./trace.js";

const PAGES = [
  [/^\/$/, live, "Live"],
  [/^\/streams$/, streams, "Streams"],
  [/^\/streams\/([^/]+)$/, stream, "Stream"],
  [/^\/traces\/([^/]+)$/, trace, "Trace"],
  [/^\/routes$/, routes, "Routes"],
  [/^\/compare$/, compare, "Compare"],
];
const HEALTH_EVERY = 2000;
const main = document.getElementById("main");
const RETURN = 2000; // milliseconds in which a page that is gone back to must be long enough again to stand where it was left
const SILENT = 2; // seconds: every worker speaks once a second
let leaving = new AbortController();
let active = { many: 0, at: -Infinity }; // how many streams run, where a page has it from the feed
let shown = null;
history.scrollRestoration = "manual";

/** Name the page in its title, by what its address says of it. */
function title([, , name], [, id]) {
  const about = id ? decodeURIComponent(id).slice(0, 8) : new URLSearchParams(location.search).get("route");
  return about ? `${name} ${about} · Weir` : `${name} · Weir`;
}

/** Once another page has come: its heading has the focus, so that a screen reader speaks it, and the page stands where it was left. */
function settle(scroll, signal) {
  const before = main.querySelector("h1");
  const until = performance.now() + RETURN;
  const back = () => {
    scrollTo(0, scroll);
    if (!signal.aborted && scrollY < scroll - 1 && performance.now() < until) requestAnimationFrame(back); // its rows may still be on their way
  };
  const watch = new MutationObserver(() => {
    const heading = main.querySelector("h1");
    if (!heading || heading === before) return;
    watch.disconnect();
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    back();
  });
  watch.observe(main, { childList: true, subtree: true });
  signal.addEventListener("abort", () => watch.disconnect(), { once: true });
}

/** Show the page of the current address. Every page gets the element it fills, what its address says, and a signal to stop at. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const found = PAGES.map(([pattern, page, name]) => [location.pathname.match(pattern), page, name]).find(([match]) => match);
  document.title = found ? title(found, found[0]) : "Weir";
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.pathname === "/" ? location.pathname === "/" : location.pathname.startsWith(link.pathname);
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (!found) return fill(main, h("p", { class: "empty" }, "There is no such page. ", h("a", { href: "/" }, "See the live streams")));
  const [scroll, another] = [history.state?.scroll ?? 0, shown !== null && shown !== location.pathname];
  shown = location.pathname;
  if (another) settle(scroll, signal);
  try {
    await found[1].show(main, found[0].slice(1).map(decodeURIComponent), signal);
  } catch (error) {
    if (!signal.aborted) fill(main, h("p", { class: "empty", role: "alert" }, error.message));
  }
}

export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", path);
  if (!replace) return show();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || link.origin !== location.origin || link.target || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  if (!PAGES.some(([pattern]) => pattern.test(link.pathname))) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
addEventListener("popstate", show);
let scrolled = 0;
addEventListener("scroll", () => {
  clearTimeout(scrolled);
  const path = location.href;
  scrolled = setTimeout(() => location.href === path && history.replaceState({ scroll: scrollY }, ""), 200);
}, { passive: true });
addEventListener("weir:go", (event) => go(event.detail));

addEventListener("keydown", (event) => {
  if (event.target.closest?.("input, select, textarea, dialog") || event.metaKey || event.ctrlKey || event.altKey) return;
  const rows = [...document.querySelectorAll("tbody tr[tabindex]")];
  const at = rows.indexOf(document.activeElement);
  if (event.key === "j" || event.key === "k") {
    rows[Math.max(0, Math.min(rows.length - 1, at + (event.key === "j" ? 1 : -1)))]?.focus();
    event.preventDefault();
  } else if (event.key === "Enter" && at >= 0) {
    rows[at].click();
  } else if (event.key === "/") {
    document.querySelector("input[type=search], [data-slash]")?.focus();
    event.preventDefault();
  }
});

const spoken = (many) => `${count(many)} stream${many === 1 ? "" : "s"}`;
addEventListener("weir:active", ({ detail }) => {
  active = { many: detail, at: performance.now() };
  const told = document.querySelector("#health .streams");
  if (told) say(told, spoken(detail));
});

async function health() {
  const line = document.getElementById("health");
  if (document.hidden) return setTimeout(health, HEALTH_EVERY);
  try {
    const told = await get("/healthz");
    const dropped = Object.values(told.dropped).reduce((sum, lost) => sum + lost, 0);
    const lags = told.workers.map((worker) => worker.loop_lag).filter((lag) => lag !== null);
    const silent = told.workers.filter((worker) => worker.age > SILENT);
    const fine = told.status === "ok" && !silent.length;
    const workers = `${told.workers.length} worker${told.workers.length === 1 ? "" : "s"}`;
    fill(
      line,
      h("span", {}, h("span", { class: fine ? "dot" : "dot bad", "aria-hidden": "true" }, "● "), fine ? workers : told.workers.length ? `${workers}, ${silent.length ? "not all heard" : told.status}` : "no worker is heard"),
      silent.map((worker) => h("span", { class: "note" }, `worker ${worker.worker} silent for ${seconds(worker.age)}`)),
      h("span", { class: "streams" }, spoken(performance.now() - active.at < HEALTH_EVERY ? active.many : told.streams)),
      h("span", {}, `loop lag ${lags.length ? seconds(Math.max(...lags)) : NONE}`),
      h("span", { class: dropped ? "note" : "" }, `dropped ${count(dropped)}`),
      told.last_reload_error ? h("span", { class: "note", title: told.last_reload_error }, "config refused") : null,
    );
  } catch (error) {
    fill(line, h("span", {}, h("span", { class: "dot bad", "aria-hidden": "true" }, "● "), "the recorder does not answer"));
  }
  setTimeout(health, HEALTH_EVERY);
}

addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name !== "AbortError") toast(String(event.reason?.message ?? event.reason));
});
health();
show();
