"use strict";
// What the page knows: a name, the list shown last. Everything else is asked of the server.
const $ = (id) => document.getElementById(id);
const shown = { places: new Map(), titles: new Map(), key: sessionStorage.getItem("segue-key") || "" };

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

async function ask(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (shown.key) headers.Authorization = "Bearer " + shown.key;
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const json = await answer.json().catch(() => ({}));
  if (answer.status === 401 || answer.status === 403) $("access").hidden = false;
  if (!answer.ok) throw Object.assign(new Error(json.detail || json.title || "The server said " + answer.status + "."), { status: answer.status });
  return json;
}

async function attempt(work) {
  try {
    await work();
    $("trouble").hidden = true;
  } catch (error) {
    $("trouble").textContent = error.status ? error.message : "The server cannot be reached.";
    $("trouble").hidden = false;
  }
}

const user = () => $("user").value.trim();
const here = () => "/v1/users/" + encodeURIComponent(user());
const named = (item) => shown.titles.get(item) || item;

function keepTitles(items) {
  for (const line of items) if (line.title) shown.titles.set(line.item, line.title);
}

function moved(item, place, first) {
  if (first) return element("span", "", "move");
  const before = shown.places.get(item);
  if (before === undefined) return element("span", "new", "move up");
  if (before === place) return element("span", "–", "move");
  const up = before > place;
  const mark = element("span", (up ? "▲ " : "▼ ") + Math.abs(before - place), up ? "move up" : "move down");
  mark.setAttribute("aria-label", (up ? "up " : "down ") + Math.abs(before - place));
  return mark;
}

function showList(answer) {
  const first = shown.places.size === 0;
  keepTitles(answer.items);
  $("list").replaceChildren(...answer.items.map((line, place) => {
    const row = element("li", undefined, "row");
    row.append(element("span", line.title || line.item, "title"), moved(line.item, place, first), button("Why", "plain", () => explain(line.item)), ...actions(line.item));
    return row;
  }));
  shown.places = new Map(answer.items.map((line, place) => [line.item, place]));
  $("about").textContent = (answer.count || 0) + " events, bundle " + answer.bundle.slice(0, 12) + (answer.rebuilding ? ", being rebuilt" : "");
}

function button(text, name, work) {
  const made = element("button", text, name);
  made.type = "button";
  made.addEventListener("click", () => attempt(work));
  return made;
}

function actions(item) {
  const stars = element("span");
  stars.setAttribute("role", "group");
  stars.setAttribute("aria-label", "Rate " + named(item));
  for (let stars_given = 1; stars_given <= 5; stars_given++) {
    const one = button("☆", "star", () => tell({ item, type: "view", rating: stars_given }));
    one.setAttribute("aria-label", stars_given + " of 5");
    stars.append(one);
  }
  return [button("Watch", "watch", () => tell({ item, type: "view" })), stars];
}

async function tell(event) {
  showList(await ask("POST", "/v1/events?recommend=10", { user: user(), ...event }));
  $("why").textContent = "";
  await Promise.all([showUser(), showQuality(), explain()]);
}

async function explain(item) {
  let found;
  try {
    found = await ask("POST", "/v1/explain", item ? { user: user(), item } : { user: user() });
  } catch (error) {
    if (error.status === 404) return;
    throw error;
  }
  const parts = found.parts.slice(0, 3).map((part) => named(part.event.item) + " " + (part.change < 0 ? "−" : "+") + Math.abs(part.change).toFixed(2)
    + (part.shared && part.shared.length ? " (" + part.shared.join(", ") + ")" : ""));
  $("why").textContent = parts.length ? (found.title || found.item) + ": because of " + parts.join("; ") + "." : "";
}

