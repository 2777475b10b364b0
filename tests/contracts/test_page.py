"""The page, in a real browser, on a real server.

With SEGUE_SCREENSHOTS=FOLDER each size and scheme leaves a picture there.
"""

import os
import time
from pathlib import Path

import pytest

import segue.serve
from engines import missing, require
from segue.serve.http.auth import add_key
from served import Server, model

SIZES = {"desktop": (1280, 900), "tablet": (840, 1100), "phone": (360, 780)}
DANGEROUS = "<script>alert(1)</script> & <b>bold</b>"


@pytest.fixture(name="server", scope="module")
def a_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    model(folder / "b.segue", levels=(1.0, 2.0, 3.0, 4.0, 5.0))
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture(name="url", scope="module")
def an_url(server):
    return server.url


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
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(require("chromedriver")))
    yield window
    window.quit()


@pytest.fixture(name="browser")
def a_browser(window, url):
    """A browser on the page, as somebody new."""
    resize(window, "desktop", "light")
    window.get_log("browser")
    window.get(url)
    window.execute_script("sessionStorage.clear()")
    window.get(url)
    until(lambda: len(texts(window, "#list .title")) == 10)
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
        time.sleep(0.05)
    return found


def texts(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
    return browser.execute_script(script, selector)


def click(browser, selector, place=0):
    one = browser.find_elements("css selector", selector)[place]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", one)
    one.click()


def history(browser):
    script = "return [...document.querySelectorAll('#history .title')].map(one => one.firstChild.textContent)"
    return browser.execute_script(script)


def watch(browser, title):
    """Watch one of the items found, as somebody does with a pointer."""
    seen = len(history(browser))
    click(browser, f'#found [aria-label="Watch {title}"]')
    until(lambda: len(history(browser)) == seen + 1)
    until(lambda: texts(browser, "#list .why"))


def complaints(browser):
    """Return what the console says: errors of the script, what the policy kept out, what the server refused."""
    return [line for line in browser.get_log("browser") if line["level"] in ("WARNING", "SEVERE")]


def test_a_click_changes_the_list_and_a_delete_takes_it_back(browser):
    assert "Nothing yet" in texts(browser, "#history")[0]
    before = texts(browser, "#list .title")
    browser.find_element("id", "search").send_keys("film 00")
    until(lambda: len(texts(browser, "#found .title")) == 9)
    watch(browser, "film 003")
    assert history(browser) == ["film 003"]
    assert texts(browser, "#list .title") != before
    assert any(" up " in f" {move} " or "down" in move for move in texts(browser, "#list .move .unseen"))
    assert "The list changed" in texts(browser, "#news")[0]
    assert "Because of" in texts(browser, "#list .why")[0] and "film 003" in texts(browser, "#list .why .item")
    assert float(texts(browser, "#list .why .by")[0].replace("−", "-"))
    assert "86 numbers" in browser.find_element("id", "picture").get_attribute("aria-label")

    click(browser, '#found [aria-label="Rate film 001"]')
    click(browser, "#found .star", 3)
    until(lambda: history(browser) == ["film 001", "film 003"])
    assert texts(browser, "#history .given") == ["★★★★"]
    assert "2 events" in texts(browser, "#about")[0]
    assert "Moved by" in texts(browser, "#size")[0]

    click(browser, '#history [aria-label="Delete film 001"]')
    until(lambda: history(browser) == ["film 003"])
    assert "1 event ·" in texts(browser, "#about")[0]
    click(browser, "#forget")
    click(browser, "#keep")
    until(lambda: not browser.find_element("id", "sure").is_displayed())
    assert history(browser) == ["film 003"]
    click(browser, "#forget")
    click(browser, "#erase")
    until(lambda: "1 event erased" in texts(browser, "#receipt")[0])
    assert "Backups" in texts(browser, "#receipt")[0]
    until(lambda: texts(browser, "#list .title") == before)
    assert complaints(browser) == []


def test_live_quality_counts_each_event(browser):
    n = int(until(lambda: texts(browser, "#quality dd"))[3])
    watch(browser, "film 002")
    until(lambda: texts(browser, "#quality dd")[3] == str(n + 1))
    assert texts(browser, "#quality dt") == ["recall@10", "MRR@10", "log-loss", "events"]
    assert 0 <= float(texts(browser, "#quality dd")[0]) <= 1


def test_live_quality_is_refreshed_without_a_click(browser, server):
    n = int(until(lambda: texts(browser, "#quality dd"))[3])
    server.call("POST", "/v1/events", {"user": "another", "item": "003"})
    until(lambda: texts(browser, "#quality dd")[3] == str(n + 1))


def test_a_title_is_text_wherever_it_stands(browser):
    watch(browser, DANGEROUS)
    assert history(browser) == [DANGEROUS]
    until(lambda: DANGEROUS in texts(browser, "#list .why .item"))
    assert DANGEROUS in texts(browser, "#found .title")
    assert browser.execute_script("return document.querySelectorAll('main script, main b').length") == 0
    assert complaints(browser) == []
    script = (Path(segue.serve.__file__).parent / "static/page.js").read_text()
    assert not [word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(") if word in script]


def test_clicks_in_a_hurry_are_told_in_their_order_though_the_first_is_slow(browser):
    browser.execute_script(
        "const real = fetch; let turn = 0; window.fetch = async (...all) => {"
        "  await new Promise((go) => setTimeout(go, turn++ ? 0 : 500)); return real(...all); }"
    )
    for item in ("001", "002", "004"):
        click(browser, f'#found [aria-label="Watch film {item}"]')
    until(lambda: len(history(browser)) == 3)
    assert history(browser) == ["film 004", "film 002", "film 001"]
    assert "3 events" in texts(browser, "#about")[0]


def test_a_double_click_and_a_click_again_after_no_answer_are_one_event(browser, server):
    from selenium.webdriver import ActionChains

    name = browser.find_element("id", "user").get_attribute("value")
    for place in ("#found", "#list"):
        ActionChains(browser).double_click(browser.find_elements("css selector", f"{place} .watch")[3]).perform()
        time.sleep(0.5)
    until(lambda: len(history(browser)) == 2)
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 2
    browser.execute_script(
        "const real = fetch; let lost = false; window.fetch = async (...all) => { const answer = await real(...all);"
        "  if (!lost && all[1].method === 'POST') { lost = true; throw new TypeError('lost'); } return answer; }"
    )
    again = '#found [aria-label="Watch film 008"]'
    click(browser, again)
    until(lambda: "cannot be reached" in texts(browser, "#trouble")[0])
    click(browser, again)
    until(lambda: len(history(browser)) == 3)
    click(browser, again)  # on purpose, once more
    until(lambda: len(history(browser)) == 4)
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 4


def test_titles_of_what_was_done_come_from_the_server(browser):
    watch(browser, "film 003")
    browser.execute_script("sessionStorage.removeItem('segue-titles'); page.titles.clear()")
    browser.execute_script("inTurn(() => showUser(page.me))")
    until(lambda: history(browser) == ["film 003"])
    assert browser.execute_script("return page.titles.get('003')") == "film 003"


def test_a_name_that_is_half_typed_is_not_used(browser, server):
    name = browser.find_element("id", "user").get_attribute("value")
    browser.find_element("id", "user").send_keys("-half")
    watch(browser, "film 005")
    assert server.call("GET", f"/v1/users/{name}")[1]["count"] == 1
    browser.find_element("css selector", "#who button").click()
    until(lambda: "Nothing yet" in texts(browser, "#history")[0])


def test_older_events_are_shown_on_request(browser, server):
    events = [{"user": "long", "item": f"{n % 12:03d}", "time": 1_700_000_000 + n} for n in range(45)]
    server.call("POST", "/v1/events", {"events": events})
    user = browser.find_element("id", "user")
    user.clear()
    user.send_keys("long\n")
    until(lambda: len(history(browser)) == 20)
    click(browser, "#older")
    until(lambda: len(history(browser)) == 40)
    click(browser, "#older")
    until(lambda: len(history(browser)) == 45)
    assert not browser.find_element("id", "older").is_displayed()


def focus(browser):
    """Return the id, the name and the class of what has the focus."""
    script = "const one = document.activeElement; return [one.id, one.getAttribute('aria-label'), one.className]"
    return browser.execute_script(script)


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)


def test_the_keyboard_is_enough_and_the_focus_is_not_lost(browser):
    browser.find_element("id", "search").send_keys("film 00")
    until(lambda: len(texts(browser, "#found .title")) == 9)
    press(browser, "\ue004")  # tab
    assert focus(browser)[1] == "Watch film 001"
    press(browser, "\ue004")
    press(browser, "\ue007")  # enter
    press(browser, "\ue004")
    assert focus(browser)[1] == "1 star"
    press(browser, "\ue004")
    press(browser, "\ue007")
    until(lambda: texts(browser, "#history .given") == ["★★"])
    assert focus(browser)[1] == "Rate film 001"
    until(lambda: texts(browser, "#list .why"))
    item = browser.execute_script("return document.querySelector('#list li').dataset.item")
    browser.find_element("css selector", "#list .watch").send_keys("\ue007")
    until(lambda: len(history(browser)) == 2)
    stays = browser.execute_script(f"return document.querySelector('#list [data-item=\"{item}\"]') !== null")
    assert ("watch" in focus(browser)[2]) if stays else (focus(browser)[0] == "next-title")
    browser.find_element("css selector", "#history .delete").send_keys("\ue007")
    until(lambda: focus(browser)[0] == "history-title")


def test_a_refusal_is_told_and_stays_until_something_works(browser):
    watch(browser, "film 006")
    browser.execute_script("page.next = 'x'; $('older').hidden = false")
    click(browser, "#older")
    said = until(lambda: texts(browser, "#trouble")[0])
    assert said.startswith("Invalid request. ") and len(said) > 30
    time.sleep(4.5)  # the live quality is asked for meanwhile, and works
    assert texts(browser, "#trouble")[0] == said
    watch_again = browser.find_element("css selector", '#found [aria-label="Watch film 007"]')
    watch_again.click()
    until(lambda: not browser.find_element("id", "trouble").is_displayed())


def become(browser, name):
    user = browser.find_element("id", "user")
    user.clear()
    user.send_keys(name + "\n")


def live(browser):
    """Return what can be pressed of a user, or says something of one."""
    shown = "return ['forget', 'older', 'state'].filter(id => !document.getElementById(id).hidden)"
    return texts(browser, "#list button, #history button, #about:not(:empty)") + browser.execute_script(shown)


def test_of_somebody_erased_nothing_is_shown_and_it_is_said(browser, server):
    watch(browser, "film 003")
    name = browser.find_element("id", "user").get_attribute("value")
    server.call("DELETE", "/v1/users/gone")
    become(browser, "gone")
    until(lambda: "Erased on request" in texts(browser, "#trouble")[0])
    for place in ("#list", "#history"):
        assert texts(browser, place) == ["Nothing is shown: gone was erased, and the id is blocked."]
    assert live(browser) == []
    keep(browser, "desktop-light-erased")
    become(browser, name)
    until(lambda: history(browser) == ["film 003"])
    until(lambda: not browser.find_element("id", "trouble").is_displayed())
    server.call("DELETE", f"/v1/users/{name}")  # elsewhere, while the page shows them
    click(browser, "#history .delete")
    until(lambda: f"{name} was erased" in texts(browser, "#history")[0])
    until(lambda: live(browser) == [])


def test_after_no_answer_nothing_of_the_one_before_is_left(browser):
    watch(browser, "film 003")
    browser.execute_script("window.real = fetch; window.fetch = async () => { throw new TypeError('lost'); }")
    become(browser, "somebody")
    until(lambda: "cannot be reached" in texts(browser, "#trouble")[0])
    assert live(browser) == [] and "film 003" not in texts(browser, "#history")[0]
    browser.find_element("id", "search").send_keys("film 01")
    until(lambda: texts(browser, "#found") == ["Not shown: the search was not answered."])
    browser.execute_script("window.fetch = real")
    browser.find_element("id", "search").send_keys("1")
    until(lambda: texts(browser, "#found .title") == ["film 011"])
    become(browser, "somebody")
    until(lambda: "Nothing yet" in texts(browser, "#history")[0] and len(texts(browser, "#list .title")) == 10)


def test_who_comes_next_sees_nothing_of_a_slow_answer_to_the_one_before(browser, server):
    server.call("POST", "/v1/events", {"events": [{"user": "slow", "item": "001"}, {"user": "quick", "item": "002"}]})
    watch(browser, "film 003")
    name = browser.find_element("id", "user").get_attribute("value")
    browser.execute_script(
        "const real = fetch; window.shown = []; window.fetch = async (...all) => { const answer = await real(...all);"
        "  if (/slow|recommend=10/.test(all[0])) await new Promise((go) => setTimeout(go, 700)); return answer; };"
        "new MutationObserver(() => shown.push($('user').value + ': ' + $('history').textContent))"
        "  .observe($('history'), {childList: true})"
    )
    click(browser, '#found [aria-label="Watch film 004"]')  # is still that of the first
    become(browser, "slow")
    become(browser, "quick")
    assert live(browser) == []
    until(lambda: history(browser) == ["film 002"])
    assert not [one for one in browser.execute_script("return shown") if "film 001" in one or "film 003" in one]
    assert [one["item"] for one in server.call("GET", f"/v1/users/{name}")[1]["events"]] == ["004", "003"]
    assert server.call("GET", "/v1/users/quick")[1]["count"] == 1 and complaints(browser) == []
    click(browser, '#found [aria-label="Watch film 004"]')
    until(lambda: history(browser) == ["film 004", "film 002"])


def test_the_question_whether_to_erase_is_of_whom_it_named(browser, server):
    watch(browser, "film 003")
    name = browser.find_element("id", "user").get_attribute("value")
    click(browser, "#forget")
    server.call("POST", "/v1/events", {"user": "next", "item": "002"})
    browser.execute_script("become('next'); const me = page.me; inTurn(() => refresh(me))")
    until(lambda: history(browser) == ["film 002"])
    assert texts(browser, "#sure-user") == [name]
    click(browser, "#erase")
    said = until(lambda: texts(browser, "#receipt")[0])
    assert said.startswith(f"{name}: 1 event erased.") and "is blocked" in said
    assert server.call("GET", f"/v1/users/{name}")[0] == 410 and history(browser) == ["film 002"]


@pytest.mark.parametrize(
    ("levels", "labels"),
    [((), []), ((0.5, 1.0, 1.5), ["0.5 stars", "1 star", "1.5 stars"]), ((0.0, 1.0), ["0 stars", "1 star"])],
    ids=["none", "halves", "two"],
)
def test_ratings_are_asked_for_where_the_model_knows_them_and_as_it_does(window, tmp_path, levels, labels):
    model(tmp_path / "b.segue", levels=levels)
    server = Server(tmp_path)
    try:
        window.get(server.url)
        window.execute_script("sessionStorage.clear()")
        window.get(server.url)
        until(lambda: len(texts(window, "#list .title")) == 10 and len(texts(window, "#found .title")) == 12)
        until(lambda: "rate" in texts(window, "#hint")[0] if levels else texts(window, "#hint")[0])
        assert len(texts(window, "button.rate")) == (22 if levels else 0)
        if levels:
            click(window, "#found .rate")
            shown = "return [...document.querySelectorAll('.star')].map(one => one.getAttribute('aria-label'))"
            assert window.execute_script(shown) == labels
            click(window, "#found .star")
            until(lambda: texts(window, "#history .given") == [f"★ {levels[0]:g}"])
        assert ("rate" in texts(window, "#hint")[0]) == bool(levels)
    finally:
        server.stop()


def test_the_key_is_asked_for_where_the_server_asks_for_one(window, tmp_path):
    model(tmp_path / "b.segue")
    secret = add_key(tmp_path / "keys.json", "page", "write")
    model(tmp_path / "other.segue", seed=6)
    server = Server(tmp_path, "--keys", tmp_path / "keys.json", "--shadow", tmp_path / "other.segue")
    try:
        window.get(server.url)
        until(lambda: window.find_element("id", "access").is_displayed())
        assert "API key" in texts(window, "#trouble")[0]
        window.find_element("id", "key").send_keys(secret + "\n")
        until(lambda: len(texts(window, "#list .title")) == 10)
        until(lambda: not window.find_element("id", "access").is_displayed())
        until(lambda: texts(window, "#trouble")[0] == "")
        watch(window, "film 003")
        until(lambda: "on the same 1 event." in texts(window, "#shadow")[0])
        numbers = server.call("GET", "/metrics", headers={"Authorization": f"Bearer {secret}"})[1].decode()
        assert 'segue_live_events{group="shadow",value="shadow"} 1.0' in numbers
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_it_fits_every_screen(browser, size, scheme):
    resize(browser, size, scheme)
    watch(browser, DANGEROUS)
    watch(browser, "film 003")
    time.sleep(0.4)  # rows have come to rest
    click(browser, "#list .rate", 1)
    time.sleep(0.4)
    browser.execute_script("scrollTo(0, 0)")
    keep(browser, f"{size}-{scheme}")
    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
    small = (
        "return [...document.querySelectorAll('button, input')].filter(one => one.offsetParent).map(one => "
        "[one.id || one.className, one.offsetWidth, one.offsetHeight]).filter(one => one[1] < 44 || one[2] < 44)"
    )
    assert browser.execute_script(small) == []
    assert min(browser.execute_script(CONTRAST)) >= 4.5
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) < 300) == (scheme == "dark")
    assert complaints(browser) == []


#: The contrast (WCAG 2.2) of each text that can be seen with what it stands on.
CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
  .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, n) => sum + c * [.2126, .7152, .0722][n], 0);
const ground = (one) => {
  const colour = parse(getComputedStyle(one).backgroundColor);
  return colour.length === 4 && colour[3] === 0 ? ground(one.parentElement) : colour;
};
return [...document.querySelectorAll('body *')].filter((one) => one.offsetParent && !one.closest('.unseen')
  && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())).map((one) => {
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  });
"""


def keep(browser, name):
    """Save a picture of the whole page, where pictures are wanted."""
    if folder := os.environ.get("SEGUE_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))
        high = browser.execute_script("return document.documentElement.scrollHeight")
        wide = browser.execute_script("return innerWidth")
        sizes = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": wide < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
        browser.save_screenshot(str(Path(folder) / f"{name}-whole.png"))
        resize(browser, *name.split("-")[:2])


def test_nothing_from_elsewhere_is_asked_for(browser, url):
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded and all(name.startswith(url) for name in loaded)
