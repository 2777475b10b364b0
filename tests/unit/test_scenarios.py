"""Scenarios, experiments and impressions, over HTTP and in a store."""

from collections import Counter

import numpy as np
import pytest
from starlette.testclient import TestClient

from segue.errors import ArgumentError
from segue.serve.api.scenarios import read_scenarios
from segue.serve.app import make_app
from segue.serve.live.service import Service
from segue.serve.scenarios.arms import MeanInterval, mean_of
from segue.serve.scenarios.kept_impressions import IMPRESSIONS
from segue.serve.scenarios.kept_scenarios import KeptScenarios
from segue.serve.scenarios.scenarios import Experiment, Scenarios
from segue.store.sql.sqlite_store import SqliteStore
from tests_support import small_recommender

NOW = 1_700_000_000.0
HOME = {"k": 3, "exclude": ["001"], "repeats": "exclude"}
WIDE = {"k": 5, "temperature": 1.0, "impressions": {"discount": 4.0, "half_life": "1d"}}
SHOP = {
    "scenarios": {"home": HOME, "wide": WIDE, "sale": {"k": 2, "valid_until": "2023-12-01"}},
    "experiments": {"spread": {"scenario": "home", "arms": {"now": "home", "wide": "wide"}}},
}


class Shop:
    """A service with a clock that can be moved, and its client."""

    def __init__(self, path):
        self.now, self.path = NOW, path
        self.open()

    def open(self):
        self.store = SqliteStore(self.path)
        self.service = Service(small_recommender(), self.store, clock=lambda: self.now)
        self.client = TestClient(make_app(self.service), base_url="http://localhost:8000")
        self.client.__enter__()

    def close(self):
        self.client.__exit__(None, None, None)
        self.service.close()
        self.store.close()

    def set(self, **shop):
        answer = self.client.put("/v1/admin/scenarios", json=shop)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def list(self, **body):
        answer = self.client.post("/v1/recommend", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(name="shop")
def a_shop(tmp_path):
    shop = Shop(tmp_path / "s.db")
    yield shop
    shop.close()


def ids(answer):
    return [line["item"] for line in answer["items"]]


# --- scenarios --------------------------------------------------------------------------------------------------


def test_a_scenario_is_what_its_settings_are_as_a_request(shop):
    set_ = shop.set(scenarios={"home": HOME})
    plain = shop.list(user="ann", **HOME)
    by_post = shop.list(user="ann", scenario="home")
    by_get = shop.client.get("/v1/recommend", params={"user": "ann", "scenario": "home"}).json()
    in_batch = shop.client.post("/v1/recommend/batch", json={"requests": [{"user": "ann", "scenario": "home"}]}).json()
    lists = [by_post, by_get, in_batch["lists"][0]["list"]]
    assert [one["items"] for one in lists] == [plain["items"]] * 3
    for one in lists:
        assert (one["scenario"], one["scenario_version"]) == ("home", set_["scenarios"]["home"]["version"])
        assert one["list_id"]
    assert "scenario" not in plain and "list_id" not in plain
    told = shop.client.post("/v1/events?scenario=home", json={"user": "ann", "item": "002"}).json()
    assert len(told["items"]) == 3 and "002" not in ids(told) and told["scenario"] == "home"
    assert ids(told) == ids(shop.list(user="ann", scenario="home", at=NOW))


def test_what_the_request_says_wins_also_where_it_says_the_default(shop):
    shop.set(scenarios={"home": HOME | {"temperature": 2.0}})
    assert len(shop.list(user="ann", scenario="home")["items"]) == 3
    said = shop.list(user="ann", scenario="home", k=4, exclude=[], temperature=0)
    assert said["items"] == shop.list(user="ann", k=4, repeats="exclude")["items"]
    by_get = shop.client.get("/v1/recommend?user=ann&scenario=home&k=4&temperature=0").json()
    assert ids(by_get) == ids(shop.list(user="ann", k=4, exclude=["001"]))
    both = shop.client.post("/v1/recommend", json={"user": "ann", "scenario": "home", "diversity": 0.2})
    assert both.status_code == 422 and "scenario home: expected temperature without" in both.json()["detail"]


def test_an_unknown_or_expired_scenario_is_refused_with_the_names_that_hold(shop):
    shop.set(**SHOP)
    for name, words in (("hme", 'among home, wide, sale, came "hme". Did you mean home?'), ("x", "home, wide, sale")):
        answer = shop.client.get("/v1/recommend", params={"user": "ann", "scenario": name})
        assert answer.status_code == 404 and words in answer.json()["detail"]
    shop.now = 1_701_388_800.0  # 2023-12-01, the end that is not included
    answer = shop.client.get("/v1/recommend", params={"user": "ann", "scenario": "sale"})
    assert answer.status_code == 404
    assert '"sale" held until 2023-12-01. Valid are home, wide.' in answer.json()["detail"]
    shown = shop.client.get("/v1/scenarios").json()["scenarios"]
    assert {name: one["valid"] for name, one in shown.items()} == {"home": True, "wide": True, "sale": False}
    assert shown["sale"]["settings"] == SHOP["scenarios"]["sale"]


@pytest.mark.parametrize(
    ("shop_", "words"),
    [
        ({"scenarios": {"home": {"diversity": 2}}}, "body.scenarios.home.diversity: expected 1 or less, came 2"),
        ({"scenarios": {"home": {"kk": 2}}}, "body.scenarios.home.kk: unknown name"),
        ({"scenarios": {"home": {"user": "ann"}}}, "body.scenarios.home.user: unknown name"),
        ({"scenarios": {"home": {"at": 5}}}, "expected no at, current, profile"),
        ({"scenarios": {"home": {"where": "price <"}}}, "scenarios.home.where: where, position 8"),
        ({"scenarios": {"home": {"boosts": [{"by": 1, "where": "colour = 1"}]}}}, "scenarios.home.boosts.0.where: "),
        ({"scenarios": {"home": {"impressions": {"half_life": "0d"}}}}, "half_life: expected more than 0"),
        (SHOP | {"scenarios": {"home": HOME}}, "experiments.spread.arms.wide: expected a scenario among home"),
        (
            SHOP | {"experiments": {"a": {"scenario": "home", "arms": {"x": "home", "y": "wide"}, "shares": {"x": 1}}}},
            "experiments.a.shares: expected one for each of x, y",
        ),
        (
            SHOP | {"experiments": {"a": {"models": {"x": "running", "y": "other"}}}},
            'models: expected running or shadow of each arm, came "other"',
        ),
        (SHOP | {"experiments": {"a": {"models": {"x": "running"}}}}, "experiments.a.models: expected a second model"),
        (SHOP | {"experiments": {"a": {"scenario": "home"}}}, "expected either scenario and arms, or models"),
    ],
)
def test_a_scenario_is_checked_when_it_is_set_and_when_it_is_loaded(shop, tmp_path, shop_, words):
    answer = shop.client.put("/v1/admin/scenarios", json=shop_)
    assert answer.status_code == 422 and words in answer.json()["detail"], answer.text
    assert shop.client.get("/v1/scenarios").json() == {"scenarios": {}, "experiments": {}}


def test_a_file_is_taken_over_once_and_checked_as_a_request(tmp_path):
    path, store = tmp_path / "shop.toml", SqliteStore(tmp_path / "s.db")
    path.write_text("[scenarios.home]\nk = 3\nvalid_until = 2030-01-01\n[scenarios.mail]\nimpressions = true")
    kept, new = KeptScenarios(store), read_scenarios(path)
    kept.put_file(new)
    assert kept.now.scenarios["home"].said == {"k": 3, "valid_until": "2030-01-01"}
    kept.put(Scenarios.of({"scenarios": {"home": {"k": 9}}}))  # over HTTP
    kept.put_file(read_scenarios(path))  # a restart
    assert kept.now.scenarios["home"].said == {"k": 9}
    path.write_text("[scenarios.home]\nk = 4")
    kept.put_file(read_scenarios(path))
    assert KeptScenarios(store).now.said() == {"scenarios": {"home": {"k": 4}}, "experiments": {}}
    store.close()
    for text, words in (("[scenarios.home]\nk = 0", "shop.toml.scenarios.home.k: expected 1 or more"), ("k =", "TOML")):
        path.write_text(text)
        with pytest.raises(ArgumentError, match=words):
            read_scenarios(path)


def test_another_server_of_the_store_follows(shop):
    other = KeptScenarios(shop.store)
    other.put(Scenarios.of(SHOP))
    assert shop.service.scenarios.overtaken()
    shop.service._follow()
    assert shop.service.scenarios.now.said() == SHOP and not shop.service.scenarios.overtaken()
    assert shop.list(user="ann", scenario="sale")["scenario"] == "sale"


def test_nobody_but_a_user_is_split_and_a_token_takes_what_it_can(shop):
    shop.set(
        scenarios=SHOP["scenarios"] | {"basket": {"k": 2, "exclude_events": [{"type": "buy"}], "impressions": True}}
    )
    found = shop.list(token="new", scenario="basket")
    assert len(found["items"]) == 2 and "a token does not know its events" in found["notes"][0]
    shop.set(**SHOP)
    assert "arms" not in shop.list(history=["002"], scenario="home")


def test_a_profile_or_a_parameter_may_be_for_the_filter_of_the_scenario(shop):
    shop.set(scenarios={"home": {"k": 3, "where": "item in $ids or item = user.favourite"}})
    found = shop.list(user="ann", scenario="home", params={"ids": ["003", "004"]}, profile={"favourite": "005"})
    assert set(ids(found)) == {"003", "004", "005"}
    refused = shop.client.get("/v1/recommend?user=ann&temperature=1&explore=0.5")
    assert refused.status_code == 422 and "expected temperature without" in refused.json()["detail"]


# --- what a list is made of -------------------------------------------------------------------------------------


def test_the_answer_says_what_the_list_is_made_of(shop):
    assert shop.list(user="ann")["source"] == "new user"
    shop.client.post("/v1/events", json={"user": "ann", "item": "002"})
    assert shop.list(user="ann")["source"] == "state"
    assert [shop.list(history=one)["source"] for one in ([], ["002"])] == ["new user", "state"]


def test_a_get_leaves_out_what_was_done_with_items(shop):
    for item, kind, at in (("002", "buy", NOW - 9e6), ("003", "view", NOW - 9e6), ("004", "view", NOW - 60)):
        shop.client.post("/v1/events", json={"user": "ann", "item": item, "type": kind, "time": at})
    get = "/v1/recommend?user=ann&k=12"
    less = shop.client.get(f"{get}&exclude_events=type=buy&exclude_events=within=30d").json()
    assert set(ids(shop.client.get(get).json())) - set(ids(less)) == {"002", "004"}
    refused = shop.client.get(f"{get}&exclude_events=bought")
    assert refused.status_code == 422 and "expected type=buy, within=30d, or both" in refused.json()["detail"]


# --- experiments ------------------------------------------------------------------------------------------------


def test_law_a_split_is_of_the_shares_and_stays():
    users = [f"u{n}" for n in range(5000)]
    first = Experiment("a", "home", {"x": "home", "y": "wide", "z": "wide"}, {"x": 0.6, "y": 0.3, "z": 0.1})
    arms = [first.arm_of(user) for user in users]
    assert arms == [first.arm_of(user) for user in users]
    for arm, count in Counter(arms).items():
        assert abs(count / 5000 - first.shares[arm]) < 0.03
    other = Experiment("b", "home", first.arms, first.shares)
    both = Counter((arm, other.arm_of(user)) for arm, user in zip(arms, users, strict=True))
    assert abs(both["x", "x"] / 5000 - 0.36) < 0.03  # the splits of two experiments have nothing to do with each other


def test_an_arm_is_in_the_answer_with_the_event_and_in_the_report(shop):
    shop.set(**SHOP)
    users = [f"u{n}" for n in range(12)]
    for user in users:
        found = shop.list(user=user, scenario="home")
        arm = found["arms"]["spread"]
        assert len(found["items"]) == (5 if arm == "wide" else 3)
        assert found["scenario"] == ("wide" if arm == "wide" else "home")
        event = {"user": user, "item": found["items"][0]["item"], "id": f"{user}-1", "context": {"page": 2}}
        kept = shop.client.post("/v1/events", json=event).json()
        assert kept["events"][0]["context"] == {"page": 2, "arm.spread": arm}
        assert shop.client.post("/v1/events", json=event).json()["duplicates"] == 1
    arms = shop.client.get("/v1/quality").json()["experiments"]["spread"]
    assert list(arms) == ["now", "wide"] and sum(arm["n"] for arm in arms.values()) == 12
    for arm in arms.values():
        assert arm["lists"] == arm["n"] and arm["taken"]["mean"] == 1
        assert arm["recall@10"]["low"] <= arm["recall@10"]["mean"] <= arm["recall@10"]["high"]
    assert "difference" not in arms["now"]
    assert arms["wide"]["difference"]["taken"] == {"mean": 0, "low": 0, "high": 0}
    assert "spread" not in shop.client.get("/metrics").text
    shop.client.delete("/v1/admin/experiments/spread")
    assert list(shop.client.get("/v1/quality").json()["experiments"]["spread"]) == ["now", "wide"]


def test_an_experiment_ends_at_once_and_ends_once(shop):
    shop.set(**SHOP)
    path = "/v1/admin/experiments/spread"
    assert shop.client.delete(path).json()["experiments"] == {}
    assert shop.client.delete(path).status_code == 200
    assert shop.client.delete("/v1/admin/experiments/other").status_code == 404
    for user in ("u1", "u2", "u3", "u4"):
        found = shop.list(user=user, scenario="home")
        assert found["scenario"] == "home" and "arms" not in found
    kept = shop.client.post("/v1/events", json={"user": "u1", "item": "001"}).json()
    assert "context" not in kept["events"][0]


def test_two_models_answer_by_arm_and_the_running_one_takes_back_all(tmp_path):
    running, shadow = small_recommender(), small_recommender(seed=6)
    store = SqliteStore(tmp_path / "s.db")
    service = Service(running, store, shadow=shadow, clock=lambda: NOW)
    past = {f"u{n}": [f"{(n + step) % 12:03d}" for step in range(3)] for n in range(8)}

    def expected(rec, user):
        state = rec.start()
        for item in past[user]:
            state = rec.observe(state, item, time=NOW)
        return [line.item for line in rec.recommend(state, 4, at=NOW)]

    with TestClient(make_app(service), base_url="http://localhost:8000") as client:
        models = {"models": {"old": "running", "new": "shadow"}, "shares": {"old": 0.5, "new": 0.5}}
        body = {"scenarios": {}, "experiments": {"next": models}}
        assert client.put("/v1/admin/scenarios", json=body).status_code == 200
        for user, items in past.items():
            for item in items:
                told = client.post("/v1/events?recommend=4", json={"user": user, "item": item}).json()
            found = client.get("/v1/recommend", params={"user": user, "k": 4}).json()
            rec = shadow if told["arms"] == {"next": "new"} else running
            assert told["model"] == found["model"] == rec.fingerprint and found["arms"] == told["arms"]
            assert ids(told) == ids(found) == expected(rec, user)
            assert told["events"][0]["context"] == {"arm.next": told["arms"]["next"]}
        arms = client.get("/v1/quality").json()["experiments"]["next"]
        assert arms["old"]["n"] + arms["new"]["n"] == 24 and min(arms["old"]["n"], arms["new"]["n"]) >= 3
        assert client.delete("/v1/admin/experiments/next").status_code == 200
        for user in past:
            found = client.get("/v1/recommend", params={"user": user, "k": 4}).json()
            assert (found["model"], ids(found)) == (running.fingerprint, expected(running, user))
    service.close()
    store.close()


def test_law_an_interval_over_groups_of_users_holds_the_truth():
    """Events of one user are alike, so an interval over events alone would hold it far less often."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(400):
        sizes = rng.integers(1, 40, 300)
        hits = rng.binomial(sizes, rng.beta(1, 3, 300))
        groups = rng.integers(0, 64, 300)
        found = mean_of(np.bincount(groups, hits, 64), np.bincount(groups, sizes, 64).astype(float))
        held += found.low <= 0.25 <= found.high
    assert 0.91 < held / 400 < 0.985
    assert mean_of(np.zeros(4), np.zeros(4)) is None
    assert mean_of(np.ones(1), np.ones(1)) == MeanInterval(1.0, -np.inf, np.inf)


# --- impressions ------------------------------------------------------------------------------------------------


def test_items_shown_in_vain_go_down_and_come_back(shop):
    said = {"k": 3, "impressions": {"discount": 3.0, "half_life": "1h"}}
    first = shop.list(user="ann", list_id="a", **said)
    assert ids(first) == ids(shop.list(user="ann", k=3)) == ids(shop.list(user="ann", list_id="a", **said))
    second = shop.list(user="ann", list_id="b", **said)
    assert not set(ids(first)) & set(ids(second))
    assert ids(shop.list(user="bob", list_id="b", **said)) == ids(first)  # of others nothing is known
    plain = {line["item"]: line["score"] for line in shop.list(user="ann", k=12)["items"]}
    shop.now += 3600
    for line in shop.list(user="ann", list_id="c", at=NOW, **{**said, "k": 12})["items"]:
        off = 1.5 * (line["item"] in ids(first) + ids(second))
        assert line["score"] == pytest.approx(plain[line["item"]] - off, abs=1e-3)
    shop.now += 3600 * 40
    assert ids(shop.list(user="ann", list_id="d", at=NOW, **said)) == ids(first)


def test_an_event_of_an_item_ends_its_impressions(shop):
    said = {"k": 3, "impressions": True, "repeats": "allow"}
    first = shop.list(user="ann", list_id="a", **said)
    taken = first["items"][0]["item"]
    shop.client.post("/v1/events", json={"user": "ann", "item": taken})
    noted = shop.service._impressions.of("ann")
    assert [one.items for one in noted] == [ids(first)[1:]]
    shop.list(user="ann", list_id="b", **said)
    assert [one.list_id for one in shop.service._impressions.of("ann")] == ["a", "b"]


def test_impressions_outlive_a_restart_and_are_erased_with_their_user(shop):
    said = {"k": 3, "impressions": True}
    first = shop.list(user="ann-the-user", list_id="list-of-ann", **said)
    shop.close()
    assert any(b"list-of-ann" in file.read_bytes() for file in shop.path.parent.glob("s.db*"))
    shop.open()
    assert [one.items for one in shop.service._impressions.of("ann-the-user")] == [ids(first)]
    assert shop.client.delete("/v1/users/ann-the-user").status_code == 200
    assert shop.service._impressions.of("ann-the-user") == []
    for file in shop.path.parent.glob("s.db*"):
        assert b"list-of-ann" not in file.read_bytes(), file
    assert shop.client.post("/v1/recommend", json={"user": "ann-the-user", **said}).status_code == 410


def test_impressions_are_bounded_and_no_part_of_the_log(shop):
    for n in range(70):
        shop.list(user="ann", k=2, impressions=True, list_id=f"{n}")
    assert [one.list_id for one in shop.service._impressions.of("ann")] == [f"{n}" for n in range(20, 70)]
    assert shop.store.log() == [] and shop.store.head("ann", IMPRESSIONS).version == 0
    told = shop.client.post("/v1/events", json={"user": "ann", "item": "002"}).json()
    assert told["events"][0]["seq"] == 1
