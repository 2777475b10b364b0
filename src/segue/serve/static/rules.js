// Rules of the shop: edited as a list, tried for a user, saved together.

import { $, ask, button, confirmed, field, inTurn, make, say, things } from "./server.js";

let rules = [], saved = "[]";

const plain = (rule) => ({ kind: rule.kind, where: rule.where || null, items: rule.items, by: rule.kind === "boost" ? rule.by : 0, name: rule.name });
const written = () => JSON.stringify(rules.map(plain));
const pairs = (where) => Object.entries(where).map(([name, value]) => "`" + name + "` in (" + [value].flat().map((one) => JSON.stringify(String(one))).join(", ") + ")").join(" and ");

export async function fillRules() {
  const found = await ask("GET", "/v1/admin/rules");
  rules = found.rules.map((rule) => ({ ...rule, where: typeof rule.where === "string" ? rule.where : pairs(rule.where) }));
  saved = written();
  list();
}

function list() {
  const rows = rules.map((rule, place) => row(rule, place));
  $("rules").replaceChildren(...(rows.length ? rows : [make("li", "none quiet", "No rules.")]));
  edited();
}

function edited() {
  $("save-rules").disabled = written() === saved;
  $("preview").replaceChildren();
}

function row(rule, place) {
  const change = (work) => (event) => { work(event.target.value); edited(); };
  const kinds = ["pin", "block", "boost"].map((kind) => new Option(kind, kind, false, kind === rule.kind));
  const kind = field("Kind", "select", { onchange: (event) => { rule.kind = event.target.value; by.hidden = rule.kind !== "boost"; edited(); } }, ...kinds);
  const where = field("Filter", "input", { value: rule.where, spellcheck: false, placeholder: 'genre = "Comedy"', oninput: change((text) => { rule.where = text.trim(); }) });
  const items = field("Ids of items", "input", { value: rule.items.join(", "), spellcheck: false, placeholder: "17, 42", oninput: change((text) => { rule.items = text.split(",").map((id) => id.trim()).filter(Boolean); }) });
  const by = field("Boost by", "input", { type: "number", step: 0.1, value: rule.by, oninput: change((text) => { rule.by = Number(text); }) });
  const name = field("Name", "input", { value: rule.name, maxLength: 128, oninput: change((text) => { rule.name = text; }) });
  by.hidden = rule.kind !== "boost";
  const move = (to) => { rules.splice(to, 0, ...rules.splice(place, 1)); list(); $("rules").children[to]?.querySelector("select").focus(); };
  const up = button("plain", "Up", "Move rule " + (place + 1) + " up", () => move(place - 1));
  up.disabled = place === 0;
  const remove = button("plain danger", "Remove", "Remove rule " + (place + 1), () => { rules.splice(place, 1); list(); $("rules-title").focus({ preventScroll: true }); });
  const reach = rule.reach === undefined ? null : make("small", "", things(rule.reach, "item"));
  return make("li", "rule", make("div", "fields", kind, where, items, by, name), make("div", "tools", up, remove, reach));
}

function titles(answer, other) {
  const before = new Map(other.items.map((one, place) => [one.item, place]));
  return make("ol", "", ...answer.items.map((one, place) => {
    const old = before.get(one.item), said = Object.keys(answer.debug?.[one.item] || {});
    const move = old === undefined ? "new" : old === place ? "" : (old > place ? "▲ " : "▼ ") + Math.abs(old - place);
    return make("li", "", one.title || one.item, " ", make("small", "move", [move, ...said].filter(Boolean).join(" · ")));
  }));
}

async function preview() {
  const found = await ask("POST", "/v1/admin/rules/preview", { user: $("preview-user").value.trim(), rules: rules.map(plain) });
  found.rules.forEach((rule, place) => { rules[place].reach = rule.reach; });
  $("preview").replaceChildren(make("div", "sides",
    make("div", "", make("h3", "", "Now"), make("ol", "", ...found.before.items.map((one) => make("li", "", one.title || one.item)))),
    make("div", "", make("h3", "", "With these rules"), titles(found.after, found.before))),
  make("p", "quiet", "These rules are about " + (found.rules.map((rule) => (rule.name || rule.kind) + ": " + things(rule.reach, "item")).join("; ") || "nothing") + "."));
}

async function save() {
  if (!await confirmed("Save the rules?", things(rules.length, "rule") + " for every list from now on, in place of " + things(JSON.parse(saved).length, "rule") + ".", "Save")) return;
  await inTurn(async () => {
    await ask("PUT", "/v1/admin/rules", { rules: rules.map(plain) });
    await fillRules();
    say("The rules are saved.");
    $("rules-title").focus({ preventScroll: true });
  });
}

export function showRules() {
  $("add-rule").addEventListener("click", () => {
    rules.push({ kind: "pin", where: "", items: [], by: 0.7, name: "" });
    list();
    $("rules").lastElementChild.querySelector("select").focus();
  });
  $("save-rules").addEventListener("click", save);
  $("preview-form").addEventListener("submit", (event) => { event.preventDefault(); inTurn(preview); });
}
