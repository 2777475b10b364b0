"""Every row of the page on other services is sent to a server with the catalogue of the page."""

import json
import re

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

import segue
from docs.test_docs import ROOT
from segue.serve.app import make_app
from segue.serve.live.service import Service
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import described_recommender

PAGE = (ROOT / "docs" / "guides" / "coming-from-another-service.md").read_text()
LINES = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", PAGE, re.M)]
ITEMS = [line for line in LINES if len(line) == 8 and not line[0].startswith("-")]
ROWS = [line for line in LINES if len(line) == 3 and not line[0].startswith(("-", "there"))]
ASKED = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.S)[1])
PLAIN = {name: value for name, value in ASKED.items() if name not in ("profile", "params", "current")}


@pytest.fixture(scope="module", name="client")
def a_client(tmp_path_factory):
    texts = pl.DataFrame(ITEMS[1:], schema=ITEMS[0], orient="row").with_columns(pl.all().replace("", None))
    typed = texts.with_columns(pl.col("year").cast(int), pl.col("price").cast(float))
    items = typed.with_columns(pl.col("genres", "tags").str.replace_all(", ", "|"))
    store = SqliteStore(tmp_path_factory.mktemp("s") / "s.db")
    log = segue.read_events(items.select("item", user=pl.lit("0")), time="none")
    service = Service(described_recommender(log, items=items), store)
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        events = [("c", "buy"), ("d", "click"), ("f", "click")]
        sent = [{"user": "ann", "item": item, "type": type, "time": 1_700_000_000} for item, type in events]
        assert client.post("/v1/events", json={"events": sent}).status_code == 200
        yield client
    service.close()
    store.close()


def listed(client, **wanted):
    """The items of a list with their scores, in order."""
    answer = client.post("/v1/recommend", json=wanted)
    assert answer.status_code == 200, answer.text
    return {line["item"]: line["score"] for line in answer.json()["items"]}


@pytest.mark.parametrize(("there", "here", "items"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_of_another_service(client, there, here, items):
    here = here.strip("`")
    if here.startswith("PATCH"):
        _, address, body = here.split(" ", 2)
        assert client.patch(address, json=json.loads(body)).status_code == 200
        found = listed(client, **PLAIN)
        assert client.patch(address, json={"available": True}).status_code == 200
    elif not here.startswith("{"):
        found = listed(client, **ASKED, where=here)
    elif "kind" not in (said := json.loads(here)):
        found = listed(client, **PLAIN, **said)
    else:
        before = listed(client, **PLAIN)
        assert client.put("/v1/admin/rules", json={"rules": [said]}).status_code == 200
        found = listed(client, **PLAIN)
        client.put("/v1/admin/rules", json={"rules": []})
        if items.startswith("higher:"):
            higher = {item for item in found if found[item] > before[item] + said["by"] - 1e-3}
            assert sorted(higher) == items.split()[1:] and len(found) == 8
            assert np.allclose([found[item] - before[item] for item in higher], said["by"], atol=1e-4)
            return
        if items.startswith("first:"):
            assert list(found)[:1] == items.split()[1:] != list(before)[:1] and len(found) == 8
            return
    assert sorted(found) == items.split()


def test_the_page_names_each_service_and_enough_rows():
    named = re.findall(r"^## (.*)$", PAGE, re.M)
    assert named == ["Amazon Personalize", "Recombee", "Algolia", "Gorse", "Vertex AI Search for commerce"]
    assert len(ROWS) >= 25 and len(ITEMS) == 9
