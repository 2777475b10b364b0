// The filters of the shop window: attributes of the items that were found, as conditions of the filter language.

import { $, field, make, spaced } from "./server.js";

const SHOWN = 8;
const WORDS = new Set(["and", "or", "not", "in", "is", "missing", "true", "false", "now", "user", "current"]);
const chosen = new Map(); // name -> Set of values, or { from, to, date }

const nameOf = (name) => /^[A-Za-z_]\w*$/.test(name) && !WORDS.has(name.toLowerCase()) ? name : "`" + name + "`";
const quoted = (value) => '"' + value.replaceAll("\\", "\\\\").replaceAll('"', '\\"') + '"';

export const filterText = () => $("filter").value.trim();

export function clearFilter() {
  chosen.clear();
  $("filter").value = "";
}

function condition([name, one]) {
  if (one instanceof Set) {
    const values = [...one].map(quoted);
    return nameOf(name) + (values.length === 1 ? " = " + values[0] : " in (" + values.join(", ") + ")");
  }
  const value = one.date ? quoted : (text) => String(Number(text));
  const sides = [one.from && " >= " + value(one.from), one.to && " <= " + value(one.to)].filter(Boolean);
  return sides.map((side) => nameOf(name) + side).join(" and ");
}

function write() {
  for (const [name, one] of chosen) if (one instanceof Set ? !one.size : !one.from && !one.to) chosen.delete(name);
  $("filter").value = [...chosen].map(condition).join(" and ");
}

// Show the attributes; `changed` is called when another value is chosen.
export function showFacets(facets, changed) {
  const focus = document.activeElement?.dataset?.facet;
  const open = new Set([...document.querySelectorAll("#facets details[open]")].map((one) => one.dataset.name));
  const shown = (facets || []).filter((one) => one.name !== "title" && one.kind !== "duration");
  $("facets").replaceChildren(...shown.map((one) => one.range ? span(one, changed) : values(one, changed, open)));
  $("active").textContent = filterText() ? "(on)" : "";
  if (focus) document.querySelector(`[data-facet="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}

function values(facet, changed, open) {
  const picked = chosen.get(facet.name) instanceof Set ? chosen.get(facet.name) : new Set();
  const there = new Set(facet.values.map((one) => one.value));
  const all = [...[...picked].filter((one) => !there.has(one)).map((value) => ({ value, items: 0 })), ...facet.values];
  const boxes = all.map(({ value, items }) => {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: picked.has(value) });
    box.dataset.facet = facet.name + "=" + value;
    box.addEventListener("change", () => {
      const set = chosen.get(facet.name) instanceof Set ? chosen.get(facet.name) : new Set();
      box.checked ? set.add(value) : set.delete(value);
      chosen.set(facet.name, set);
      write();
      changed();
    });
    return make("label", "choice", box, make("span", "", value), make("small", "", String(items)));
  });
  const group = make("fieldset", "", make("legend", "", spaced(facet.name)), ...boxes.slice(0, SHOWN));
  if (boxes.length > SHOWN) {
    const more = make("details", "", make("summary", "", "More"), ...boxes.slice(SHOWN));
    more.dataset.name = facet.name;
    more.open = open.has(facet.name);
    group.append(more);
  }
  return group;
}

const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

function span(facet, changed) {
  const date = facet.kind === "date", picked = chosen.get(facet.name) || { from: "", to: "", date };
  const [low, high] = facet.range.map((one) => date ? day(one) : String(+one.toFixed(2)));
  const side = (label, part, hint) => {
    const made = field(label, "input", { type: date ? "date" : "number", step: "any", value: picked[part], placeholder: hint });
    made.field.dataset.facet = facet.name + " " + part;
    made.field.addEventListener("change", () => {
      chosen.set(facet.name, { ...picked, [part]: made.field.value });
      write();
      changed();
    });
    return made;
  };
  return make("fieldset", "span", make("legend", "", spaced(facet.name)), make("div", "fields", side("from", "from", low), side("to", "to", high)));
}
