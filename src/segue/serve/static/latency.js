// How long requests took, from the numbers for Prometheus: histograms by route.

// From the text to a list of { name, labels, value }.
function samples(text) {
  return [...text.matchAll(/^(segue_\w+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name, labels, value]) => ({
    name, value: Number(value), labels: Object.fromEntries([...(labels || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text])),
  }));
}

// Counts by upper bound, those of several workers together.
function histogram(all, name, route) {
  const bounds = new Map();
  for (const one of all) {
    if (one.name !== name + "_bucket" || (route !== undefined && one.labels.route !== route)) continue;
    const bound = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
    bounds.set(bound, (bounds.get(bound) || 0) + one.value);
  }
  return bounds;
}

// The value below which a share of the counts lies, interpolated within its bucket.
function quantile(bounds, share) {
  const sorted = [...bounds].sort(([a], [b]) => a - b), wanted = share * (sorted.at(-1)?.[1] || 0);
  let low = 0, below = 0;
  for (const [bound, count] of sorted) {
    if (count >= wanted && count > below) return bound === Infinity ? low : low + (bound - low) * (wanted - below) / (count - below);
    low = bound;
    below = count;
  }
  return NaN;
}

const less = (bounds, earlier) => new Map([...bounds].map(([bound, count]) => [bound, count - (earlier.get(bound) || 0)]));
const described = (bounds) => ({ count: bounds.get(Infinity) || 0, p50: quantile(bounds, 0.5), p95: quantile(bounds, 0.95), p99: quantile(bounds, 0.99) });

// The latencies by route, the most requests first; with an earlier text those since then.
export function latencies(text, earlier = "") {
  const all = samples(text), old = samples(earlier);
  const of = (name, route) => described(less(histogram(all, name, route), histogram(old, name, route)));
  const routes = [...new Set(all.filter((one) => one.name === "segue_request_seconds_count").map((one) => one.labels.route))];
  const errors = (from, route) => from.filter((one) => one.name === "segue_requests_total" && one.labels.route === route && /^[45]/.test(one.labels.status))
    .reduce((sum, one) => sum + one.value, 0);
  const found = routes.map((route) => ({ route, ...of("segue_request_seconds", route), errors: errors(all, route) - errors(old, route) }));
  return { routes: found.sort((a, b) => b.count - a.count), commit: of("segue_commit_seconds") };
}
