"""Recommendations for all users of a store or a log, in one Parquet file; an interrupted run continues."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from segue.config import Repeats
from segue.data.features.catalogue import Profiles
from segue.data.log.columns import plain_name
from segue.data.log.events import Events
from segue.data.values.times import microseconds
from segue.jobs.event_frames import log_frame
from segue.jobs.resumable_parquet import ResumableParquet
from segue.recommend.arguments import check_count
from segue.recommend.batch import observe_long
from segue.recommend.filters.binding import of_all_users
from segue.recommend.filters.fields import Filter
from segue.recommend.lists.candidates import narrowed
from segue.recommend.lists.options import ListOptions
from segue.recommend.recommender import Recommender, Time
from segue.recommend.state import NO_TIME, Seen, State, States, gaps_seconds
from segue.shapes import Bools, Floats, Rows
from segue.store.base import Store
from segue.store.events import StoredEvent

#: Users and events in a batch at most; a user with more events is a batch alone.
USERS, EVENTS = 2_000, 200_000
_PAGE = 5_000
#: Lists of all items.
EVERYTHING = ListOptions()
SCHEMA = {"user": pl.String, "place": pl.Int32, "item": pl.String, "score": pl.Float32}


@dataclass(frozen=True)
class BatchReport:
    """The users with a list from this run, and from an earlier run that was interrupted."""

    users: int
    before: int


class UserBatch(NamedTuple):
    """Users and their states after the last event."""

    users: list[str]
    outputs: Floats  # float32[user, d]
    times: list[int | None]
    seen: list[Seen]
    recent: Rows  # int32[user, RECENT]


def recommend_all(
    rec: Recommender,
    source: Store | Events,
    out: str | Path,
    *,
    k: int = 10,
    at: Time = None,
    profiles: Profiles | None = None,
    choice: ListOptions = EVERYTHING,
    report: Callable[[int, int], None] | None = None,
) -> BatchReport:
    """Write each user's list to a Parquet file: `user`, `place` (from 1), `item`, `score`.

    The result equals that of this loop over the users of the source, up to rounding of scores:

        for user in users:
            for place, item in enumerate(rec.recommend(state_of(user), k, at=at), start=1):
                rows.append((user, place, item.item, item.score))

    States are computed from the events that the source holds when a batch is read. Finished batches
    wait beside the file until all are there. A new run with the same model and options continues
    with the users who have no list yet.

    Args:
        rec: makes the lists, with its index if there is one.
        source: a store (`read_store` while a server runs), or a log.
        k: items for each user.
        at: the time of the request; None when unknown.
        choice: its filter of items, candidates, excluded ids and policy of seen items hold for all lists.
        report: called after each batch with the users done and the users in all.

    Raises:
        ArgumentError: k is below 1, or the filter does not fit the items, or names the user or the current item.
        DataError: the file cannot be written.

    Cost: O(events x network + users x items); memory of a batch, of all user ids, and of the log.
    """
    check_count(k, "recommend: expected k")
    now = microseconds(at, "at")
    of = f"{source.source}, {len(source)} events" if isinstance(source, Events) else "store"
    held = allowed_by(rec, choice, now)
    parts = ResumableParquet(Path(out), job_of(rec, k, now, of, choice, held))
    paths = parts.paths()
    done = set(pl.scan_parquet(paths).select(pl.col("user").unique()).collect()["user"]) if paths else set()
    before, count = len(done), 0
    if isinstance(source, Events):
        users = [user for user in source.users if user not in done]
        batches = batches_of_log(rec, source, users, profiles)
    else:
        users = [user for user in all_users(source) if user not in done]
        batches = _batches_of_store(rec, source, users, profiles)
    ids = rec.vocabulary.ids
    for batch in batches:
        parts.add(lists_of(rec, batch, k, now, ids, held))
        count += len(batch.users)
        if report:
            report(before + count, before + len(users))
    parts.finish(pl.DataFrame(schema=SCHEMA))
    return BatchReport(count, before)


def job_of(
    rec: Recommender, k: int, now: int | None, of: str, choice: ListOptions, held: "Allowed"
) -> dict[str, str | int | None]:
    """Return what the lists are made of: an interrupted run goes on where all of this is the same."""
    job: dict[str, str | int | None] = {"model": rec.fingerprint, "items": len(rec.items), "k": k, "at": now, "of": of}
    return job if choice == EVERYTHING else job | {"choice": held.digest}


def all_users(store: Store) -> list[str]:
    """Return the users of a store, also those who become active meanwhile."""
    users: dict[str, None] = {}
    reached, newest = -1, -1
    while True:
        page, before = store.users(), None
        newest = page[0].active if page else -1
        while page and page[0].active > reached:
            users |= dict.fromkeys(user.user for user in page if user.active > reached)
            before = page[-1].active
            page = store.users(before=before)
        if newest <= reached:
            return list(users)
        reached = newest


class Allowed(NamedTuple):
    """What all lists may hold: seen items or not, rows to leave out, bool[row] that is allowed."""

    repeats: Repeats
    excluded: Rows | None = None
    allowed: Bools | None = None

    @property
    def digest(self) -> str:
        """A text that differs where lists may hold something else."""
        arrays = [b"" if array is None else array.tobytes() for array in (self.excluded, self.allowed)]
        return blake2b(b"|".join([self.repeats.encode(), *arrays]), digest_size=16).hexdigest()


def allowed_by(rec: Recommender, choice: ListOptions, now: int | None) -> Allowed:
    """Return what all lists may hold.

    Raises:
        ArgumentError: the filter does not fit, or differs from user to user.
    """
    if (found := Filter.of(choice.where)) is not None:
        of_all_users(found.tree)
    excluded = rec.vocabulary.rows(choice.exclude) if choice.exclude else None
    left = narrowed(rec, choice, now)
    return Allowed(choice.repeats or rec.repeats, excluded, None if left is None else left.mask)


def lists_of(
    rec: Recommender, batch: UserBatch, k: int, now: int | None, ids: pl.Series, held: Allowed
) -> pl.DataFrame:
    """Return the lists of a batch: `user`, `place`, `item`, `score`."""
    gaps = gaps_seconds([now] * len(batch.times), batch.times)
    excluded = [seen.to_rows() for seen in batch.seen] if held.repeats == "exclude" else []
    if (out := held.excluded) is not None:
        excluded = [np.append(rows, out) for rows in excluded] or [out] * len(batch.users)
    details = rec.encoders.of_events([{"time": now}] * len(batch.times))
    best = rec.best_each(batch.outputs, gaps, batch.recent, k, details, excluded=excluded, allowed=held.allowed)
    user, place = np.nonzero(best.rows)
    rows = best.rows[user, place]
    columns = {
        "user": pl.Series(batch.users, dtype=pl.String).gather(user),
        "place": pl.Series((place + 1).astype(np.int32)),
        "item": ids.gather(rows.astype(np.int64) - 1),
        "score": pl.Series(best.scores[user, place]),
    }
    return pl.DataFrame(columns).cast(SCHEMA)  # type: ignore[arg-type]


def state_of(rec: Recommender, store: Store, user: str, profiles: Profiles | None = None) -> State:
    """Return the state of a user of a store, from all their events."""
    state = start_of(rec, user, profiles)
    for page in _pages(store, user):
        state = observe_long(rec, state, page)
    return state


def start_of(rec: Recommender, user: str, profiles: Profiles | None) -> State:
    """Return the state of a user before any event, from the profile columns that were learnt."""
    if not profiles or rec.encoders.users is None:
        return rec.start({})
    learnt = {plain_name(name) for name in rec.encoders.users.slices}
    return rec.start({name: value for name, value in profiles.of(user).items() if plain_name(name) in learnt})


def _user_batch(states: States) -> UserBatch:
    times = [None if time == NO_TIME else int(time) for time in states.times]
    return UserBatch(states.users.to_list(), states.memory.output, times, list(states.seen), states.recent)


def batches_of_log(rec: Recommender, log: Events, users: list[str], profiles: Profiles | None) -> Iterator[UserBatch]:
    """Give the users of a log in batches."""
    if rec.network.rating is not None:
        rec.network.rating.scale.check_log(log)
    order = pl.DataFrame({"user": pl.Series(users, dtype=pl.String)}).with_row_index("number")
    numbers = log.table.select(pl.col("user").cast(pl.String)).join(order, on="user", how="left", maintain_order="left")
    number = numbers["number"].fill_null(len(users)).to_numpy()
    rows = np.argsort(number, kind="stable")
    offsets = np.searchsorted(number[rows], np.arange(len(users) + 1))
    for begin, end in _cut(np.diff(offsets).tolist()):
        batch = np.sort(rows[offsets[begin] : offsets[end]])  # in the order of the log again
        states = rec.encode(rec.sequences(Events(log.table[batch], log.source), profiles))
        yield _user_batch(states)


def _batches_of_store(
    rec: Recommender, store: Store, users: list[str], profiles: Profiles | None
) -> Iterator[UserBatch]:
    """Give the users of a store in batches; a user erased meanwhile gets no list."""
    histories: dict[str, list[StoredEvent]] = {}
    size = 0
    for user in users:
        events = list(itertools.chain.from_iterable(_pages(store, user)))
        if histories and (len(histories) >= USERS or size + len(events) > EVENTS):
            yield _batch_of_histories(rec, histories, profiles)
            histories, size = {}, 0
        if events:
            histories[user] = events
            size += len(events)
    if histories:
        yield _batch_of_histories(rec, histories, profiles)


def _batch_of_histories(
    rec: Recommender, histories: dict[str, list[StoredEvent]], profiles: Profiles | None
) -> UserBatch:
    """Return users with their states; a user with times for some events is read event by event."""
    by_timed: dict[bool | None, dict[str, list[StoredEvent]]] = {True: {}, False: {}, None: {}}
    for user, events in histories.items():
        timed = {event.time is not None for event in events}
        by_timed[timed.pop() if len(timed) == 1 else None][user] = events
    pieces = [_encoded(rec, by_timed[timed], profiles, timed) for timed in (True, False) if by_timed[timed]]
    for user, events in by_timed[None].items():
        state = observe_long(rec, start_of(rec, user, profiles), events)
        pieces.append(UserBatch([user], state.memory.output, [state.time], [state.seen], state.recent))
    joined = [list(itertools.chain.from_iterable(piece[at] for piece in pieces)) for at in (0, 2, 3)]
    outputs, recent = (np.concatenate([piece[at] for piece in pieces]) for at in (1, 4))
    return UserBatch(joined[0], outputs, joined[1], joined[2], recent)


def _encoded(
    rec: Recommender, histories: dict[str, list[StoredEvent]], profiles: Profiles | None, timed: bool
) -> UserBatch:
    table = log_frame(list(itertools.chain.from_iterable(histories.values()))).drop("place")
    table = table.sort("time", maintain_order=True) if timed else table.drop("time")
    return _user_batch(rec.encode(rec.sequences(Events(table), profiles)))


def _pages(store: Store, user: str) -> Iterator[list[StoredEvent]]:
    page = store.events(user, limit=_PAGE)
    while page:
        yield page
        page = store.events(user, after=page[-1].position, limit=_PAGE) if len(page) == _PAGE else []


def _cut(lengths: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Give the range of users of each batch.

    Example:
        >>> list(_cut([EVENTS - 1, 2, EVENTS * 3, 1, 1]))
        [(0, 1), (1, 2), (2, 3), (3, 5)]
    """
    begin = end = size = 0
    for length in lengths:
        if end > begin and (end - begin >= USERS or size + length > EVENTS):
            yield begin, end
            begin, size = end, 0
        end, size = end + 1, size + length
    if end > begin:
        yield begin, end
