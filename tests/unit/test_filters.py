"""A list is narrowed in the same way in Python, on the command line and over HTTP."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

import segue
from segue import F, Rule
from segue.cli.app import app
from segue.errors import ArgumentError
from segue.jobs.batch_recommend import recommend_all
from segue.recommend.index.approximate import exact_index
from segue.recommend.lists.options import ListOptions
from segue.serve.app import make_app
from segue.serve.live.service import Service
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import described_log, described_recommender, random_counts

REC = described_recommender(described_log())
REC = replace(REC, counts=random_counts(REC.vocabulary.size, np.random.default_rng(2)))
HISTORY = ["01", "05", "03"]
STATE = REC.observe_all(REC.start(), HISTORY)
DAY = 86_400
NOW = 100 * DAY


@pytest.fixture(scope="module", name="client")
def a_client(tmp_path_factory):
    store = SqliteStore(tmp_path_factory.mktemp("s") / "s.db")
    service = Service(REC, store, clock=lambda: NOW)
    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        yield client
    service.close()
    store.close()


@pytest.fixture(scope="module", name="model")
def a_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "m.segue"
    REC.save(path)
    return path


CASES = {
    "words": {"where": 'kind = "a" or not price > 2', "k": 4},
    "parameters": {"where": "price <= $most and kind in $kinds", "params": {"most": 3, "kinds": "a"}, "k": 12},
    "the item looked at": {"where": "price <= current.price * 1.2", "current": "03", "exclude": ["02"], "k": 3},
    "candidates": {"candidates": ["07", "nobody", "01"], "k": 5},
    "candidates that pass": {"candidates": ["01", "03", "05", "07"], "where": "price > 2", "k": 5},
    "no item": {"where": 'kind = "A"', "k": 2},
    "diverse": {"where": "price is not missing", "diversity": 0.6, "repeats": "exclude", "k": 5},
}


@pytest.mark.parametrize("name", CASES)
def test_a_list_is_the_same_in_all_ways_in(client, model, name):
    wanted = CASES[name]
    found = REC.recommend(STATE, at=NOW, **wanted)
    body = client.post("/v1/recommend", json={"history": HISTORY, **wanted}).json()
    words = [
        "recommend",
        str(model),
        "--history",
        ",".join(HISTORY),
        "--at",
        str(NOW),
        "--json",
        "-k",
        str(wanted["k"]),
    ]
    for option in ("where", "current", "repeats", "diversity"):
        words += [f"--{option}", str(wanted[option])] if option in wanted else []
    for option in ("exclude", "candidates"):
        words += [f"--{option}", ",".join(wanted[option])] if option in wanted else []
    words += [word for pair in wanted.get("params", {}).items() for word in ("--param", "{}={}".format(*pair))]
    said = json.loads(CliRunner().invoke(app, words).stdout)
    indexed = REC.with_index(exact_index(REC)).recommend(STATE, at=NOW, **wanted)
    assert len(found) or name == "no item"
    for other in (body, said):
        assert [line["item"] for line in other["items"]] == [line.item for line in found]
        assert tuple(other.get("notes", ())) == found.notes
        assert other["unknown"] == list(found.unknown)
    assert [line.item for line in indexed] == [line.item for line in found] and indexed.notes == found.notes


def test_a_scenario_is_the_same_in_all_ways_in(client, model, tmp_path):
    shop = tmp_path / "shop.toml"
    shop.write_text(
        '[scenarios.home]\nk = 4\nwhere = "price is not missing"\nexclude = ["02"]\n'
        'boosts = [{by = 1.5, where = "kind = $k"}, {by = -0.5, items = ["06", "08"]}]\nparams = {k = "b"}\n'
        'exclude_events = [{type = "buy"}]\n[scenarios.mail]\nvalid_from = 2020-01-01\n'
    )
    wanted = segue.scenario(shop, "home", history=HISTORY)
    assert wanted["boosts"] == (Rule("boost", "kind = $k", by=1.5), Rule("boost", None, ("06", "08"), -0.5))
    found = REC.recommend(STATE, at=NOW, **wanted)
    indexed = REC.with_index(exact_index(REC)).recommend(STATE, at=NOW, **wanted, discounts={found[0].item: 9.0})
    body = tomllib.loads(shop.read_text())["scenarios"]["home"]
    sent = client.post("/v1/recommend", json={"history": HISTORY, "at": NOW, **body}).json()
    words = ["recommend", str(model), "--history", ",".join(HISTORY), "--at", str(NOW), "--json"]
    words += ["--scenarios", str(shop), "--scenario"]
    said = json.loads(CliRunner().invoke(app, [*words, "home"]).stdout)
    items = [line.item for line in found]
    assert len(items) == 4
    assert [[line["item"] for line in one["items"]] for one in (sent, said)] == [items, items]
    assert [line.item for line in indexed][:3] == items[1:]
    assert REC.recommend(STATE, 4, at=NOW) != found
    shorter = json.loads(CliRunner().invoke(app, [*words, "home", "-k", "2", "--temperature", "0.5"]).stdout)["items"]
    assert len(shorter) == 2 and all(0 < line["probability"] <= 1 for line in shorter)
    refused = CliRunner().invoke(app, [*words, "mail"])
    assert refused.exit_code == 1 and '"mail" holds from 2020-01-01 on. Valid are home.' in str(refused.exception)
    assert CliRunner().invoke(app, words[:-1]).exit_code == 2


def test_a_list_says_why_it_is_short(client):
    assert REC.recommend(STATE, 3, where='kind = "A"').notes == (
        'no item has kind "A"; did you mean "a"?', f"where and candidates leave 0 items of {len(REC.items)}; k is 3."
    )  # fmt: skip
    both = REC.recommend(STATE, 5, candidates=["01", "03", "05", "08"], where="price > 2", exclude=["08"])
    assert [line.item for line in both] == ["03"]
    assert both.notes == (f"where and candidates leave 2 items of {len(REC.items)}; k is 5.",)
    few = REC.recommend(STATE, 2, candidates=HISTORY[:2], repeats="exclude")
    assert not few and "the list has 0 of 2 items" in few.notes[0]
    assert REC.recommend(STATE, 3).notes == () and "notes" not in client.get("/v1/recommend?history=01").json()
    assert REC.recommend(STATE, 3, where=F.kind == "a") == REC.recommend(STATE, 3, where={"kind": "a"})
    with pytest.raises(ArgumentError, match="where, position 8: expected a value"):
        REC.recommend(STATE, where="kind < and")
    with pytest.raises(ArgumentError, match="diversity: expected a number from 0 to 1, came 2"):
        REC.recommend(STATE, diversity=2)


def test_a_wrong_filter_spoils_no_other_list_of_its_batch(client):
    requests = [{"user": "x", "where": "nothing = 1"}, {"user": "x", "k": 2}, {"history": ["01"], "where": "price < 2"}]
    one, two, three = client.post("/v1/recommend/batch", json={"requests": requests}).json()["lists"]
    assert one["error"]["status"] == 422 and "where, position 1: expected an attribute" in one["error"]["detail"]
    assert len(two["list"]["items"]) == 2 and three == {"list": client.post("/v1/recommend", json=requests[2]).json()}


def test_items_are_left_out_by_what_was_done_with_them(client):
    events = [("01", "buy", 1), ("02", "view", 2), ("03", "view", 95), ("04", "buy", 99)]
    sent = [{"user": "eve", "item": item, "type": type, "time": day * DAY} for item, type, day in events]
    assert client.post("/v1/events", json={"events": sent}).status_code == 200
    for rules, left_out in (
        ([{"type": "buy"}], {"01", "04"}),
        ([{"within": "10d"}], {"03", "04"}),
        ([{"type": "buy", "within": "10d"}, {"type": "view"}], {"04", "02", "03"}),
    ):
        wanted = {"user": "eve", "k": 1000, "exclude_events": rules}
        shown = {line["item"] for line in client.post("/v1/recommend", json=wanted).json()["items"]}
        assert set(REC.items) - shown == left_out
        history = [{name: value for name, value in one.items() if name != "user"} for one in sent]
        again = client.post("/v1/recommend", json={**wanted, "user": None, "history": history}).json()["items"]
        assert {line["item"] for line in again} == shown
    refused = client.post("/v1/recommend", json={"user": "eve", "exclude_events": [{"within": "10 days"}]})
    assert refused.status_code == 422 and "expected a duration" in refused.json()["detail"]


def test_a_rule_of_the_shop_takes_a_filter_of_items_alone(client):
    rules = [{"kind": "block", "where": "not price < 3"}]
    assert client.put("/v1/admin/rules", json={"rules": rules}).status_code == 200
    shown = {line["item"] for line in client.get("/v1/recommend?user=y&k=1000").json()["items"]}
    assert shown == {line.item for line in REC.recommend(REC.start(), 1000, where="price < 3")} != set()
    said = client.put("/v1/admin/rules", json={"rules": [{"kind": "block", "where": "price < user.most"}]})
    assert said.status_code == 422 and "columns of items alone in a rule" in said.json()["detail"]
    client.put("/v1/admin/rules", json={"rules": []})


def test_an_explanation_is_the_same_in_python_and_over_http(client, model):
    sent = [{"user": "una", "item": item, "time": n} for n, item in enumerate(HISTORY)]
    client.post("/v1/events", json={"events": sent})
    body = client.post("/v1/explain", json={"user": "una", "item": "07", "last": 2}).json()
    found = REC.explain(segue.read_events(pl.DataFrame(sent)), "07", last=2, at=NOW)
    assert [(part["event"]["item"], part["change"]) for part in body["parts"]] == [
        (part.event.item, pytest.approx(part.change, abs=1e-5)) for part in found.parts
    ]
    assert body["labels"] == found.labels and len(found.parts) == 2
    words = ["explain", str(model), "--history", ",".join(HISTORY), "--json"]
    said = json.loads(CliRunner().invoke(app, words).stdout)
    assert said["item"] == REC.recommend(STATE, 1)[0].item and len(said["parts"]) == 3


@pytest.mark.parametrize("indexed", [False, True])
def test_lists_of_all_users_are_narrowed_as_each_is(tmp_path, indexed):
    log, out = described_log(), tmp_path / "all.parquet"
    rec = REC.with_index(exact_index(REC)) if indexed else REC
    for repeats in ("allow", "exclude"):
        wanted = {"where": "kind = $k or price < 3", "params": {"k": "a"}, "exclude": ("02", "x"), "repeats": repeats}
        recommend_all(rec, log, out, k=4, at=NOW, choice=ListOptions(**wanted))
        lists = {user: rows["item"].to_list() for (user,), rows in pl.read_parquet(out).group_by("user")}
        states = rec.encode(log)
        assert len(lists) == len(states)
        for user, items in lists.items():
            assert items == [line.item for line in REC.recommend(states.of(user), 4, at=NOW, **wanted)]
    with pytest.raises(ArgumentError, match="position 9: expected a filter that is the same for all users"):
        recommend_all(rec, log, out, choice=ListOptions(where="price = user.age"))


def test_similar_items_are_filtered_and_put_in_the_order_of_a_user(client, model):
    for where in ("price <= current.price", None):
        plain = REC.similar("09", 3, where=where)
        mine = REC.similar("09", 3, where=where, state=STATE, at=NOW)
        assert {line.item for line in mine} <= {line.item for line in REC.similar("09", 35, where=where)} - {"09"}
        ranked = REC.recommend(STATE, 1000, at=NOW)
        assert list(mine) == [line for line in ranked if line.item in {one.item for one in mine}] and mine != plain
        address = "/v1/similar/09?k=3" + (f"&where={where}" if where else "")
        assert [line["item"] for line in client.get(address).json()["items"]] == [line.item for line in plain]
        client.post(
            "/v1/events", json={"events": [{"user": f"sim{where}", "item": item, "time": 1} for item in HISTORY]}
        )
        found = client.get(f"{address}&user=sim{where}").json()["items"]
        state = REC.start()
        for item in HISTORY:
            state = REC.observe(state, item, time=1)
        again = REC.similar("09", 3, where=where, state=state, at=NOW)
        assert [line["item"] for line in found] == [line.item for line in again]
        words = ["similar", str(model), "09", "-k", "3", "--json", "--history", ",".join(HISTORY)]
        said = json.loads(CliRunner().invoke(app, words + (["--where", where] if where else [])).stdout)
        assert [line["item"] for line in said["items"]] == [
            line.item for line in REC.similar("09", 3, where=where, state=STATE)
        ]
    assert REC.similar("09", 5, where="kind = 'x'").notes == ('no item has kind "x".',)


def test_pages_hold_each_item_once_whatever_happens_between_them(client):
    after, pages = "", []
    while after is not None:
        body = {"user": "page", "k": 5, "where": "not kind = 'a'", "after": after}
        page = client.post("/v1/recommend", json=body).json()
        client.post("/v1/events", json={"user": "page", "item": "05"})  # the order is another
        pages.append([line["item"] for line in page["items"]])
        after = page.get("next")
    shown = [item for page in pages for item in page]
    assert len(shown) == len(set(shown)) and set(shown) == {
        x.item for x in REC.recommend(STATE, 99, where=body["where"])
    }
    token = client.post("/v1/recommend", json={"token": "new"}).json()["token"]
    for wrong in (token, body["after"][:-3] + "AAA"):
        assert client.post("/v1/recommend", json={**body, "after": wrong}).status_code == 422
    assert client.post("/v1/recommend", json={"token": body["after"]}).status_code in (409, 422)
