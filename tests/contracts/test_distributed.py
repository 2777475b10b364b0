"""Training by several workers on a real Ray: one start for all tests."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import segue
from engines import missing
from segue.config import configure
from segue.data.log.events import Events
from segue.errors import ArgumentError, TrainingError
from segue.training.distributed import cluster
from segue.training.distributed.cluster import Workers, connected
from segue.training.distributed.files import load_arrays, load_facts, save_worker

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Ray itself

SETTINGS = {
    "model.width": 8, "model.depth": 1, "model.trends": "off", "model.transitions": False, "train.epochs": 2,
    "train.batch_size": 8, "train.negatives": 16, "train.patience": 9,
}  # fmt: skip


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    try:
        import ray
    except ImportError:
        missing("no ray here")
    with connected(Workers(2), print):
        yield ray


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 12)
    items = (rng.integers(0, 20, 60)[:, None] * 15 + np.arange(12)).ravel() % 300  # what follows is the next item
    return Events(pl.DataFrame({"user": users.astype(str), "item": items.astype(str), "time": np.arange(720) * 10**6}))


def workers_of(process):
    """The processes of Ray Train's workers below a process."""
    found, parents = [], {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [one for one in found if parents.get(parents.get(one)) == process]


def test_a_killed_worker_goes_on_from_the_checkpoint(ray, log, tmp_path):
    kept, seen, lines = tmp_path / "m.checkpoint", [], []

    def kill_once(at):
        if at.epoch_ended and at.epoch == 1 and not [one for one in seen if one.epoch == 1]:
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
        seen.append(at)

    how = {"workers": 2, "checkpoint": kept, "say": lines.append}
    rec = segue.train(log, config=SETTINGS | {"train.epochs": 3}, report=kill_once, **how)
    ended = [at.epoch for at in seen if at.epoch_ended]
    assert ended[:2] == [0, 1] and ended[-1] == 2 and ended.count(0) == 1, ended
    assert any("Largest memory" in line for line in lines)
    assert rec.params.items.shape == (len(rec.items) + 1, 8) and np.abs(rec.params.items).sum(1).all()
    assert [row["epoch"] for row in rec.facts["curve"]] == [0, 1, 2]


def test_fewer_cores_than_workers_are_refused(ray):
    with pytest.raises(ArgumentError, match="--workers 50: expected a cluster with a core for each, came "):
        connected(Workers(50), print).__enter__()


def test_a_cluster_that_does_not_answer_is_said(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ArgumentError, match=r"--address 127\.0\.0\.1:9: expected a Ray cluster, none answers"):
        connected(Workers(2, "127.0.0.1:9"), print).__enter__()


def test_a_checkpoint_of_another_kind_of_run_is_refused(log, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="checkpoint of a run without workers, came one with"):
        segue.train(log, config=SETTINGS, checkpoint=tmp_path / "folder", resume=True)
    with pytest.raises(ArgumentError, match="checkpoint of a run with workers, came one without"):
        segue.train(log, config=SETTINGS, checkpoint=tmp_path / "file", resume=True, workers=2)


def test_without_ray_the_message_names_the_extra(monkeypatch, log):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"pip install 'segue\[ray\]'"):
        segue.train(log, config=SETTINGS, workers=2)


@pytest.mark.parametrize("fault", ["cut", "absent", "facts", "other"])
def test_a_damaged_checkpoint_is_not_taken_for_whole(tmp_path, fault):
    tree, same = (np.arange(4.0), np.ones((2, 3), np.float32)), {"workers": 2}
    save_worker(tmp_path, 0, tree, same)
    got = load_arrays(tmp_path, 0, tree[1:], skip=1)
    np.testing.assert_array_equal(got[0], tree[1])
    file = tmp_path / "worker-0-1.npy"
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    elif fault == "absent":
        file.unlink()
    elif fault == "facts":
        (tmp_path / "worker-0.json").write_text("{")
    same = {"workers": 3} if fault == "other" else same
    with pytest.raises(TrainingError, match=r"damaged|another number of workers"):
        load_facts(tmp_path, 0, same), load_arrays(tmp_path, 0, tree)


def test_a_worker_without_memory_is_said(ray, tmp_path):
    job = cluster.Job(None, configure(), tmp_path, None, False, False, None)
    failed = Exception()
    failed.worker_failures = {1: ray.exceptions.OutOfMemoryError("killed")}
    said = str(cluster._explained(failed, job, ray))
    assert "ran out of memory" in said and "--resume" in said
