"""The password of a store is in nothing that anybody can read: answers, numbers, lines, files."""

import json
import os
import subprocess
import sys

import pytest

import engines
import segue
from segue.addresses import shown
from segue.errors import SegueError
from segue.serve.server import Settings
from segue.store.factory import open_store
from segue.store.readonly import is_store, read_store
from served import Server, model

SECRET = "hush4711"


def run(*words, **more):
    command = [sys.executable, "-m", "segue", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **more})
    return done.returncode, done.stdout + done.stderr


def test_a_server_never_tells_the_password_of_its_store(tmp_path):
    valkey = engines.Server(tmp_path, "--requirepass", SECRET)
    address = valkey.address.replace("://", f"://:{SECRET}@")
    model(tmp_path / "b.segue")
    server = Server(tmp_path, "--store", address)
    told = []
    try:
        event = {"user": "ann", "item": "003", "time": 1000}
        assert server.call("POST", "/v1/events", event)[0] == 200
        for up in (True, False):
            if not up:
                valkey.kill()
            for method, path, body in (
                ("GET", "/readyz", None), ("GET", "/v1/status", None), ("GET", "/metrics", None),
                ("POST", "/v1/events?recommend=3", event), ("GET", "/v1/recommend?user=ann", None),
                ("GET", "/v1/users/ann", None), ("PATCH", "/v1/items/003", {"available": False}),
                ("DELETE", "/v1/users/ann", None), ("GET", "/openapi.json", None), ("GET", "/", None),
            ):  # fmt: skip
                code, answer = server.call(method, path, body)
                told.append(str(answer))
                assert not (path == "/readyz" and (code == 200) != up), answer
        assert any("did not answer" in one for one in told)
        assert any(f"valkey://127.0.0.1:{valkey.port}/0" in one for one in told)
        server.stop()
        valkey.start()
        wrong = address.replace(SECRET, SECRET + "-wrong")
        code, said = run("serve", tmp_path / "b.segue", "--store", wrong, "--port", 0)
        assert code == 1 and "refused the user or password" in said, said
        told.append(said)
        store = open_store(address)
        told += [repr(store), repr(store._server._client), repr(vars(store._server))]
        store.close()
        assert run("import", address, "--store", tmp_path / "copy.db")[0] == 1  # nobody is left in it
        log = tmp_path / "log.csv"
        log.write_text("user,item,time\nann,003,5\nbob,004,6\n")
        for words in (
            ["import", log, "--store", address], ["export", "--store", address, "-o", tmp_path / "o.parquet"],
            ["import", address, "--store", tmp_path / "copy.db"], ["inspect", address],
            ["recommend", tmp_path / "b.segue", "--user", "bob", "--store", address],
            ["recommend", tmp_path / "b.segue", "--user", "nobody", "--store", address],
            ["train", address, "-o", tmp_path / "t.segue", "--set", "train.epochs=1"], ["info", tmp_path / "t.segue"],
        ):  # fmt: skip
            told.append(run(*words)[1])
        assert run("export", "-o", tmp_path / "e.parquet", SEGUE_STORE=address)[0] == 0
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        told += [path.read_bytes().decode("latin-1") for path in files] + [str(path) for path in files]
        assert [one[:500] for one in told if SECRET in one] == []
    finally:
        server.process.kill()
        valkey.kill()


TYPOS = [
    f"valkey://:{SECRET}@127.0.0.1:1/0", f"valkey://:{SECRET}@127.0.0.1:port/0", f"valkey://:{SECRET}@127.0.0.1:99999",
    f"valky://:{SECRET}@127.0.0.1:1/0", f"valkey:/:{SECRET}@127.0.0.1:1/0", f"valkey:{SECRET}@127.0.0.1:1",
    f"valkey//:{SECRET}@127.0.0.1:1", f":{SECRET}@127.0.0.1:1", f"//:{SECRET}@127.0.0.1:1",
    f"valkey://:/{SECRET}@127.0.0.1:1", f"valkey://:12/{SECRET}@127.0.0.1:1", f"valkey://:#{SECRET}@127.0.0.1:1",
    f"valkey://:?{SECRET}@127.0.0.1:1", f"valkey://:@{SECRET}@127.0.0.1:1", f"valkey://{SECRET}@127.0.0.1:1",
    f"valkey://127.0.0.1:1/0?password={SECRET}", f"valkey://127.0.0.1:1/0?pasword={SECRET}",
    f"valkey://127.0.0.1:1/0?socket_timeout={SECRET}", f"valkey://127.0.0.1:1/0?password=a@{SECRET}",
    f"valkey://:{SECRET}", f"valkey://[:{SECRET}@127.0.0.1", f"VALKEY://:{SECRET}@127.0.0.1:1",
    f"mysql://root:{SECRET}@db", f"redis;//:{SECRET}@h", f"postgresql://ann:{SECRET}@127.0.0.1:1/shop",
    f"postgres:/ann:{SECRET}@127.0.0.1:1", f"postgresql://ann:{SECRET}@127.0.0.1:port/shop",
    f"postgresql://ann:12/{SECRET}@127.0.0.1:1/shop", f"postgresql://{SECRET}@127.0.0.1:1,127.0.0.1:2/shop",
    f"postgresql://127.0.0.1:1/shop?password={SECRET}", f"postgresql://127.0.0.1:1/shop?pasword={SECRET}",
    f"postgresql://127.0.0.1:1/shop?connect_timeout={SECRET}", f"postgresql://127.0.0.1:1/shop?sslmode={SECRET}",
]  # fmt: skip


@pytest.mark.parametrize("address", TYPOS)
def test_no_way_in_repeats_the_password_of_an_address_with_a_typo(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert SECRET not in shown(address)
    for way in (open_store, read_store, segue.read_events):
        with pytest.raises(SegueError) as caught:
            way(address)
        error = caught.value
        while error is not None:
            assert SECRET not in f"{error!r} {error}"
            error = error.__cause__
    assert SECRET not in repr(Settings(tmp_path / "b.segue", address))
    assert list(tmp_path.iterdir()) == []  # no file of that name was made either


@pytest.mark.parametrize("words", [
    ["serve", "{}"], ["serve", "b.segue", "{}"], ["info", "{}"], ["inspect", "{}"], ["{}"], ["export", "{}"],
    ["export", "--store={}", "-o", "{}"], ["train", "e.csv", "-o", "{}"], ["recommend", "b.segue", "--events", "{}"],
    ["serve", "b.segue", "--port", "{}"], ["import", "{}", "--store", "{}"], ["serve", "b.segue", "--{}"],
])  # fmt: skip
def test_no_verb_repeats_the_password_of_an_argument(words, tmp_path):
    address = f"valky://:{SECRET}@127.0.0.1:1/0"
    code, said = run(*(word.format(address) for word in words), COLUMNS="300")
    assert code in (1, 2) and SECRET not in said.replace("\n", ""), said


def test_paths_stay_what_they_are(tmp_path):
    for path in ("shop.db", "/data/a:b@c/s.db", "./x@y.csv", "redis.db", "a/redis/log.csv"):
        assert shown(path) == path and not is_store(path)
    assert json.loads(json.dumps(shown("valkey://db:6379/0"))) == "valkey://db:6379/0"
