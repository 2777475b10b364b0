"""Ask a real server one example of each route, for the page of HTTP.

Knows: one request of each route. Does not know: how a page is made of the answers.
"""

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import shop

import segue


class Answer(NamedTuple):
    """A request and what came back: `text` as a page shows it, `whole` as it came."""

    method: str
    path: str
    body: Any
    status: int
    text: str
    whole: str = ""


Seen = dict[tuple[str, str], list[Answer]]

#: Requests in their order: method, path, body.
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/events?recommend=3", {"user": "ann", "item": "17", "time": 1700000000, "id": "order-1"}),
    ("POST", "/v1/events", {"events": [{"user": "bob", "item": "8", "rating": 4}, {"user": "guest-7", "item": "42"}]}),
    ("GET", "/v1/recommend?user=ann&k=3", None),
    ("POST", "/v1/recommend", {"history": ["17", "42"], "k": 2, "where": {"genres": "Drama"}, "debug": True}),
    (
        "POST",
        "/v1/recommend",
        {"user": "ann", "k": 2, "where": 'genres = "Dramma" or year > $since', "params": {"since": 1990}},
    ),
    ("POST", "/v1/recommend/batch", {"requests": [{"user": "ann", "k": 1}, {"user": "bob", "where": "colour = 1"}]}),
    ("GET", "/v1/similar/17?k=2", None),
    ("GET", "/v1/ratings?user=ann&item=42", None),
    ("POST", "/v1/explain", {"user": "ann", "k": 3}),
    ("GET", "/v1/users/ann?limit=1", None),
    ("POST", "/v1/users/guest-7/merge", {"into": "ann"}),
    ("GET", "/v1/items?q=golden&where=year>1990&facets=true&limit=2", None),
    ("POST", "/v1/items", {"items": [{"item": "n1", "title": "Brave New River", "genres": "Drama"}]}),
    ("PATCH", "/v1/items/42", {"available": False}),
    (
        "PUT",
        "/v1/admin/rules",
        {"rules": [{"kind": "boost", "where": {"genres": "Drama"}, "by": 0.7, "name": "drama week"}]},
    ),
    (
        "PUT",
        "/v1/admin/scenarios",
        {
            "scenarios": {"home": {"k": 2}, "home-wide": {"k": 2, "diversity": 0.3}},
            "experiments": {"spread": {"scenario": "home", "arms": {"now": "home", "wide": "home-wide"}}},
        },
    ),
    ("GET", "/v1/recommend?user=ann&scenario=home", None),
    ("GET", "/v1/scenarios", None),
    ("DELETE", "/v1/admin/experiments/spread", None),
    ("GET", "/v1/admin/rules", None),
    ("POST", "/v1/admin/rules/preview", {"user": "ann", "k": 2, "rules": [{"kind": "block", "items": ["8"]}]}),
    ("GET", "/v1/admin/users?limit=2", None),
    ("GET", "/v1/admin/models", None),
    ("POST", "/v1/admin/model", {"model": "films-2.segue"}),
    ("GET", "/v1/status", None),
    ("GET", "/v1/quality", None),
    ("DELETE", "/v1/users/ann/events/order-1", None),
    ("DELETE", "/v1/users/ann/events/by-seq/3", None),
    ("DELETE", "/v1/users/bob", None),
    ("DELETE", "/v1/users/bob/block", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
)
REFUSED: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/events", {"user": "ann", "item": "17", "time": "yesterday"}),
    ("POST", "/v1/recommend", {"user": "ann", "history": ["17"]}),
    ("GET", "/v1/similar/no-such-film", None),
    ("GET", "/v1/recommendd", None),
    ("POST", "/v1/events", {"user": "eve", "item": "17"}),
)
#: Lines of an answer that a page shows.
LINES = 40


def model(folder: Path) -> Path:
    """Train a small model of the shop in a folder, twice under two names, and return the first."""
    shop.write(folder)
    settings = {"train.seed": 0, "model.width": 8, "train.epochs": 1, "model.text": "words"}
    rec = segue.train(segue.read_events(folder / "ratings.csv"), catalogue=folder / "films.csv", config=settings)
    models = folder / "live"
    models.mkdir(exist_ok=True)
    for name in ("films-2.segue", "films.segue"):
        rec.save(models / name)
    (models / "current").write_text("films.segue\n", encoding="utf-8")
    return models / "films.segue"


def ask(base: str, method: str, path: str, body: Any = None) -> Answer:
    """Send a request and return the answer; a long one is cut."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        base + path, data, {"Content-Type": "application/json"} if data else {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as got:
            status, text = got.status, got.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read().decode()
    whole = text
    if text[:1] in "{[":
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    lines = text.rstrip().split("\n")
    return Answer(method, path, body, status, "\n".join(lines[:LINES] + ["..."] * (len(lines) > LINES)), whole)


def _alive(base: str) -> bool:
    with contextlib.suppress(OSError):
        return ask(base, "GET", "/healthz").status == 200
    return False


@contextlib.contextmanager
def server(file: Path, *options: str) -> Iterator[str]:
    """Give the address of a server of a model, with options of `segue serve`, that runs until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "segue", "serve", str(file), *options]
    with (file.parent / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
    try:
        began = time.monotonic()
        while not _alive(base):
            said = (file.parent / "server.log").read_text(encoding="utf-8")
            if process.poll() is not None or time.monotonic() - began > 60:
                raise RuntimeError(f"expected a server of {file}, came none: {said[-2000:]}")
            time.sleep(0.05)
        yield base
    finally:
        process.terminate()
        process.wait(20)


def route(method: str, path: str, openapi: Mapping[str, Any]) -> tuple[str, str]:
    """Return the route of a request as the description of the server names it; the one with fewest values wins."""
    plain = path.partition("?")[0]
    fits = [
        each
        for each, methods in openapi["paths"].items()
        if method.lower() in methods and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), plain)
    ]
    return method, min(fits, key=lambda each: each.count("{"))


def collect(file: Path | None = None) -> tuple[dict[str, Any], Seen]:
    """Return what a server says of itself and its answers by route, those of `REFUSED` under `("refused", "")`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        served = file or model(Path(folder))
        base = stack.enter_context(server(served, "--models", str(served.parent)))
        with urllib.request.urlopen(base + "/openapi.json", timeout=20) as got:
            openapi: dict[str, Any] = json.loads(got.read())
        seen: Seen = {}
        for method, path, body in REQUESTS:
            seen.setdefault(route(method, path, openapi), []).append(ask(base, method, path, body))
        ask(base, "DELETE", "/v1/users/eve")
        seen["refused", ""] = [ask(base, *request) for request in REFUSED]
    return openapi, seen
