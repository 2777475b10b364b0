"""A baseline that crashes, takes too much, raises or never ends is named, and the report of all others stands."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

import planted
import segue
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.evaluation import registry
from segue.evaluation.baselines import separate_process
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, Popularity
from segue.evaluation.baselines.ease import EASE
from segue.evaluation.baselines.rating_baselines import GRIDS, Ratings, Size, predict_all, predict_tuned
from segue.evaluation.baselines.separate_process import Failure, call_each
from segue.evaluation.cold_start import by_history
from tests_support import small_recommender


@pytest.fixture(scope="module")
def halves():
    rng = np.random.default_rng(4)
    table = pl.DataFrame({"user": rng.integers(0, 30, 400).astype(str), "item": rng.integers(0, 40, 400).astype(str)})
    log = segue.read_events(table.with_columns(time=np.sort(rng.integers(0, 10**9, 400))))
    train, test = segue.split_last(log)
    return small_recommender(item_vocabulary(train)), train, test


SOUND = (Popularity, DecayedMarkov, EASE)
FAULTS = {
    planted.Segfault: r"a library ended its process \(SIGSEGV, Segmentation fault\)\.",
    planted.Killed: r"the system killed its process \(SIGKILL\), most often because memory ran out: [\d.]+ GiB",
    planted.Aborted: r'a library ended its process \(SIGABRT, Aborted\)\. Its last message: "BLAS: bad memory unall',
    planted.Exits: r"its process ended with code 3\.",
    planted.Greedy: r"memory ran out \(Unable to allocate 8\.00 GiB .*\)\. Measure where there is more",
    planted.Raises: r"RuntimeError: the moon is full",
    planted.ScoresBadly: r"a library ended its process \(SIGSEGV",
}


def test_the_report_stands_whatever_a_baseline_does(halves, monkeypatch):
    rec, train, test = halves
    monkeypatch.setattr(registry, "BASELINES", (Popularity, *FAULTS, DecayedMarkov, EASE))
    said = []
    report = segue.evaluate(rec, test, train=train, say=said.append)
    # Those that are sound have the very numbers that they have in this process.
    sequences, size = encode(train, rec.vocabulary), rec.vocabulary.size
    monkeypatch.setattr(registry, "BASELINES", SOUND)
    beside = registry.fit_all(registry.TrainingData(sequences, size))
    assert report.rows == segue.evaluate(rec, test, baselines=beside.fitted).rows
    assert len(report.rows) == 4
    assert len(report.notes) == len(FAULTS)
    for kind, note in zip(FAULTS, report.notes, strict=True):
        assert note.startswith(f"Left out: {kind.title}: ")
        assert re.search(FAULTS[kind], note), note
    assert said[0] == "Tuning baseline 1 of 10: popularity."
    assert said[-2] == "Tuning baseline 10 of 10: EASE."


def test_a_baseline_that_does_not_end_is_stopped(halves, monkeypatch):
    rec, train, test = halves
    monkeypatch.setattr(registry, "BASELINES", (planted.Hangs, Popularity))
    monkeypatch.setattr(separate_process, "LONGEST", 5.0)
    report = segue.evaluate(rec, test, train=train)
    assert list(report.rows) == ["segue", "popularity"]
    (note,) = report.notes
    assert note.startswith("Left out: hangs: it had not ended after 5 seconds and was stopped. Fit it with segue.ev")


def test_a_cold_start_stands_as_well(halves, monkeypatch):
    rec, train, test = halves
    new = segue.read_events(test.table.with_columns(user=pl.lit("new ") + pl.col("user").cast(pl.String)))
    monkeypatch.setattr(registry, "BASELINES", (planted.Segfault, Popularity))
    found = by_history(rec, new, counts=(0,), train=train)
    assert list(found.first[0].models) == list(found.last[-1].models) == ["segue", "popularity"]
    assert "segfault: a library ended its process" in found.notes[0]


def test_a_class_that_only_this_process_knows_is_fitted_here_and_may_raise(halves, monkeypatch):
    @dataclass(frozen=True)
    class Own(ItemKNN):
        title: ClassVar[str] = "own"

        def count(self, sequences, n_items, features=None):
            pids.append(os.getpid())
            raise MemoryError("Unable to allocate 9 GiB")

    pids, (rec, train, test) = [], halves
    monkeypatch.setattr(registry, "BASELINES", (Popularity, Own, DecayedMarkov))
    report = segue.evaluate(rec, test, train=train)
    assert [name.partition(" (")[0] for name in report.rows] == ["segue", "popularity", "decayed Markov"]
    assert report.notes == (
        "Left out: own: memory ran out (Unable to allocate 9 GiB). Measure where there is more, or keep fewer items.",
    )
    assert set(pids) == {os.getpid()}


def test_a_class_of_a_file_that_no_path_leads_to_is_fitted_apart(tmp_path, monkeypatch):
    file = tmp_path / "far_away.py"
    file.write_text("import os\ndef pid(given): return os.getpid() + given\nclass Key: pass\n")
    spec = separate_process.importlib.util.spec_from_file_location("far_away", file)
    module = separate_process.importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "far_away", module)
    spec.loader.exec_module(module)
    (found,) = call_each(planted.name_and_process, None, [module.Key])
    assert found[0] == "Key" and found[1] != os.getpid()


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/true", "", None])
def test_where_no_process_can_be_begun_all_is_done_here(halves, monkeypatch, executable):
    rec, train, test = halves
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(registry, "BASELINES", (planted.Raises, Popularity))
    report = segue.evaluate(rec, test, train=train)
    assert list(report.rows) == ["segue", "popularity"]
    assert report.notes == ("Left out: raises: RuntimeError: the moon is full",)


def test_one_process_serves_until_it_ends_and_none_is_left():
    given = call_each(planted.crash_at, 10, [0, 1, 2, 3, 4, 5])
    found = [next(given) for _ in range(5)]
    assert isinstance(found[2], Failure)
    (zero, first), (one, again), (three, second), (four, last) = found[:2] + found[3:]
    assert (zero, one, three, four) == (10, 11, 13, 14)
    assert first == again != second == last
    assert os.getpid() not in (first, second)
    given.close()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_baselines_of_ratings_predict_what_they_do_here_and_a_fault_is_named(monkeypatch):
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 5, 60), rng.integers(0, 6, 60)
    every = Ratings(user, item, rng.integers(1, 6, 60).astype(float), np.arange(60))
    given = every.rows(slice(0, 50)), every.rows(slice(50, 60)), Size(5, 6)
    expected = [predict_tuned(given, name) for name in GRIDS]
    monkeypatch.setitem(GRIDS, "known here alone", GRIDS["biases"])
    found, left_out = predict_all(*given)
    assert list(found) == [name for name, _ in expected]
    for name, one in expected:
        np.testing.assert_array_equal(found[name], one)
    assert left_out == ("Left out: known here alone: KeyError: 'known here alone'",)
    assert [name.partition(" (")[0] for name in predict_all(*given, moving=False).predicted] == [
        "global mean",
        "biases",
        "biased factors",
    ]


def test_without_ratings_to_learn_from_baselines_of_ratings_are_named():
    one = Ratings(np.zeros(1, int), np.zeros(1, int), np.ones(1), np.zeros(1, int))
    found, left_out = predict_all(one.rows(slice(0, 0)), one, Size(1, 1))
    assert found == {}
    assert left_out[0] == (
        "Left out: global mean: expected training ratings before the held-out ones, came none. Give a log with both."
    )
    assert len(left_out) == len(GRIDS)


def test_a_baseline_that_is_given_and_raises_costs_itself_alone(halves):
    class Faulty:
        def score(self, histories):
            return np.zeros((len(histories), 3), np.float32)

    rec, train, test = halves
    sound = Popularity().fit(encode(train, rec.vocabulary), rec.vocabulary.size)
    report = segue.evaluate(rec, test, baselines={"faulty": Faulty(), "sound": sound})
    assert list(report.rows) == ["segue", "sound"]
    assert report.notes[0].startswith("Left out: faulty: ")


SCRIPT = """
import segue, polars as pl, planted
from segue.evaluation import registry
from segue.data.sequences.sequences import item_vocabulary
from tests_support import small_recommender
print("once")
class Own(registry.Popularity):
    title = "own"
    def of_counts(self, counts):
        return registry.Popularity().of_counts(counts)
registry.BASELINES = (planted.Segfault, Own, registry.Popularity)
rows = {"user": ["a", "a", "a", "b", "b"], "item": list("xyxyx"), "time": [1, 2, 3, 4, 5]}
train, test = segue.split_last(segue.read_events(pl.DataFrame(rows)))
report = segue.evaluate(small_recommender(item_vocabulary(train)), test, train=train)
print(*report.rows, len(report.notes))
"""


def test_a_script_without_a_guard_runs_once(tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    (tmp_path / "json.py").write_text("raise SystemExit('a file beside a script is no library')")
    done = subprocess.run(
        [sys.executable, "-P", tmp_path / "run.py"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["once", "segue popularity 1"], done.stderr


TOLD = """
import planted, sys
from segue.evaluation.baselines.separate_process import call_each
list(call_each(planted.tell, sys.argv[1], [1]))
"""


def test_no_process_outlives_the_one_with_the_report(tmp_path):
    told = tmp_path / "pid"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", TOLD, told], env=environment) as parent:
        waited_for(told.exists)
        parent.kill()
    process = Path(f"/proc/{told.read_text()}")
    waited_for(lambda: not process.exists())


def waited_for(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