async function showUser() {
  let view;
  try {
    view = await ask("GET", here());
  } catch (error) {
    if (error.status !== 404) throw error;
    view = { events: [], picture: [], count: 0 };
  }
  $("history").replaceChildren(...view.events.map((event) => {
    const row = element("li", undefined, "row");
    const what = named(event.item) + (event.rating ? " " + "★".repeat(Math.round(event.rating)) : "");
    const when = event.time ? new Date(event.time * 1000).toLocaleString() : "";
    const remove = button("Delete", "plain delete", async () => {
      await ask("DELETE", here() + "/events/" + event.seq);
      await refresh();
    });
    remove.setAttribute("aria-label", "Delete " + named(event.item));
    row.append(element("span", what, "title"), element("span", when, "note"), remove);
    return row;
  }));
  if (!view.events.length) $("history").replaceChildren(element("li", "Nothing yet. Watch or rate something: the list changes at once.", "note"));
  $("forget").hidden = !view.events.length;
  draw(view.picture || []);
  $("size").textContent = view.state_bytes ? view.state_bytes.toLocaleString() + " bytes, the same after any history" : "";
}

function draw(numbers) {
  const side = Math.max(1, Math.ceil(Math.sqrt(numbers.length)));
  const pen = $("picture").getContext("2d");
  const cell = $("picture").width / side;
  pen.clearRect(0, 0, 256, 256);
  numbers.forEach((value, n) => {
    const share = Math.min(1, Math.abs(value));
    pen.fillStyle = value < 0 ? "rgba(201,79,58," + share + ")" : "rgba(47,104,214," + share + ")";
    pen.fillRect((n % side) * cell, Math.floor(n / side) * cell, cell, cell);
  });
  $("picture").setAttribute("aria-label", numbers.length ? numbers.length + " numbers of the state, blue above zero, red below" : "No state yet");
}

async function showQuality() {
  const all = ((await ask("GET", "/v1/quality")).all || {}).all;
  const lines = all ? [["events", all.n], ["recall@10", all["recall@10"].toFixed(3)], ["MRR@10", all["mrr@10"].toFixed(3)], ["log-loss", all.log_loss.toFixed(2)]] : [["events", 0]];
  $("quality").replaceChildren(...lines.flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]));
}

async function search() {
  const words = $("search").value.trim();
  const found = await ask("GET", "/v1/items?limit=12&q=" + encodeURIComponent(words));
  if (words !== $("search").value.trim()) return;
  keepTitles(found.items);
  $("found").replaceChildren(...found.items.map((line) => {
    const row = element("li", undefined, "row");
    row.append(element("span", line.title || line.item, "title"), ...actions(line.item));
    return row;
  }));
  if (!found.items.length) $("found").replaceChildren(element("li", "Nothing of that name.", "note"));
}

async function refresh() {
  showList(await ask("GET", "/v1/recommend?k=10&user=" + encodeURIComponent(user())));
  await Promise.all([showUser(), showQuality()]);
}

let pause;
$("search").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => attempt(search), 150);
});
$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("segue-user", user());
  shown.places = new Map();
  $("why").textContent = $("receipt").textContent = "";
  attempt(refresh);
});
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  shown.key = $("key").value.trim();
  sessionStorage.setItem("segue-key", shown.key);
  $("access").hidden = true;
  attempt(async () => { await search(); await refresh(); });
});
$("forget").addEventListener("click", () => attempt(async () => {
  const receipt = await ask("DELETE", here());
  $("receipt").textContent = "Erased: " + receipt.events + ". What remains: " + receipt.remains + " " + receipt.advice;
  const name = "guest-" + Math.random().toString(36).slice(2, 6);
  $("user").value = name;
  sessionStorage.setItem("segue-user", name);
  shown.places = new Map();
  $("why").textContent = "";
  await refresh();
}));
$("user").value = sessionStorage.getItem("segue-user") || "guest-" + Math.random().toString(36).slice(2, 6);
sessionStorage.setItem("segue-user", $("user").value);
attempt(async () => { await search(); await refresh(); });
setInterval(() => { if (!document.hidden) attempt(showQuality); }, 5000);
