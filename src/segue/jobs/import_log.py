"""A log into a store, once: run again with what it has become, only its new rows are written.

Knows: how many events of a source are done and what they were, in whatever order; what may be the same log under
another name. Does not know: what a store is made of; how a log is read from a file.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from segue.errors import ConflictError, DataError
from segue.store.base import (
    Conflict,
    Duplicate,
    Erased,
    Outcome,
    Store,
    Write,
    Written,
    change_value,
    version_of,
)
from segue.store.events import Event, Position

#: The value of a store that names its sources.
_SOURCES = "imports"
#: Events of a source that are looked for in a store, to tell whether the log is there under another name: of the first
#: ones so many, and as many to twice as many that are spread evenly over all.
_LOOKED_AT = 100
#: Of these, so many may be there by chance.
_CHANCE = 0.05
_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import.

    Args:
        position: events of the source that are done, over all runs.
        written: new events of this run.
        known: events of this run that the store had, under the same ids.
        refused: events of this run that conflict with others, or that were erased on request.
        behind: the other name under which the first events of the source were imported; empty for none.
    """

    position: int
    written: int = 0
    known: int = 0
    refused: int = 0
    behind: str = ""


class _Done(NamedTuple):
    """What is done of a source: how many of its first events, and the sum of their digests, in whatever order."""

    position: int = 0
    total: int = 0

    def after(self, events: Iterable[Event]) -> "_Done":
        some = [int.from_bytes(event.digest) for event in events]
        return _Done(self.position + len(some), (self.total + sum(some)) % _MODULUS)

    def kept(self) -> bytes:
        return f"{self.position} {self.total:032x} any-order".encode()


def import_events(
    store: Store, events: Iterable[Event], *, source: str, client: str = "import", batch: int = 5000
) -> Imported:
    """Put historic events into a store, and go on where an earlier run stopped.

    The position in the source is committed with the events, so that after a crash none is missing and none
    is twice; and with it a digest of the events before it, which does not depend on their order. So a source that
    grew at its end goes on, whatever the times of its new events; one that lost or changed rows is refused, and so is
    a log that the store has already, under another name or in parts. States of the users become outdated, and
    are rebuilt by replay.

    Args:
        store: where to.
        events: all of the source, in the order of the file; those done before are passed over. Of an iterator,
            which can be read but once, only the first events are looked for in the store.
        source: a name of the source, under which the position is kept.
        client: the ids of the events are its own.
        batch: events in a transaction.

    Raises:
        DataError: the events done before are not the first of the source, or the store has them already.
        ConflictError: another import is under way.
    """
    name, names = f"import:{source}", json.loads(store.get_value(_SOURCES) or b"[]")
    kept = store.get_value(name)
    if kept is None:
        spread = [] if isinstance(events, Iterator) else _spread(events)
        done, rest, behind = _new(store, iter(events), spread, source, names, min(batch, _LOOKED_AT))
    else:
        done, rest, behind = *_begun(store, events, source, kept), ""
    report = Imported(done.position, behind=behind)
    if source not in names:
        change_value(store, _SOURCES, lambda old: json.dumps(sorted({*json.loads(old or b"[]"), source})).encode())
    if done.position and kept != done.kept():
        kept = _commit(store, [], name, kept, done)[1]
    while some := list(itertools.islice(rest, batch)):
        done = done.after(some)
        writes = list(_writes(some, client))
        outcomes, kept = _commit(store, writes, name, kept, done)
        report = _add(report, zip(writes, outcomes, strict=True), done.position)
    return report


def _commit(
    store: Store, writes: Sequence[Write], name: str, kept: bytes | None, done: _Done
) -> tuple[Sequence[Outcome], bytes]:
    """Write events with what is done after them, and return what came of each and that value."""
    try:
        outcomes = store.commit(writes, values={name: done.kept()}, versions={name: version_of(kept)})
    except ConflictError:
        raise ConflictError(
            f"{name.partition(':')[2]}: expected to be the only import under this name, another one is under way. "
            "Nothing was written twice. Wait until it has ended, then run this again."
        ) from None
    return outcomes, done.kept()


def _begun(store: Store, events: Iterable[Event], source: str, kept: bytes) -> tuple[_Done, Iterator[Event]]:
    """Return what is done of a source, checked, and the events behind it."""
    position, stream = int(kept.split()[0]), iter(events)
    if len(kept.split()) < 3:
        return _begun_by_time(store, stream, source, kept)
    first: list[Event] = []
    done = _Done()
    while some := list(itertools.islice(stream, min(5000, position - done.position))):
        first = first or some[:_LOOKED_AT]
        done = done.after(some)
    if done.kept() != kept:
        raise _another(store, source, position, done.position, first, _spread(events))
    return done, stream


def _begun_by_time(store: Store, stream: Iterator[Event], source: str, kept: bytes) -> tuple[_Done, Iterator[Event]]:
    """Return the same of a source of which an older version kept the digest in the order of time."""
    position, *digest = kept.decode().split()
    first = list(itertools.islice(stream, int(position)))
    if not digest or _in_order(first) == digest[0] or _in_order(sorted(first, key=_time)) == digest[0]:
        return _Done().after(first), stream
    whole = sorted(itertools.chain(first, stream), key=_time)  # it was cut short, or new events are late ones
    if _in_order(whole[: int(position)]) != digest[0]:
        raise _another(store, source, int(position), len(first), first[:_LOOKED_AT], _spread(whole))
    return _Done().after(whole[: int(position)]), iter(whole[int(position) :])


