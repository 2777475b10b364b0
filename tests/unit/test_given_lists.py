"""Lists of other libraries in a report: the model's own lists, given as a table, have its very numbers."""

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli.app import app
from segue.data.log.split import digest
from segue.data.sequences.sequences import item_vocabulary
from segue.errors import ArgumentError
from segue.evaluation.comparison_report.pairs import between
from segue.evaluation.protocols import measure
from segue.model_file import with_fingerprint
from tests_support import small_recommender


@pytest.fixture(name="held", scope="module")
def a_model_and_its_own_lists_as_a_table(tmp_path_factory):
    rng = np.random.default_rng(4)
    rows = pl.DataFrame({"user": rng.integers(0, 30, 600), "item": rng.integers(0, 60, 600)})
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    rows.with_columns(time=np.sort(rng.integers(0, 10**9, 600))).write_parquet(path)
    train, test = segue.hold_out(segue.read_events(path), "last:2")
    rec = small_recommender(item_vocabulary(train))
    found = measure(rec, test)
    users = found.queries.sequences.users.gather(found.queries.users)
    lists = np.concatenate(found.rankings["segue"].lists)
    assert (lists > 0).all()
    table = pl.DataFrame({"user_id": users.cast(pl.Int64), "item_id": rec.vocabulary.ids.to_numpy()[lists - 1]})
    table = table.with_columns(event=pl.int_range(1, pl.len() + 1).over("user_id"))
    table = table.explode("item_id").with_columns(score=-pl.int_range(pl.len()).cast(pl.Float64))
    return rec, train, test, table.sample(fraction=1.0, shuffle=True, seed=1), path


def test_given_lists_have_the_numbers_of_the_model_that_made_them(held):
    rec, train, test, table, _ = held
    report = segue.evaluate({"mine": rec, "SASRec": table}, test, train=train, baselines="popularity", cases=12)
    numbers = json.loads(json.dumps(report.to_dict()))
    mine, given = (numbers["models"][name] for name in ("mine", "SASRec"))
    known = {name for name in mine["metrics"] if not name.endswith("@20")}
    assert set(given["metrics"]) == known
    assert given["metrics"] == pytest.approx({name: mine["metrics"][name] for name in known})
    assert given["intervals"] == {name: mine["intervals"][name] for name in given["intervals"]}
    assert between(numbers["pairs"], "mine", "SASRec")["mean"] == 0.0
    assert numbers["curves"]["hr"]["SASRec"] == [*numbers["curves"]["hr"]["mine"][:10], *[None] * 40]
    assert numbers["catalogue"]["SASRec"] == pytest.approx(numbers["catalogue"]["mine"])
    for case in numbers["cases"]:
        one, other = case["models"]["mine"], case["models"]["SASRec"]
        assert one["list"] == other["list"]
        assert (other["rank"], other["beyond"]) == ((one["rank"], None) if one["rank"] <= 10 else (None, 10))
    assert "SASRec is a table of lists of up to 10 items: it has no metric of longer lists." in numbers["notes"]
    assert list(numbers["settings"]) == list(numbers["learning"]) == list(numbers["calibration"]) == ["mine"]
    assert "beyond 10" in report.to_html()
    assert report.to_frame().filter(model="SASRec")["ndcg@20"].to_list() == [None]


def test_a_list_for_each_user_is_of_the_one_event_that_is_predicted(held):
    rec, _, test, table, _ = held
    with pytest.raises(ArgumentError, match='expected a column "event", the number of the held-out event'):
        segue.evaluate([rec, table.filter(event=2).drop("event")], test)
    last = table.filter(event=2).drop("event").sort("score", descending=True)
    ranked = last.with_columns(rank=pl.int_range(1, pl.len() + 1).over("user_id")).drop("score")
    report = segue.evaluate({"mine": rec, "given": ranked}, test, targets="last", cases=0).to_dict()
    assert report["models"]["given"]["metrics"]["ndcg@10"] == report["models"]["mine"]["metrics"]["ndcg@10"]
    fewer = ranked.filter(pl.col("user_id") > 4)
    report = segue.evaluate({"mine": rec, "given": fewer}, test, targets="last", cases=0).to_dict()
    assert "given has no list for 5 of the 30 held-out events: misses." in report["notes"]


def test_seen_items_in_given_lists_are_named(held):
    rec, _, test, table, _ = held
    hides = replace(rec, config=replace(rec.config, train=replace(rec.config.train, repeats="exclude")))
    notes = segue.evaluate({"mine": hides, "given": table}, test, cases=0).to_dict()["notes"]
    (note,) = (note for note in notes if "seen items" in note)
    whole = test.joined_with_history().as_text()
    had = set(zip(whole["user"], whole["item"], strict=True))
    share = sum((str(user), item) in had for user, item in table.select("user_id", "item_id").iter_rows()) / len(table)
    assert 0 < float(re.search(r"at ([\d.]+)%", note)[1]) / 100 <= share


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop("score"), "expected columns user, item, and rank or score, found user_id, item_id"),
        (lambda table: pl.concat([table, table]), "expected each item once in a list, came"),
        (lambda table: table.filter(pl.col("score") > -9), "expected lists of 10 items or more, came"),
        (
            lambda table: table.with_columns(user_id=pl.col("user_id") + 1000),
            "expected lists of held-out users such as",
        ),
    ],
)
def test_tables_that_are_no_lists_are_refused(held, change, said):
    rec, _, test, table, _ = held
    with pytest.raises(ArgumentError, match=re.escape(said)):
        segue.evaluate({"mine": rec, "given": change(table)}, test)


def test_only_lists_are_no_report(held):
    with pytest.raises(ArgumentError, match="expected recommenders, came DataFrame"):
        segue.evaluate({"given": held[3]}, held[2])


def test_the_command_line_takes_lists_by_name(held, tmp_path):
    rec, _, test, table, path = held
    facts = {"hold_out": "last:2", "hold_out_digest": digest(test)}
    with_fingerprint(replace(rec, facts=facts)).save(tmp_path / "m.segue")
    table.write_csv(tmp_path / "sasrec.csv")
    files = [str(tmp_path / "m.segue"), str(path), "--baselines", "none"]
    lists = ["--lists", str(tmp_path / "sasrec.csv"), "--lists", f"GRU4Rec={tmp_path / 'sasrec.csv'}"]
    found = CliRunner().invoke(app, ["evaluate", *files, *lists, "--json"])
    assert found.exit_code == 0, found.output
    numbers = json.loads(found.stdout)
    assert list(numbers["models"]) == ["m", "sasrec", "GRU4Rec"]
    assert numbers["models"]["GRU4Rec"]["metrics"] == numbers["models"]["sasrec"]["metrics"]
    assert CliRunner().invoke(app, ["evaluate", *files, *lists[:2], *lists[:2]]).exit_code == 2
