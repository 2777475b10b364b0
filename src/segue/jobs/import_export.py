"""Logs into a store and out of it: import, export, and the log of a store as a table."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from segue.data.log.events import Events
from segue.data.log.findings import Intake
from segue.errors import ConflictError, DataError
from segue.jobs.event_frames import export_frame, log_frame
from segue.jobs.resumable_parquet import ResumableParquet
from segue.store.base import Conflict, Duplicate, Erased, Outcome, Store, Write, Written, change_value, version_of
from segue.store.events import START, Event, Position, StoredEvent

#: The value of a store that names the sources imported so far.
_SOURCES = "imports"
#: Events of a source that are looked up in a store: so many of the first, and up to twice as many
#: of all.
_SAMPLE = 100
#: The share of sampled events that may be in a store by chance.
_CHANCE = 0.05
_MODULUS = 1 << 128
#: Events in a table that is made at once.
_TABLE = 100_000
_KEPT = ("user", "item", "time", "place", "rating", "type")


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Args:
        position: events of the source that are imported, over all runs.
        written: new events of this run.
        known: events of this run that the store had under the same ids.
        refused: events of this run that conflict with others, or that were erased on request.
        behind: the other name under which the source's first events were imported; empty for none.
    """

    position: int
    written: int = 0
    known: int = 0
    refused: int = 0
    behind: str = ""


class _Done(NamedTuple):
    """How many of a source's first events are imported, and the sum of their digests."""

    position: int = 0
    total: int = 0

    def after(self, events: Iterable[Event]) -> "_Done":
        digests = [int.from_bytes(event.digest) for event in events]
        return _Done(self.position + len(digests), (self.total + sum(digests)) % _MODULUS)

    def to_bytes(self) -> bytes:
        return f"{self.position} {self.total:032x} any-order".encode()


def import_events(
    store: Store, events: Iterable[Event], *, source: str, client: str = "import", batch: int = 5000
) -> ImportReport:
    """Write historic events to a store; a later run continues where an earlier one stopped.

    The position in the source is committed with the events, so a crash loses no event and doubles
    none. A digest of the events before the position is committed too. The digest does not depend on
    their order. So a source that grew at its end continues, whatever the times of its new events. A
    source that lost or changed rows is refused, and so is a log that the store already has under
    another name or in parts. States of the users become outdated and are rebuilt by replay.

    Args:
        events: all of the source, in the order of the file; imported events are skipped. An
            iterator can be read only once, so the store is searched for its first events alone.
        source: a name of the source, under which the position is kept.
        client: of the events; event ids are unique for each client.
        batch: events in a transaction.

    Raises:
        DataError: the imported events are not the first of the source, or the store has the log
            already.
        ConflictError: another import of the source is running.
    """
    name, names = f"import:{source}", json.loads(store.get_value(_SOURCES) or b"[]")
    kept = store.get_value(name)
    if kept is None:
        spread = [] if isinstance(events, Iterator) else _spread(events)
        done, rest, behind = _first_run(store, iter(events), spread, source, names, min(batch, _SAMPLE))
    else:
        done, rest, behind = *_later_run(store, events, source, kept), ""
    report = ImportReport(done.position, behind=behind)
    if source not in names:
        change_value(store, _SOURCES, lambda old: json.dumps(sorted({*json.loads(old or b"[]"), source})).encode())
    if done.position and kept != done.to_bytes():
        kept = _commit(store, [], name, kept, done)[1]
    while part := list(itertools.islice(rest, batch)):
        done = done.after(part)
        writes = list(_writes(part, client))
        outcomes, kept = _commit(store, writes, name, kept, done)
        report = _counted(report, zip(writes, outcomes, strict=True), done.position)
    return report


def _commit(
    store: Store, writes: Sequence[Write], name: str, kept: bytes | None, done: _Done
) -> tuple[Sequence[Outcome], bytes]:
    """Write events and the position after them; return the outcomes and the position's bytes."""
    try:
        outcomes = store.commit(writes, values={name: done.to_bytes()}, versions={name: version_of(kept)})
    except ConflictError:
        raise ConflictError(
            f"{name.partition(':')[2]}: expected to be the only import under this name, another one is under way. "
            "Nothing was written twice. Wait until it has ended, then run this again."
        ) from None
    return outcomes, done.to_bytes()


