"""The pages of a server, in a real browser: the shop window, the operator's page, the description of the API.

With SEGUE_SCREENSHOTS=FOLDER each page leaves a picture of each size and scheme there.
"""

import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import segue
import segue.serve
from engines import missing, require
from segue.serve.http.auth import add_key
from served import Server, model
from tests_support import described_recommender

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
DANGEROUS = "<script>alert(1)</script> & <b>bold</b>"
IDS = [f"{i:03d}" for i in range(26)]


def films(path):
    """Write a model of 26 films with genres, years, prices and posters, which has learnt views and buys."""
    rng = np.random.default_rng(3)
    drawn = [*IDS, *(IDS[i] for i in (25 * rng.random(150) ** 2).astype(int))]
    log = pl.DataFrame({"item": drawn, "user": [f"{i % 9}" for i in range(176)], "time": range(176)})
    log = log.with_columns(type=pl.Series(["view", "view", "buy", "view"] * 44))
    titles = [DANGEROUS, *(f"film {item}" for item in IDS[1:20]), *(f"The sea of {item}" for item in IDS[20:])]
    table = {"item": IDS, "title": titles, "genre": ["Drama", "War"] * 13, "year": [*range(1980, 2006)]}
    table |= {"price": [9.5, 4.0] * 13, "poster": ["/page/icon.svg", "https://pictures.example/a.png"] * 13}
    described_recommender(segue.read_events(log), items=pl.DataFrame(table)).save(path)


@pytest.fixture(name="server", scope="module")
def a_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    films(folder / "b.segue")
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture(name="operated", scope="module")
def an_operated_server(tmp_path_factory):
    """A server with keys, a folder of models, and a model in the shadow; its model knows ratings in halves."""
    folder = tmp_path_factory.mktemp("operated")
    for name, seed in (("b", 5), ("c", 6), ("shadow", 7)):
        (folder / "models").mkdir(exist_ok=True)
        model(folder / "models" / f"{name}.segue", seed=seed, levels=(0.5, 1.0, 1.5))
    key = add_key(folder / "keys.json", "page", "admin")
    options = ("--models", folder / "models", "--keys", folder / "keys.json")
    server = Server(folder, *options, "--shadow", folder / "models/shadow.segue", name="models/b.segue")
    server.key = key
    yield server
    server.stop()


@pytest.fixture(name="window", scope="module")
def a_window():
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing("no selenium here")
    options = webdriver.ChromeOptions()
    options.binary_location = require("chromium", "chromium-browser", "google-chrome")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(require("chromedriver")))
    # what a page does every few seconds comes soon
    early = "{ const real = setInterval; window.setInterval = (work, every) => real(work, every / 20); }"
    window.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": early})
    yield window
    window.quit()


def opened(window, url, path="/", shown="#list .open"):
    """Open a page as somebody new, and wait until it shows something."""
    resize(window, "desktop", "light")
    window.get(url + path)
    window.execute_script("sessionStorage.clear()")
    window.get_log("browser"), window.get_log("performance")
    window.get(url + path)
    until(lambda: texts(window, shown))
    return window


@pytest.fixture(name="browser")
def a_browser(window, server):
    """A browser on the shop window, as somebody new."""
    opened(window, server.url)
    until(lambda: "Nothing yet" in texts(window, "#history")[0])
    return window


def resize(browser, size, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    width, height = SIZES[size]
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)
    return found


