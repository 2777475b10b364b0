"""The page, in a real browser, on a real server."""

import os
import time
from pathlib import Path

import pytest

from engines import missing, require
from served import Server, bundle

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(name="server", scope="module")
def a_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    bundle(folder / "b.segue")
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture(name="browser", scope="module")
def a_browser():
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
    browser = webdriver.Chrome(options=options, service=Service(require("chromedriver")))
    yield browser
    browser.quit()


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
    browser.execute_script("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, place)


def keep(browser, name):
    if os.environ.get("SEGUE_SCREENSHOTS"):
        browser.save_screenshot(str(Path(os.environ["SEGUE_SCREENSHOTS"]) / f"{name}.png"))


def test_a_click_changes_the_list_and_a_delete_takes_it_back(browser, server):
    browser.set_window_size(*SIZES["desktop"])
    browser.get(server.url)
    until(lambda: len(texts(browser, "#list li")) == 10)
    until(lambda: "Nothing yet" in "".join(texts(browser, "#history li")))
    before = texts(browser, "#list .title")
    assert "<script>alert(1)</script> & <b>bold</b>" in texts(browser, "#found .title")
    browser.find_element("id", "search").send_keys("film 00")
    until(lambda: len(texts(browser, "#found li")) == 9)
    click(browser, "#found .watch", 2)
    until(lambda: texts(browser, "#history .title") == ["film 003"])
    assert texts(browser, "#list .title") != before
    assert any("▲" in move or "▼" in move for move in texts(browser, "#list .move"))
    until(lambda: "because of film 003" in texts(browser, "#why")[0])
    click(browser, "#found .star", 4)
    until(lambda: texts(browser, "#history .title")[:1] == ["film 001 ★★★★★"])
    until(lambda: "2" in texts(browser, "#quality dd"))
    assert "numbers of the state" in browser.find_element("id", "picture").get_attribute("aria-label")
    keep(browser, "desktop")
    click(browser, "#history .delete", 0)
    until(lambda: texts(browser, "#history .title") == ["film 003"])
    until(lambda: texts(browser, "#about")[0].startswith("1 events"))
    click(browser, "#forget")
    until(lambda: "Erased: 1." in texts(browser, "#receipt")[0])
    until(lambda: texts(browser, "#list .title") == before)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_it_fits_every_screen(browser, server, size, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    width, height = SIZES[size]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"},
    )
    browser.get(server.url)
    until(lambda: len(texts(browser, "#list li")) == 10)
    click(browser, "#found .watch", 1)
    until(lambda: len(texts(browser, "#history .title")) >= 1)
    keep(browser, f"{size}-{scheme}")
    assert browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth") <= 0
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(x) for x in ground[4:-1].split(",")) < 300) == (scheme == "dark")


def test_the_console_is_silent_and_nothing_from_elsewhere_is_asked_for(browser, server):
    browser.get(server.url)
    until(lambda: len(texts(browser, "#list li")) == 10)
    # A user of whom nothing is known is a 404 that the page takes for "nothing yet".
    log = [line for line in browser.get_log("browser") if line["level"] in ("WARNING", "SEVERE")]
    log = [line for line in log if "/v1/users/" not in line["message"]]
    assert log == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded and all(name.startswith(server.url) for name in loaded)
