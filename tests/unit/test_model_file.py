"""A model is whole, unedited and of a known format, or it is refused; a failed save leaves the old one."""

import json

import pytest

import segue
from segue import files
from segue.errors import ModelError
from segue.files import read_arrays, write_arrays
from tests_support import small_recommender


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.segue"
    small_recommender().save(path)
    return path


def test_a_missing_or_cut_or_foreign_file_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match="found none"):
        segue.load(tmp_path / "nothing")
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged, cut short"):
        segue.load(model)
    model.write_text("user,item,time\na,x,1\n")
    with pytest.raises(ModelError, match="came another kind of file"):
        segue.load(model)
    write_arrays(model, {}, {"other": "kind"})
    with pytest.raises(ModelError, match="expected a model, came another kind of file"):
        segue.load(model)


def test_an_edited_part_is_named(model):
    whole = bytearray(model.read_bytes())
    whole[-1] ^= 1
    model.write_bytes(whole)
    with pytest.raises(ModelError, match=r"part (weights\.\S+|vocabulary|catalogue) was edited or damaged"):
        segue.load(model)


def test_an_edited_manifest_and_a_newer_format_are_refused(model):
    import hashlib

    arrays, metadata = read_arrays(model)
    newer = json.dumps(json.loads(metadata["segue"]) | {"format": 2})
    write_arrays(model, arrays, metadata | {"segue": newer})
    with pytest.raises(ModelError, match="the manifest was edited or damaged"):
        segue.load(model)
    write_arrays(model, arrays, {"segue": newer, "digest": hashlib.sha256(newer.encode()).hexdigest()})
    with pytest.raises(ModelError, match="expected a model of format 1 or older, came format 2"):
        segue.load(model)


def test_a_full_disk_leaves_the_old_model(model, monkeypatch):
    before = model.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ModelError, match=r"No space left on device. The old file is unchanged"):
        small_recommender().save(model)
    assert model.read_bytes() == before
    assert [path.name for path in model.parent.iterdir()] == ["m.segue"]


def test_a_state_of_another_model_is_refused():
    ours, other = small_recommender(), small_recommender(seed=9)
    with pytest.raises(ValueError, match="A state means nothing to other weights"):
        ours.recommend(other.start())
