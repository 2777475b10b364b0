"""A prepared folder reads as the log that it was made of, or says what is wrong with it."""

import random

import polars as pl
import pytest

import segue
from segue.data.log.events import bucket_events
from segue.data.prepared.items import items_of
from segue.data.prepared.manifest import open_prepared
from segue.data.sequences.sequences import coded
from segue.jobs.prepare import prepare

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
