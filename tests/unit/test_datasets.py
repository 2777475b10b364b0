"""Named data sets: fetched once, checked, repaired; no network here."""

import hashlib
import io
import zipfile

import pytest

import segue
from segue.data.log import datasets
from segue.errors import DatasetError


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as whole:
        for name, text in files.items():
            whole.writestr(name, text)
    return buffer.getvalue()


SMALL = archive(
    {
        "ml-latest-small/ratings.csv": "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,7,3.0,1260759179\n",
        "ml-latest-small/movies.csv": 'movieId,title,genres\n31,"Dangerous, Minds",Drama\n7,Sabrina,Comedy\n',
    }
)


def test_a_set_is_fetched_once_and_a_damaged_cache_is_repaired(tmp_path):
    asked = []

    def fetch(name):
        asked.append(name)
        return SMALL

    files = datasets.get("ml-latest-small", cache=tmp_path, fetch=fetch)
    assert len(segue.read_events(files.events)) == 2
    assert datasets.get("ml-latest-small", cache=tmp_path, fetch=fetch) == files
    assert len(asked) == 1
    files.events.write_text("cut")
    assert len(segue.read_events(datasets.get("ml-latest-small", cache=tmp_path, fetch=fetch).events)) == 2
    assert len(asked) == 2


@pytest.mark.parametrize("list_of_sums", [b"", b"cut", b"\xe9 events.csv\n", None])
@pytest.mark.parametrize("lost", ["events.csv", "items.csv", None])
def test_a_cache_whose_list_is_damaged_is_repaired(tmp_path, list_of_sums, lost):
    files = datasets.get("ml-latest-small", cache=tmp_path, fetch=lambda _: SMALL)
    sums = tmp_path / "ml-latest-small" / "SHA256"
    sums.write_bytes(sums.read_bytes().splitlines()[0] if list_of_sums is None else list_of_sums)
    if lost:
        (tmp_path / "ml-latest-small" / lost).unlink()
    assert datasets.get("ml-latest-small", cache=tmp_path, fetch=lambda _: SMALL) == files
    assert files.events.read_bytes().startswith(b"userId,")
    assert len(sums.read_text().splitlines()) == 2


def test_ml_1m_becomes_csv(tmp_path, monkeypatch):
    raw = archive(
        {
            "ml-1m/ratings.dat": "1::1193::5::978300760\n",
            "ml-1m/movies.dat": "1193::Caf\xe9, Le (1975)::Drama\n".encode("latin-1"),
            "ml-1m/users.dat": "1::F::1::10::48067\n",
        }
    )
    monkeypatch.setitem(datasets.DIGESTS, "ml-1m", hashlib.sha256(raw).hexdigest())
    files = datasets.get("ml-1m", cache=tmp_path, fetch=lambda _: raw)
    assert files.note == ""
    assert files.items.read_text() == 'movieId,title,genres\n1193,"Café, Le (1975)",Drama\n'


@pytest.mark.parametrize(
    ("name", "what"), [("ml-100k", "the recbole 1.2.0 wheel"), ("ml-1m", "ml-1m.zip of GroupLens")]
)
@pytest.mark.parametrize("archive", [SMALL, b"", b"no zip"])
def test_another_archive_is_refused_and_nothing_is_written(tmp_path, name, what, archive):
    found = hashlib.sha256(archive).hexdigest()
    with pytest.raises(DatasetError, match=f"expected {what} with sha256 {datasets.DIGESTS[name]}, came {found}"):
        datasets.get(name, cache=tmp_path, fetch=lambda _: archive)
    assert not list(tmp_path.iterdir())


def test_a_renewed_data_set_is_taken_with_a_note(tmp_path, monkeypatch):
    files = datasets.get("ml-latest-small", cache=tmp_path, fetch=lambda _: SMALL)
    assert files.note == (
        "ml-latest-small: its publisher renews it, and this is another version than that of Segue's pages: "
        "numbers differ."
    )
    sums = (tmp_path / "ml-latest-small" / "SHA256").read_bytes()
    monkeypatch.setitem(datasets.RENEWED, "ml-latest-small", hashlib.sha256(sums).hexdigest())
    assert datasets.get("ml-latest-small", cache=tmp_path).note == ""
    with pytest.raises(DatasetError, match="the archive is damaged"):
        datasets.get("ml-latest-small", cache=tmp_path / "other", fetch=lambda _: b"<html>")
    assert not (tmp_path / "other").exists()


def test_unknown_name_and_damaged_archive(tmp_path):
    with pytest.raises(DatasetError, match="Choose from ml-100k"):
        datasets.get("ml-9", cache=tmp_path)
    with pytest.raises(DatasetError, match="the archive is damaged"):
        datasets.get("ml-1m", cache=tmp_path, fetch=lambda _: b"no zip")


def test_pip_without_an_index_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(DatasetError, match="Check the connection to your package index"):
        datasets.get("ml-100k", cache=tmp_path)


def test_an_archive_of_more_than_a_set_has_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "_UNPACKED", 10_000)
    large = archive({"ml-latest-small/ratings.csv": "0" * 20_000, "ml-latest-small/movies.csv": "0"})
    with pytest.raises(DatasetError, match="more than 10,000 bytes in it"):
        datasets.get("ml-latest-small", cache=tmp_path, fetch=lambda _: large)
