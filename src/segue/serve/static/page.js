"use strict";
// The page knows who asks, which list was shown last, and titles that it has met; it asks the server for all else.
// Who asks is an object, `page.me`, new at each change: what was begun for one before is done for them and not shown.

const $ = (id) => document.getElementById(id);
const keep = sessionStorage;
const page = {
  me: { name: "" }, model: "", ratings: [], leaving: null, key: keep.getItem("segue-key") || "", titles: new Map(JSON.parse(keep.getItem("segue-titles") || "[]")),
  places: null, picture: [], events: [], next: null, count: 0,
};

// Small things.

function make(tag, name, ...inside) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...inside); // a string becomes a text node, whatever it says
  return made;
}

function button(name, text, label, work) {
  const made = make("button", name, text);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", (click) => { if (click.detail < 2) work(); }); // the second of a double click is none
  return made;
}

// An id of an event. It stands until the event is acknowledged, so that what is sent again is not two events.
const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((one) => one.toString(16).padStart(2, "0")).join("");

const guest = () => "guest-" + Math.random().toString(36).slice(2, 6).padEnd(4, "0");
const signed = (number, digits) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(digits);
const things = (count, one) => count.toLocaleString() + " " + one + (count === 1 ? "" : "s");
const named = (item) => page.titles.get(item) || item;

function learn(items) {
  for (const { item, title } of items) if (title) page.titles.set(item, title);
  keep.setItem("segue-titles", JSON.stringify([...page.titles].slice(-500)));
}

// The server.

async function ask(method, path, body) {
  const headers = page.key ? { Authorization: "Bearer " + page.key } : {};
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw Object.assign(new Error("Is it running?"), { title: "The server cannot be reached" });
  }
  const json = await answer.json().catch(() => ({}));
  if (answer.ok) return json;
  if (answer.status === 401 || answer.status === 403) $("access").hidden = false;
  const title = json.title || "The server said " + answer.status;
  throw Object.assign(new Error(json.detail || ""), { title, status: answer.status });
}

const here = (me) => "/v1/users/" + encodeURIComponent(me.name);

// Ask for one user. What comes when another has come is not shown, but for what could not be written.
const OVER = new Error("somebody else is here now");

async function askAs(me, method, path, body) {
  let answer;
  try {
    answer = await ask(method, path, body);
  } catch (error) {
    if (me !== page.me && method === "GET") throw OVER;
    if (me === page.me && error.status === 410) clear("Nothing is shown: " + me.name + " was erased, and the id is blocked.");
    throw error;
  }
  if (me !== page.me) throw OVER;
  return answer;
}

// What somebody does happens in turn, so that no answer is overtaken by an older one.
let turn = Promise.resolve();

function inTurn(work) {
  turn = turn.then(work).then(() => trouble(null), trouble);
  return turn;
}

function trouble(error) {
  if (error === OVER) return;
  $("trouble").hidden = !error;
  $("trouble").replaceChildren();
  if (!error) return;
  const text = (error.title || "Something went wrong on this page").replace(/\.$/, "");
  $("trouble").append(make("p", "", make("strong", "", text + ". "), error.message));
  if (!error.title) console.error(error);
}

// The list, and what can be done to an item.

async function refresh(me) {
  const answer = await askAs(me, "GET", "/v1/recommend?k=10&user=" + encodeURIComponent(me.name));
  await showAll(me, answer);
}

async function ingest(me, event) {
  const answer = await askAs(me, "POST", "/v1/events?recommend=10", { user: me.name, type: "view", ...event });
  await showAll(me, answer);
}

async function showAll(me, answer) {
  if (answer.model !== page.model) await meet(answer.model);
  if (me !== page.me) throw OVER;
  showList(answer);
  const top = $("list").querySelector(".because");
  await Promise.all([showUser(me), showQuality(), page.count && top ? explain(me, top.closest("li"), top) : null]);
}

// Learn of the model that answers which ratings it knows: where it knows none, none are asked for.
async function meet(model) {
  const known = page.ratings.join();
  page.ratings = (await ask("GET", "/v1/status")).ratings;
  page.model = model;
  $("hint").textContent = page.ratings.length ? "Choose a title to watch it, or the star to rate it." : "Choose a title to watch it.";
  if (page.ratings.join() !== known) await search();
}

