// Scenarios of the shop: settings of lists under a name, tried for a user, saved together; experiments are shown and ended.

import { $, ask, button, confirmed, field, inTurn, make, percent, say, things } from "./server.js";

let scenarios = [], experiments = {}, saved = "";

const written = () => JSON.stringify(scenarios.map(({ name, text }) => [name, text]));

// The settings of a row as an object; an error where the text is no JSON object.
function settingsOf(one) {
  let found;
  try {
    found = JSON.parse(one.text || "{}");
  } catch (error) {
    throw Object.assign(new Error(error.message + "."), { title: "Scenario " + (one.name || "without a name") + " is not JSON" });
  }
  if (found === null || typeof found !== "object" || Array.isArray(found)) {
    throw Object.assign(new Error('Expected an object such as {"k": 5}.'), { title: "Scenario " + one.name });
  }
  return found;
}

export async function fillScenarios() {
  const found = await ask("GET", "/v1/scenarios");
  experiments = found.experiments;
  scenarios = Object.entries(found.scenarios).map(([name, one]) => ({ name, text: JSON.stringify(one.settings, null, 1), valid: one.valid }));
  saved = written();
  list();
}

function list() {
  const rows = scenarios.map(row);
  $("scenarios").replaceChildren(...(rows.length ? rows : [make("li", "none quiet", "No scenarios.")]));
  $("experiments").replaceChildren(...Object.entries(experiments).map(experiment));
  edited();
}

function edited() {
  $("save-scenarios").disabled = written() === saved;
  $("scenario-preview").replaceChildren();
}

function row(one, place) {
  const change = (part) => (event) => { one[part] = event.target.value; edited(); };
  const name = field("Name", "input", { value: one.name, maxLength: 128, spellcheck: false, oninput: change("name") });
  const text = field("Settings, as a request says them", "textarea", { value: one.text, rows: 3, spellcheck: false, placeholder: '{"k": 5, "where": "genre = \\"Drama\\""}', oninput: change("text") });
  const label = one.name || "scenario " + (place + 1);
  const tools = make("div", "tools", button("plain", "Preview", "Preview " + label, () => inTurn(() => preview(one))),
    button("plain danger", "Remove", "Remove " + label, () => { scenarios.splice(place, 1); list(); $("scenarios-title").focus({ preventScroll: true }); }),
    one.valid === false ? make("small", "", "does not hold now") : null);
  return make("li", "rule", make("div", "fields", name, text), tools);
}

function experiment([name, one]) {
  const arms = Object.entries(one.arms).map(([arm, of]) => arm + ": " + of + ", " + percent(one.shares[arm] ?? 0, 0) + " of the users").join("; ");
  const end = button("plain danger", "End", "End the experiment " + name, async () => {
    if (!await confirmed("End the experiment " + name + "?", "From the next list on, all users get the scenario that it split.", "End it", true)) return;
    await inTurn(async () => {
      await ask("DELETE", "/v1/admin/experiments/" + encodeURIComponent(name));
      await fillScenarios();
      $("scenarios-title").focus({ preventScroll: true });
    });
  });
  const words = make("span", "words", make("span", "title", "Experiment " + name), make("small", "", (one.scenario ? "splits " + one.scenario + ". " : "") + arms));
  return make("li", "line", words, end);
}

const titles = (answer) => make("ol", "", ...answer.items.map((one) => make("li", "", one.title || one.item)));

async function preview(one) {
  const { valid_from: from, valid_until: until, ...settings } = settingsOf(one), user = $("preview-user").value.trim();
  const [now, then] = await Promise.all([ask("POST", "/v1/recommend", { user }), ask("POST", "/v1/recommend", { ...settings, user })]);
  const notes = (then.notes || []).join(" ");
  $("scenario-preview").replaceChildren(make("div", "sides",
    make("div", "", make("h3", "", "Without a scenario"), titles(now)), make("div", "", make("h3", "", "In " + (one.name || "this scenario")), titles(then), make("p", "quiet", notes))));
}

async function save() {
  const settings = scenarios.map((one) => [one.name.trim(), settingsOf(one)]);
  if (!await confirmed("Save the scenarios?", things(scenarios.length, "scenario") + " for every request from now on, in place of " + things(JSON.parse(saved).length, "scenario") + ".", "Save")) return;
  const kept = Object.fromEntries(Object.entries(experiments).map(([name, one]) => [name, one.settings]));
  await ask("PUT", "/v1/admin/scenarios", { scenarios: Object.fromEntries(settings), experiments: kept });
  await fillScenarios();
  say("The scenarios are saved.");
  $("scenarios-title").focus({ preventScroll: true });
}

export function showScenarios() {
  $("add-scenario").addEventListener("click", () => {
    scenarios.push({ name: "", text: "{}" });
    list();
    $("scenarios").lastElementChild.querySelector("input").focus();
  });
  $("save-scenarios").addEventListener("click", () => inTurn(save));
}
