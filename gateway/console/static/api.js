// Asks the admin API. Where it wants a token, the page asks for it once and keeps it for this tab alone.

const KEPT = "weir-admin-token";
const LIMIT = 5_000; // milliseconds that an answer may take which the recorder has at hand
const STORED = 30_000; // and one for which it reads its store
const AWAY = 10_000; // milliseconds out of sight after which a feed is closed: a browser has six connections to one place, for all tabs
let asking = null;

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const token = sessionStorage.getItem(KEPT);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** One answer; after a refusal, the one to the token that is asked for. Every try has `limit` milliseconds: nobody types by the clock. */
async function request(path, options = {}, limit = null) {
  const signals = [options.signal, limit && AbortSignal.timeout(limit)].filter(Boolean);
  const answer = await fetch(path, { cache: "no-store", ...options, headers: { ...headers(), ...options.headers }, signal: AbortSignal.any(signals) });
  if (answer.status === 401) {
    const refused = Boolean(sessionStorage.getItem(KEPT));
    asking ??= askForToken(refused).finally(() => (asking = null));
    await asking;
    return request(path, options, limit);
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Failure(answer.status, said.error ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

/** Ask for facts. A recorder that does not answer in time is a failure, which whoever asks again and again may get over. */
export async function get(path, signal) {
  const limit = /^\/api\/(streams|sample|traces)/.test(path) ? STORED : LIMIT;
  try {
    return await (await request(path, { signal }, limit)).json();
  } catch (error) {
    if (error.name === "TimeoutError") throw new Failure(0, "the recorder does not answer");
    throw error;
  }
}

export async function post(path, body = {}) {
  const options = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await request(path, options)).json();
}

/**
 * Read a feed of server-sent events until `signal` aborts; after a break it begins anew, with `onbreak` told in between.
 * A page out of sight lets go of its feed; `quiet`, if given, is milliseconds without an event after which the feed is taken for dead.
 */
export async function follow(path, onevent, onbreak, signal, quiet = null) {
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 5000)) {
    await inSight(signal);
    if (signal.aborted) return;
    const attempt = new AbortController();
    const leave = watch(attempt, signal, quiet);
    try {
      const answer = await request(path, { signal: attempt.signal });
      wait = 250;
      await events(answer.body, (event) => {
        leave.heard();
        onevent(event);
      });
    } catch (error) {
      if (signal.aborted) return;
      onbreak(error);
    } finally {
      leave();
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Abort one attempt at a feed when the page is left or hidden for a while, or nothing comes; returns what ends this watch. */
function watch(attempt, signal, quiet) {
  const abort = () => attempt.abort();
  let away = document.hidden ? setTimeout(abort, AWAY) : null;
  let silent = quiet && setTimeout(abort, quiet);
  const seen = () => {
    clearTimeout(away);
    away = document.hidden ? setTimeout(abort, AWAY) : null;
  };
  const leave = () => {
    clearTimeout(away);
    clearTimeout(silent);
    signal.removeEventListener("abort", abort);
    document.removeEventListener("visibilitychange", seen);
  };
  leave.heard = () => {
    clearTimeout(silent);
    silent = quiet && setTimeout(abort, quiet);
  };
  signal.addEventListener("abort", abort);
  document.addEventListener("visibilitychange", seen);
  return leave;
}

/** Wait until somebody can see the page, or leaves it. */
function inSight(signal) {
  if (!document.hidden) return null;
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}

async function events(body, onevent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n\n");
    rest = whole.pop();
    for (const event of whole) {
      const line = event.split("\n").find((part) => part.startsWith("data: "));
      if (line) onevent(JSON.parse(line.slice(6)));
    }
  }
}

function askForToken(refused) {
  const dialog = document.createElement("dialog");
  const form = Object.assign(document.createElement("form"), { method: "dialog" });
  const label = Object.assign(document.createElement("label"), { textContent: "Admin token" });
  const field = Object.assign(document.createElement("input"), { type: "password", autocomplete: "current-password", required: true });
  const send = Object.assign(document.createElement("button"), { textContent: "Open the console" });
  label.append(field);
  if (refused) {
    form.append(Object.assign(document.createElement("p"), { textContent: "That token was refused.", className: "refused", role: "alert" }));
    field.setAttribute("aria-invalid", "true");
  }
  form.append(label, send);
  dialog.append(form);
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEPT, field.value);
      dialog.remove();
      resolve();
    });
  });
}
