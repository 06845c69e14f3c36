// Asks the admin API. Where it wants a token, the page asks for it once and keeps it for this tab alone.

const KEPT = "weir-admin-token";
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

async function request(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", ...options, headers: { ...headers(), ...options.headers } });
  if (answer.status === 401) {
    asking ??= askForToken().finally(() => (asking = null));
    await asking;
    return request(path, options);
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Failure(answer.status, said.error ?? `${answer.status} ${answer.statusText}`);
  }
  return answer;
}

export async function get(path, signal) {
  return (await request(path, { signal })).json();
}

export async function post(path, body = {}) {
  const options = { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await request(path, options)).json();
}

/** Read a feed of server-sent events until `signal` aborts; after a break it begins anew, with `onbreak` told in between. */
export async function follow(path, onevent, onbreak, signal) {
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 5000)) {
    try {
      const answer = await request(path, { signal });
      wait = 250;
      await events(answer.body, onevent);
    } catch (error) {
      if (signal.aborted) return;
      onbreak(error);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
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

function askForToken() {
  const dialog = document.createElement("dialog");
  const form = Object.assign(document.createElement("form"), { method: "dialog" });
  const label = Object.assign(document.createElement("label"), { textContent: "Admin token" });
  const field = Object.assign(document.createElement("input"), { type: "password", autocomplete: "current-password", required: true });
  const send = Object.assign(document.createElement("button"), { textContent: "Open the console" });
  label.append(field);
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
