"""A bundle is whole, unedited and of a known format, or it is refused; a failed save leaves the old one."""

import json

import pytest

import segue
from segue import files
from segue.errors import ModelError
from segue.files import read_arrays, write_arrays
from tests_support import small_recommender


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "m.segue"
    small_recommender().save(path)
    return path


def test_a_missing_or_cut_or_foreign_file_is_refused(bundle, tmp_path):
    with pytest.raises(ModelError, match="found none"):
        segue.load(tmp_path / "nothing")
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged, cut short"):
        segue.load(bundle)
    bundle.write_text("user,item,time\na,x,1\n")
    with pytest.raises(ModelError, match="came another kind of file"):
        segue.load(bundle)
    write_arrays(bundle, {}, {"other": "kind"})
    with pytest.raises(ModelError, match="expected a bundle, came another kind of file"):
        segue.load(bundle)


def test_an_edited_part_is_named(bundle):
    whole = bytearray(bundle.read_bytes())
    whole[-1] ^= 1
    bundle.write_bytes(whole)
    with pytest.raises(ModelError, match=r"part (weights\.\S+|vocabulary|catalogue) was edited or damaged"):
        segue.load(bundle)


def test_an_edited_manifest_and_a_newer_format_are_refused(bundle):
    import hashlib

    arrays, metadata = read_arrays(bundle)
    newer = json.dumps(json.loads(metadata["segue"]) | {"format": 2})
    write_arrays(bundle, arrays, metadata | {"segue": newer})
    with pytest.raises(ModelError, match="the manifest was edited or damaged"):
        segue.load(bundle)
    write_arrays(bundle, arrays, {"segue": newer, "digest": hashlib.sha256(newer.encode()).hexdigest()})
    with pytest.raises(ModelError, match="expected a bundle of format 1 or older, came format 2"):
        segue.load(bundle)


def test_a_full_disk_leaves_the_old_bundle(bundle, monkeypatch):
    before = bundle.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ModelError, match=r"No space left on device. The file that was there is untouched"):
        small_recommender().save(bundle)
    assert bundle.read_bytes() == before
    assert [path.name for path in bundle.parent.iterdir()] == ["m.segue"]


def test_a_state_of_another_bundle_is_refused():
    ours, other = small_recommender(), small_recommender(seed=9)
    with pytest.raises(ValueError, match="A state means nothing to other weights"):
        ours.recommend(other.start())