def _later_run(store: Store, events: Iterable[Event], source: str, kept: bytes) -> tuple[_Done, Iterator[Event]]:
    """Check the imported events of a source; return their position and the events after them."""
    position, stream = int(kept.split()[0]), iter(events)
    if len(kept.split()) < 3:
        return _later_run_by_time(store, stream, source, kept)
    first: list[Event] = []
    done = _Done()
    while part := list(itertools.islice(stream, min(5000, position - done.position))):
        first = first or part[:_SAMPLE]
        done = done.after(part)
    if done.to_bytes() != kept:
        raise _other_log(store, source, position, done.position, first, _spread(events))
    return done, stream


def _later_run_by_time(
    store: Store, stream: Iterator[Event], source: str, kept: bytes
) -> tuple[_Done, Iterator[Event]]:
    """Do the same for a source of which an older version kept the digest in the order of time."""
    position, *digest = kept.decode().split()
    first = list(itertools.islice(stream, int(position)))
    if not digest or _ordered_digest(first) == digest[0] or _ordered_digest(sorted(first, key=_time)) == digest[0]:
        return _Done().after(first), stream
    whole = sorted(itertools.chain(first, stream), key=_time)  # the run stopped early, or new events came late
    if _ordered_digest(whole[: int(position)]) != digest[0]:
        raise _other_log(store, source, int(position), len(first), first[:_SAMPLE], _spread(whole))
    return _Done().after(whole[: int(position)]), iter(whole[int(position) :])


def _first_run(
    store: Store, stream: Iterator[Event], spread: Sequence[Event], source: str, names: Sequence[str], sample: int
) -> tuple[_Done, Iterator[Event], str]:
    """Return what of a source was imported under another name, the events after it, and that name.

    Args:
        spread: a sample of events from the whole source; empty where events can be read only once.
        sample: how many of the first events are looked up in the store.

    Raises:
        DataError: the store has such events, but not as the first ones of a source.
    """
    first = list(itertools.islice(stream, sample))
    share, of = _share_stored(store, spread), "its rows"
    if share < _CHANCE:
        share, of = _share_stored(store, first), f"the first {len(first):,}"
    untimed = any(event.time is None and event.id is None for event in first)
    if share < _CHANCE and not untimed:
        return _Done(), itertools.chain(first, stream), ""
    values = {name: value for name in names if (value := store.get_value(f"import:{name}")) is not None}
    ends = {int(value.split()[0]) for value in values.values()}
    whole = [*first, *itertools.islice(stream, max(max(ends, default=0) - len(first), 0))]
    done = longest = _Done()
    behind = ""
    for end in sorted(end for end in ends if 0 < end <= len(whole)):
        done = done.after(whole[done.position : end])
        if other := next((name for name, value in values.items() if value == done.to_bytes()), ""):
            longest, behind = done, other
    if behind:
        return longest, itertools.chain(whole[longest.position :], stream), behind
    if share >= _CHANCE:
        raise DataError(
            f"{source}: expected events that the store does not have, about {share:.0%} of {of} are there already and "
            "would be twice. Give the new events alone, as a file of their own."
        )
    return _Done(), itertools.chain(whole, stream), ""


def _other_log(
    store: Store, source: str, position: int, came: int, first: Sequence[Event], spread: Sequence[Event]
) -> DataError:
    """Return the error for a source that does not begin with the events that were imported."""
    fewer = f"came {came:,} in all" if came < position else "came others"
    sample = [*first, *spread]
    share = _share_stored(store, spread)
    share = share if share >= _CHANCE else _share_stored(store, sample)
    if share < _CHANCE and all(event.time is not None for event in sample):
        advice = "The store has none of them: it is another log, give it another name (--source)."
    elif sample and all(event.id is not None for event in sample):
        advice = "Its events have ids: give it another name (--source), and those that are there are not doubled."
    else:
        twice = f": about {share:.0%} of its rows are in the store already and would be twice" * (share >= _CHANCE)
        advice = (
            f"Nothing was imported{twice}. Rows that were changed or removed stay in the store as they were; "
            "give the new rows behind those that were imported, or as a file of their own."
        )
    return DataError(
        f"{source}: expected to begin with the {position:,} events that were imported under this name, "
        f"in any order, {fewer}. {advice}"
    )


def _spread(events: Iterable[Event]) -> list[Event]:
    """Return up to `2 * _SAMPLE` events, evenly spread. Cost: O(events), memory of the sample."""
    kept: list[Event] = []
    step = 1
    for number, event in enumerate(events):
        if number % step == 0:
            kept.append(event)
            if len(kept) > 2 * _SAMPLE:
                kept, step = kept[::2], 2 * step
    return kept


def _share_stored(store: Store, events: Sequence[Event]) -> float:
    """Return the share that a store has of those events that have a time and no id."""
    sample = [event for event in events if event.time is not None and event.id is None]
    return sum(_is_stored(store, event) for event in sample) / max(len(sample), 1)


