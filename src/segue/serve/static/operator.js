// The page of the operator: how the server does, models, rules, scenarios, users. Numbers are asked for anew every five seconds.

import { $, ask, address, button, confirmed, inTurn, make, milliseconds, onKey, percent, receipt, say, table, things, trouble, when } from "./server.js";
import { chart } from "./chart.js";
import { latencies } from "./latency.js";
import { fillRules, showRules } from "./rules.js";
import { fillScenarios, showScenarios } from "./scenarios.js";

const EVERY = 5000;
const page = { before: null, quality: null, previous: null };

const short = (model) => model.slice(0, 12);
const numbers = (id, pairs) => $(id).replaceChildren(...pairs.map(([name, value, kind = ""]) => make("div", kind, make("dt", "", name), make("dd", "", value))));
const interval = (one, name) => percent(one[name]) + " (" + percent(one[name + "_interval"][0]) + " to " + percent(one[name + "_interval"][1]) + ")";

// The server, its numbers, and how fast it answers.

async function showNumbers() {
  const [status, quality, text] = await Promise.all([ask("GET", "/v1/status"), ask("GET", "/v1/quality"), ask("GET", "/metrics")]);
  showStatus(status);
  showQuality(quality);
  showLatency(text);
}

function showStatus(status) {
  const ready = status.ready.ready;
  numbers("status", [
    ["state", ready ? "ready" : "not ready", ready ? "good" : "bad"], ["model", short(status.model)],
    ["items", status.items.toLocaleString("en")], ["out of stock", status.unavailable.toLocaleString("en")],
    ...(status.trends ? [["trends behind", Math.round(status.trends.behind) + " s"]] : []),
  ]);
  $("lists").textContent = [ready ? "" : status.ready.reason, status.lists].filter(Boolean).join(" ");
  $("rollout").textContent = status.rolling_out_to
    ? "Model " + short(status.rolling_out_to) + " is being rolled out: " + percent(status.caught_up, 0) + " of the users have followed."
    : "Model " + short(status.model) + " answers everybody.";
}

function showQuality(quality) {
  const all = quality.all?.all;
  page.quality = quality;
  numbers("means", [
    ["recall@10", all ? interval(all, "recall@10") : "–"], ["MRR@10", all ? interval(all, "mrr@10") : "–"],
    ["log-loss", all ? all.log_loss.toFixed(2) : "–"], ["events since the start", (all?.n ?? 0).toLocaleString("en")],
  ]);
  drawChart();
  const line = (group, name, one) => [group, name, interval(one, "recall@10"), interval(one, "mrr@10"), one.n.toLocaleString("en")];
  const rows = [
    ...quality.series.map((one) => line("hour", when(one.begin), one)).reverse(),
    ...["model", "type"].flatMap((group) => Object.entries(quality[group] || {}).map(([name, one]) => line(group, name, one))),
  ];
  if ($("groups").childElementCount === 0 || $("groups").closest("details").open) {
    $("groups").replaceChildren(table(["group", "value", "recall@10 (95 %)", "MRR@10 (95 %)", "events"], rows));
  }
  $("shadow").textContent = quality.shadow ? besides(quality) : "";
}

function besides({ shadow_model, shadow }) {
  const pair = (name) => percent(shadow.shadow[name]) + " against " + percent(shadow.running[name]);
  return "In the shadow: model " + short(shadow_model) + ", recall@10 " + pair("recall@10") + ", MRR@10 " + pair("mrr@10")
    + " on the same " + things(shadow.shadow.n, "event") + ".";
}

const drawChart = () => $("chart").replaceChildren(chart(page.quality.series, $("metric").value, Math.max(280, $("chart").clientWidth)));

function showLatency(text) {
  const now = latencies(text), at = Date.now();
  page.before = page.before || { text, at };
  const since = Math.round((at - page.before.at) / 1000), recent = since ? latencies(text, page.before.text) : null;
  const rows = now.routes.filter((one) => one.route.startsWith("/v1/")).map((one) => {
    const late = recent?.routes.find((other) => other.route === one.route);
    return [one.route, one.count.toLocaleString("en"), one.errors.toLocaleString("en"), milliseconds(one.p50), milliseconds(one.p95), milliseconds(one.p99),
      late?.count ? milliseconds(late.p95) : "–"];
  });
  $("latency").replaceChildren(table(["route", "requests", "4xx, 5xx", "p50", "p95", "p99", "p95, page open"], rows));
  const commits = now.commit.count ? "A commit: p95 " + milliseconds(now.commit.p95) + " of " + now.commit.count.toLocaleString("en") + ". " : "";
  $("latency-note").textContent = commits + "Since the start of the server; the last column since this page was opened, " + things(since, "second") + " ago. Quantiles are interpolated.";
}

