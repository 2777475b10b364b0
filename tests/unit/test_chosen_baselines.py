"""Baselines by name, their kept settings, and what is told of their tuning."""

import io
import json
import re
import threading
from contextlib import nullcontext
from functools import partial

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import planted
import segue
from segue.data.sequences.sequences import item_vocabulary
from segue.errors import ArgumentError
from segue.evaluation import registry
from segue.evaluation.baselines import progress
from segue.evaluation.baselines.counting import OwnPopularity, Popularity, RecentPopularity
from segue.evaluation.baselines.separate_process import attempt, call_each
from tests_support import small_recommender


@pytest.fixture(scope="module")
def halves():
    rng = np.random.default_rng(4)
    table = pl.DataFrame({"user": rng.integers(0, 30, 400).astype(str), "item": rng.integers(0, 40, 400).astype(str)})
    log = segue.read_events(table.with_columns(time=np.sort(rng.integers(0, 10**9, 400))))
    train, test = segue.split_last(log)
    return small_recommender(item_vocabulary(train)), train, test


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Fit here: that baselines are fitted apart is tested elsewhere, and each start of a process takes a second."""

    def here(function, given, keys, *, heard, threads):
        return (attempt(partial(function, tell=heard), given, key) for key in keys)

    monkeypatch.setattr(registry, "call_each", here)
    monkeypatch.setattr(registry, "MOST", 1)


def test_names_choose_baselines_and_none_is_none(halves):
    rec, train, test = halves
    report = segue.evaluate(rec, test, train=train, baselines="recent, Popularity")
    assert [name.partition(" (")[0] for name in report.rows] == ["segue", "popularity", "recent popularity"]
    for none in ("none", [], ()):
        assert list(segue.evaluate(rec, test, train=train, baselines=none).rows) == ["segue"]
    notes = segue.evaluate(rec, test, train=train, baselines=["graph"]).notes
    assert notes == ("Left out: transition graph: expected features of the items, came none. Give a catalogue with attributes.",)  # fmt: skip  # noqa: E501


def test_baselines_tuned_side_by_side_are_those_tuned_one_after_the_other(halves, monkeypatch):
    rec, train, test = halves
    one = segue.evaluate(rec, test, train=train, baselines="recent,markov,item-knn")
    monkeypatch.setattr(registry, "MOST", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    threads = set[str]()
    inside = registry._tune_and_rank
    monkeypatch.setattr(
        registry,
        "_tune_and_rank",
        lambda *given, **more: (threads.add(threading.get_ident()), inside(*given, **more))[1],
    )
    beside = segue.evaluate(rec, test, train=train, baselines="recent,markov,item-knn")
    assert len(threads) > 1
    assert list(beside.rows) == list(one.rows) and beside.rows == one.rows


@pytest.mark.parametrize(
    ("names", "train", "said"),
    [
        (["markow"], True, 'came "markow". Did you mean "markov"?'),
        (
            "ease,xyz",
            True,
            "baselines: expected names among popularity, recent, own, markov, item-knn, session-knn, ease",
        ),
        ("ease", False, "baselines: expected the training events beside names such as ease, came none. Give train=."),
    ],
)
def test_names_that_mean_nothing_are_refused(halves, names, train, said):
    rec, learnt, test = halves
    with pytest.raises(ArgumentError, match=re.escape(said)):
        segue.evaluate(rec, test, train=learnt if train else None, baselines=names)


def test_a_second_evaluation_of_the_same_data_does_not_tune_again(halves, tmp_path, monkeypatch):
    rec, train, test = halves
    monkeypatch.setattr(registry, "BASELINES", (Popularity, RecentPopularity, planted.Raises))
    kept = tmp_path / "m.baselines.json"

    def lines(train, **more):
        said = []
        report = segue.evaluate(rec, test, train=train, keep=kept, say=said.append, **more)
        return report, [line.partition(" baseline")[0] for line in said[:-1]]

    first, said = lines(train)
    assert said == ["Tuning"] * 3
    again, said = lines(train)
    assert said == ["Fitting, with kept settings,"] * 2 + ["Tuning"]  # what raised has no settings
    assert again.rows == first.rows
    assert lines(train.with_table(train.table[:-1], "less"))[1] == ["Tuning"] * 3
    assert lines(train)[1][0] == "Fitting, with kept settings,"  # both keys are kept
    whole = json.loads(kept.read_text())
    for settings in whole["keys"].values():
        settings["recent popularity"]["half_life"] = -1
    kept.write_text(json.dumps(whole))
    assert lines(train)[1] == ["Fitting, with kept settings,", "Tuning", "Tuning"]
    kept.write_text("[" * 100_000)
    assert lines(train)[1] == ["Tuning"] * 3
    monkeypatch.setattr(registry, "data_key", lambda arrays, *facts: "the code is another")
    assert lines(train)[1] == ["Tuning"] * 3


def test_where_settings_cannot_be_kept_the_report_stands_and_says_so(halves, tmp_path):
    rec, train, test = halves
    report = segue.evaluate(rec, test, train=train, baselines=["recent"], keep=tmp_path / "no" / "m.json")
    assert len(report.rows) == 2
    assert "m.json: the settings of the baselines were not kept: No such file or directory." in report.notes[0]


def test_what_a_function_tells_is_heard_before_its_value():
    heard = []
    values = call_each(planted.doubled, 7, [1, 2], heard=heard.append)
    assert next(values) == 14
    assert heard == ["1 of 7"]
    assert (list(values), heard[1:]) == ([21], ["2 of 7"])


def test_the_progress_counts_baselines_and_trials(halves, monkeypatch):
    rec, train, test = halves
    steps = []
    monkeypatch.setattr("segue.evaluation.protocols.tuning_bar", lambda wanted: nullcontext(steps.append))
    segue.evaluate(rec, test, train=train, baselines="popularity,recent")
    assert [(step.title, step.number, step.of) for step in steps[:2]] == [("popularity", 1, 2)] * 2
    trials = [step.trials for step in steps if step.number == 2][:-1]
    assert trials == list(range(len(trials)))
    assert len(trials) == 1 + 7  # all values of its grid, the default among them
    assert steps[-1] == ("recent popularity", 2, 2, 1, 1)


def test_a_bar_is_shown_where_somebody_looks_and_nowhere_else(monkeypatch, capfd):
    step = progress.TuningStep("EASE", 2, 4, 3, 6)
    with progress.tuning_bar() as show:
        assert show is None
    out = io.StringIO()
    real = Console
    monkeypatch.setattr("rich.console.Console", lambda stderr: real(file=out, force_terminal=True, width=120))
    with progress.tuning_bar(wanted=False) as show:
        assert show is None
    with progress.tuning_bar() as show:
        show(step)
    assert "baseline 2 of 4: EASE" in out.getvalue()
    assert "3 trials" in out.getvalue()
    assert capfd.readouterr() == ("", "")


def test_own_popularity_is_named_as_useless_where_seen_items_are_excluded():
    data = registry.TrainingData(None, 5, None, True)
    able, obstacles = registry._able(data, registry.Chosen(("own", "popularity")))
    assert able == [Popularity]
    assert list(obstacles) == [OwnPopularity]
    assert OwnPopularity not in registry._able(data, registry.Chosen())[1]
