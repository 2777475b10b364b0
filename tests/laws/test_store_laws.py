"""Snapshots stay few and near; a log read from a store is the log sorted by time, then by arrival."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.store.base import Snapshot, Write
from segue.store.events import Event
from segue.store.snapshots import thin
from segue.store.sql.sqlite_store import SqliteStore


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300))
def test_law_thinned_snapshots_are_few_and_a_replay_is_short(steps):
    kept, end = [], 0
    for step in steps:
        end += step
        kept = thin([*kept, end], end)
        assert len(kept) <= 2 * end.bit_length() + 2
        for older, newer in itertools.pairwise(kept):
            assert newer - older <= max(end - newer, 50)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 9), st.booleans()), max_size=25))
def test_law_the_store_is_a_stable_sort_and_its_snapshots_tell_the_truth(arrivals):
    """A snapshot holds the items up to its position, whatever came late and was erased."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "s.db")
        model = {}
        for n, (user, time, erase) in enumerate(arrivals):
            name, mine = f"u{user}", model.setdefault(user, [])
            if erase and mine:
                _, item = mine.pop(time % len(mine))
                (event,) = [event for event in store.events(name) if event.item == item]
                assert store.erase_event(name, event.seq)
            else:
                mine.append((time, str(n)))
                mine.sort(key=lambda pair: pair[0])
                kept = [item for _, item in mine]
                snapshot = Snapshot("b1", len(kept), ",".join(kept).encode())
                store.commit([Write(name, store.head(name, "").version, (Event(name, str(n), time),), {}, (snapshot,))])
            events = store.events(name)
            assert [(event.time, event.item) for event in events] == mine
            for place, event in enumerate(events):
                snapshot = store.snapshot(name, "b1", at=event.position)
                if snapshot:
                    assert snapshot.count <= place + 1
                    assert snapshot.data.decode() == ",".join(item for _, item in mine[: snapshot.count])
        store.close()
