// A metric over time: a dot and its 95 % confidence interval for each hour, and below it how many events it rests on.

import { make, percent, svg, things, when } from "./server.js";

const HIGH = 240, LEFT = 48, RIGHT = 8, TOP = 8, AXIS = 150, FOOT = 205;

const hour = (seconds) => new Date(seconds * 1000).toLocaleString("en", { month: "short", day: "numeric", hour: "numeric" });

// Returns a picture as wide as its place, so that its texts keep their size.
export function chart(series, metric, wide) {
  if (!series.length) return make("p", "quiet", "No event has been ranked since the start of the server.");
  const first = series[0].begin, hours = Math.max(1, (series.at(-1).begin - first) / 3600);
  const x = (begin) => LEFT + (wide - LEFT - RIGHT) * (series.length === 1 ? 0.5 : 0.02 + 0.96 * (begin - first) / 3600 / hours);
  const highest = Math.min(1, Math.max(...series.map((one) => one[metric + "_interval"][1])));
  const y = (share) => AXIS - (AXIS - TOP) * share / (highest || 1);
  const most = Math.max(...series.map((one) => one.n)), bar = Math.max(2, Math.min(24, 0.7 * (wide - LEFT - RIGHT) / (hours + 1)));
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${HIGH}`, role: "img", class: "chart" });
  picture.setAttribute("aria-label", metric + " by hour, " + when(first) + " to " + when(series.at(-1).begin) + "; the table below has the numbers.");
  for (const share of [0, highest / 2, highest]) {
    picture.append(svg("line", { x1: LEFT, x2: wide - RIGHT, y1: y(share), y2: y(share), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share, highest < 0.1 ? 1 : 0)));
  }
  picture.append(svg("polyline", { points: series.map((one) => x(one.begin) + "," + y(one[metric])).join(" "), class: "curve" }));
  for (const one of series) {
    const [low, high] = one[metric + "_interval"], at = x(one.begin), tall = 36 * one.n / most;
    const text = when(one.begin) + ": " + percent(one[metric]) + " (" + percent(low) + " to " + percent(high) + "), " + things(one.n, "event");
    picture.append(svg("g", {}, svg("title", {}, text),
      svg("line", { x1: at, x2: at, y1: y(low), y2: y(high), class: "whisker" }), svg("circle", { cx: at, cy: y(one[metric]), r: 4, class: "dot" }),
      svg("rect", { x: at - bar / 2, y: FOOT - tall, width: bar, height: Math.max(1, tall), class: "count" })));
  }
  picture.append(svg("text", { x: LEFT - 6, y: FOOT - 30, "text-anchor": "end" }, most.toLocaleString("en")), svg("text", { x: LEFT - 6, y: FOOT, "text-anchor": "end" }, "events"),
    svg("text", { x: series.length > 1 ? LEFT : x(first), y: HIGH - 12, "text-anchor": series.length > 1 ? "start" : "middle" }, hour(first)));
  if (series.length > 1) picture.append(svg("text", { x: wide - RIGHT, y: HIGH - 12, "text-anchor": "end" }, hour(series.at(-1).begin)));
  return picture;
}
