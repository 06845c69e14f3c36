// Builds and replaces pieces of the page. Text is always text: nothing that a stream says can become markup.

/** h("a", {href, onclick, class}, "text", node, ...): one element. Children that are null or false are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** A name that comes from outside: it keeps its direction to itself, and what cannot be seen in it is shown as ␦. `props` are h()'s. */
export function named(text, props = {}) {
  return h("bdi", props, String(text ?? "").replaceAll(/[\p{Cc}\p{Bidi_Control}]/gu, "␦"));
}

/** Put new content into an element. */
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
}

/** Change an element's text only when it differs, so that nothing is laid out anew for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Whether a button of the pointer, or the space bar, is down: the click comes when it is let go, and only if what it began on is still there.
let pressed = null;
const press = () => {
  if (pressed) return;
  pressed = {};
  pressed.over = new Promise((resolve) => (pressed.end = resolve));
};
const release = () => {
  const before = pressed;
  pressed = null;
  setTimeout(() => before?.end()); // the click itself comes after this event
};
addEventListener("pointerdown", (event) => event.button === 0 && press(), true);
addEventListener("pointermove", (event) => !event.buttons && release(), true); // let go where nobody could tell
addEventListener("keydown", (event) => event.key === " " && press(), true);
for (const kind of ["pointerup", "pointercancel", "keyup"]) addEventListener(kind, release, true);
addEventListener("blur", release); // the window's own: what loses the focus to a button that is pressed does not count

/** Wait until no button is down: what is drawn anew meanwhile would lose its click. */
export const unpressed = () => pressed?.over;

/** A short notice that leaves by itself. */
export function toast(text) {
  const note = h("p", {}, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

/** An id, shortened, that copies itself whole. */
export function copyable(id) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(id);
      toast("Copied");
    } catch {
      toast(id);
    }
  };
  return h("button", { class: "id", type: "button", title: `${id}: copy`, onclick: copy }, id.slice(0, 8));
}