def _is_stored(store: Store, event: Event) -> bool:
    assert event.time is not None
    page = store.events(event.user, after=Position.after(event.time - 1), limit=_SAMPLE)
    return any((old.item, old.time, old.type) == (event.item, event.time, event.type) for old in page)


def _time(event: Event) -> int:
    return START.place if event.time is None else event.time


def _ordered_digest(events: Iterable[Event]) -> str:
    return hashlib.sha256(b"".join(event.digest for event in events)).hexdigest()


def _writes(events: Iterable[Event], client: str) -> Iterator[Write]:
    """Give a write for each run of a user's events without ids, and for each event with an id."""
    for (user, _), run in itertools.groupby(enumerate(events), key=lambda at: (at[1].user, at[1].id and at[0])):
        yield Write(user, None, tuple(event for _, event in run), client=client)


def _counted(report: ImportReport, done: Iterable[tuple[Write, Outcome]], position: int) -> ImportReport:
    """Return the report with the outcomes of some writes added."""
    sizes: Counter[type] = Counter()
    for write, outcome in done:
        sizes[type(outcome)] += len(write.events)
    return replace(
        report,
        position=position,
        written=report.written + sizes[Written],
        known=report.known + sizes[Duplicate],
        refused=report.refused + sizes[Conflict] + sizes[Erased],
    )


def export_events(store: Store, *, after: int = 0, batch: int = 5000) -> Iterator[list[StoredEvent]]:
    """Give all events in the order of arrival, in batches; new arrivals are left out.

    Example:
        >>> [event.item for page in export_events(store, after=last) for event in page]  # doctest: +SKIP
    """
    newest = store.users(limit=1)
    while newest and (events := store.log(after=after, limit=batch)):
        after = events[-1].seq
        events = [event for event in events if event.seq <= newest[0].active]
        if events:
            yield events
        if after >= newest[0].active:
            break


def export_file(store: Store, out: Path) -> int:
    """Write all events to a Parquet file with context as JSON, and return how many.

    The new file replaces an old one when it is whole. `segue import` reads the file.

    Raises:
        DataError: the file cannot be written.

    Cost: O(events) time; memory of a batch.
    """
    parts, count = ResumableParquet(out, {"what": "export"}), 0
    parts.clear()
    try:
        for events in _batches(export_events(store), _TABLE):
            parts.add(export_frame(events))
            count += len(events)
        parts.finish(export_frame([]))
    finally:
        parts.clear()
    return count


def read_log(store: Store, *, source: str = "store", context: Iterable[str] | None = None) -> Events:
    """Return the log of a store by time; events of the same time stand in the order of arrival.

    The log has times if any event has. An event without a time then takes the time of its user's
    latest event at arrival. Without such an event it is left out and counted.

    Args:
        store: a store, also from `read_store`.
        source: the name of the log in messages.
        context: the columns to keep of the context; None keeps all.

    Raises:
        DataError: there are no events.

    Cost: O(events log events) time; memory about twice the table.
    """
    frames = [log_frame(events) for events in _batches(export_events(store), _TABLE)]
    if not frames:
        raise DataError(f"{source}: expected a store with events, it holds none. Import a log first: segue import.")
    table = pl.concat(frames, how="diagonal_relaxed")  # a column of several kinds becomes text
    if context is not None:
        table = table.drop([name for name in table.columns if name not in (*_KEPT, *context)])
    rows = table.height
    untimed = table["time"].null_count()
    if untimed == rows:
        table = table.drop("time")
    elif untimed:
        known = pl.col("place") != START.place
        table = table.filter(known).with_columns(time=pl.coalesce("time", "place"))
    lost = rows - table.height
    table, places = table.drop("place"), None
    if untimed < rows and not table["time"].is_sorted():
        table = table.with_row_index("row").sort("time", maintain_order=True)
        places, table = table["row"], table.drop("row")
    roles = {name: name for name in table.columns if name in _KEPT}
    note = f"{untimed - lost:,} events without a time stand at that of the event before"
    notes = (note,) if lost < untimed < rows else ()
    intake = Intake(rows, roles, dropped={"no time": lost} if lost else {}, notes=notes)
    return Events(table, source, intake, places=places)


def _batches(pages: Iterable[list[StoredEvent]], size: int) -> Iterator[list[StoredEvent]]:
    """Join pages into batches of at least `size` events, but for the last batch."""
    batch: list[StoredEvent] = []
    for page in pages:
        batch += page
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