// Models.

async function showModels() {
  const found = await ask("GET", "/v1/admin/models");
  page.previous = found.previous;
  $("back").hidden = !found.previous;
  const rows = found.models.map((one) => make("li", "line",
    make("span", "words", make("span", "title", one.name), make("small", "", when(one.modified) + " · " + (one.bytes / 1e6).toFixed(1) + " MB")),
    one.running ? make("span", "badge", "running") : button("plain", "Roll out", "Roll out " + one.name, () => rollOut(one.name))));
  const none = found.running ? found.running + " answers. Start the server with --models DIR to roll out others." : "Start the server with --models DIR to roll out models.";
  $("models").replaceChildren(...(rows.length ? rows : [make("li", "none quiet", none)]));
}

async function rollOut(name) {
  if (!await confirmed("Roll out " + name + "?", "Each user follows when their state has caught up. Until then the model of today answers them.", "Roll out")) return;
  await changeModel({ model: name }, name + " is being rolled out.");
}

async function rollBack() {
  if (!await confirmed("Roll back?", "Model " + short(page.previous) + " answers again.", "Roll back", true)) return;
  await changeModel({ roll_back: true }, "Rolled back to model " + short(page.previous) + ".");
}

const changeModel = (body, done) => inTurn(async () => {
  await ask("POST", "/v1/admin/model", body);
  say(done);
  await Promise.all([showModels(), showNumbers()]);
  $("models-title").focus({ preventScroll: true });
});

// Users.

async function showUsers(before) {
  const found = await ask("GET", address("/v1/admin/users", { limit: 10, before }));
  const rows = found.users.map((one) => make("li", "line", make("span", "title", one.user), button("plain", "Open", "Open user " + one.user, () => inTurn(() => openUser(one.user)))));
  if (before) $("recent").append(...rows);
  else $("recent").replaceChildren(...(rows.length ? rows : [make("li", "none quiet", "No user has events yet.")]));
  $("more-users").hidden = !found.next;
  $("more-users").dataset.before = found.next || "";
}

async function openUser(name) {
  $("user").value = name;
  let view;
  try {
    view = await ask("GET", "/v1/users/" + encodeURIComponent(name) + "?limit=10");
  } catch (error) {
    if (error.status !== 404 && error.status !== 410) throw error;
    const erased = error.status === 410;
    $("found-user").replaceChildren(make("p", "", name + (erased ? " was erased, and the id is blocked." : " has no events.")),
      make("div", "tools", erased ? button("plain", "Take the id again", "", () => readmit(name)) : button("plain danger", "Erase and block", "", () => erase(name))));
    return;
  }
  const rows = view.events.map((one) => make("li", "", make("span", "title", one.title || one.item), " ",
    make("small", "", [one.type, one.rating === undefined ? null : "rated " + one.rating, one.time === undefined ? null : when(one.time)].filter(Boolean).join(" · "))));
  $("found-user").replaceChildren(make("p", "", make("strong", "", view.user), ": " + things(view.count, "event") + ", a state of " + things(view.state_bytes, "byte") + "."),
    make("ul", "rows", ...rows), make("div", "tools", button("plain danger", "Erase this user", "", () => erase(view.user))));
}

async function erase(name) {
  if (!await confirmed("Erase " + name + "?", "All that is kept of this user is erased, and the id is blocked. What is erased cannot be brought back.", "Erase", true)) return;
  await inTurn(async () => {
    const found = await ask("DELETE", "/v1/users/" + encodeURIComponent(name));
    $("found-user").replaceChildren(...receipt(name, found));
    await showUsers();
    $("users-title").focus({ preventScroll: true });
  });
}

async function readmit(name) {
  if (!await confirmed("Take " + name + " again?", "Events under this id are accepted again. What was erased stays erased.", "Take it again")) return;
  await inTurn(async () => {
    await ask("DELETE", "/v1/users/" + encodeURIComponent(name) + "/block");
    await openUser(name);
  });
}

// The beginning.

async function begin() {
  await Promise.all([showNumbers(), showModels(), showUsers(), fillRules(), fillScenarios()]);
}

function poll() {
  if (document.hidden || !$("access").hidden) return;
  showNumbers().catch(() => { $("lists").textContent = "The server does not answer just now."; });
}

$("metric").addEventListener("change", drawChart);
$("back").addEventListener("click", rollBack);
$("more-users").addEventListener("click", () => inTurn(() => showUsers($("more-users").dataset.before)));
$("find-user").addEventListener("submit", (event) => {
  event.preventDefault();
  inTurn(() => openUser($("user").value.trim()));
});
onKey(begin);
showRules();
showScenarios();
inTurn(begin);
setInterval(poll, EVERY);
addEventListener("resize", () => { if (page.quality) drawChart(); });
