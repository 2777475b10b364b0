"""Requests gathered into one commit do what they would do one after the other: each is kept whole or not at all.

The model is a dictionary. What the store holds in the end is what the answers say.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines import Server
from segue.errors import ConflictError, ErasedError
from segue.recommend.batch import observe_long, state_from_bytes
from segue.serve.live.service import Service
from segue.serve.ranking.types import IngestRequest, IngestResult
from segue.store.base import Write
from segue.store.events import Event
from segue.store.sql.sqlite_store import SqliteStore
from segue.store.valkey_store import ValkeyStore
from tests_support import small_recommender

REC = small_recommender()
#: (user, item, id or none, time or none) of each event, and the client.
EVENT = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["001", "002"]),
    st.sampled_from([None, "x", "y", "z"]),
    st.sampled_from([None, None, 30, 20]),
)
EVENTS = st.lists(EVENT, min_size=1, max_size=4, unique_by=lambda one: one[2] or object())
REQUEST = st.tuples(EVENTS, st.sampled_from(["shop", "app"]))
BATCH = st.lists(REQUEST, min_size=1, max_size=6).map(lambda requests: ("tell", requests))
ERASURE = st.tuples(st.sampled_from(["erase", "readmit"]), st.sampled_from("abc"))
quick = settings(max_examples=60, deadline=None)
prefixes = map(str, itertools.count())
#: Of two requests gathered together the second has a new event, and an id that the first took for another event.
FOUND = [("tell", [([("a", "001", "x", 9)], "shop"), ([("b", "001", "y", 9), ("a", "002", "x", 9)], "shop")])]

#: An event without a time comes behind a late one.
LATE = [("tell", [([("a", "002", None, 30)], "shop"), ([("a", "001", None, 20), ("a", "002", None, None)], "shop")])]


@pytest.fixture(name="shared", scope="module")
def a_shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


class Model:
    """A shop's log in a dictionary."""

    def __init__(self):
        self.known, self.log, self.erased, self.gone = {}, [], set(), set()

    def tell(self, events, client):
        """Return how many events were known, or the error."""
        ids = [(client, id) for _, _, id, _ in events]
        if any(user in self.erased for user, *_ in events) or self.gone & set(ids):
            return ErasedError
        if any(self.known.get(id, event) != event for id, event in zip(ids, events, strict=True)):
            return ConflictError
        new = [(id, event) for id, event in zip(ids, events, strict=True) if id not in self.known]
        self.known |= {id: event for id, event in new if id[1] is not None}
        self.log += new
        return len(events) - len(new)

    def erase(self, user):
        self.erased.add(user)
        gone = {id for id, event in self.log if event[0] == user and id[1] is not None}
        self.gone |= gone
        self.known = {id: event for id, event in self.known.items() if id not in gone}
        self.log = [(id, event) for id, event in self.log if event[0] != user]


def holds_its_events(store, head):
    """Assert that the state of a user is that of a replay of the log."""
    if head.count:
        assert head.fresh
        state = state_from_bytes(REC, head.state.data)
        replayed = observe_long(REC, REC.start(), store.events(head.user))
        np.testing.assert_allclose(state.memory.output, replayed.memory.output, atol=1e-4)
        assert (state.count, state.recent.tolist()) == (replayed.count, replayed.recent.tolist())


def agrees(store, steps):
    """Assert that a service over a store does what the model does."""
    service, model = Service(REC, store, clock=lambda: 100), Model()
    try:
        for kind, what in steps:
            if kind == "tell":
                tells = [
                    IngestRequest(tuple(Event(user, item, time, id) for user, item, id, time in events), client)
                    for events, client in what
                ]
                for answer, (events, client) in zip(service.ingest(tells), what, strict=True):
                    expected = model.tell(events, client)
                    if isinstance(expected, int):
                        assert isinstance(answer, IngestResult), answer
                        assert answer.duplicates == expected
                        assert [(kept.user, kept.item, kept.id, kept.time) for kept in answer.events] == events
                    else:
                        assert isinstance(answer, ErasedError | ConflictError), answer
            elif kind == "erase":
                model.erase(what)
                store.erase_user(what)
            else:
                model.erased.discard(what)
                store.readmit(what)
            kept = sorted((event.user, event.item, event.id or "", event.time or 0) for event in store.log())
            assert kept == sorted((user, item, id or "", time or 0) for _, (user, item, id, time) in model.log)
            for head in store.heads(list("abc"), REC.fingerprint):
                assert head.count == sum(user == head.user for user, *_ in kept)
                holds_its_events(store, head)
    finally:
        service.close()


@quick
@example(FOUND)
@example(LATE)
@given(st.lists(BATCH | ERASURE, min_size=1, max_size=5))
def test_law_a_gathered_batch_is_its_requests_one_after_the_other(steps):
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "s.db")
        try:
            agrees(store, steps)
        finally:
            store.close()


def test_law_a_gathered_batch_is_its_requests_one_after_the_other_on_a_shared_server(shared):
    @quick
    @example(FOUND)
    @example(LATE)
    @given(st.lists(BATCH, min_size=1, max_size=5))  # an erasure there rewrites the files of the server
    def agree(steps):
        store = ValkeyStore(shared.address, prefix=next(prefixes))
        try:
            agrees(store, steps)
        finally:
            store.close()

    agree()


def test_many_retries_of_one_user_in_one_batch_are_all_answered(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    service = Service(REC, store, clock=lambda: 100)
    bad = [IngestRequest((Event("b", "001"), Event("a", "002", id=f"e{n}"))) for n in range(20)]
    good = [IngestRequest((Event("a", "001", id=f"e{n}"),)) for n in range(20)]
    answers = service.ingest([one for pair in zip(good, bad, good, strict=True) for one in pair])
    assert [type(one) for one in answers] == [IngestResult, ConflictError, IngestResult] * 20
    assert [event.id for event in store.log()] == [f"e{n}" for n in range(20)]
    [refused] = service.ingest([IngestRequest((Event("b", "001"), Event("a", "002", id="e7")))])
    assert str(refused).startswith('events.1 id "e7": expected the event that was sent under it before')
    service.close()
    store.close()


def test_what_another_writer_did_meanwhile_leaves_no_part_of_a_request(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    service = Service(REC, store, clock=lambda: 100)
    commit, begin, meanwhile = store.commit, store.begin, [Write("a", None, (Event("a", "002", id="x"),))]

    def overtaken(writes, **more):
        if meanwhile:  # another replica, between the plan and the commit
            commit([meanwhile.pop()])
        return begin(writes, **more)

    store.begin = overtaken
    both = (Event("b", "001"), Event("a", "001", id="x"))
    [refused] = service.ingest([IngestRequest(both)])
    assert isinstance(refused, ConflictError) and [event.user for event in store.log()] == ["a"]
    meanwhile.append(Write("a", None, (Event("a", "003"),)))
    [told] = service.ingest([IngestRequest((Event("b", "001"), Event("a", "001", id="y")))])
    assert [event.user for event in told.events] == ["b", "a"] and len(store.log()) == 4
    service.close()
    store.close()
