"""ring: after item i comes i + 1; a model that learns anything is right every time."""

import pytest

import segue
from segue.data.log import synthetic


def ring():
    return segue.read_events(synthetic.ring().events)


@pytest.mark.parametrize("cell", ["linear", "gru"])
def test_ring_top_one_is_exact(cell):
    train, test = segue.split_last(ring())
    settings = {"model.cell": cell, "model.width": 32, "train.epochs": 30, "train.repeats": "allow"}
    rec = segue.train(train, config=settings)
    assert segue.evaluate(rec, test, ks=(1,)).rows["segue"]["hr@1"] == 1.0
    state = rec.observe_all(rec.start(), ["i3", "i4"])
    assert rec.recommend(state, k=1)[0].item == "i5"


@pytest.mark.parametrize("where", ["between epochs", "inside an epoch"])
def test_ring_same_seed_same_weights_and_resume_is_no_interruption(tmp_path, monkeypatch, where):
    train, _ = segue.split_last(ring())
    monkeypatch.setattr("segue.training.trainer.CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr("segue.training.trainer.UPDATES_PER_CALL", 4)
    settings = {"model.width": 16, "train.epochs": 3}
    whole = segue.train(train, config=settings)
    assert segue.train(train, config=settings).fingerprint == whole.fingerprint

    class KilledError(Exception):
        pass

    def kill(progress):
        ended = progress.epoch_ended if where == "between epochs" else progress.done % 16 == 8
        if ended and progress.epoch == 1:
            raise KilledError

    kept = tmp_path / "run"
    with pytest.raises(KilledError):
        segue.train(train, config=settings, checkpoint=kept, report=kill)
    assert kept.exists()
    again = segue.train(train, config=settings, checkpoint=kept, resume=True)
    assert again.fingerprint == whole.fingerprint


def test_a_checkpoint_of_another_seed_is_refused(tmp_path):
    kept = tmp_path / "run.checkpoint"
    settings = {"train.epochs": 1, "model.width": 8, "train.seed": 1}
    segue.train(ring(), config=settings, checkpoint=kept)
    said = []
    longer = segue.train(ring(), config=settings | {"train.epochs": 2}, checkpoint=kept, resume=True, say=said.append)
    assert len(longer.facts["curve"]) == 2
    assert any("continuing at epoch 2" in line for line in said)
    with pytest.raises(segue.errors.TrainingError, match="other settings, another log or version"):
        segue.train(ring(), config=settings | {"train.seed": 2}, checkpoint=kept, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    import json

    from segue.files import read_arrays, write_arrays

    kept, settings = tmp_path / "run.checkpoint", {"train.epochs": 1, "model.width": 8}
    segue.train(ring(), config=settings, checkpoint=kept)
    arrays, metadata = read_arrays(kept)
    facts = json.loads(metadata["facts"])
    wrong = [{"epoch": 7}, {"best": 5}, {"window": 10**9}, {"seconds": -1.0}, {"curve": [{"a": 1}]}, {"other": 1}]
    for change in [json.dumps(facts | one) for one in wrong] + ["[" * 100_000, "[]", "7"]:
        write_arrays(kept, arrays, metadata | {"facts": change})
        with pytest.raises(segue.errors.TrainingError, match=r"run\.checkpoint: .*[Rr]emove the file"):
            segue.train(ring(), config=settings, checkpoint=kept, resume=True)
    first = {"0": arrays["0"].astype("float64")}
    for others in ({}, arrays | first, arrays | {"x": arrays["0"]}):
        write_arrays(kept, others, metadata)
        with pytest.raises(segue.errors.TrainingError, match="expected a checkpoint of this run"):
            segue.train(ring(), config=settings, checkpoint=kept, resume=True)
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(segue.errors.TrainingError, match="damaged"):
        segue.train(ring(), config=settings, checkpoint=kept, resume=True)
