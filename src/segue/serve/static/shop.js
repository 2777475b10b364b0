// The shop window: search, filters, a user's list, an item with what is similar, and what the user did.
//
// The page knows who asks, what was found last and attributes that it has met; it asks the server for all else. Who
// asks is an object, `page.me`, new at each change: what was begun for one before is done for them and not shown.

import { $, OVER, address, ask, button, confirmed, field, inTurn, keep, make, onKey, receipt, say, spaced, things, trouble, when } from "./server.js";
import { clearFilter, filterText, showFacets } from "./filters.js";

const LIST = 12, FOUND = 12, EXPLAINED = 4;
const page = {
  me: { name: "" }, model: "", ratings: [], types: [], places: null, events: [], next: null, count: 0, found: 0, asked: 0,
  sending: new Map(), // user and item -> id of an event that was sent and not acknowledged
  items: new Map(), // id -> title, attributes, whether lists may show it
};

const guest = () => "guest-" + Math.random().toString(36).slice(2, 6).padEnd(4, "0");
const here = (me) => "/v1/users/" + encodeURIComponent(me.name);
const known = (item) => page.items.get(item) || {};
const named = (item) => known(item).title || item;

// An id of an event. It stands until the event is acknowledged, so that what is sent again is not two events.
function idOf(of) {
  const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((one) => one.toString(16).padStart(2, "0")).join("");
  if (!page.sending.has(of)) page.sending.set(of, newId());
  return page.sending.get(of);
}

// Ask for one user. What comes when another has come is not shown, but for what could not be written.
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

// What is known of items: each is asked for once.
async function learn(ids) {
  const missing = [...new Set(ids)].filter((id) => !page.items.has(id)).slice(0, 100);
  if (!missing.length) return;
  const answer = await ask("GET", address("/v1/items", { id: missing, limit: 100 }));
  for (const one of answer.items) page.items.set(one.item, one);
  for (const id of answer.unknown) page.items.set(id, { item: id, title: null, attributes: {}, shown: false });
}

// Cards.

const PICTURE = /^(image|img|picture|photo|poster|cover|thumbnail)s?([ _-]?(url|path|file|link))?$/i;

// The address of an item's picture where this server may show it: of no other server anything is asked.
function pictureOf(item) {
  const name = Object.keys(known(item).attributes || {}).find((one) => PICTURE.test(one));
  if (!name) return null;
  try {
    const found = new URL([known(item).attributes[name]].flat()[0], location.origin);
    return found.origin === location.origin ? found.href : null;
  } catch {
    return null;
  }
}

function tile(item) {
  const address = pictureOf(item), made = make("span", "tile");
  made.setAttribute("aria-hidden", "true");
  if (address) {
    made.append(Object.assign(document.createElement("img"), { src: address, alt: "", loading: "lazy" }));
  } else {
    const words = named(item).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
    made.textContent = words.slice(0, 2).map((word) => [...word][0]).join("").toUpperCase() || "?";
    made.style.setProperty("--hue", [...item].reduce((sum, one) => (sum * 31 + one.codePointAt(0)) % 360, 7));
  }
  return made;
}

const shownValue = (value) => Array.isArray(value) ? value.join(", ") : typeof value === "number" ? String(+value.toFixed(2)) : String(value);

// What the catalogue says of an item beside title and picture.
function said(item) {
  const lines = Object.entries(known(item).attributes || {}).filter(([name]) => !PICTURE.test(name));
  return lines.map(([name, value]) => [name, shownValue(value)]);
}

// A value in few words: a number needs its name, a year does not.
const worded = (name, value) => Number.isFinite(Number(value)) && !/year/i.test(name) ? name + "\u00a0" + value : value;

function card(item, ...more) {
  const made = make("li", "card"), short = said(item).filter(([, value]) => value.length <= 40).slice(0, 3);
  const words = short.map(([name, value]) => worded(name, value));
  const open = button("open", "", "", () => openItem(item));
  open.append(tile(item), make("span", "words", make("span", "title", named(item)),
    make("small", "", words.join(" · ")), ...more));
  made.dataset.item = item;
  made.append(open);
  return made;
}