function showList(answer) {
  const list = $("list"), before = page.places, heights = new Map(), focus = document.activeElement;
  for (const row of list.children) heights.set(row.dataset.item, row.getBoundingClientRect().top);
  const held = list.contains(focus) ? { item: focus.closest("li").dataset.item, name: focus.classList[0] } : null;
  learn(answer.items);
  page.count = answer.count || 0;
  page.places = new Map(answer.items.map((one, place) => [one.item, place]));
  list.replaceChildren(...answer.items.map((one, place) => listed(one, place, before)));
  if (!answer.items.length) list.append(make("li", "none quiet", "There is nothing to show."));
  slide(list, heights);
  if (held) {
    const row = [...list.children].find((one) => one.dataset.item === held.item);
    ((row && row.getElementsByClassName(held.name)[0]) || $("next-title")).focus({ preventScroll: true });
  }
  if (before) $("news").textContent = news(answer.items, before);
  const said = [things(page.count, "event"), "model " + answer.model.slice(0, 12)];
  if (answer.rebuilding) said.push("being rebuilt");
  $("about").textContent = said.join(" · ");
}

function listed(one, place, before) {
  const row = offered(one.item), me = page.me;
  row.firstChild.prepend(make("span", "place", String(place + 1)));
  const because = button("because small", "Why", "Why " + named(one.item), () => inTurn(() => toggleWhy(me, row, because)));
  because.setAttribute("aria-expanded", "false");
  row.querySelector(".watch").after(moved(one.item, place, before), because);
  return row;
}

function moved(item, place, before) {
  if (!before) return make("span", "move");
  const old = before.get(item);
  if (old === undefined) return make("span", "move new", "new");
  if (old === place) return make("span", "move");
  const way = old > place ? "up" : "down", by = Math.abs(old - place);
  const mark = make("span", "", (way === "up" ? "▲" : "▼") + " " + by);
  mark.setAttribute("aria-hidden", "true");
  return make("span", "move " + way, mark, make("span", "unseen", way + " " + by));
}

function news(items, before) {
  if (!items.length) return "The list is empty.";
  const fresh = items.filter((one) => !before.has(one.item)).length;
  const shifted = items.filter((one, place) => before.has(one.item) && before.get(one.item) !== place).length;
  if (!fresh && !shifted) return "The list is as it was.";
  return "The list changed: " + fresh + " new, " + shifted + " moved. First is " + named(items[0].item) + ".";
}

function slide(list, heights) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of list.children) {
    const old = heights.get(row.dataset.item);
    const from = old === undefined ? { opacity: 0 } : { transform: "translateY(" + (old - row.getBoundingClientRect().top) + "px)" };
    if (heights.size) row.animate([from, {}], { duration: 320, easing: "cubic-bezier(.2, .7, .2, 1)" });
  }
}

function offered(item) {
  const row = make("li"), title = named(item);
  let id = newId(), of = page.me.name;
  const once = (event) => {
    const me = page.me;
    if (of !== me.name) [id, of] = [newId(), me.name]; // what was not acknowledged was of somebody else
    const sent = { item, id: id + (event.rating ?? ""), ...event };
    const done = () => { if (sent.id.startsWith(id)) id = newId(); };
    inTurn(() => ingest(me, sent).then(done, (error) => { if (error === OVER) done(); throw error; }));
  };
  const watch = button("watch title", title, "Watch " + title, () => once({}));
  row.dataset.item = item;
  row.append(make("div", "line", watch));
  if (page.ratings.length) {
    const rate = button("rate", "☆", "Rate " + title, () => toggleStars(row, rate, item, once));
    rate.setAttribute("aria-expanded", "false");
    watch.after(rate);
  }
  return row;
}

function toggleStars(row, rate, item, once) {
  const open = row.querySelector(".stars");
  rate.setAttribute("aria-expanded", String(!open));
  if (open) return open.remove();
  const stars = make("div", "stars");
  stars.setAttribute("role", "group");
  stars.setAttribute("aria-label", "Rate " + named(item));
  for (const given of page.ratings) {
    stars.append(button("star", "☆", things(given, "star"), () => {
      toggleStars(row, rate, item, once);
      rate.focus({ preventScroll: true });
      once({ rating: given });
    }));
  }
  const fill = (upTo) => [...stars.children].forEach((star, n) => { star.textContent = n <= upTo ? "★" : "☆"; });
  for (const kind of ["pointerover", "focusin"]) {
    stars.addEventListener(kind, (event) => fill([...stars.children].indexOf(event.target.closest(".star"))));
  }
  for (const kind of ["pointerleave", "focusout"]) stars.addEventListener(kind, () => fill(-1));
  row.firstChild.after(stars);
}

// Why an item is in the list.

async function toggleWhy(me, row, because) {
  const open = row.querySelector(".why");
  if (!open) return explain(me, row, because);
  open.remove();
  because.setAttribute("aria-expanded", "false");
}

