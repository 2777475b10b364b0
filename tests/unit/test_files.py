"""What Segue writes has the mode that the umask gives, or that of the file in whose place it comes; keys are secret."""

import os

import numpy as np
import polars as pl
import pytest

from segue.files import replacing, write_arrays
from segue.jobs.resumable_parquet import ResumableParquet
from segue.model_file import name_running
from segue.serve.http.auth import add_key, remove_key
from tests_support import small_recommender


@pytest.fixture(params=[0o022, 0o002, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


def written(folder):
    """Write files of every kind, and return their paths."""
    small_recommender().save(folder / "model.segue")
    name_running(folder / "model.segue")
    write_arrays(folder / "checkpoint", {"0": np.zeros(3)}, {})
    parts = ResumableParquet(folder / "lists.parquet", {"job": 1})
    parts.add(pl.DataFrame({"user": ["a"]}))
    parts.finish(pl.DataFrame())
    return sorted(folder.iterdir())


def test_a_new_file_is_for_whom_the_umask_lets(umask, tmp_path):
    modes = {path.name: mode(path) for path in written(tmp_path)}
    assert set(modes.values()) == {0o666 & ~umask}
    assert len(modes) == 4


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o444, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(umask, kept, tmp_path):
    paths = written(tmp_path)
    for path in paths:
        path.chmod(kept)
    assert {mode(path) for path in written(tmp_path)} == {kept}


def test_keys_are_their_owners_alone_while_they_are_written_too(umask, tmp_path):
    path = tmp_path / "keys.json"
    path.write_text('{"keys": []}')
    path.chmod(0o664)
    with replacing(path, secret=True) as part:
        assert mode(part) == 0o600
        part.write_text('{"keys": []}')
    assert mode(path) == 0o600
    path.chmod(0o644)
    add_key(path, "web", "read")
    assert mode(path) == 0o600
    path.chmod(0o644)
    remove_key(path, "web")
    assert mode(path) == 0o600
    add_key(tmp_path / "new.json", "web", "read")
    assert mode(tmp_path / "new.json") == 0o600


def broken(path):
    with replacing(path) as part:
        assert mode(part) == 0o640
        part.write_text("new")
        raise ZeroDivisionError


def test_a_writer_that_fails_leaves_the_old_file_with_its_mode_and_no_other(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(ZeroDivisionError):
        broken(path)
    assert (path.read_text(), mode(path), list(tmp_path.iterdir())) == ("old", 0o640, [path])
