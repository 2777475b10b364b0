"""What every store must do, as a test class. Needs pytest."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from segue.errors import ConflictError, DataError, ErasedError, NotFoundError
from segue.jobs.import_export import ImportReport, export_events, import_events
from segue.recommend.ratings import Rated, Tally
from segue.store.base import (
    ActiveUser,
    Conflict,
    Duplicate,
    Erased,
    Head,
    Outcome,
    Snapshot,
    Stale,
    Store,
    Write,
    Written,
    change_value,
    version_of,
)
from segue.store.erasure import erase_event
from segue.store.events import Event, Position, StoredEvent
from segue.store.snapshots import thin


class StoreContract(ABC):
    """What every store must do: derive a test class and write `open_store`."""

    @abstractmethod
    def open_store(self, folder: Path) -> Store:
        """Return a store that keeps its data under a folder, also when opened there again."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """A new store."""
        store = self.open_store(tmp_path)
        yield store
        store.close()

    def test_an_unknown_user_has_an_empty_head_and_no_events(self, store: Store) -> None:
        assert store.heads(["ann", "bob"], "b1") == [Head("ann"), Head("bob")]
        assert store.events("ann") == [] and store.log() == [] and store.users() == []
        assert store.snapshot("ann", "b1", at=Position.after(9)) is None and store.find_event("web", "a") is None

    def test_an_event_comes_back_as_it_was_sent(self, store: Store) -> None:
        sent = Event("änn\0;", "007", 5, "a", 4.5, "buy", {"page": [1, {"x": None}]})
        bare = Event("änn\0;", "")
        outcome = put(store, sent, bare, client="web")
        assert isinstance(outcome, Written) and outcome.version == 2
        first, second = outcome.events
        kept = StoredEvent("änn\0;", "007", 5, "a", 4.5, "buy", {"page": [1, {"x": None}]}, first.seq, 5)
        assert first == kept and (second.item, second.time, second.place) == ("", None, 5)
        assert store.events("änn\0;") == [first, second] == store.log()
        assert store.find_event("web", "a") == first and store.find_event("app", "a") is None

    def test_what_was_committed_is_there_when_opened_again(self, tmp_path: Path) -> None:
        store = self.open_store(tmp_path)
        put(store, Event("ann", "1", id="a"), client="web", states={"b1": b"\0m"}, values={"v": b"\xff"})
        before = (store.log(), store.head("ann", "b1"), store.get_value("v"))
        store.close()
        store = self.open_store(tmp_path)
        try:
            assert (store.log(), store.head("ann", "b1"), store.get_value("v")) == before
            assert isinstance(put(store, Event("ann", "1", id="a"), client="web"), Duplicate)
            assert written(put(store, Event("ann", "2"))).events[0].seq > before[0][0].seq
        finally:
            store.close()

    def test_the_same_id_is_the_same_event(self, store: Store) -> None:
        first = written(put(store, Event("ann", "1", 5, "a"), client="web"))
        for expected in (None, 0, 1, 9):
            assert put(store, Event("ann", "1", 5, "a"), client="web", expected=expected) == Duplicate(1, first.events)
        assert len(store.log()) == 1
        assert isinstance(put(store, Event("ann", "1", 5, "a"), client="app"), Written)
        twice = [put(store, Event("ann", "1", 5)) for _ in range(2)]
        assert all(isinstance(outcome, Written) for outcome in twice) and len(store.log()) == 4

    def test_the_same_id_with_another_body_is_a_conflict(self, store: Store) -> None:
        put(store, Event("ann", "1", 5, "a"), client="web")
        for other in (Event("ann", "2", 5, "a"), Event("ann", "1", 6, "a"), Event("bob", "1", 5, "a")):
            assert put(store, Event(other.user, "7"), other, client="web") == Conflict(("a",))
        assert len(store.log()) == 1 and store.head("bob", "b1") == Head("bob")

    def test_a_digest_of_the_sender_decides_what_the_same_body_is(self, store: Store) -> None:
        put(store, Event("ann", "1", 5, "a", digest=b"body"))
        assert isinstance(put(store, Event("ann", "1", 6, "a", digest=b"body")), Duplicate)
        assert isinstance(put(store, Event("ann", "1", 5, "a", digest=b"other")), Conflict)

    def test_of_a_write_with_old_and_new_events_nothing_is_done(self, store: Store) -> None:
        (old,) = written(put(store, Event("ann", "1", id="a"))).events
        both = (Event("ann", "1", id="a"), Event("ann", "2", id="b"))
        assert put(store, *both, states={"b1": b"m"}, expected=1) == Duplicate(1, (old, None))
        assert store.events("ann") == [old] and store.head("ann", "b1").state is None

    def test_a_write_from_an_old_version_is_stale_and_spoils_no_other(self, store: Store) -> None:
        put(store, Event("ann", "1"), states={"b1": b"one"})
        stale = Write("ann", 0, (Event("ann", "2", id="a"),), {"b1": b"bad"}, (Snapshot("b1", 1, b"bad"),))
        fresh = Write("bob", 0, (Event("bob", "3"),), {"b1": b"two"})
        outcomes = store.commit([stale, fresh, stale], values={"v": b"1"})
        assert outcomes[0] == outcomes[2] == Stale(1) and isinstance(outcomes[1], Written)
        assert [event.item for event in store.log()] == ["1", "3"] and store.get_value("v") == b"1"
        assert state_of(store, "ann") == b"one" and store.find_event("", "a") is None
        assert store.snapshot("ann", "b1", at=Position.after(9)) is None

    def test_writes_of_one_commit_see_each_other(self, store: Store) -> None:
        writes = [Write("ann", n, (Event("ann", str(n), id=f"e{n}"),), {"b1": b"%d" % n}) for n in (0, 1)]
        first, second, again, late = store.commit([*writes, writes[0], Write("ann", 1)])
        assert isinstance(first, Written) and isinstance(second, Written)
        assert (first.version, second.version) == (1, 2)
        assert again == Duplicate(2, first.events) and late == Stale(2)
        assert store.head("ann", "b1").fresh and state_of(store, "ann") == b"1"

    def test_writes_of_a_group_are_done_together_or_not_at_all(self, store: Store) -> None:
        def group(number: int | None, *events: Event, expected: int | None = None) -> list[Write]:
            return [Write(event.user, expected, (event,), group=number) for event in events]

        put(store, Event("ann", "1", id="a"))
        bad = group(1, Event("bob", "1", id="b"), Event("ann", "2", id="a"))
        good = group(2, Event("bob", "2", id="b"), Event("cat", "2"))
        known = group(3, Event("dan", "1"), Event("ann", "1", id="a"))
        late = group(4, Event("dan", "2"), Event("cat", "3"), expected=0)
        alone = group(None, Event("eve", "1"), Event("ann", "3", id="a"))
        outcomes = store.commit([*bad, *good, *known, *late, *alone])
        kinds = "Stale Conflict Written Written Stale Duplicate Stale Stale Written Conflict"
        assert [type(outcome).__name__ for outcome in outcomes] == kinds.split()
        assert [(event.user, event.item) for event in store.log()] == [
            ("ann", "1"), ("bob", "2"), ("cat", "2"), ("eve", "1"),
        ]  # fmt: skip
        store.merge("cookie", "ann")
        version = store.head("ann", "b1").version
        names = [Write(user, version + n, (Event(user, str(n)),), group=5) for n, user in enumerate(("ann", "cookie"))]
        assert [type(outcome).__name__ for outcome in store.commit(names)] == ["Written", "Written"]
        store.erase_user("eve")
        gone = store.commit(group(6, Event("fay", "1"), Event("eve", "2")))
        assert gone == [Stale(0), Erased()] and store.head("fay", "b1") == Head("fay")

    def test_work_meanwhile_sees_the_outcomes_and_its_error_spoils_nothing(self, store: Store) -> None:
        writes = [Write("ann", 0, (Event("ann", "1", id="a"),), {"b1": b"one"}), Write("bob", 7)]
        with store.begin(writes) as outcomes:
            met = list(outcomes)
        assert isinstance(met[0], Written) and met[1] == Stale(0) and outcomes == met

        def broken() -> None:
            with store.begin([Write("ann", 1, (Event("ann", "2", id="b"),), {"b1": b"two"})]):
                raise KeyError("broken")

        with pytest.raises(KeyError, match="broken"):
            broken()
        assert isinstance(put(store, Event("ann", "3"), states={"b1": b"three"}, expected=2), Written)
        assert [event.item for event in store.log()] == ["1", "2", "3"] and state_of(store, "ann") == b"three"

    def test_of_parallel_retries_one_is_written(self, store: Store) -> None:
        def send(_: int) -> list[Outcome]:
            return [put(store, Event("ann", "1", id=f"e{n}"), client="web") for n in range(5)]

        with ThreadPoolExecutor(4) as pool:
            outcomes = [outcome for several in pool.map(send, range(4)) for outcome in several]
        assert len(outcomes) == 20 and sum(isinstance(outcome, Written) for outcome in outcomes) == 5 == len(
            store.log()
        )
        seqs = {e.seq for done in outcomes for e in (done.events if isinstance(done, Written) else originals(done))}
        assert seqs == {event.seq for event in store.log()}

    def test_of_parallel_writes_from_one_version_one_is_written(self, store: Store) -> None:
        write = Write("ann", 0, (Event("ann", "1"),), {"b1": b"m"})
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda _: store.commit([write])[0], range(4)))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Stale"] * 3 + ["Written"]

    def test_states_of_several_models_lie_side_by_side(self, store: Store) -> None:
        put(store, Event("ann", "1"), states={"b1": b"one", "b2": b"two"})
        store.commit([Write("ann", 1, states={"b2": b"two again"}), Write("bob", 0, states={"b2": b""})])
        assert (state_of(store, "ann", "b1"), state_of(store, "ann", "b2")) == (b"one", b"two again")
        assert state_of(store, "bob", "b2") == b"" and store.head("bob", "b2").fresh
        put(store, Event("ann", "2"), states={"b1": b"new"}, expected=1)
        assert store.head("ann", "b1").fresh and not store.head("ann", "b2").fresh
        assert store.drop_model("b2") == 2 and store.drop_model("b3") == 0
        assert store.head("ann", "b2").state is None and state_of(store, "ann", "b1") == b"new"

    def test_a_late_event_is_put_in_its_place(self, store: Store) -> None:
        for item, time in (("a", 10), ("b", 30), ("c", None), ("d", 20), ("e", 30), ("f", -5), ("g", None)):
            put(store, Event("ann", item, time))
        assert items(store, "ann") == ["f", "a", "d", "b", "c", "e", "g"]
        assert [event.item for event in store.log()] == list("abcdefg")
        head = store.head("ann", "b1")
        assert head.version == head.count == 7 and head.last == store.events("ann")[-1].position

    def test_events_without_times_come_in_the_order_of_arrival(self, store: Store) -> None:
        put(store, *(Event("ann", str(n)) for n in range(12)))
        assert items(store, "ann") == [str(n) for n in range(12)]
        put(store, Event("ann", "timed", -(10**17)), Event("ann", "last"))
        assert items(store, "ann")[-2:] == ["timed", "last"]

    def test_pages_cover_the_events_once_in_both_directions(self, store: Store) -> None:
        put(store, *(Event("ann", str(n), (7 * n) % 5 or None) for n in range(23)), Event("ann", "x", 2**53 + 1))
        whole = store.events("ann")
        assert len(whole) == 24 and whole == sorted(whole, key=lambda event: event.position)
        for backwards in (False, True):
            pages: list[StoredEvent] = []
            while page := store.events(
                "ann", after=pages[-1].position if pages else None, limit=5, backwards=backwards
            ):
                assert len(page) <= 5
                pages += page
            assert pages == (whole[::-1] if backwards else whole)
        assert store.events("ann", after=Position.after(2))[0].time == 3

    def test_the_log_and_the_users_are_read_in_pages(self, store: Store) -> None:
        for user in ("a", "b", "c", "a"):
            put(store, Event(user, user))
        seqs = [event.seq for event in store.log()]
        assert seqs == sorted(seqs) and len(seqs) == 4
        assert [event.seq for event in store.log(after=seqs[1], limit=1)] == [seqs[2]]
        assert store.users(limit=2) == [ActiveUser("a", seqs[3]), ActiveUser("c", seqs[2])]
        assert store.users(before=seqs[2]) == [ActiveUser("b", seqs[1])]
        assert [[event.item for event in batch] for batch in export_events(store, batch=3)] == [["a", "b", "c"], ["a"]]

    def test_snapshots_are_found_at_or_before_a_position_and_thinned(self, store: Store) -> None:
        counts: list[int] = []
        for n in range(1, 41):
            put(store, Event("ann", str(n), 10 * n), expected=n - 1, snapshots=(Snapshot("b1", n, b"%d" % n),))
            counts = thin([*counts, n], n)
        events = store.events("ann")
        for event in events:
            place = event.place // 10
            last = store.snapshot("ann", "b1", at=event.position)
            best = max(count for count in counts if count <= place)
            assert last == Snapshot("b1", best, b"%d" % best, events[best - 1].position)
        assert len(counts) < 14 and store.snapshot("ann", "b2", at=events[-1].position) is None
        assert store.snapshot("ann", "b1", at=Position.after(9)) is None

    def test_snapshots_behind_a_late_event_are_dropped(self, store: Store) -> None:
        for n in range(1, 6):
            both = tuple(Snapshot(model, n, b"%d" % n) for model in ("b1", "b2"))
            put(store, Event("ann", str(n), 10 * n), expected=n - 1, snapshots=both)
        new = (Snapshot("b1", 4, b"new"), Snapshot("b1", 7, b"there is no such count"))
        put(store, Event("ann", "late", 30), expected=5, snapshots=new)
        end = Position.after(99)
        assert snapshot(store, end) == Snapshot("b1", 4, b"new", store.events("ann")[3].position)
        assert store.snapshot("ann", "b2", at=end) == Snapshot("b2", 3, b"3", store.events("ann")[2].position)
        store.drop_model("b1")
        assert store.snapshot("ann", "b1", at=end) is None and store.snapshot("ann", "b2", at=end) is not None

    def test_an_erased_event_is_gone_and_refused(self, store: Store) -> None:
        for n in range(1, 5):
            new = Event("ann", str(n), 10 * n, f"e{n}")
            put(store, new, expected=n - 1, client="web", states={"b1": b"m"}, snapshots=(Snapshot("b1", n, b"s"),))
        third, last = store.events("ann")[2:]
        assert not store.erase_event("bob", third.seq) and not store.erase_event("ann", 999)
        assert store.erase_event("ann", third.seq) and not store.erase_event("ann", third.seq)
        assert items(store, "ann") == ["1", "2", "4"] and store.find_event("web", "e3") is None
        assert store.head("ann", "b1") == Head("ann", 5, 3, last.position)
        assert snapshot(store, Position.after(99)) == Snapshot("b1", 2, b"s", store.events("ann")[1].position)
        assert put(store, Event("ann", "3", 30, "e3"), client="web") == Erased(("e3",))
        assert put(store, Event("ann", "other", 1, "e3"), client="web") == Erased(("e3",))
        assert put(store, Event("ann", "x"), expected=4) == Stale(5)
        assert store.erase_event("ann", last.seq) and store.head("ann", "b1").last == store.events("ann")[-1].position
        assert written(put(store, Event("ann", "y"))).events[0].seq > last.seq

    def test_an_erased_event_is_known_as_erased_by_its_number_and_by_its_id(self, store: Store) -> None:
        first, second = written(put(store, Event("ann", "1", 1, "2"), Event("ann", "2", 2), client="web")).events
        (other,) = written(put(store, Event("bob", "3", 3, "b"), client="web")).events
        known: list[int | tuple[str, str]] = [first.seq, second.seq, other.seq, ("web", "2"), ("web", "b")]
        never: list[int | tuple[str, str]] = [0, -1, other.seq + 1, ("app", "2"), ("web", str(first.seq)), ("web", "")]
        assert not any(store.was_erased(user, event) for event in known + never for user in ("ann", "bob"))
        store.erase_event("ann", first.seq)
        assert [store.was_erased("ann", event) for event in known] == [True, False, False, True, False]
        assert not any(store.was_erased(user, event) for event in known + never for user in ("bob", "eve"))
        assert not erase_event(store, "ann", first.seq) and not erase_event(store, "ann", ("web", "2"))
        for user, event in (("bob", first.seq), ("bob", ("web", "2")), ("eve", first.seq), ("ann", other.seq)):
            with pytest.raises(NotFoundError, match="expected one of this user"):
                erase_event(store, user, event)
        store.erase_user("bob")
        store.finish_erasures()
        assert [store.was_erased("bob", event) for event in known] == [True, False, True, True, True]
        assert [store.was_erased("ann", event) for event in known] == [True, False, False, True, False]
        assert not any(store.was_erased("bob", event) for event in never)
        assert store.readmit("bob") and not any(store.was_erased("bob", event) for event in known)
        assert put(store, Event("bob", "3", 3, "b"), client="web") == Erased(("b",))
        put(store, Event("cid", "1"))
        store.merge("ann", "cid")
        for user in ("ann", "cid"):
            assert [store.was_erased(user, event) for event in known] == [True, False, False, True, False]
        store.erase_user("cid")
        assert all(store.was_erased("ann", event) for event in known)

    def test_an_erased_user_is_gone_and_refused_until_readmitted(self, store: Store) -> None:
        put(store, Event("ann", "1", 1, "a"), client="web", states={"b1": b"m"}, snapshots=(Snapshot("b1", 1, b"s"),))
        put(store, Event("bob", "2", id="b"), client="web")
        assert store.erase_user("ann") and not store.erase_user("ann") and not store.erase_user("eve")
        assert store.heads(["ann", "eve"], "b1") == [Head("ann", erased=True), Head("eve", erased=True)]
        assert [event.user for event in store.log()] == ["bob"] == [active.user for active in store.users()]
        assert put(store, Event("ann", "9")) == Erased() == put(store, Event("eve", "9"))
        assert store.events("ann") == [] and snapshot(store, Position.after(9)) is None
        assert store.readmit("ann") and not store.readmit("ann") and not store.readmit("bob")
        assert store.head("ann", "b1") == Head("ann") and store.events("ann") == []
        assert put(store, Event("ann", "1", 1, "a"), client="web") == Erased(("a",))
        assert written(put(store, Event("ann", "9"), expected=0)).version == 1

    def test_two_users_become_one_in_the_order_of_time(self, store: Store) -> None:
        for n, (user, time) in enumerate((("cookie", 20), ("ann", 10), ("cookie", 40), ("ann", 30), ("ann", 20))):
            put(store, Event(user, str(n), time, f"e{n}"), client="web")
        snapshots = tuple(Snapshot("b1", n, b"%d" % n) for n in (1, 2, 3))
        store.commit(
            [Write("ann", 3, states={"b1": b"m"}, snapshots=snapshots), Write("cookie", 2, states={"b1": b"m"})]
        )
        version = store.merge("cookie", "ann")
        assert items(store, "ann") == ["1", "0", "4", "3", "2"] == items(store, "cookie")
        assert {event.user for event in store.log()} == {"ann"} and len(store.users()) == 1
        last = store.events("ann")[-1]
        assert store.heads(["cookie", "ann"], "b1") == [Head("ann", version, 5, last.position)] * 2 and version > 5
        assert snapshot(store, Position.after(99)) == Snapshot("b1", 1, b"1", store.events("ann")[0].position)
        assert (
            put(store, Event("ann", "x"), expected=3) == Stale(version) == put(store, Event("cookie", "x"), expected=2)
        )
        assert isinstance(put(store, Event("cookie", "0", 20, "e0"), client="web"), Duplicate)
        assert written(put(store, Event("cookie", "5", 50), expected=version)).events[0].user == "ann"
        assert store.merge("cookie", "ann") == version + 1

    def test_names_of_a_merged_user_follow_and_are_erased_with_them(self, store: Store) -> None:
        put(store, Event("c1", "1", id="a"))
        store.merge("c1", "c2")
        store.merge("c2", "ann")
        assert [head.user for head in store.heads(["c1", "c2", "ann"], "b1")] == ["ann"] * 3
        store.erase_user("c1")
        assert all(head.erased for head in store.heads(["c1", "c2", "ann"], "b1"))
        assert put(store, Event("c2", "1")) == Erased()
        for pair in (("bob", "ann"), ("ann", "bob")):
            with pytest.raises(ErasedError, match=r"user 'ann' was erased. Readmit the user, or use another name"):
                store.merge(*pair)
        assert store.readmit("ann") and put(store, Event("ann", "1", id="a")) == Erased(("a",))

    def test_the_version_of_the_past_grows_with_what_rewrites_the_log(self, store: Store) -> None:
        seq = written(put(store, Event("ann", "1", 5), Event("ann", "2", 3))).events[0].seq
        written(put(store, Event("bob", "1", 4)))
        assert store.past_version() == 0 and not store.erase_user("cy") and not store.erase_event("bob", seq)
        assert store.past_version() == 0
        versions = []
        changes: list[Callable[[], object]] = [lambda: store.erase_event("ann", seq)]
        changes += [lambda: store.merge("ann", "bob")] * 2 + [lambda: store.erase_user("bob")]
        for change in changes:
            change()
            versions.append(store.past_version())
        assert versions == [1, 2, 2, 3]

    def test_values_are_kept_by_name(self, store: Store) -> None:
        assert store.get_value("model") is None
        store.put_value("model", b"one\0")
        store.put_value("other", b"")
        store.put_value("model", b"two")
        assert (store.get_value("model"), store.get_value("other")) == (b"two", b"")

    def test_a_value_is_replaced_where_it_is_still_the_one_that_was_read(self, store: Store) -> None:
        assert store.value_version("v") == version_of(store.get_value("v")) == ""
        assert not store.replace_value("v", version_of(b"one"), b"two") and store.get_value("v") is None
        assert store.replace_value("v", "", b"one\0") and not store.replace_value("v", "", b"two")
        assert store.value_version("v") == version_of(b"one\0") and store.get_value("v") == b"one\0"
        store.put_value("v", b"")
        assert not store.replace_value("v", version_of(b"one\0"), b"two")
        assert store.replace_value("v", version_of(b""), b"two") and store.get_value("v") == b"two"

    def test_nothing_is_written_where_a_value_is_another_than_was_read(self, store: Store) -> None:
        write = Write("ann", 0, (Event("ann", "1", id="a"),), {"b1": b"m"})
        for versions in ({"v": version_of(b"one")}, {"v": "", "w": version_of(b"")}):
            with pytest.raises(ConflictError, match=r"another has changed one since. Nothing was changed"):
                store.commit([write], values={"v": b"two"}, versions=versions)
        assert store.log() == [] and store.get_value("v") is None and store.head("ann", "b1") == Head("ann")
        assert isinstance(store.commit([write], values={"v": b"two"}, versions={"v": "", "w": ""})[0], Written)
        assert store.commit([write], versions={"v": version_of(b"two")})[0] == Duplicate(1, tuple(store.log()))

    def test_of_two_imports_of_one_source_at_a_time_one_goes_on(self, store: Store) -> None:
        events = [Event("ann", str(n), n) for n in range(10)]

        def during() -> Iterator[Event]:
            yield from events[:5]
            assert import_events(store, events, source="old.csv", batch=4).written == 6
            yield from events[5:]

        with pytest.raises(ConflictError, match=r"old.csv: expected to be the only import under this name"):
            import_events(store, during(), source="old.csv", batch=4)
        assert items(store, "ann") == [str(n) for n in range(10)]

    def test_of_parallel_changes_of_a_value_none_is_lost(self, store: Store) -> None:
        def count(_: int) -> None:
            for _ in range(10):
                change_value(store, "n", lambda old: b"%d" % (int(old or b"0") + 1))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(4)))
        assert store.get_value("n") == b"40"

    def test_the_shared_value_is_the_sum_of_what_is_kept_of_each_event(self, store: Store) -> None:
        high, other, low = Rated(3, 1.5), Rated(4, 0.25), Rated(3, -(2.0**33))
        (first, second, _) = written(
            put(
                store, *(Event("ann", str(n), 10 * n) for n in (1, 2, 3)), expected=0, rated={"b1": (high, other, None)}
            )
        ).events
        put(store, Event("bob", "1", 5, "b"), expected=0, rated={"b1": (low,), "b2": (high,)})
        small = 250_000
        assert store.shared("b1", [3]) == ({3: Tally(1_500_000 - 2**33 * 10**6, 2)}, (1_750_000 - 2**33 * 10**6, 3))
        assert store.shared("b1", [4, 9]).items == {4: (small, 1)} and store.shared("b2", [3]).every == (1_500_000, 1)
        assert store.shared("b3", [3]) == ({}, (0, 0))
        again = {"b1": {first.seq: other, second.seq: other}}  # a replay replaces, and is the same if it is done twice
        for version in (3, 3, 2):
            store.commit([Write("ann", version, replayed=again)])
        put(store, Event("bob", "1", 5, "b"), expected=1, rated={"b1": (high,)})  # a retry adds nothing
        put(store, Event("bob", "2"), expected=0, rated={"b1": (high,)})
        assert store.shared("b1", [3, 4]).items == {3: (low.amount, 1), 4: (2 * small, 2)}
        assert store.drop_model("b1") == 0 and store.shared("b1", [3, 4]) == ({}, (0, 0))
        assert store.shared("b2", [3]).every.number == 1

    def test_what_changes_the_past_of_an_event_takes_away_what_it_added(self, store: Store) -> None:
        def counts() -> dict[int, int]:
            shared = store.shared("b1", range(9))
            assert shared.every == tuple(map(sum, zip((0, 0), *shared.items.values(), strict=True)))
            return {row: tally.number for row, tally in shared.items.items()}

        def send(user: str, *rows: int) -> Sequence[StoredEvent]:
            events = (Event(user, str(row), 10 * row) for row in rows)
            rated = [Rated(row, 1 / (row + 1)) for row in rows]
            return written(put(store, *events, expected=0, states={"b1": b"m"}, rated={"b1": rated})).events

        *_, third, _ = send("ann", 1, 2, 3, 4)
        send("bob", 2, 3)
        assert counts() == {1: 1, 2: 2, 3: 2, 4: 1}
        late = put(store, Event("bob", "late", 25), expected=2, states={"b1": b"m"}, rated={"b1": (Rated(5, 1.0),)})
        assert counts() == {1: 1, 2: 2, 3: 1, 4: 1, 5: 1} and isinstance(late, Written)
        assert store.erase_event("ann", third.seq) and counts() == {1: 1, 2: 2, 5: 1}
        send("cat", 2, 3)
        send("dog", 1, 4)
        assert counts() == {1: 2, 2: 3, 3: 1, 4: 1, 5: 1}
        store.merge("dog", "cat")
        assert counts() == {1: 1, 2: 2, 5: 1}
        store.erase_user("ann")
        assert counts() == {2: 1, 5: 1}
        store.erase_user("bob")
        assert store.shared("b1", range(9)) == ({}, (0, 0))

    def test_an_import_goes_on_where_it_stopped(self, store: Store) -> None:
        events = [Event("ann" if n < 6 else "bob", str(n), n, f"e{n}" if n % 3 else None) for n in range(10)]
        put(store, events[1], client="import")
        store.commit([Write("ann", 1, states={"b1": b"m"})])

        def broken() -> Iterator[Event]:
            yield from events[:7]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            import_events(store, broken(), source="old.csv", batch=3)
        assert import_events(store, iter(events), source="old.csv", batch=3) == ImportReport(10, 4, 0, 0)
        assert [event.item for event in store.events("ann")] == ["0", "1", "2", "3", "4", "5"]
        assert items(store, "bob") == ["6", "7", "8", "9"] and not store.head("ann", "b1").fresh
        assert import_events(store, iter(events), source="old.csv", batch=3) == ImportReport(10, 0, 0, 0)
        store.erase_user("bob")
        more = [Event("bob", "1"), Event("bob", "2"), Event("ann", "other", id="e1"), events[2], Event("ann", "new")]
        assert import_events(store, more, source="more.csv") == ImportReport(5, 1, 1, 3)

    def test_an_import_takes_only_what_is_new(self, store: Store) -> None:
        first, late = [Event("ann", "x", 100), Event("ann", "y", 200)], Event("bob", "z", 150)
        assert import_events(store, first, source="log").written == 2
        assert import_events(store, [*first, late], source="log").written == 1
        assert import_events(store, [*first, late], source="log") == ImportReport(3)
        assert import_events(store, [late, *first[::-1]], source="log") == ImportReport(3)  # sorted anew
        renamed = [*first, late, Event("cid", "x", 50)]
        assert import_events(store, renamed, source="other") == ImportReport(4, 1, behind="log")
        for events in (first, [first[0], late, Event("ann", "y", 201)]):  # rows were lost, a row was changed
            with pytest.raises(DataError, match=r"Nothing was imported.*give the new rows behind those") as said:
                import_events(store, events, source="log")
            assert "--source" not in str(said.value)
        with pytest.raises(DataError, match=r"there already and would be twice\. Give the new events alone"):
            import_events(store, [first[1], late], source="a part of it")
        with pytest.raises(DataError, match=r"The store has none of them.*another name \(--source\)"):
            import_events(store, [Event("dan", "x", 5)], source="log")
        assert sorted(event.item for event in store.log()) == ["x", "x", "y", "z"]

    def test_an_import_doubles_no_part_of_a_log(self, store: Store) -> None:
        log = [Event(f"u{n % 7}", str(n), n) for n in range(400)]
        assert import_events(store, log[150:], source="part").written == 250
        with pytest.raises(DataError, match=r"about 6\d% of its rows are there already and would be twice") as new:
            import_events(store, log, source="whole")
        with pytest.raises(DataError, match=r"about 6\d% of its rows are in the store already") as same:
            import_events(store, log, source="part")
        assert "--source" not in f"{new.value} {same.value}" and len(store.log()) == 250

    def test_it_says_that_it_is_ready(self, store: Store) -> None:
        store.check_writable()
        assert store.ready().ready, store.ready().reason


def put(
    store: Store, *events: Event, expected: int | None = None, values: dict[str, bytes] | None = None, **fields: Any
) -> Outcome:
    """Commit a write, with the user's version if the write has a state."""
    user = events[0].user
    if expected is None and ("states" in fields or "snapshots" in fields):
        expected = store.head(user, "").version
    return store.commit([Write(user, expected, events, **fields)], values=values)[0]


def written(outcome: Outcome) -> Written:
    """Return an outcome that must be `Written`."""
    assert isinstance(outcome, Written), outcome
    return outcome


def originals(outcome: Outcome) -> list[StoredEvent]:
    """Return the events that were there, of an outcome that must be `Duplicate`."""
    assert isinstance(outcome, Duplicate), outcome
    return [event for event in outcome.originals if event is not None]


def items(store: Store, user: str) -> list[str]:
    """Return the items of a user in the order of their events."""
    return [event.item for event in store.events(user)]


def state_of(store: Store, user: str, model: str = "b1") -> bytes | None:
    """Return the bytes of a user's state, if there is one."""
    state = store.head(user, model).state
    return state.data if state else None


def snapshot(store: Store, at: Position) -> Snapshot | None:
    """Return a snapshot of ann."""
    return store.snapshot("ann", "b1", at=at)