// The list of the user.

async function refresh(me) {
  const body = { user: me.name, k: LIST };
  if (filterText()) body.where = filterText();
  await showAll(me, await askAs(me, "POST", "/v1/recommend", body));
}

async function showAll(me, answer) {
  if (answer.model !== page.model) await meet(answer.model);
  await learn(answer.items.map((one) => one.item));
  if (me !== page.me) throw OVER;
  showList(answer);
  await Promise.all([showUser(me), page.count ? explainFirst(me) : null]);
}

// Learn which types of events and which ratings the model knows.
async function meet(model) {
  const status = await ask("GET", "/v1/status");
  Object.assign(page, { model, ratings: status.ratings, types: status.types });
}

function showList(answer) {
  const list = $("list"), before = page.places, items = answer.items.map((one) => one.item);
  const old = new Map([...list.children].map((row) => [row.dataset.item, row.getBoundingClientRect()]));
  const focus = document.activeElement.closest?.("#list .card")?.dataset.item;
  page.count = answer.count;
  page.places = new Map(items.map((item, place) => [item, place]));
  const none = make("li", "none quiet", filterText() ? "No item is left by this filter." : "The list is empty.");
  list.replaceChildren(...(items.length ? items.map((item, place) => card(item, moved(item, place, before), make("span", "why"))) : [none]));
  const about = [page.count ? "After " + things(page.count, "event") + " of " + page.me.name + "." : "Nothing is known of " + page.me.name + " yet: this is what everybody new is shown."];
  $("about").textContent = [...about, ...(answer.notes || [])].join(" ");
  if (before) say(news(items, before));
  if (focus) (list.querySelector(`[data-item="${CSS.escape(focus)}"] .open`) || $("list-title")).focus({ preventScroll: true });
  slide(list, old);
}

function moved(item, place, before) {
  if (!before || before.get(item) === place) return make("span", "move");
  if (!before.has(item)) return make("span", "move new", "new");
  const way = before.get(item) > place ? "up" : "down", by = Math.abs(before.get(item) - place);
  const arrow = make("span", "", (way === "up" ? "▲ " : "▼ ") + by);
  arrow.setAttribute("aria-hidden", "true");
  return make("span", "move " + way, arrow, make("span", "unseen", way + " " + by));
}

function news(items, before) {
  if (!items.length) return "The list is empty.";
  const fresh = items.filter((item) => !before.has(item)).length;
  const shifted = items.filter((item, place) => before.has(item) && before.get(item) !== place).length;
  if (!fresh && !shifted) return "The list is as it was.";
  return "The list changed: " + fresh + " new, " + shifted + " moved. First is " + named(items[0]) + ".";
}

