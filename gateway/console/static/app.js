// The frame around every page: which page an address is, the health line, keys, and links that do not reload.

import { get } from "./api.js";
import { fill, h, toast } from "./dom.js";
import { count, seconds } from "./format.js";
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
let leaving = new AbortController();

/** Show the page of the current address. Every page gets the element it fills, what its address says, and a signal to stop at. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const found = PAGES.map(([pattern, page, name]) => [location.pathname.match(pattern), page, name]).find(([match]) => match);
  document.title = found ? `${found[2]} · Weir` : "Weir";
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.pathname === "/" ? location.pathname === "/" : location.pathname.startsWith(link.pathname);
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  if (!found) return fill(main, h("p", { class: "empty" }, "There is no such page. ", h("a", { href: "/" }, "See the live streams")));
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

async function health() {
  const line = document.getElementById("health");
  try {
    const told = await get("/healthz");
    const dropped = Object.values(told.dropped).reduce((sum, lost) => sum + lost, 0);
    const lag = Math.max(0, ...told.workers.map((worker) => worker.loop_lag ?? 0));
    const fine = told.status === "ok";
    fill(
      line,
      h("span", {}, h("span", { class: fine ? "dot" : "dot bad", "aria-hidden": "true" }, "● "), fine ? `${told.workers.length} worker${told.workers.length === 1 ? "" : "s"}` : told.status),
      h("span", {}, `${count(told.streams)} streams`),
      h("span", {}, `loop lag ${seconds(lag)}`),
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
