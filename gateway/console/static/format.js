// Figures as people read them: milliseconds below a second, seconds above; a dash for what is not known.

export const NONE = "–";

export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 0.0095) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(2)} s`;
  return value < 119.95 ? `${value.toFixed(1)} s` : long(value);
}

/** An age: whole and floored, since a second that has not passed is not one. */
export function age(value) {
  if (value === null || value === undefined) return NONE;
  return value < 120 ? `${Math.floor(Math.max(0, value))} s` : long(value);
}

/** "2 m 30 s", "3 h 5 m": from two minutes on, in whole units of which none is rounded up. */
function long(value) {
  const [passed, big, small, of] = value < 3600 ? [Math.floor(value + 0.05), "m", "s", 60] : [Math.floor(value / 60), "h", "m", 60];
  return passed % of ? `${Math.floor(passed / of)} ${big} ${passed % of} ${small}` : `${Math.floor(passed / of)} ${big === "m" ? "min" : big}`;
}

/** A share with as many digits as tell it from none and from all: 99.95 % is not 100 %, and 0.04 % is not nothing. */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return NONE;
  if (share === 0 || share === 1) return share ? "100 %" : "0.0 %";
  if (share > 0 && share < 0.0001) return "< 0.01 %";
  if (share > 0.9999 && share < 1) return "> 99.99 %";
  const away = Math.min(Math.abs(share), Math.abs(1 - share));
  const digits = away < 0.001 ? 2 : share < 0.0995 || away < 0.01 ? 1 : 0;
  return `${(share * 100).toFixed(digits)} %`;
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

/** Money to the cent, or to two significant digits where a cent is too coarse; never with an exponent. */
export function usd(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "$0";
  if (value < 0.000001) return "< $0.000001";
  if (value >= 1) return `$${value.toFixed(2)}`;
  const digits = Math.min(8, Math.max(2, 1 - Math.floor(Math.log10(value))));
  return `$${value.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
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
