"""The search for settings: it finds what is planted, goes on where it stopped, and says when a gain is noise."""

import json
import re

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import segue
from segue.cli import app as cli
from segue.config import DataSize, configure, derive, read_config
from segue.errors import ArgumentError, ConfigError, TrainingError
from segue.jobs import tune
from segue.jobs.tune import OnValidation, search, space, study_in
from segue.metrics.bootstrap import Interval
from tests_support import small_recommender

optuna = pytest.importorskip("optuna")
USERS = np.repeat(np.arange(300), 2)
CHECKS = tune._who_checks(USERS)


def config(settings):
    return derive(configure(settings), DataSize(10_000, 300, 500, True, 0.0))


def model(gain, calls=None):
    """Return a `measure` in which a learning rate near .012 gains so much: on users who choose, who check."""

    def measure(settings, watch):
        rate = settings.get("train.learning_rate", 0.004)
        near = np.exp(-((np.log(rate / 0.012) / 0.5) ** 2))
        if calls is not None:
            calls.append(settings)
        chances = 0.2 + near * np.where(CHECKS, gain[1], gain[0])
        lucky = np.random.default_rng(0).random(len(USERS)) < chances
        return OnValidation(config(settings), lucky.astype(float), USERS)

    return measure


def study():
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))


def rate_alone():
    """Return settings that leave the learning rate alone to be searched."""
    own = {path: path.split(".") for path in space(config({}), {}) if path != "train.learning_rate"}
    return {path: getattr(getattr(config({}), part), name) for path, (part, name) in own.items()}


def test_the_best_is_found_and_its_gain_is_measured_on_users_who_did_not_choose():
    found = search(model((0.4, 0.4)), study(), rate_alone(), 60, trials=20)
    assert (found.trials, found.found) == (20, True)
    assert 0.008 < found.settings["train.learning_rate"] < 0.018
    assert found.gain.low > 0.1 and not found.noise
    lucky = search(model((0.4, 0.0)), study(), rate_alone(), 60, trials=10)
    chosen_by = model((0.4, 0.0))(lucky.settings, None).values[~CHECKS]
    assert lucky.best == pytest.approx(chosen_by.mean())
    assert lucky.found and lucky.noise and lucky.gain.mean == 0  # those who chose gained, and nobody else
    assert "The gain may be noise: the defaults are the safer choice." in str(lucky)


def test_where_the_defaults_are_best_nothing_but_the_fixed_settings_is_chosen():
    fixed = {"train.epochs": "3", "train.learning_rate": 0.4}
    found = search(model((0.0, 0.0)), study(), fixed, 60, trials=5)
    assert not found.found
    assert found.settings == {"train.epochs": 3, "train.learning_rate": 0.4}
    assert "No trial is better than the defaults." in str(found)


def test_a_second_run_goes_on_and_another_log_begins_anew(tmp_path):
    calls = []
    first = search(model((0.4, 0.4), calls), study_in(tmp_path / "a", "x"), {}, 60, trials=3)
    assert len(calls) == first.trials == 3
    again = search(model((0.4, 0.4), calls), study_in(tmp_path / "a", "x"), {}, 60, trials=5)
    assert len(calls) == again.trials == 5
    assert sum(call == {} for call in calls) == 1  # the defaults are trained once
    rates = [call["train.learning_rate"] for call in calls if call]
    assert len(set(rates)) == len(rates)
    assert search(model((0.4, 0.4), calls), study_in(tmp_path / "a", "y"), {}, 0.0).trials == 1
    assert sum(call == {} for call in calls) == 2


def test_a_trial_that_falls_behind_is_stopped_and_one_that_fails_is_named():
    said, number = [], iter(range(99))

    def measure(settings, watch):
        at = next(number)
        if at == 2:
            raise TrainingError("the loss is not a number")
        for epoch in range(6):
            if watch:
                watch(tune_progress(epoch, 0.01 if at == 9 else 0.5))
        return model((0.4, 0.4))(settings, watch)

    one = study()
    one.pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2)
    found = search(measure, one, rate_alone(), 60, said.append, trials=12)
    assert "failed: the loss is not a number" in said[3]
    assert ["stopped early" in line for line in said[1:]] == [at == 9 for at in range(12)]
    assert (found.trials, found.stopped) == (10, 2)


