// What two sets of figures say about each other, and how sure that is. Lists ascend; nothing here draws or asks.

const Z95 = 1.959964;

/** The value that a share `q` of a list is at or below; null of an empty list. */
export function quantile(sorted, q) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))] : null;
}

export function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

/** Wilson's interval of a share at 95 %, so that three of three is not "always". */
export function wilson(hits, all, z = Z95) {
  if (!all) return [null, null];
  const p = hits / all;
  const middle = (p + (z * z) / (2 * all)) / (1 + (z * z) / all);
  const half = (z / (1 + (z * z) / all)) * Math.sqrt((p * (1 - p)) / all + (z * z) / (4 * all * all));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** Two-sided p of a standard normal deviate (Abramowitz and Stegun 7.1.26: right to 1.5e-7). */
export function twoSided(z) {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  return Math.min(1, t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-x * x));
}

/**
 * Mann and Whitney's test: `share` is how often a value of `ones` is below one of `others`, ties counted half; `p` the chance of so
 * uneven a share were both the same (normal approximation, corrected for ties and continuity).
 */
export function mannWhitney(ones, others) {
  const [n, m] = [ones.length, others.length];
  if (!n || !m) return { share: null, p: 1 };
  let [below, equal, wins] = [0, 0, 0];
  for (const one of ones) {
    while (below < m && others[below] < one) below += 1;
    equal = Math.max(equal, below);
    while (equal < m && others[equal] <= one) equal += 1;
    wins += m - equal + (equal - below) / 2;
  }
  const all = n + m;
  const variance = ((n * m) / 12) * (all + 1 - ties([...ones, ...others]) / (all * (all - 1)));
  const off = Math.max(0, Math.abs(wins - (n * m) / 2) - 0.5);
  return { share: wins / (n * m), p: variance > 0 ? twoSided(off / Math.sqrt(variance)) : 1 };
}

function ties(values) {
  values.sort((one, other) => one - other);
  let sum = 0;
  for (let from = 0, to = 0; from < values.length; from = to) {
    while (to < values.length && values[to] === values[from]) to += 1;
    sum += (to - from) ** 3 - (to - from);
  }
  return sum;
}

/** Whether two shares differ: p of the pooled two-proportion test. */
export function proportions(hits, all, others, every) {
  if (!all || !every) return 1;
  const pooled = (hits + others) / (all + every);
  const spread = Math.sqrt(pooled * (1 - pooled) * (1 / all + 1 / every));
  return spread > 0 ? twoSided((hits / all - others / every) / spread) : 1;
}

/** [value, share at or below] of a list. */
export function steps(sorted) {
  return sorted.map((value, place) => [value, (place + 1) / sorted.length]);
}

/** The same of a histogram [[upper bound, count], ...]; what lies above every bound (null) counts, and is never reached. */
export function histogramSteps(bins) {
  const all = bins.reduce((sum, [, hits]) => sum + hits, 0);
  let sum = 0;
  return bins.filter(([bound]) => bound !== null).map(([bound, hits]) => [bound, (sum += hits) / all]);
}

/** The bound that a share `q` of a histogram's values is at or below. */
export function histogramQuantile(bins, q) {
  return histogramSteps(bins).find(([, share]) => share >= q)?.[0] ?? null;
}