async function explain(me, row, because) {
  const found = await askAs(me, "POST", "/v1/explain", { user: me.name, item: row.dataset.item });
  if (!row.isConnected) return; // the list has changed meanwhile
  learn(found.parts.map((part) => part.event));
  const parts = found.parts.filter((part) => Math.abs(part.change) >= 0.005).slice(0, 4).map((part) => {
    const by = make("span", part.change < 0 ? "by against" : "by for", signed(part.change, 2));
    const what = make("span", "", make("span", "item", named(part.event.item)));
    if (part.shared.length) what.append(" · also " + grouped(part.shared));
    return make("li", "", by, what);
  });
  const text = parts.length ? "Because of" : found.parts.length ? "None of your events moves it much." : "You have done nothing yet: everybody begins with this list.";
  const why = make("div", "why", text, make("ul", "", ...parts));
  row.querySelector(".why")?.remove();
  row.append(why);
  because.setAttribute("aria-expanded", "true");
}

// From "class Action", "class War", "year 1979" to "class Action, War; year 1979".
function grouped(labels) {
  const groups = new Map();
  for (const label of labels) {
    const [, name, value] = label.match(/^(\S+) (.+)$/s) || [null, label, ""];
    groups.set(name, [...(groups.get(name) || []), value]);
  }
  return [...groups].map(([name, values]) => (name + " " + values.join(", ")).trim()).join("; ");
}

// The user: history and state.

async function showUser(me) {
  const nobody = { events: [], picture: [], count: 0, next: null };
  const view = page.count ? await askAs(me, "GET", here(me) + "?limit=20") : nobody; // of nobody the server has nothing to say
  page.events = view.events;
  page.next = view.next;
  page.count = view.count;
  showHistory();
  showState(view);
}

async function showOlder(me) {
  const view = await askAs(me, "GET", here(me) + "?limit=20&before=" + encodeURIComponent(page.next));
  page.events.push(...view.events);
  page.next = view.next;
  page.count = view.events.length ? view.count : page.events.length;
  showHistory();
}

function showHistory() {
  const rows = page.events.map(done);
  const begin = "Nothing yet. Watch " + (page.ratings.length ? "or rate " : "") + "something: the list changes at once.";
  if (!rows.length) rows.push(make("li", "none quiet", begin));
  $("history").replaceChildren(...rows);
  $("forget").hidden = !page.count;
  $("older").hidden = page.events.length >= page.count;
}