def texts(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
    return browser.execute_script(script, selector)


def value(browser, id):
    return browser.find_element("id", id).get_attribute("value")


def click(browser, selector, place=0):
    one = until(lambda: browser.find_elements("css selector", selector)[place : place + 1 or None])[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", one)
    one.click()


def write(browser, id, text):
    one = browser.find_element("id", id)
    one.clear()
    one.send_keys(text)


def history(browser):
    return texts(browser, "#history .title")


def open_item(browser, item):
    """Open an item that was found, as somebody does with a pointer, and wait for what is similar."""
    click(browser, f'.card[data-item="{item}"] .open')
    until(lambda: len(texts(browser, "#item .cards .open")) > 1)


def record(browser, item, kind="view"):
    """Record an event of one of the items, and wait until it is shown."""
    seen = len(history(browser))
    open_item(browser, item)
    browser.find_element("css selector", "#item select").send_keys(kind)
    click(browser, "#item .full")
    until(lambda: len(history(browser)) == seen + 1)


def find(browser, words, titles):
    """Search for words, and wait for as many results."""
    write(browser, "search", words)
    until(lambda: len(texts(browser, "#found .title")) == titles and texts(browser, "#results-title")[0] != "Popular")


def become(browser, name):
    write(browser, "user", name + "\n")


def complaints(browser):
    """Return what the console says: errors of the script, what the policy kept out, what the server refused."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] in ("WARNING", "SEVERE")]


def requested(browser):
    """Return the address of each request that was made since the page was opened, answered or not."""
    lines = [line["message"] for line in browser.get_log("performance")]
    found = [line.partition('"url":"')[2].partition('"')[0] for line in lines if 'Network.requestWillBeSent"' in line]
    return [address for address in found if address]


# --- the shop window --------------------------------------------------------------------------------------------


def test_search_filter_open_record_and_the_list_changes(browser, server):
    assert len(texts(browser, "#list .title")) == 12 and texts(browser, "#results-title") == ["Popular"]
    before = texts(browser, "#list .title")
    find(browser, "OF sea", 6)
    assert all(title.startswith("The sea of") for title in texts(browser, "#found .title"))
    click(browser, "#facets .choice", texts(browser, "#facets .choice span").index("War"))
    until(lambda: len(texts(browser, "#found .title")) == 3)
    assert value(browser, "filter") == 'genre = "War"'
    until(lambda: all("War" in text for text in texts(browser, "#list small")))
    browser.execute_script("document.querySelector('[data-facet=\"year from\"]').value = '2003'")
    browser.execute_script("document.querySelector('[data-facet=\"year from\"]').dispatchEvent(new Event('change'))")
    until(lambda: texts(browser, "#found .title") == ["The sea of 023", "The sea of 025"])
    assert value(browser, "filter") == 'genre = "War" and year >= 2003'
    click(browser, "#unfilter")
    until(lambda: len(texts(browser, "#found .title")) == 6)
    until(lambda: texts(browser, "#list .title") == before)

    open_item(browser, "021")
    assert texts(browser, "#item-title") == ["The sea of 021"] and "War" in texts(browser, "#item dd")
    assert server.call("GET", f"/v1/users/{value(browser, 'user')}")[0] == 404  # to look is no event
    browser.find_element("css selector", "#item select").send_keys("buy")
    click(browser, "#item .full")
    until(lambda: history(browser) == ["The sea of 021"])
    assert texts(browser, "#history small")[0].startswith("buy · ")
    assert texts(browser, "#list .title") != before and "The list changed" in texts(browser, "#news")[0]
    assert any(f" {way} " in f" {text} " for text in texts(browser, "#list .move .unseen") for way in ("up", "down"))
    kept = server.call("GET", f"/v1/users/{value(browser, 'user')}")[1]["events"]
    assert [(one["item"], one["type"]) for one in kept] == [("021", "buy")]

    until(lambda: any("Because of The sea of 021" in text for text in texts(browser, "#list .why")))
    click(browser, "#list .open")
    until(lambda: any("times as likely" in text for text in texts(browser, "#item .reasons li")))
    assert "The sea of 021" in texts(browser, "#item .reasons li")[0]
    click(browser, "#item .top .plain")
    click(browser, '[aria-label="Delete The sea of 021"]')
    until(lambda: texts(browser, "#list .title") == before)
    assert complaints(browser) == []


def test_a_title_is_text_wherever_it_stands(browser):
    record(browser, "000")
    assert history(browser) == [DANGEROUS]
    until(lambda: f"Because of {DANGEROUS}" in texts(browser, "#list .why"))
    open_item(browser, "000")
    assert texts(browser, "#item-title") == [DANGEROUS]
    assert browser.execute_script("return document.querySelectorAll('main script, main b, dialog b').length") == 0
    assert complaints(browser) == []
    for script in Path(segue.serve.__file__).parent.glob("static/*.js"):
        said = script.read_text()
        assert not [w for w in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(") if w in said], script


def test_events_recorded_in_a_hurry_are_sent_in_their_order_and_each_once(browser, server):
    name = value(browser, "user")
    browser.execute_script(
        "const real = fetch; let turn = 0; window.fetch = async (...all) => { const post = all[1].method === 'POST';"
        "  if (post && all[0] === '/v1/events' && !turn++) await new Promise((go) => setTimeout(go, 400));"
        "  const answer = await real(...all);"
        "  if (post && all[0] === '/v1/events' && turn === 4) { turn++; throw new TypeError('lost'); } return answer; }"
    )
    for item in ("001", "002", "004"):
        open_item(browser, item)
        click(browser, "#item .full")
    until(lambda: history(browser) == ["film 004", "film 002", "film 001"])
    open_item(browser, "008")
    click(browser, "#item .full")  # it is kept, and its answer is lost
    until(lambda: "cannot be reached" in texts(browser, "#trouble")[0])
    record(browser, "008")
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 4
    record(browser, "008")  # on purpose, once more
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 5


def test_a_name_that_is_half_typed_is_not_used_and_older_events_are_shown_on_request(browser, server):
    name = value(browser, "user")
    browser.find_element("id", "user").send_keys("-half")
    record(browser, "005")
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 1
    events = [{"user": "long", "item": IDS[n % 12], "time": 1_700_000_000 + n} for n in range(25)]
    server.call("POST", "/v1/events", {"events": events})
    become(browser, "long")
    until(lambda: len(history(browser)) == 20)
    click(browser, "#older")
    until(lambda: len(history(browser)) == 25)
    assert not browser.find_element("id", "older").is_displayed()


def focus(browser):
    """Return the id, the text and the label of what has the focus."""
    script = "const one = document.activeElement; return [one.id, one.textContent, one.getAttribute('aria-label')]"
    return browser.execute_script(script)


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)


def test_the_keyboard_is_enough_and_the_focus_is_not_lost(browser):
    first = texts(browser, "#list .title")[0]
    browser.execute_script("document.querySelector('#list .open').focus()")
    press(browser, "\ue007")  # enter
    until(lambda: texts(browser, "#item-title") == [first])
    assert focus(browser)[1] == "Close"
    press(browser, "\ue004", "b")  # tab to the type of the event
    press(browser, "\ue004")
    assert focus(browser)[1] == "Record it"
    press(browser, "\ue007")
    until(lambda: texts(browser, "#history small")[:1] and texts(browser, "#history small")[0].startswith("buy"))
    until(lambda: first in focus(browser)[1] or focus(browser)[0] == "list-title")
    browser.find_element("css selector", "#history .plain").send_keys("\ue007")
    until(lambda: focus(browser)[0] == "history-title")
    browser.execute_script("document.querySelector('.skip').focus()")
    press(browser, "\ue007")
    assert focus(browser)[0] == "main"


def test_a_refusal_is_told_and_stays_until_something_works(browser):
    write(browser, "filter", "colour = 1")
    click(browser, "#filter-form .plain")
    said = until(lambda: texts(browser, "#trouble")[0])
    assert said.startswith("Invalid request. ") and "colour" in said
    assert texts(browser, "#found") == ["Not shown: the search was not answered."]
    click(browser, "#unfilter")
    until(lambda: not browser.find_element("id", "trouble").is_displayed())


def live(browser):
    """Return what can be pressed of a user, or says something of one."""
    shown = "return ['erase', 'older'].filter(id => !document.getElementById(id).hidden)"
    return texts(browser, "#list button, #history button, #about:not(:empty)") + browser.execute_script(shown)


def test_of_somebody_erased_or_after_no_answer_nothing_is_shown_and_it_is_said(browser, server):
    record(browser, "003")
    name = value(browser, "user")
    server.call("DELETE", "/v1/users/gone")
    become(browser, "gone")
    until(lambda: "Erased on request" in texts(browser, "#trouble")[0])
    for place in ("#list", "#history"):
        assert texts(browser, place) == ["Nothing is shown: gone was erased, and the id is blocked."]
    assert live(browser) == []
    become(browser, name)
    until(lambda: history(browser) == ["film 003"])
    browser.execute_script("window.real = fetch; window.fetch = async () => { throw new TypeError('lost'); }")
    become(browser, "somebody")
    until(lambda: "cannot be reached" in texts(browser, "#trouble")[0])
    assert live(browser) == [] and "film 003" not in texts(browser, "#history")[0]
    browser.execute_script("window.fetch = real")
    become(browser, "somebody")
    until(lambda: "Nothing yet" in texts(browser, "#history")[0])


def test_who_comes_next_sees_nothing_of_a_slow_answer_to_the_one_before(browser, server):
    server.call("POST", "/v1/events", {"events": [{"user": "slow", "item": "001"}, {"user": "quick", "item": "002"}]})
    record(browser, "003")
    name = value(browser, "user")
    browser.execute_script(
        "const real = fetch; window.shown = []; window.fetch = async (...all) => { const answer = await real(...all);"
        "  if (/slow/.test(all[0] + all[1].body)) await new Promise((go) => setTimeout(go, 500)); return answer; };"
        "const at = (id) => document.getElementById(id);"
        "new MutationObserver(() => shown.push(at('user').value + ': ' + at('history').textContent))"
        "  .observe(at('history'), {childList: true})"
    )
    open_item(browser, "004")
    click(browser, "#item .full")  # is still that of the first
    become(browser, "slow")
    become(browser, "quick")
    until(lambda: history(browser) == ["film 002"])
    assert not [one for one in browser.execute_script("return shown") if one.startswith("quick") and "film 001" in one]
    assert [one["item"] for one in server.call("GET", f"/v1/users/{name}")[1]["events"]] == ["004", "003"]
    assert server.call("GET", "/v1/users/quick")[1]["count"] == 1


def test_the_question_whether_to_erase_is_of_whom_it_named(browser, server):
    record(browser, "003")
    name = value(browser, "user")
    click(browser, "#erase")
    click(browser, "dialog.ask .plain")
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 1
    click(browser, "#erase")
    server.call("POST", "/v1/events", {"user": "next", "item": "002"})
    browser.execute_script("document.getElementById('user').value = 'next'; document.forms.who.requestSubmit()")
    until(lambda: history(browser) == ["film 002"])
    assert name in texts(browser, "dialog.ask p")[0]
    click(browser, "dialog.ask .full")
    said = until(lambda: texts(browser, "#receipt")[0])
    assert said.startswith(f"{name}: 1 event erased.") and "is blocked" in said and "Backups" in said
    assert server.call("GET", f"/v1/users/{name}")[0] == 410 and history(browser) == ["film 002"]


# --- the operator -----------------------------------------------------------------------------------------------


@pytest.fixture(name="operator", scope="module")
def an_operator(window, operated):
    """A browser on the page of the operator, after the key was given; two users have events."""
    opened(window, operated.url, "/operator", "#access label")
    until(lambda: window.find_element("id", "access").is_displayed())
    assert "API key" in until(lambda: texts(window, "#trouble")[0])
    events = [{"user": user, "item": f"{n:03d}", "rating": 1.5} for user in ("ann", "bob") for n in range(1, 4)]
    headers = {"Authorization": f"Bearer {operated.key}"}
    assert operated.call("POST", "/v1/events", {"events": events}, headers)[0] == 200
    write(window, "key", operated.key + "\n")
    until(lambda: texts(window, "#status dd") and texts(window, "#recent .title"))
    assert not window.find_element("id", "access").is_displayed()
    window.get_log("browser")
    return window


def test_the_numbers_are_shown_with_intervals_and_refreshed_without_a_click(operator, operated):
    assert texts(operator, "#status dd")[0] == "ready"
    assert texts(operator, "#means dd")[3] == "6" and " % (" in texts(operator, "#means dd")[0]
    assert len(texts(operator, ".chart .dot")) == 1 and "6 events" in texts(operator, ".chart title")[0]
    routes = texts(operator, "#latency td:first-child")
    assert "/v1/events" in routes and texts(operator, "#latency td:nth-child(5)")[0].endswith(" ms")
    headers = {"Authorization": f"Bearer {operated.key}"}
    operated.call("POST", "/v1/events", {"user": "bob", "item": "005"}, headers)
    until(lambda: texts(operator, "#means dd")[3] == "7")
    until(lambda: "on the same 7 events" in texts(operator, "#shadow")[0])


def test_a_model_is_rolled_out_and_back_after_a_question(operator, operated):
    running = texts(operator, "#status dd")[1]
    click(operator, '[aria-label="Roll out c.segue"]')
    click(operator, "dialog.ask .full")
    until(lambda: texts(operator, "#status dd")[1] != running)
    click(operator, "#back")
    assert running in texts(operator, "dialog.ask p")[0]
    click(operator, "dialog.ask .full")
    until(lambda: texts(operator, "#status dd")[1] == running)
    until(lambda: operator.find_elements("css selector", '[aria-label="Roll out c.segue"]'))
    assert complaints(operator) == []


def test_rules_are_tried_for_a_user_before_they_are_saved(operator, operated):
    headers = {"Authorization": f"Bearer {operated.key}"}
    click(operator, "#add-rule")
    operator.find_element("css selector", "#rules select").send_keys("block")
    first = operated.call("GET", "/v1/recommend?user=ann&k=1", headers=headers)[1]["items"][0]
    operator.find_elements("css selector", "#rules input")[1].send_keys(first["item"])
    write(operator, "preview-user", "ann")
    click(operator, "#preview-form button")
    until(lambda: texts(operator, "#preview li"))
    now, then = (texts(operator, f"#preview .sides > div:nth-child({n}) li") for n in (1, 2))
    assert now[0].startswith(first["title"]) and not any(line.startswith(first["title"]) for line in then)
    assert operated.call("GET", "/v1/admin/rules", headers=headers)[1] == {"rules": []}
    click(operator, "#save-rules")
    click(operator, "dialog.ask .full")
    until(lambda: "saved" in texts(operator, "#news")[0])
    (rule,) = operated.call("GET", "/v1/admin/rules", headers=headers)[1]["rules"]
    assert (rule["kind"], rule["items"], rule["reach"]) == ("block", [first["item"]], 1)
    click(operator, '[aria-label="Remove rule 1"]')
    click(operator, "#save-rules")
    click(operator, "dialog.ask .full")
    until(lambda: operated.call("GET", "/v1/admin/rules", headers=headers)[1] == {"rules": []})


def test_scenarios_are_tried_for_a_user_before_they_are_saved(operator, operated):
    headers = {"Authorization": f"Bearer {operated.key}"}
    split = {"home": {"k": 2}, "wide": {"k": 3, "diversity": 0.3}}
    arms = {"scenario": "home", "arms": {"now": "home", "wide": "wide"}, "valid_from": "2020-01-01T00:00:00Z"}
    body = {"scenarios": split, "experiments": {"x": arms}}
    assert operated.call("PUT", "/v1/admin/scenarios", body, headers)[0] == 200
    operator.refresh()
    until(lambda: texts(operator, "#experiments .title") == ["Experiment x"])
    click(operator, "#add-scenario")
    name, settings = (operator.find_elements("css selector", f"#scenarios {tag}")[2] for tag in ("input", "textarea"))
    name.send_keys("mail")
    settings.clear()
    settings.send_keys('{"k": 4')
    click(operator, '#scenarios [aria-label="Preview scenario 3"]')
    assert "mail is not JSON" in until(lambda: texts(operator, "#trouble")[0])
    settings.send_keys("}")
    click(operator, '#scenarios [aria-label="Preview scenario 3"]')
    until(lambda: len(texts(operator, "#scenario-preview > div > div:nth-child(2) li")) == 4)
    click(operator, "#save-scenarios")
    click(operator, "dialog.ask .full")
    until(lambda: "scenarios are saved" in texts(operator, "#news")[0])
    kept = operated.call("GET", "/v1/scenarios", headers=headers)[1]
    assert {name: one["settings"] for name, one in kept["scenarios"].items()} == split | {"mail": {"k": 4}}
    assert kept["experiments"]["x"]["settings"] == arms  # to save scenarios keeps what else was set
    click(operator, '[aria-label="End the experiment x"]')
    click(operator, "dialog.ask .full")
    until(lambda: texts(operator, "#experiments .title") == [])


def test_a_user_is_found_and_erased_after_a_question(operator, operated):
    headers = {"Authorization": f"Bearer {operated.key}"}
    write(operator, "user", "ann\n")
    until(lambda: "3 events" in texts(operator, "#found-user")[0])
    click(operator, "#found-user .danger")
    click(operator, "dialog.ask .plain")
    assert operated.call("GET", "/v1/users/ann", headers=headers)[0] == 200
    click(operator, "#found-user .danger")
    click(operator, "dialog.ask .full")
    until(lambda: "ann: 3 events erased." in texts(operator, "#found-user")[0])
    assert operated.call("GET", "/v1/users/ann", headers=headers)[0] == 410
    until(lambda: texts(operator, "#recent .title") == ["bob"])
    write(operator, "user", "ann\n")
    until(lambda: "is blocked" in texts(operator, "#found-user")[0] and texts(operator, "#found-user button"))
    click(operator, "#found-user button")
    click(operator, "dialog.ask .full")
    until(lambda: "has no events" in texts(operator, "#found-user")[0])


def test_ratings_are_asked_for_as_the_model_knows_them(window, operated):
    opened(window, operated.url, "/", "#access label")
    write(window, "key", operated.key + "\n")
    until(lambda: texts(window, "#list .open"))
    open_item(window, "003")
    assert texts(window, "#item label:nth-of-type(2) option") == ["none", "0.5", "1", "1.5"]
    window.find_elements("css selector", "#item select")[1].send_keys("1.5")
    click(window, "#item .full")
    until(lambda: "rated 1.5" in (texts(window, "#history small") or [""])[0])


# --- every page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/operator", "/docs"])
def test_a_page_fits_every_screen_is_legible_and_asks_nobody_else(window, server, path):
    server.call("POST", "/v1/events", {"events": [{"user": "seen", "item": item} for item in ("000", "003")]})
    opened(window, server.url, path, {"/": "#list .open", "/operator": "#recent li"}.get(path, "article"))
    if path == "/":
        become(window, "seen")
        until(lambda: any(texts(window, "#list .why")))
        open_item(window, "000")
        until(lambda: texts(window, "#item .reasons li"))
    if path == "/operator":
        click(window, "#recent .plain")
        click(window, "#add-rule")
        until(lambda: texts(window, "#found-user li"))
    for size in SIZES:
        for scheme in ("light", "dark"):
            resize(window, size, scheme)
            keep(window, f"{path.strip('/') or 'shop'}-{size}-{scheme}")
            assert window.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
            assert window.execute_script(SMALL) == [], (size, scheme)
            assert window.execute_script(UNNAMED) == []
            faint = [text for text, contrast in window.execute_script(CONTRAST) if contrast < 4.5]
            assert faint == [], (size, scheme)
            ground = window.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (sum(int(part) for part in ground[4:-1].split(",")) < 300) == (scheme == "dark")
    addresses = requested(window)
    assert addresses and all(address.startswith(server.url + "/") for address in addresses)
    assert complaints(window) == []


#: Buttons and fields that a finger may miss; a box with its label counts as a whole.
SMALL = """
return [...document.querySelectorAll('button, input, select, summary, textarea')].filter((one) => one.offsetParent)
  .map((one) => one.type === 'checkbox' ? one.parentElement : one)
  .map((one) => [one.id || one.className || one.textContent, one.offsetWidth, one.offsetHeight])
  .filter((one) => one[1] < 44 || one[2] < 44);
"""
#: Fields without a label, and buttons without a name.
UNNAMED = """
return [...document.querySelectorAll('button, input, select, textarea')].filter((one) => one.offsetParent)
  .filter((one) => !(one.labels?.[0]?.textContent.trim() || one.getAttribute('aria-label') || one.textContent.trim()))
  .map((one) => one.outerHTML);
"""
#: Each text that can be seen, and its contrast (WCAG 2.2) with what it stands on; what is disabled is left out.
CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
  .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, n) => sum + c * [.2126, .7152, .0722][n], 0);
const ground = (one) => {
  const colour = parse(getComputedStyle(one).backgroundColor);
  return colour.length === 4 && colour[3] === 0 ? ground(one.parentElement) : colour;
};
return [...document.querySelectorAll('body *')].filter((one) => one.offsetParent && !one.disabled
  && !one.closest('.unseen') && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
  .map((one) => {
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    return [one.textContent.slice(0, 40), (a + .05) / (b + .05)];
  });
"""


def keep(browser, name):
    """Save a picture of the page, where pictures are wanted."""
    if folder := os.environ.get("SEGUE_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))