def tune_progress(epoch, score):
    from segue.training.trainer import Progress

    return Progress(epoch, epoch, 6, 1.0, 1.0, 1.0, {"ndcg@10": score}, epoch_ended=True)


def test_what_is_fixed_is_not_searched():
    every = space(config({}), {})
    left = space(config({"model.width": 32}), {"model.depth": 1})
    assert set(every) - set(left) == {"model.depth"}
    assert 32 in left["model.width"].choices
    for path, each in every.items():  # the defaults can be a trial
        part, name = path.split(".")
        assert each._contains(each.to_internal_repr(getattr(getattr(config({}), part), name)))


def test_the_command_writes_a_file_that_train_reads(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    table = pl.DataFrame({"user": rng.integers(0, 30, 600).astype(str), "item": rng.integers(0, 12, 600).astype(str)})
    table.with_columns(time=np.sort(rng.integers(0, 10**9, 600))).write_csv(tmp_path / "log.csv")
    logs = []

    def train(events, *, config, report, **tables):
        logs.append(events)
        return small_recommender(segue.data.sequences.sequences.item_vocabulary(events), seed=len(logs))

    monkeypatch.setattr(tune, "train", train)
    out = tmp_path / "best.toml"
    given = ["tune", str(tmp_path / "log.csv"), "--minutes", "0.01", "-o", str(out), "--set", "train.epochs=2"]
    noted = tmp_path / "trials.jsonl"
    done = CliRunner().invoke(cli.app, [*given, "--hold-out", "time:0.2", "--log", str(noted)])
    assert done.exit_code == 0, done.output
    assert f"{out}: " in done.output
    trials = [json.loads(line) for line in noted.read_text().splitlines()]
    assert [each["trial"] for each in trials] == list(range(1, len(logs) + 1))
    assert trials[0]["state"] == "complete" and "train.learning_rate" in trials[0]["settings"]
    assert configure(read_config(out)).train.epochs == 2
    assert out.with_name("best.toml.trials").exists()
    # The last fifth is the test, and the last tenth of the rest is validation.
    whole = segue.read_events(tmp_path / "log.csv")
    assert all(len(log) < 0.74 * len(whole) for log in logs)
    cut = segue.split_by_time(whole, test=0.2)[1].table["time"].min()
    assert all(log.table["time"].max() < cut for log in logs)


def test_the_file_says_what_was_gained():
    gain = Interval(0.01, -0.002, 0.022, 0.9)
    text = tune.Tuned({"train.refit": False, "model.cell": "gru", "train.epochs": 3}, True, gain, 0.3, 7, 2).to_toml("segue tune on x")  # fmt: skip  # noqa: E501
    assert tune.Tuned({}, True, gain, 0.3, 7, 2).noise
    assert text.startswith("# segue tune on x\n# 7 trials and 2 stopped early.\n# Gain over the defaults in NDCG@10")
    assert '\n[model]\ncell = "gru"\n\n[train]\nepochs = 3\nrefit = false\n' in text


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"train.task": "rating"}, ConfigError, "tune: expected a task with lists, came train.task rating."),
        ({"train.nothing": 1}, ConfigError, "config train.nothing: no such setting."),
    ],
)
def test_what_cannot_be_searched_is_refused(settings, error, said, tmp_path):
    log = segue.read_events(pl.DataFrame({"user": ["a"], "item": ["x"]}), time="none")
    with pytest.raises(error, match=re.escape(said)):
        tune.tune(log, minutes=1, kept=tmp_path / "t", settings=settings)
    (tmp_path / "t").write_text("no journal\n")
    with pytest.raises(ArgumentError, match="expected the trials of an earlier search or no file"):
        study_in(tmp_path / "t", "x")
