"""`segue insight` and `segue recommend --plan`: files that are there and say what was computed, and bad input."""

import json
import sys

import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from segue.cli import app as cli
from segue.data.log import synthetic
from segue.errors import ArgumentError, SegueError
from segue.insight import recall, report
from segue.insight.cell_choices import NAMES, cell_of, settings_of
from segue.insight.gradients import gradient_by_lag
from segue.insight.recall import recall_at
from segue.model.cells import CELLS
from tests_support import small_recommender


def run(*words):
    """Return the exit code, the output and the error of the command line."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    error = done.exception
    if isinstance(error, SegueError):
        return 1, done.stdout, str(error)
    assert error is None or isinstance(error, SystemExit), error
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("insight") / "b.segue"
    small_recommender(repeats="exclude").save(path)
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("insight") / "log.csv"
    rows = [(f"u{u}", f"{(5 * u + t) % 12:03d}", 1_700_000_000 + 60 * t) for u in range(6) for t in range(9)]
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(path)
    return path


def written(folder):
    """Return the insights in a folder: each a figure that is not blank, with its numbers and a place in the page."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    found = {}
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 200 and len(image.convert("RGB").getcolors(1 << 24)) > 20, path
        assert f'src="{path.name}"' in page and f'href="{path.stem}.json"' in page
        found[path.stem] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def test_cells_have_insights(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "descend", lambda cell, **given: recorded(cell, **given))
    monkeypatch.setattr(report, "gradient_by_lag", lambda cell, **given: small_gradient(cell, **given))
    code, out, _ = run("insight", "-o", tmp_path / "f", "--cell", "simple_rnn", "--cell", "gru", "--seed", 4)
    assert code == 0 and "gradient-by-lag.png: The gradient by lag" in out and out.count("\n") == 4
    found = written(tmp_path / "f")
    assert set(found) == {"gradient-by-lag", "gradient-by-gain", "clipping"}
    exact = small_gradient(cell_of("gru"), seed=4)
    assert found["gradient-by-lag"]["gru"]["median"] == list(exact.median)
    assert list(found["gradient-by-gain"]) == ["tanh"] and set(found["gradient-by-gain"]["tanh"]) == {
        "0.8", "1.0", "1.2", "1.5",
    }  # fmt: skip
    assert [run["clip"] for run in found["clipping"]] == [1.0, None]


def small_gradient(cell, **given):
    return gradient_by_lag(cell, width=4, steps=6, batch_size=3, **given)


def recorded(cell, **given):
    from segue.insight.clipping import descend

    return descend(cell, updates=3, lag=4, **given)


def test_recall_is_a_training_run(tmp_path, monkeypatch):
    asked = []

    def quick(cell, lag, **given):
        asked.append((cell, lag, given["epochs"]))
        return recall_at(cell, lag, users=8, rounds=2, **given)

    monkeypatch.setattr(report, "recall_at", quick)
    monkeypatch.setattr(recall, "MEASURED", 20)
    monkeypatch.setattr(report, "gradient_by_lag", lambda cell, **given: small_gradient(cell, **given))
    code, _, _ = run("insight", "-o", tmp_path, "--cell", "linear", "--recall", 2, "--epochs", 1)
    assert code == 0 and asked == [("linear", 2, 1)]
    [row] = written(tmp_path)["recall-by-lag"]
    assert row["cell"] == "linear" and 0 <= row["recall"] <= 1 and row["best_epoch"] == 1


def test_a_model_has_insights(tmp_path, model, log):
    code, out, _ = run("insight", model, "-o", tmp_path / "drawn", "--lags", 5)
    assert code == 0 and "How far back the model remembers" in out
    found = written(tmp_path / "drawn")
    assert found["reach"]["reach"]["change"]["at"] == [0, 1, 2, 3, 4, 5] and found["reach"]["reach"]["users"] == 64
    assert len(found["gates"]["items"]) == 7 and len(found["gates"]["gates"]) == 2
    code, _, _ = run("insight", model, "-o", tmp_path / "log", "--events", log, "--user", "u3")
    found = written(tmp_path / "log")
    assert code == 0 and found["reach"]["reach"]["users"] == 6
    assert found["gates"]["items"] == [f"{(15 + t) % 12:03d}" for t in range(9)]
    assert len(found["reach"]["gradient"]["at"]) == 8


def test_bad_input_is_told(tmp_path, model, log, monkeypatch):
    code, _, error = run("insight", "-o", tmp_path, "--cell", "tcn")
    assert code == 1 and "cell: expected one of simple_rnn:tanh, simple_rnn:relu" in error and 'came "tcn"' in error
    assert run("insight", model, "-o", tmp_path, "--cell", "gru")[0] == 2
    assert run("insight", "-o", tmp_path, "--events", log)[0] == 2
    assert run("insight", model, "-o", tmp_path, "--user", "u1")[0] == 2
    code, _, error = run("insight", model, "-o", tmp_path, "--events", log, "--user", "nobody")
    assert code == 1 and 'expected events of user "nobody", found none' in error
    code, _, error = run("insight", "-o", tmp_path, "--recall", 1)
    assert code == 1 and "recall: expected lags from 2, came 1. A lag of 20" in error
    with pytest.raises(ArgumentError, match="expected steps from 1, came 0"):
        gradient_by_lag(cell_of("gru"), steps=0)
    monkeypatch.setitem(sys.modules, "segue.insight.figures", None)
    code, _, error = run("insight", "-o", tmp_path)
    assert code == 1 and 'matplotlib is not installed. Run: pip install "segue[plot]"' in error


def test_every_cell_has_a_name_and_settings_that_make_it():
    assert {name.partition(":")[0] for name in NAMES} == set(CELLS)
    assert cell_of("simple_rnn") == cell_of("simple_rnn:tanh") and cell_of("simple_rnn:relu").activation == "relu"
    assert settings_of("lstm") == {"model.cell": "lstm"}


def test_plans_on_the_command_line(model):
    rec = small_recommender(repeats="exclude")
    state = rec.observe_all(rec.start(), ["001", "004"])
    words = ("recommend", model, "--history", "001,004,nope", "--json", "--plan", 3)
    state = rec.observe(state, "nope")
    found = json.loads(run(*words)[1])
    best = rec.plan(state, 3)
    assert [line["item"] for line in found["items"]] == [line.item for line in best.items]
    assert found["log_probability"] == pytest.approx(best.log_probability, abs=1e-4) and found["unknown"] == ["nope"]
    assert json.loads(run(*words, "--beam", 1000)[1])["log_probability"] >= best.log_probability - 1e-6
    one, two, three = (run(*words, "--temperature", 3, "--seed", seed)[1] for seed in (1, 1, 2))
    assert one == two != three
    assert run(*words[:-1], 0)[0] == 1 and "expected n from 1" in run(*words[:-1], 0)[2]
    assert run(*words, "--beam", 2, "--temperature", 1)[0] == 2
    assert run("recommend", model, "--all", "--events", "x", "-o", "y", "--plan", 2)[0] == 2
    assert "film " in run("recommend", model, "--history", "001", "--plan", 2)[1]


def test_the_copy_task_is_the_one_that_is_described():
    shop = synthetic.copy(lag=6, users=1, rounds=1)
    items = shop.events["item"].to_list()
    assert items[0] == items[6]
