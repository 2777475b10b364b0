"""The server as a process: what is refused at the start, signals, keys from the command line."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from unittest import mock

import pytest
from rich.console import Console
from typer.testing import CliRunner

from segue.cli import app as cli
from segue.cli import demo
from segue.errors import ArgumentError, ModelError, NotFoundError
from segue.serve.http import shutdown
from segue.serve.http.auth import KeyRing, add_key, read_keys, remove_key
from segue.serve.http.limits import Rates
from segue.serve.server import RATE, Settings
from tests_support import small_recommender


@pytest.fixture(name="model")
def a_model(tmp_path):
    path = tmp_path / "b.segue"
    small_recommender().save(path)
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_an_address_that_others_reach_needs_keys(model, host):
    with pytest.raises(ArgumentError, match="--keys"):
        Settings(model, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_alone_needs_none(model, host):
    access = Settings(model, host=host).access()
    assert access.keys is None
    assert access.rates.rate == 0


def test_others_are_bounded_and_named(model, tmp_path):
    add_key(tmp_path / "k.json", "web", "read")
    access = Settings(model, host="0.0.0.0", keys=tmp_path / "k.json", allow_host=("Shop.example",)).access()
    assert access.rates.rate == RATE
    assert "shop.example" in access.hosts
    assert "*" not in access.hosts


def test_the_model_lies_in_the_folder_of_bundles(model, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(ArgumentError, match="--models"):
        Settings(model, models=tmp_path / "other")
    assert Settings(model).in_force() == (model, "")
    assert Settings(model, models=model.parent).in_force() == (model, "")
    (tmp_path / "many").mkdir()
    with pytest.raises(ModelError, match=r"expected a model in it, found none"):
        Settings(tmp_path / "many").in_force()
    other = tmp_path / "many" / "b.segue"
    other.touch()
    assert Settings(tmp_path / "many").in_force() == (other, f", the newest in {tmp_path / 'many'}")
    (tmp_path / "many" / "current").write_text("b.segue")
    assert Settings(tmp_path / "many" / "a.segue", models=tmp_path / "many").in_force()[0] == other
    with pytest.raises(ArgumentError, match="--rate"):
        Settings(model, rate=-1)


def test_a_rate_is_kept_and_what_was_saved_up_is_bounded():
    now = [0.0]
    rates = Rates(10, most=2, clock=lambda: now[0])
    assert [rates.wait("a") > 0 for _ in range(21)] == [False] * 20 + [True]
    assert rates.wait("b") == 0
    now[0] = 0.1
    assert [rates.wait("a") > 0 for _ in range(2)] == [False, True]
    now[0] = 1e6
    assert sum(rates.wait("a") == 0 for _ in range(30)) == 20
    rates.wait("c")
    assert len(rates._buckets) == 2


# --- keys -------------------------------------------------------------------------------------------------------


def test_a_key_is_found_by_all_of_it(tmp_path):
    path = tmp_path / "k.json"
    secret = add_key(path, "web", "write")
    ring = read_keys(path)
    assert ring.find(secret).name == "web"
    changed = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for wrong in (changed, secret[:-1], secret + "a", "", "segue__", "segue_x_y", secret.replace("segue_", "x_", 1)):
        assert ring.find(wrong) is None
    assert KeyRing({}).find(secret) is None


def test_a_name_is_given_once_and_again_after_it_was_removed(tmp_path):
    path = tmp_path / "k.json"
    first = add_key(path, "web", "write")
    with pytest.raises(ArgumentError, match="there is a key"):
        add_key(path, "web", "read")
    remove_key(path, "web")
    with pytest.raises(NotFoundError, match="there is none"):
        remove_key(path, "web")
    second = add_key(path, "web", "read")
    assert read_keys(path).find(first) is None
    assert read_keys(path).find(second).role == "read"


@pytest.mark.parametrize(("name", "role"), [("", "read"), ("a" * 65, "read"), ("a\nb", "read"), ("a", "root")])
def test_a_key_that_cannot_be_is_refused(tmp_path, name, role):
    with pytest.raises(ArgumentError, match="expected"):
        add_key(tmp_path / "k.json", name, role)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": [{"name": "a"}]}', '{"keys": [1]}', "\x00"])
def test_a_file_that_is_not_of_keys_is_refused(tmp_path, text):
    path = tmp_path / "k.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match="keys"):
        read_keys(path)


def test_keys_from_the_command_line(tmp_path):
    path = str(tmp_path / "k.json")
    made = CliRunner().invoke(cli.app, ["keys", "add", "web", "--role", "read", "--keys", path])
    assert read_keys(tmp_path / "k.json").find(made.stdout.strip()).name == "web"
    assert CliRunner().invoke(cli.app, ["keys", "list", "--keys", path]).output == "read   web\n"
    CliRunner().invoke(cli.app, ["keys", "remove", "web", "--keys", path])
    assert CliRunner().invoke(cli.app, ["keys", "list", "--keys", path]).output == ""


# --- a process --------------------------------------------------------------------------------------------------


def ask(url, path, body=None, key=None):
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=10) as answer:
        return json.load(answer)


@contextlib.contextmanager
def running_server(tmp_path, *options):
    """Give a server, its address and the file of what it says."""
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "segue", "serve", *map(str, options), "--port", "0"]
        process = subprocess.Popen(command, stderr=out, env={**os.environ})
    try:
        url = None
        while url is None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"(http://127\.0\.0\.1:\d+): ", log.read_text())
            url = found[1] if found else None
        yield process, url, log
    finally:
        process.kill()
        process.wait(20)


def test_hangup_reads_model_and_keys_again_and_termination_loses_nothing(model, tmp_path):
    keys = tmp_path / "k.json"
    first = add_key(keys, "web", "admin")
    with running_server(tmp_path, model, "--keys", keys) as (process, url, log):
        before = ask(url, "/v1/status", key=first)["model"]
        ask(url, "/v1/events", {"user": "u1", "item": "001"}, first)
        small_recommender(seed=6).save(model)
        second = add_key(keys, "app", "read")
        process.send_signal(signal.SIGHUP)
        after = before
        while after == before:
            assert process.poll() is None, log.read_text()
            after = ask(url, "/v1/status", key=first)["model"]
        assert ask(url, "/v1/users/u1", key=second)["model"] == after
        model.write_bytes(b"damaged")
        process.send_signal(signal.SIGHUP)
        while "SIGHUP: " + str(model) not in log.read_text():
            assert process.poll() is None, log.read_text()
        assert ask(url, "/v1/status", key=second)["model"] == after
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    said = log.read_text()
    assert "stopped by SIGTERM; requests under way are finished" in said.splitlines()[-1]
    assert all(re.match(r"[-0-9]{10} [:,0-9]{12} [A-Z]+ segue", line) for line in said.splitlines()), said  # one format
    assert "Traceback" not in said
    assert "u1" not in said
    assert (tmp_path / "segue.db.lock").read_text() == ""  # the store was closed
    assert not (tmp_path / "segue.db-wal").exists()


@pytest.mark.parametrize(
    ("number", "last"),
    [
        (signal.SIGINT, "stopped by SIGINT; requests under way are finished, ingested events are on disk."),
        (signal.SIGXCPU, "stopped by SIGXCPU; requests under way are finished, ingested events are on disk."),
        (signal.SIGSEGV, "Fatal Python error: Segmentation fault"),
    ],
)
def test_a_server_says_why_it_ends(model, tmp_path, number, last):
    with running_server(tmp_path, model) as (process, url, log):
        ask(url, "/v1/events", {"user": "u1", "item": "001"})
        process.send_signal(number)
        assert process.wait(20) == (0 if number == signal.SIGINT else -number)
        assert any(line.endswith(last) for line in log.read_text().splitlines())
    left = (tmp_path / "segue.db.lock").read_text()
    assert left == (str(process.pid) if number == signal.SIGSEGV else "")


def test_the_end_is_said_once_all_is_closed_and_the_signal_sent_on():
    lines, sent = [], []
    before = signal.signal(signal.SIGUSR1, lambda number, _: sent.append(number))
    try:
        with shutdown.said(lines.append) as end, contextlib.closing(mock.Mock(close=lambda: lines.append("closed"))):
            signal.raise_signal(signal.SIGHUP)
            assert end.hung_up
            signal.raise_signal(signal.SIGUSR1)  # while it starts
            lines.append("never")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (lines[0], lines[1].split(";")[0], len(lines)) == ("closed", "stopped by SIGUSR1", 2)
    assert sent == [signal.SIGUSR1]


@pytest.mark.parametrize(
    ("error", "lines"),
    [(MemoryError("no room"), ["stopped by an error, MemoryError: no room; what was acknowledged is on disk."]),
     (ArgumentError("--port: taken."), [])],
)  # fmt: skip
def test_an_error_that_ends_a_server_is_said_once(error, lines):
    found = []

    def end():
        with shutdown.said(found.append):
            raise error

    with pytest.raises(type(error)):
        end()
    assert found == lines


def test_an_address_that_is_taken_is_an_error_without_a_traceback(model):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "segue", "serve", str(model), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_workers_need_a_store_that_processes_share(model, tmp_path):
    for words in ([], ["--store", str(tmp_path / "shop.db")], ["--store", "postgressql://ann:secret@db"]):
        done = CliRunner().invoke(cli.app, ["serve", str(model), "--workers", "2", *words])
        assert isinstance(done.exception, ArgumentError) and not (tmp_path / "shop.db").exists()
        assert "--workers 2: expected a store that processes share, --store postgresql://" in f"{done.exception}"
        assert "secret" not in f"{done.exception}"


@pytest.mark.parametrize(("screen", "opened"), [(":0", ["http://127.0.0.1:8000"]), ("", [])])
def test_the_demo_ends_at_its_shop_window_and_opens_it_where_there_is_a_screen(monkeypatch, tmp_path, screen, opened):
    seen, served = [], []

    def serve(settings, say):
        served.append((settings.model, settings.port, Path(settings.store).parent.is_dir()))
        say("http://127.0.0.1:8000: films.segue; stop it with Ctrl-C.")
        say("stopped by SIGINT; ingested events are on disk.")

    monkeypatch.setattr(demo, "serve", serve)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("webbrowser.open", seen.append)
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    demo.open_shop_window(Console(quiet=True), tmp_path / "films.segue", 8000)
    assert seen == opened and served == [(tmp_path / "films.segue", 8000, True)]