function slide(list, old) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || !old.size) return;
  for (const row of list.children) {
    const from = old.get(row.dataset.item), to = row.getBoundingClientRect();
    const start = from ? { transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` } : { opacity: 0 };
    row.animate([start, {}], { duration: 300, easing: "cubic-bezier(.2, .7, .2, 1)" });
  }
}

// Why an item is in the list, in words: how much more likely each event made it.

const explain = (me, item, last) => askAs(me, "POST", "/v1/explain", { user: me.name, item, last });
const strongest = (found) => found.parts.filter((part) => Math.abs(part.change) >= 0.05).slice(0, 4);

async function explainFirst(me) {
  for (const row of [...$("list").querySelectorAll(".card")].slice(0, EXPLAINED)) {
    const found = await explain(me, row.dataset.item, 10);
    const first = found.parts.find((part) => part.change >= 0.05);
    if (!first || !row.isConnected) continue;
    await learn([first.event.item]);
    row.querySelector(".why").textContent = "Because of " + named(first.event.item);
  }
}

function reasons(found) {
  const lines = strongest(found).map((part) => {
    const times = Math.exp(Math.abs(part.change)), factor = (times < 10 ? times.toFixed(1) : Math.round(times)) + " times";
    const shared = part.shared.length ? ", which is also " + grouped(part.shared) : "";
    const way = part.change > 0 ? " as likely" : " less likely";
    return make("li", part.change > 0 ? "for" : "against", make("strong", "", named(part.event.item)), shared + ": makes it " + factor + way + ".");
  });
  if (lines.length) return [make("h3", "", "Why it is in your list"), make("p", "", "Because of what you did:"), make("ul", "reasons", ...lines)];
  return found.parts.length ? [make("p", "quiet", "None of your last events moves it much.")] : [];
}

// From "genres Action", "genres War", "price 9.5" to "Action, War; price 9.5".
function grouped(labels) {
  const groups = new Map();
  for (const label of labels) {
    const [, name, value] = label.match(/^(\S+) (.+)$/s) || [null, label, label];
    groups.set(name, [...(groups.get(name) || []), value]);
  }
  return [...groups].map(([name, values]) => values.map((one) => worded(name, one)).join(", ")).join("; ");
}

// One item: what it is, why it is in the list, what is similar, and a question before an event is recorded.

async function openItem(item) {
  const me = page.me, dialog = $("item");
  const title = make("h2", "", named(item)), why = make("div", "because"), similar = make("ul", "cards small");
  title.id = "item-title";
  const close = button("plain", "Close", "", () => dialog.close());
  const facts = make("dl", "facts", ...said(item).map(([name, value]) => make("div", "", make("dt", "", spaced(name)), make("dd", "", value))));
  const id = make("p", "quiet", "id " + item + (known(item).shown === false ? " · not shown in lists" : ""));
  dialog.replaceChildren(make("div", "top", tile(item), make("div", "", title, id), close), facts, recording(me, item), why,
    make("h3", "", "Similar"), similar);
  dialog.dataset.item = item;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  try {
    const [found, like] = await Promise.all([page.count ? explain(me, item, 20) : null, ask("GET", address("/v1/similar/" + encodeURIComponent(item), { k: 6 }))]);
    await learn([...like.items.map((one) => one.item), ...(found ? strongest(found) : []).map((part) => part.event.item)]);
    if (dialog.dataset.item !== item) return;
    if (found) why.replaceChildren(...reasons(found));
    similar.replaceChildren(...like.items.map((one) => card(one.item)));
  } catch (error) {
    if (error !== OVER) similar.replaceChildren(make("li", "quiet", (error.title || "Not shown") + ". " + error.message));
  }
}

function recording(me, item) {
  const types = page.types.length ? page.types : ["view", "click", "buy"]; // a model that learnt none reads none
  const type = field("What happened", "select", {}, ...types.map((one) => new Option(one, one)));
  const parts = [type];
  const rating = page.ratings.length ? field("Rating", "select", {}, new Option("none", ""), ...page.ratings.map((one) => new Option(one, one))) : null;
  if (rating) parts.push(rating);
  const record = button("full", "Record it", "", () => {
    const event = { user: me.name, item, type: type.field.value };
    if (rating?.field.value) event.rating = Number(rating.field.value);
    const of = JSON.stringify(event), id = idOf(of);
    $("item").close();
    inTurn(async () => {
      await ask("POST", "/v1/events", { ...event, id });
      if (page.sending.get(of) === id) page.sending.delete(of);
      if (me === page.me) await refresh(me);
    });
  });
  const form = make("form", "record", make("h3", "", "Record an event of " + me.name), make("div", "fields", ...parts, record));
  form.addEventListener("submit", (event) => event.preventDefault());
  return form;
}

// What the user did.

async function showUser(me) {
  const view = page.count ? await askAs(me, "GET", here(me) + "?limit=20") : { events: [], count: 0, next: null };
  await learn(view.events.map((one) => one.item));
  if (me !== page.me) throw OVER;
  Object.assign(page, { events: view.events, next: view.next, count: view.count });
  showHistory();
}

async function showOlder(me) {
  const view = await askAs(me, "GET", here(me) + "?limit=20&before=" + encodeURIComponent(page.next));
  await learn(view.events.map((one) => one.item));
  page.events.push(...view.events);
  page.next = view.next;
  page.count = view.events.length ? view.count : page.events.length;
  showHistory();
}

function showHistory() {
  const rows = page.events.map(done);
  if (!rows.length) rows.push(make("li", "none quiet", "Nothing yet. Open an item and record an event: the list changes at once."));
  $("history").replaceChildren(...rows);
  $("erase").hidden = !page.count;
  $("older").hidden = page.events.length >= page.count;
}

function done(event) {
  const me = page.me, words = [event.type, event.rating === undefined ? null : "rated " + event.rating, event.time === undefined ? null : when(event.time)];
  const title = make("span", "title", named(event.item));
  const remove = button("plain", "Delete", "Delete " + named(event.item), () => inTurn(async () => {
    await askAs(me, "DELETE", here(me) + "/events/by-seq/" + event.seq);
    await refresh(me);
    $("history-title").focus({ preventScroll: true });
  }));
  return make("li", "line", make("span", "words", title, make("small", "", words.filter(Boolean).join(" · "))), remove);
}

async function eraseMe(me) {
  if (!await confirmed("Erase everything?", "All that is kept of " + me.name + " is erased, and the id is blocked. What is erased cannot be brought back.", "Erase me", true)) return;
  await inTurn(async () => {
    const found = await ask("DELETE", here(me));
    $("receipt").replaceChildren(...receipt(me.name, found));
    if (me !== page.me) return;
    become(guest());
    await refresh(page.me);
    $("history-title").focus({ preventScroll: true });
  });
}

// Search and filters.

async function search(more = false) {
  const words = $("search").value.trim(), where = filterText(), number = ++page.asked;
  const query = { q: words, where, limit: FOUND, skip: more ? page.found : 0, facets: more ? undefined : true };
  let answer;
  try {
    answer = await ask("GET", address("/v1/items", query));
  } catch (error) {
    if (number === page.asked) showFound([], "Not shown: the search was not answered.");
    throw error;
  }
  if (number !== page.asked) return; // something else was asked meanwhile
  for (const one of answer.items) page.items.set(one.item, one);
  if (!more) showFacets(answer.facets, () => inTurn(changed));
  page.found = query.skip + answer.items.length;
  const cards = answer.items.map((one) => card(one.item));
  if (more) $("found").append(...cards);
  else showFound(cards, "No item has these words" + (where ? " under this filter." : "."));
  const narrowed = Boolean(words || where);
  $("results").classList.toggle("first", narrowed);
  $("results-title").textContent = narrowed ? things(answer.total, "result") : "Popular";
  $("more").hidden = page.found >= answer.total;
}

function showFound(cards, text) {
  $("found").replaceChildren(...(cards.length ? cards : [make("li", "none quiet", text)]));
  if (!cards.length) $("more").hidden = true;
}

async function changed() {
  page.places = null; // what moves in the list now moves by the filter, not by an event
  await search();
  await refresh(page.me);
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
  Object.assign(page, { places: null, next: null, events: [], count: 0 });
  for (const id of ["list", "history"]) $(id).replaceChildren(make("li", "none quiet", text));
  for (const id of ["erase", "older"]) $(id).hidden = true;
  for (const id of ["about", "news"]) $(id).textContent = "";
  $("item").close();
}

let pause;
$("search").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => search().then(() => trouble(null), trouble), 150);
});
$("filter-form").addEventListener("submit", (event) => { event.preventDefault(); inTurn(changed); });
$("unfilter").addEventListener("click", () => { clearFilter(); inTurn(changed); });
$("more").addEventListener("click", () => inTurn(() => search(true)));
$("older").addEventListener("click", () => { const me = page.me; inTurn(() => showOlder(me)); });
$("erase").addEventListener("click", () => eraseMe(page.me));
$("item").addEventListener("click", (event) => { if (event.target === $("item")) $("item").close(); });
$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  become($("user").value.trim() || guest());
  $("receipt").replaceChildren();
  const me = page.me;
  inTurn(() => refresh(me));
});
if (matchMedia("(min-width: 60rem)").matches) $("filters").open = true;
onKey(changed);
become(keep.getItem("segue-user") || guest());
inTurn(changed);
