// What the pages share: how they ask the server, ask for a key, say what went wrong, and make parts of a page.

export const $ = (id) => document.getElementById(id);
export const keep = sessionStorage;

let key = keep.getItem("segue-key") || "";
let afterKey = () => {};

// Asks the server; throws an error with a title, a message and the status where it refuses or is not there.
export async function ask(method, path, body) {
  const headers = key ? { Authorization: "Bearer " + key } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw Object.assign(new Error("Is it running?"), { title: "The server cannot be reached" });
  }
  const text = await answer.text();
  const json = answer.headers.get("Content-Type")?.includes("json") ? JSON.parse(text) : text;
  if (answer.ok) return json;
  if (answer.status === 401 || answer.status === 403) $("access").hidden = false;
  const title = json.title || "The server answered " + answer.status;
  throw Object.assign(new Error(json.detail || ""), { title, status: answer.status });
}

// An address with what stands behind its question mark; of a list each value, of nothing nothing.
export function address(path, query) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value !== undefined && value !== "")).toString();
  return text ? path + "?" + text : path;
}

// What is done happens in turn, so that no answer is overtaken by an older one.
let turn = Promise.resolve();

export function inTurn(work) {
  turn = turn.then(work).then(() => trouble(null), trouble);
  return turn;
}

export const OVER = new Error("what was asked is no longer shown");

export function trouble(error) {
  if (error === OVER) return;
  $("trouble").hidden = !error;
  $("trouble").replaceChildren();
  if (!error) return;
  const title = (error.title || "Something went wrong on this page").replace(/\.$/, "");
  $("trouble").append(make("p", "", make("strong", "", title + ". "), error.message));
  if (!error.title) console.error(error);
}

// After a key was given, `work` is done; where none is asked for it is done by the page itself.
export function onKey(work) {
  afterKey = work;
  $("access").addEventListener("submit", (event) => {
    event.preventDefault();
    key = $("key").value.trim();
    keep.setItem("segue-key", key);
    $("key").value = "";
    $("access").hidden = true;
    inTurn(afterKey);
  });
}

// Parts of a page. A string becomes a text node, whatever it says.

export function make(tag, name, ...inside) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...inside.filter((one) => one !== null && one !== undefined));
  return made;
}

export function button(name, text, label, work) {
  const made = make("button", name, text);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", (click) => { if (click.detail < 2) work(click); }); // the second of a double click is none
  return made;
}

// A field with its label above; `more` are properties of the field.
export function field(label, tag, more = {}, ...inside) {
  const made = Object.assign(make(tag, "", ...inside), more);
  const whole = make("label", "field", make("span", "", label), made);
  return Object.assign(whole, { field: made });
}

export function table(heads, rows) {
  const head = make("tr", "", ...heads.map((text) => Object.assign(make("th", "", text), { scope: "col" })));
  const body = rows.map((row) => make("tr", "", ...row.map((cell) => make("td", "", cell))));
  const wide = make("div", "wide", make("table", "", make("thead", "", head), make("tbody", "", ...body)));
  wide.tabIndex = 0;
  return wide;
}

// Asks in a dialog, and resolves to whether the answer was yes. Words of `text` are those of the caller.
export function confirmed(title, text, yes, danger = false) {
  const dialog = make("dialog", "ask");
  const heading = make("h2", "", title);
  const no = Object.assign(make("button", "plain", "Cancel"), { value: "", autofocus: true });
  const go = Object.assign(make("button", danger ? "full danger" : "full", yes), { value: "yes" });
  const form = make("form", "tools", no, go);
  heading.id = "ask-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  form.method = "dialog";
  dialog.append(heading, make("p", "", text), form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => { dialog.remove(); done(dialog.returnValue === "yes"); });
  });
}

export function say(text) { $("news").textContent = text; }

// Names, numbers and times in words.

export const spaced = (name) => name.replaceAll("_", " ");
export const things = (count, one) => count.toLocaleString("en") + " " + one + (count === 1 ? "" : "s");
export const percent = (share, digits = 1) => (100 * share).toFixed(digits) + " %";
export const when = (seconds) => new Date(seconds * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });

export function milliseconds(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  return seconds < 0.01 ? (1000 * seconds).toFixed(1) + " ms" : seconds < 1 ? Math.round(1000 * seconds) + " ms" : seconds.toFixed(1) + " s";
}

export function svg(tag, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

// The lines of a receipt of an erasure.
export function receipt(name, found) {
  const learnt = found.models.map((one) => one.model.slice(0, 12)).join(", ");
  const lines = [found.blocked, "What remains: " + found.remains, found.advice,
    "Models that may have learnt from it: " + (learnt || "none") + "."];
  return [make("p", "first", name + ": " + things(found.events, "event") + " erased."), ...lines.map((text) => make("p", "quiet", text))];
}
