"""A time budget holds for all of a training, whatever takes the time; a clock that is made says so in no time."""

import numpy as np
import pytest

import segue
from segue.data.log import synthetic
from segue.data.sequences.sequences import encode, item_vocabulary
from segue.training import blend, trainer
from segue.training import budget as budgets
from segue.training.budget import Budget, Every, blend_seconds

QUICK = {"model.width": 8, "model.depth": 1, "train.batch_size": 8, "train.seed": 1}


class Clock:
    """A clock that goes on when work is done, and by a millisecond whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-3
        return self.now

    def taking(self, work, seconds, first=None):
        """Return the work, which then takes so many seconds, the first time more."""
        took = iter([first if first is not None else seconds])

        def done(*given, **named):
            found = work(*given, **named)
            self.now += next(took, seconds)
            return found

        return done


LOG = segue.read_events(synthetic.ring(items=12, users=60, length=12).events)


@pytest.fixture(name="clock")
def a_machine_of_known_speed(monkeypatch):
    """Five seconds of compiling, half a second for an update, two for a validation, a fifth to try counts once."""
    clock = Clock()
    plain = trainer.update_many

    def update_many(network, config, run, many, count, known):
        clock.now += 0.5 * int(count)
        return plain(network, config, run, many, count, known)

    monkeypatch.setattr(trainer, "update_many", clock.taking(update_many, 0.0, first=5.0))
    monkeypatch.setattr(trainer.Validation, "answered", clock.taking(trainer.Validation.answered, 2.0))
    monkeypatch.setattr(blend._Search, "counts", clock.taking(blend._Search.counts, 0.2))
    monkeypatch.setattr(blend, "recounted", clock.taking(blend.recounted, 0.5))
    monkeypatch.setattr(budgets, "Budget", lambda seconds: made.append(Budget(seconds, clock)) or made[-1])
    made = clock.made = []
    return clock


def train(minutes, **settings):
    said, reports = [], []
    config = QUICK | {"train.minutes": minutes, "train.epochs": 10_000, "train.patience": 10_000} | settings
    return segue.train(LOG, config=config, say=said.append, report=reports.append), said, reports


@pytest.mark.parametrize("seconds", [45, 90, 300])
def test_all_of_a_training_fits_into_its_budget(clock, seconds):
    rec, said, reports = train(seconds / 60)
    assert seconds * 0.8 < clock.now <= seconds * 1.02, said[-1]
    assert said[-1].startswith(f"Took {clock.made[0].spent() - 1e-3:.1f} of {seconds:.1f} s (reading ")
    assert "over" not in said[-1] and "compiling 5.5" in said[-1]
    assert clock.made[0].parts["updates"] > 0.4 * seconds  # most of the time is learnt in
    assert rec.recommend(rec.start(), 3) and reports[-1].validation


def test_a_search_that_is_stopped_early_says_so(clock):
    _, said, _ = train(0.5)
    [line] = [line for line in said if line.startswith("NDCG@10 on validation") or "are left out" in line]
    assert "; stopped early by train.minutes: " in line
    _, said, _ = train(None, **{"train.epochs": 1})
    assert any(line.startswith("Tuning the blend: ") for line in said)
    assert not any("stopped early" in line or line.startswith("Took ") for line in said)


def test_a_budget_that_is_too_small_gives_a_model_and_says_why_it_was_overrun(clock):
    rec, said, reports = train(0.05)
    assert said[-1].startswith("Took ") and " of 3.0 s (" in said[-1]
    assert " s over, because " in said[-1] and "compiling cannot be interrupted" in said[-1]
    assert "Raise train.minutes to " in said[-1]
    assert reports[-1].done == 1 and clock.now < 15
    assert len(rec.recommend(rec.start(), 5)) == 5 and all(
        np.isfinite(line.score) for line in rec.recommend(rec.start())
    )


def test_a_resumed_run_has_what_its_updates_left(clock, tmp_path):
    kept, seen = tmp_path / "run.checkpoint", []

    def stop(report):
        seen.append(report)
        if report.seconds > 20 and report.epoch_ended:
            raise KeyboardInterrupt

    config = QUICK | {"train.minutes": 1.0, "train.epochs": 10_000, "train.patience": 10_000}
    with pytest.raises(KeyboardInterrupt):
        segue.train(LOG, config=config, checkpoint=kept, report=stop)
    before, said = clock.now, []
    assert kept.exists()
    segue.train(LOG, config=config, checkpoint=kept, resume=True, say=said.append)
    earlier = clock.made[1].earlier
    assert 10 < earlier < 60 and f"{earlier:.0f} s of it before the run was resumed" in said[-1]
    assert earlier + clock.now - before <= 61.5
    segue.train(LOG, config=config | {"train.minutes": 0.1}, checkpoint=kept, resume=True, say=said.append)
    assert " s over" in said[-1]  # nothing is left, what was learnt is used


def test_with_a_real_clock_it_ends_in_time():
    budget = 10.0
    begun = budgets.time.perf_counter()
    said = []
    segue.train(LOG, config=QUICK | {"train.minutes": budget / 60, "train.epochs": 100_000}, say=said.append)
    assert budgets.time.perf_counter() - begun < 2.5 * budget, said[-1]  # of a machine that others use, too
    assert f" of {budget:.1f} s (" in said[-1]


def test_fewer_users_are_validated_where_there_is_no_time_for_all():
    sequences = encode(LOG, item_vocabulary(LOG))
    whole = trainer.Validation(sequences, exclude_seen=True)
    half = whole.subset(len(sequences.items) // 2)
    assert len(half.sequences) == len(sequences) // 2 and whole.subset(10**9) is whole
    assert len(whole.subset(0).sequences) == 1


def test_lines_on_a_long_part_come_every_few_seconds():
    now, said = iter([0.0, 1.0, 6.0, 6.0, 8.0, 12.0, 12.0]), []
    tell = Every(said.append, lambda: next(now))
    for text in "abcd":
        tell(text)
    assert said == ["b", "d"]


def test_what_the_blend_takes_is_bounded_and_the_least_is_less():
    many, few = (blend_seconds(10**9, 2048, 10**6, least=least) for least in (False, True))
    assert few < many <= 6e9 / 2e8 + 7 * 20 * 1e7 / 3e7
