"""A prepared folder reads as the log that it was made of, or says what is wrong with it."""

import importlib
import importlib.util
import random
import sys
import warnings

import numpy as np
import polars as pl
import pytest

import segue
from engines import missing
from segue.data.log.events import bucket_events
from segue.data.log.split import digest
from segue.data.prepared.items import items_of
from segue.data.prepared.manifest import open_prepared
from segue.data.sequences.sequences import coded, encode, item_vocabulary
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError, ColumnError, DataError, TimeParseError
from segue.jobs.batch_recommend import recommend_all
from segue.jobs.bucket_recommend import recommend_buckets
from segue.jobs.prepare import prepare
from segue.jobs.ray_engine import engine_of
from tests_support import small_recommender

HEAD = "user,item,time,rating,type,device\n"
READING = segue.Reading(context=("device",), missing=("NULL",))


def drawn(count=400, seed=1):
    """Rows with ids such as 007, blanks, equal times, missing and unreadable values, out of order."""
    draw = random.Random(seed)
    users = ["007", " 7", "7", "NULL", "ün", *(f"u{n}" for n in range(30))]
    return [
        f"{draw.choice(users)},{draw.choice(['x', ' y', '', *(f'00{n}' for n in range(9))])},"
        f"{1_700_000_000 + draw.randrange(60)},{draw.choice(['1', '2.5', '', '3', 'x' if n % 9 == 0 else '4'])},"
        f"{draw.choice(['buy', 'view', ''])},{draw.choice(['tv', 'web'])}\n"
        for n in range(count)
    ]


def same(folder, whole):
    """Whether a folder reads as a log."""
    found = segue.read_events(folder)
    assert found.table.schema == whole.table.schema and found.table.equals(whole.table)
    assert (found.places is None) == (whole.places is None)
    assert found.places is None or (found.places.dtype, found.places.to_list()) == (pl.UInt32, whole.places.to_list())
    assert (found.intake.rows, found.intake.dropped) == (whole.intake.rows, whole.intake.dropped)
    assert found.intake.reading == whole.intake.reading
    return found


@pytest.mark.parametrize("time", [None, "none"])
def test_a_folder_reads_as_its_log_prepared_at_once_in_files_or_day_by_day(write, tmp_path, time):
    rows = drawn()
    whole, early, late = (
        write(HEAD + "".join(some), f"{n}.csv") for n, some in enumerate((rows, rows[:150], rows[150:]))
    )
    log = segue.read_events(whole, reading=READING, time=time)
    how = {"reading": READING, "buckets": 4, "requested": {"time": time}}
    prepare([whole], tmp_path / "once", **how)
    found = same(tmp_path / "once", log)
    assert (found.source, found.intake) == (log.source, log.intake)
    at_once = prepare([early, late], tmp_path / "files", **how)
    same(tmp_path / "files", log)
    prepare([early], tmp_path / "days", **how)
    said = []
    by_day = prepare([early, late], tmp_path / "days", say=said.append)  # the columns of the folder
    same(tmp_path / "days", log)
    assert said == ["1.csv: prepared before, the same bytes; left out."]
    assert prepare([late], tmp_path / "days") == by_day
    for made in (at_once, by_day):
        assert items_of(made)["item"].to_list() == coded(log.table["item"])[1].to_list()
        assert items_of(made)["count"].sum() == made.events == len(log)
        parts = [bucket_events(made, number) for number in range(4)]
        users = [set(part.users) for part in parts]
        assert sum(map(len, users)) == len(set().union(*users)) == log.table["user"].n_unique()
        assert all(part.places.is_sorted() or part.has_times for part in parts)
    assert open_prepared(tmp_path / "days").digest == by_day.digest


