"""A prepared folder as a log: all of it, or the users of one bucket."""

import polars as pl

from segue.data.log.event_table import Log
from segue.data.log.findings import Intake
from segue.data.prepared.manifest import Prepared
from segue.data.prepared.parts import PLACE, bucket_table, in_order


def prepared_log(prepared: Prepared, bucket: int | None = None) -> Log:
    """Return the log of a prepared folder, as `read_log` returns that of the files it was made of.

    Args:
        bucket: the number of the only bucket to read; None reads all.

    Raises:
        DataError: a part is missing or damaged.

    Cost: O(events log events) time; memory about twice the result while it is sorted.
    """
    intake = Intake(
        rows=prepared.rows,
        columns=prepared.columns,
        guessed=prepared.guessed,
        time=prepared.time,
        dropped=prepared.dropped,
        out_of_order=sum(run.out_of_order for run in prepared.runs),
        notes=tuple(dict.fromkeys(note for run in prepared.runs for note in run.notes)),
        reading=prepared.reading,
    )
    numbers = range(prepared.buckets) if bucket is None else [bucket]
    ids = pl.col("user", "item").cast(pl.Categorical)
    tables = [bucket_table(prepared, number).with_columns(ids) for number in numbers]
    table = tables[0] if len(tables) == 1 else in_order(pl.concat(tables)).rechunk()
    place, table = table[PLACE], table.drop(PLACE)
    if bucket is not None:
        return Log(table, f"{prepared.source}, bucket {bucket}", intake.part(table.height), place)
    if place.is_sorted():
        return Log(table, prepared.source, intake, None)
    return Log(table, prepared.source, intake, place.arg_sort().arg_sort())  # the place among the rows that were kept