function done(event) {
  if (event.title) learn([event]);
  const said = [], me = page.me;
  if (event.time !== undefined) said.push(new Date(event.time * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
  if (event.type && event.type !== "view") said.push(event.type);
  const title = make("span", "title", named(event.item));
  if (event.rating !== undefined) title.append(" ", rated(event.rating));
  title.append(make("small", "", said.join(" · ")));
  const remove = button("delete small", "Delete", "Delete " + named(event.item), () => inTurn(async () => {
    await askAs(me, "DELETE", here(me) + "/events/by-seq/" + event.seq);
    await refresh(me);
    $("history-title").focus({ preventScroll: true });
  }));
  return make("li", "", make("div", "line", title, remove));
}

function rated(rating) {
  const whole = Number.isInteger(rating) && rating >= 1 && rating <= 5;
  const mark = make("span", "given", whole ? "★".repeat(rating) : "★ " + rating);
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", "rated " + rating);
  return mark;
}

function showState(view) {
  const numbers = view.picture || [];
  $("state").hidden = !numbers.length;
  $("no-state").hidden = numbers.length > 0;
  if (!numbers.length) { page.picture = []; return; }
  const same = page.picture.length === numbers.length;
  const far = same && Math.sqrt(numbers.reduce((sum, one, n) => sum + (one - page.picture[n]) ** 2, 0) / numbers.length);
  page.picture = numbers;
  draw();
  const above = numbers.filter((one) => one > 0).length;
  $("picture").setAttribute("aria-label", numbers.length + " numbers between −1 and +1: " + above + " above zero, " + (numbers.length - above)
    + " not, from " + signed(Math.min(...numbers), 2) + " to " + signed(Math.max(...numbers), 2));
  const said = [things(view.state_bytes, "byte") + " hold " + things(view.count, "event") + "."];
  if (same) said.push("Moved by " + far.toFixed(2) + " since it was last shown.");
  $("size").textContent = said.join(" ");
}

function draw() {
  const numbers = page.picture, canvas = $("picture"), cell = 20, gap = 1;
  const wide = Math.ceil(Math.sqrt(numbers.length));
  canvas.width = wide * cell;
  canvas.height = Math.ceil(numbers.length / wide) * cell;
  const pen = canvas.getContext("2d"), colours = getComputedStyle(document.documentElement);
  numbers.forEach((value, n) => {
    const box = [(n % wide) * cell, Math.floor(n / wide) * cell, cell - gap, cell - gap];
    const shades = [["--zero", 1], [value < 0 ? "--minus" : "--plus", Math.min(1, Math.abs(value))]];
    for (const [name, share] of shades) {
      pen.globalAlpha = share;
      pen.fillStyle = colours.getPropertyValue(name);
      pen.fillRect(...box);
    }
  });
}

// Online metrics, and search.

async function showQuality() {
  const found = await ask("GET", "/v1/quality"), all = found.all?.all;
  const lines = [
    ["recall@10", all ? all["recall@10"].toFixed(3) : "–"], ["MRR@10", all ? all["mrr@10"].toFixed(3) : "–"],
    ["log-loss", all ? all.log_loss.toFixed(2) : "–"], ["events", (all ? all.n : 0).toLocaleString()],
  ];
  $("quality").replaceChildren(...lines.map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", value))));
  $("measured").textContent = "Was each event of all users in the list just before it?" + (found.sampled ? " Log-loss is from a sample." : "");
  $("shadow").textContent = besides(found);
}
function besides(found) {
  if (!found.shadow) return "";
  const { running, shadow } = found.shadow, pair = (name) => shadow[name].toFixed(3) + " against " + running[name].toFixed(3);
  return "In the shadow: model " + found.shadow_model.slice(0, 12) + ", recall@10 " + pair("recall@10") + ", MRR@10 " + pair("mrr@10")
    + " on the same " + things(shadow.n, "event") + ".";
}

function poll() {
  if (document.hidden || !$("access").hidden) return;
  showQuality().catch(() => { $("measured").textContent = "The server does not answer just now."; });
}

async function search() {
  const words = $("search").value.trim();
  const show = (text, rows) => $("found").replaceChildren(...(rows.length ? rows : [make("li", "none quiet", text)]));
  const over = () => words !== $("search").value.trim(); // more was typed meanwhile
  let found;
  try {
    found = await ask("GET", "/v1/items?limit=12&q=" + encodeURIComponent(words));
  } catch (error) {
    if (!over()) show("Not shown: the search was not answered.", []);
    throw error;
  }
  if (over()) return;
  learn(found.items);
  show("Nothing has this title or id.", found.items.map((one) => offered(one.item)));
  $("found").scrollTop = 0;
}

// The beginning.

function become(name) {
  page.me = { name };
  $("user").value = name;
  clear("Not shown yet.");
  keep.setItem("segue-user", name);
}

// Take away all that is of one user, with the buttons that would change it, and say why nothing is there.
function clear(text) {
  page.places = page.next = null;
  page.events = [];
  page.picture = [];
  page.count = 0;
  for (const id of ["list", "history"]) $(id).replaceChildren(make("li", "none quiet", text));
  for (const id of ["forget", "older", "state"]) $(id).hidden = true;
  $("no-state").hidden = false;
  for (const id of ["about", "size", "news"]) $(id).textContent = "";
}

function onSubmit(id, work) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    inTurn(work);
  });
}

let pause;
$("search").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => search().catch(trouble), 150);
});
$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  become($("user").value.trim() || guest());
  $("receipt").replaceChildren();
  const me = page.me;
  inTurn(() => refresh(me));
});
onSubmit("access", async () => {
  page.key = $("key").value.trim();
  keep.setItem("segue-key", page.key);
  $("key").value = "";
  $("access").hidden = true;
  await search();
  await refresh(page.me);
});
$("older").addEventListener("click", () => { const me = page.me; inTurn(() => showOlder(me)); });
$("forget").addEventListener("click", () => {
  page.leaving = page.me;
  $("sure-user").textContent = page.leaving.name;
  $("sure").returnValue = "";
  $("sure").showModal();
});
$("sure").addEventListener("close", () => { const me = page.leaving; if ($("sure").returnValue) inTurn(() => eraseMe(me)); });

async function eraseMe(me) {
  const receipt = await ask("DELETE", here(me));
  const learnt = receipt.models.map((one) => one.model.slice(0, 12)).join(", ");
  $("receipt").replaceChildren(
    make("p", "", me.name + ": " + things(receipt.events, "event") + " erased."), make("p", "quiet", receipt.blocked),
    make("p", "quiet", "What remains: " + receipt.remains), make("p", "quiet", receipt.advice),
    make("p", "quiet", "Models that may have learnt from it: " + (learnt || "none") + "."));
  if (me !== page.me) return;
  become(guest());
  await refresh(page.me);
  $("history-title").focus({ preventScroll: true });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
become(keep.getItem("segue-user") || guest());
inTurn(async () => { await search(); await refresh(page.me); });
setInterval(poll, 4000);