def files_of(folder):
    """The bytes of all files of a folder by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small(write, tmp_path):
    """A small log, prepared into four buckets."""
    log = write(HEAD + "".join(drawn(200)), "small.csv")
    return log, prepare([log], tmp_path / "small", reading=READING, buckets=4)


def test_training_reads_the_same_of_a_folder_as_of_its_log(small):
    log, made = small
    events = [segue.read_events(log, reading=READING), segue.read_events(str(made.folder))]
    of_log, of_folder = (encode(each, item_vocabulary(each)) for each in events)
    assert of_log.users.to_list() == of_folder.users.to_list()
    for name in ("offsets", "items", "times", "ratings"):
        np.testing.assert_array_equal(getattr(of_log, name), getattr(of_folder, name), name)
    assert digest(events[0]) == digest(events[1]) and events[0].source == events[1].source


def test_lists_by_bucket_are_those_of_the_log_and_a_stopped_run_goes_on(small, tmp_path):
    _, made = small
    events = segue.read_events(str(made.folder))
    rec, whole, out = small_recommender(item_vocabulary(events)), tmp_path / "all.parquet", tmp_path / "lists"
    recommend_all(rec, events, whole, k=3)

    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recommend_buckets(rec, made, out, k=3, report=stop)
    assert not (out / "lists.json").exists()
    seen = []
    done = recommend_buckets(rec, made, out, k=3, report=lambda *at: seen.append(at))
    assert seen == [(3, 4), (4, 4)] and done.users + done.before == events.table["user"].n_unique()
    order = ["user", "place"]
    lists = pl.read_parquet(out / "*.parquet").sort(order)
    assert lists.drop("score").equals(pl.read_parquet(whole).sort(order).drop("score"))
    before = files_of(out)
    recommend_buckets(rec, made, tmp_path / "again", k=3)
    assert files_of(tmp_path / "again") == before
    assert recommend_buckets(rec, made, out, k=2).before == 0  # another job begins anew
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"expected a new folder, or one of lists, found notes.txt and no job.json"):
        recommend_buckets(rec, made, tmp_path / "mine", k=3)


def test_a_damaged_part_an_unfinished_run_and_other_files_are_said(small, write, tmp_path, monkeypatch):
    _, made = small
    folder = made.folder.path
    part = next((folder / "buckets" / "0002").iterdir())
    whole = part.read_bytes()
    part.write_bytes(whole[:-9] + b"X" + whole[-8:])
    with pytest.raises(DataError, match=r"expected buckets/0002/.* the file is damaged or another .* Copy it again"):
        segue.read_events(folder)
    part.unlink()
    with pytest.raises(DataError, match=r"expected a file buckets/0002/.*, found none"):
        bucket_events(made, 2)
    part.write_bytes(whole)
    late = write(HEAD + "a,x,soon,1,buy,tv\n", "late.csv")
    before = files_of(folder)
    with pytest.raises(TimeParseError, match=r'late.csv, row 1: time "soon" is not a timestamp'):
        prepare([late], folder)
    assert segue.read_events(folder).table.height == made.events  # what the run left does not count
    assert {name: files_of(folder)[name] for name in before} == before
    other = write("user,item,time\na,x,1700000000\n", "other.csv")
    with pytest.raises(ColumnError, match=r'other\.csv: expected a column "rating"'):
        prepare([other], folder)
    with pytest.raises(ArgumentError, match="--buckets: expected the 4 of"):
        prepare([other], folder, buckets=5)
    with pytest.raises(DataError, match=r"expected a new, empty or prepared folder, found .*csv"):
        prepare([other], tmp_path)
    with pytest.raises(DataError, match=r"found no prepared\.json"):
        open_prepared(tmp_path)
    (folder / "prepared.json").write_text('{"format": 1, "buckets": 4, "runs": []}')
    with pytest.raises(DataError, match=r"prepared\.json is invalid: runs: expected 4 parts"):
        segue.read_events(folder)
    with pytest.raises(ArgumentError, match="expected no options for columns, a prepared folder"):
        segue.read_events(folder, user="user")


def test_a_folder_may_lie_at_an_address(write):
    fsspec = pytest.importorskip("fsspec")
    log = write(HEAD + "".join(drawn(60)))
    prepare([log], "memory://shop/plays", reading=READING, buckets=2)
    same("memory://shop/plays", segue.read_events(log, reading=READING))
    fsspec.filesystem("memory").rm("/shop/plays/prepared.json")
    with pytest.raises(DataError, match=r"memory://shop/plays: expected a folder that segue prepare wrote"):
        segue.read_events("memory://shop/plays")
    with pytest.raises(DataError, match=r"expected (libraries that open|a folder that answers).* (Give|give|Check)"):
        segue.read_events("nowhere://me:secret@host/plays")
    with pytest.raises(DataError) as said:
        prepare([log], "ftp://127.0.0.1:9/plays")
    assert "Check the address" in str(said.value)


@pytest.fixture(scope="module")
def ray():
    """A Ray of two cores."""
    ray = importlib.util.find_spec("ray") and importlib.import_module("ray")
    if not ray:
        missing("no Ray here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=2**27
        )
        yield ray
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_ray_writes_the_same_bytes_and_passes_errors_on(small, write, tmp_path, ray):
    log, _ = small
    rows = drawn(60, seed=2)
    day = write(HEAD + "".join(rows), "day.csv")
    engine = engine_of("ray")
    assert prepare([log, day], tmp_path / "ray", reading=READING, buckets=2, engine=engine)
    made = prepare([log, day], tmp_path / "here", reading=READING, buckets=2)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "here")
    rec = small_recommender(Vocabulary(items_of(made)["item"]))
    recommend_buckets(rec, made, tmp_path / "lists", k=3)
    recommend_buckets(rec, made, tmp_path / "lists of ray", k=3, engine=engine)
    assert files_of(tmp_path / "lists") == files_of(tmp_path / "lists of ray")
    next((made.folder.path / "buckets" / "0001").iterdir()).write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"expected buckets/0001/.*damaged"):
        recommend_buckets(rec, made, tmp_path / "damaged", k=3, engine=engine)
    assert not (tmp_path / "damaged" / "lists.json").exists()


def test_a_cluster_that_does_not_answer_and_a_missing_ray_are_said(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # by the tests before
    with pytest.raises(ArgumentError, match=r"--address 127.0.0.1:9: expected a Ray cluster, none answers"):
        engine_of("ray", "127.0.0.1:9")
    with pytest.raises(ArgumentError, match='--engine: expected ray, came "spark"'):
        engine_of("spark")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"expected Ray, it cannot be imported .* pip install 'segue\[ray\]'"):
        engine_of("ray")