def _new(
    store: Store, stream: Iterator[Event], spread: Sequence[Event], source: str, names: Sequence[str], some: int
) -> tuple[_Done, Iterator[Event], str]:
    """Return what of a source was done under another name, the events behind it, and that name.

    Args:
        store: where to.
        stream: the events of the source.
        spread: some of them, spread evenly over all; empty where they can be read but once.
        source: its name.
        names: of the sources that the store knows.
        some: so many of the first events are looked for in the store.

    Raises:
        DataError: the store has such events, but not the first ones of a source.
    """
    first = list(itertools.islice(stream, some))
    there, of = _share_there(store, spread), "its rows"
    if there < _CHANCE:
        there, of = _share_there(store, first), f"the first {len(first):,}"
    untimed = any(event.time is None and event.id is None for event in first)
    if there < _CHANCE and not untimed:
        return _Done(), itertools.chain(first, stream), ""
    values = {name: value for name in names if (value := store.get_value(f"import:{name}")) is not None}
    ends = {int(value.split()[0]) for value in values.values()}
    whole = [*first, *itertools.islice(stream, max(max(ends, default=0) - len(first), 0))]
    done = best = _Done()
    found = ""
    for end in sorted(end for end in ends if 0 < end <= len(whole)):
        done = done.after(whole[done.position : end])
        if other := next((name for name, value in values.items() if value == done.kept()), ""):
            best, found = done, other
    if found:
        return best, itertools.chain(whole[best.position :], stream), found
    if there >= _CHANCE:
        raise DataError(
            f"{source}: expected events that the store does not have, about {there:.0%} of {of} are there already and "
            "would be twice. Give the new events alone, as a file of their own."
        )
    return _Done(), itertools.chain(whole, stream), ""


def _another(
    store: Store, source: str, position: int, came: int, first: Sequence[Event], spread: Sequence[Event]
) -> DataError:
    fewer = f"came {came:,} in all" if came < position else "came others"
    looked = [*first, *spread]
    there = _share_there(store, spread)
    there = there if there >= _CHANCE else _share_there(store, looked)
    if there < _CHANCE and all(event.time is not None for event in looked):
        advice = "The store has none of them: it is another log, give it another name (--source)."
    elif looked and all(event.id is not None for event in looked):
        advice = "Its events have ids: give it another name (--source), and those that are there are not doubled."
    else:
        twice = f": about {there:.0%} of its rows are in the store already and would be twice" * (there >= _CHANCE)
        advice = (
            f"Nothing was imported{twice}. Rows that were changed or removed stay in the store as they were; "
            "give the new rows behind those that were imported, or as a file of their own."
        )
    return DataError(
        f"{source}: expected to begin with the {position:,} events that were imported under this name, "
        f"in any order, {fewer}. {advice}"
    )


def _spread(events: Iterable[Event]) -> list[Event]:
    """Return up to twice `_LOOKED_AT` events, evenly spread over all. Cost: O(events), memory of those returned."""
    kept: list[Event] = []
    step = 1
    for number, event in enumerate(events):
        if number % step == 0:
            kept.append(event)
            if len(kept) > 2 * _LOOKED_AT:
                kept, step = kept[::2], 2 * step
    return kept


def _share_there(store: Store, events: Sequence[Event]) -> float:
    """Return the share of events with a time and without an id that a store has."""
    looked = [event for event in events if event.time is not None and event.id is None]
    return sum(_is_there(store, event) for event in looked) / max(len(looked), 1)


def _is_there(store: Store, event: Event) -> bool:
    assert event.time is not None
    page = store.events(event.user, after=Position.after(event.time - 1), limit=_LOOKED_AT)
    return any((old.item, old.time, old.type) == (event.item, event.time, event.type) for old in page)


def _time(event: Event) -> int:
    return -(1 << 63) if event.time is None else event.time


def _in_order(events: Iterable[Event]) -> str:
    sha = hashlib.sha256()
    for event in events:
        sha.update(event.digest)
    return sha.hexdigest()


def _writes(events: Iterable[Event], client: str) -> Iterator[Write]:
    """Give one write for each run of events of a user without ids, and for each event with one."""
    numbered = enumerate(events)
    for (user, _), run in itertools.groupby(numbered, key=lambda one: (one[1].user, one[1].id and one[0])):
        yield Write(user, None, tuple(event for _, event in run), client=client)


def _add(report: Imported, done: Iterable[tuple[Write, Outcome]], position: int) -> Imported:
    written, known, refused = report.written, report.known, report.refused
    for write, outcome in done:
        size = len(write.events)
        written += size * isinstance(outcome, Written)
        known += size * isinstance(outcome, Duplicate)
        refused += size * isinstance(outcome, Conflict | Erased)
    return Imported(position, written, known, refused, report.behind)
