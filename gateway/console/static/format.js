// Figures as people read them: milliseconds below a second, seconds above; a dash for what is not known.

export const NONE = "–";

export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 0.0095) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(2)} s`;
  if (value < 119.5) return `${value.toFixed(1)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return NONE;
  return `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

export function count(value) {
  if (value === null || value === undefined) return NONE;
  if (Math.abs(value) < 10000) return String(Math.round(value * 10) / 10).replace(/\.0$/, "");
  return value < 1e6 ? `${(value / 1e3).toFixed(1)}k` : `${(value / 1e6).toFixed(1)}M`;
}

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  return value < 1024 ** 2 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / 1024 ** 2).toFixed(1)} MiB`;
}

export function usd(value) {
  if (value === null || value === undefined) return NONE;
  return `$${value === 0 ? "0" : value < 0.01 ? value.toPrecision(2) : value.toFixed(2)}`;
}

/** Unix seconds as a time of day, with the date when it is not today's. */
export function clock(unix) {
  const at = new Date(unix * 1000);
  const time = at.toLocaleTimeString([], { hour12: false });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

/** How long ago, for people; the absolute time belongs into the title. */
export function ago(unix, now = Date.now() / 1000) {
  const passed = Math.max(0, now - unix);
  if (passed < 60) return `${Math.floor(passed)} s ago`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  return passed < 86400 ? `${Math.floor(passed / 3600)} h ago` : `${Math.floor(passed / 86400)} d ago`;
}

export const BLAME = { upstream: "U", client: "C", gateway: "G" };
