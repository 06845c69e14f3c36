// Buttons to other tools: the templates of `admin.links`, filled in with what a page shows. Only http and https lead anywhere.

import { get } from "./api.js";
import { h } from "./dom.js";

const AROUND = 60; // seconds shown before and after what is linked
let templates = null;

/** Fill one template; null when it names what is not known here, or would lead to anything but a web page. */
export function filled(template, known) {
  let whole = true;
  const address = template.replaceAll(/\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_, name) => {
    whole &&= known[name] !== undefined && known[name] !== null && known[name] !== "";
    return encodeURIComponent(known[name] ?? "");
  });
  if (!whole || !URL.canParse(address)) return null;
  return ["http:", "https:"].includes(new URL(address).protocol) ? address : null;
}

/** What a moment of unix seconds to another is for a template. */
export function span(from, to) {
  return { from_ms: Math.floor((from - AROUND) * 1000), to_ms: Math.ceil((to + AROUND) * 1000) };
}

/** Anchors for every template that all that it names is known for. */
export async function buttons(known, signal) {
  templates ??= (await get("/api/links", signal)).links;
  return Object.entries(templates).map(([name, template]) => {
    const href = filled(template, known);
    return href && h("a", { class: "plain button", href, target: "_blank", rel: "noopener noreferrer" }, `${name} ↗`);
  });
}
