"""Splits hold out a part of a log, to measure a model on events that it was not trained on."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl

from segue.data.log.events import Events, as_events
from segue.data.values.times import iso
from segue.errors import ArgumentError, ConfigError, DataError

_EXAMPLES = (
    'Give "time:0.1" (the last tenth of the events) or "last:1" (the last event of each user); "users:0.1" or '
    '"items:0.1" (a tenth of the users or items, with all their events) for those that training never meets.'
)
_CHUNK = 1 << 20
_OUT = "held out"


def split_by_time(events: Events, *, test: float = 0.1) -> tuple[Events, Events]:
    """Cut a log at one moment for all users: train on what was before, test on what came after.

        ann   a a . a | a . .        time ->
        bob   . b . . | . b b        | the cut: all events at or after it are the test part;
        cid   . . . . | c . .          `test.history` has the events of ann and bob before it

    The cut is the latest moment for which at least `test` of all events lie at or after it. Rows of
    equal time stay together: the last time in train is before the first in test. Where all events
    would be test, the cut is the next moment, and test is smaller.

    Args:
        events: a log with times.
        test: the share of the events to hold out, between 0 and 1.

    Returns:
        train, and test whose `history` has the earlier events of its users; a new user has none.

    Raises:
        ArgumentError: `test` is not between 0 and 1.
        DataError: the log has no times, or all its events have the same time.

    Cost: O(events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann", "bob", "ann", "ann", "cid"], "item": list("abcde"),
        ...                            "time": [1, 2, 3, 4, 4]}))
        >>> train, test = split_by_time(log, test=0.2)
        >>> train.table["item"].to_list(), test.table["item"].to_list()    # d and e share a time
        (['a', 'b', 'c'], ['d', 'e'])
        >>> test.history.table["item"].to_list()
        ['a', 'c']
    """
    as_events(events, "split_by_time")
    _check_share(test, "split_by_time", "test")
    cut = _moment(events, test)
    return _cut(events, cut, f"time:{test:g}, cut at {iso(int(events.table['time'][cut]))}")


def _moment(events: Events, test: float) -> int:
    """Return the row of a log from which on about a share `test` of the events lies; no row before is as late."""
    if not events.has_times:
        raise DataError(
            f"{events.source}: expected times to split by, the log has none. "
            'Hold out the last event of each user: "last:1".'
        )
    time = events.table["time"].to_numpy()
    moment = time[len(time) - max(1, round(len(time) * test))] if len(time) else 0
    cut = int(np.searchsorted(time, moment, side="left"))
    cut = cut or int(np.searchsorted(time, moment, side="right"))
    if cut == len(time):
        raise DataError(
            f"{events.source}: expected events at different times, all {len(time):,} have the same. "
            'Hold out the last event of each user: "last:1".'
        )
    return cut


def split_rolling(events: Events, *, test: float = 0.3, windows: int = 3) -> list[tuple[Events, Events]]:
    """Cut a log at several moments, one after the other: how a model does that is trained anew each time.

        time ->   a a a a a a | b b | b b | b b        windows = 3
                  train       | test                   the first pair
                  train             | test             the second
                  train                   | test       the third

    Each train part holds all events before its cut, and each test part those up to the next cut. The test parts
    together hold about `test` of all events, in equal numbers; rows of equal time stay together.

    Args:
        events: a log with times.
        test: the share of the events in all test parts, between 0 and 1.
        windows: how many pairs, at least 1.

    Returns:
        A pair of train and test for each window, as of `split_by_time`.

    Raises:
        ArgumentError: `test` is not between 0 and 1, or `windows` is no whole number from 1.
        DataError: the log has no times, or too few different ones.

    Cost: O(windows x events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann"] * 6, "item": list("abcdef"), "time": [1, 2, 3, 4, 5, 6]}))
        >>> for train, test in split_rolling(log, test=0.5, windows=3):
        ...     print("".join(train.table["item"]), "".join(test.table["item"]))
        abc d
        abcd e
        abcde f
    """
    as_events(events, "split_rolling")
    _check_share(test, "split_rolling", "test")
    if isinstance(windows, bool) or not isinstance(windows, int) or windows < 1:
        raise ArgumentError(f"split_rolling: expected windows from 1, a whole number, came {windows!r}. 3 is usual.")
    cuts = [_moment(events, test * (windows - n) / windows) for n in range(windows)] + [len(events)]
    if len(set(cuts)) <= windows:
        raise DataError(
            f"{events.source}: expected events at {windows + 1} or more different times, to cut {windows} windows, "
            "found fewer. Give fewer windows or a larger test."
        )
    time = events.table["time"]
    return [
        _cut(events.with_table(events.table[:end]), cut, f"window {n} of {windows}, cut at {iso(int(time[cut]))}")
        for n, (cut, end) in enumerate(pairwise(cuts), start=1)
    ]


def split_sessions(events: Events, *, test: float = 0.1, gap: float = 1800.0) -> tuple[Events, Events]:
    """Cut a log into sessions and hold out the last ones: train on sessions that ended before a moment.

        ann   a a . a a | . .        time ->
        bob   . b b . b | b .        the cut; bob's second session goes on after it and is held out whole
        cid   . . . . . | c c

    A session is a run of a user's events without a pause longer than `gap`. Each session becomes a user of its own,
    named "ann/1", "ann/2": nothing is known of who it is. With `segue.evaluate(..., targets="prefixes")` every event
    of a held-out session but its first is predicted from those before it in the session.

    Args:
        events: a log with times.
        test: about which share of the events lies at or after the cut, between 0 and 1.
        gap: seconds.

    Returns:
        train and test with sessions as users; `test.history` is empty.

    Raises:
        ArgumentError: `test` is not between 0 and 1, or `gap` is not above 0.
        DataError: the log has no times, all its events have the same time, or no session ended before the cut.

    Cost: O(events log events).

    Source: the protocol of GRU4Rec (Hidasi et al. 2016).

    Example:
        >>> table = pl.DataFrame({"user": list("aaabb"), "item": list("vwxyz"), "time": [0, 1, 9_000, 9_001, 9_002]})
        >>> train, test = split_sessions(Events(table.with_columns(pl.col("time") * 1_000_000)), test=0.4)
        >>> train.table["user"].to_list(), test.table["user"].to_list()
        (['a/1', 'a/1', 'a/2'], ['b/1', 'b/1'])
    """
    as_events(events, "split_sessions")
    _check_share(test, "split_sessions", "test")
    if not gap > 0:
        raise ArgumentError(f"split_sessions: expected a gap above 0, in seconds, came {gap}. 1800 is usual.")
    cut = _moment(events, test)
    moment = int(events.table["time"][cut])
    pause = (pl.col("time").diff() > gap * 1e6).fill_null(False)
    number = pause.cast(pl.Int64).cum_sum().over("user") + 1
    named = pl.format("{}/{}", pl.col("user").cast(pl.String), number)
    anonymous = replace(events, table=events.table.with_columns(user=named), history=None, places=None)
    out = anonymous.table.select(pl.col("time").max().over("user") >= moment).to_series()
    if out.all():
        raise DataError(
            f"{events.source}: expected sessions that ended before {iso(moment)}, none did. Give a shorter gap, a "
            "smaller test, or more data."
        )
    rule = f"sessions:{test:g}, cut at {iso(moment)}, gap {gap:g} s"
    return _parted(anonymous, anonymous.table.filter(~out), anonymous.table.filter(out), out, rule)


def split_after(events: Events, moment: int) -> tuple[Events, Events]:
    """Cut a log after a moment, microseconds since 1970; a part may be empty. O(events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann", "bob", "ann"], "item": list("abc"), "time": [1, 2, 3]}))
        >>> [part.table["item"].to_list() for part in split_after(log, 2)]
        [['a', 'b'], ['c']]
    """
    cut = int(np.searchsorted(events.table["time"].to_numpy(), moment, side="right"))
    return _cut(events, cut, f"after {iso(moment)}")


def _cut(events: Events, cut: int, rule: str) -> tuple[Events, Events]:
    out = pl.Series(np.arange(len(events)) >= cut)
    return _parted(events, events.table[:cut], events.table[cut:], out, rule)


def split_last(events: Events, *, n: int = 1) -> tuple[Events, Events]:
    """Hold out the last events of each user.

        ann   a a a | a          n = 1
        bob   b | b
        cid   c                  one event only: stays in train; a note counts such users

    Only users with more than `n` events are tested, so that each has events in train. Train holds
    events of other users that are later than a test event; prefer `split_by_time`.

    Args:
        events: a log, with or without times.
        n: the number of events to hold out, at least 1.

    Returns:
        train, and test whose `history` has the earlier events of its users.

    Raises:
        ArgumentError: `n` is not a whole number from 1.
        DataError: no user has more than `n` events.

    Cost: O(events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann", "bob", "ann", "bob", "cid"], "item": list("abcde")}))
        >>> train, test = split_last(log)
        >>> train.table["item"].to_list(), test.table["item"].to_list()
        (['a', 'b', 'e'], ['c', 'd'])
        >>> test.intake.notes[-1]
        'held out last:1; 1 of 3 users had no more than 1 events and stay in train'
    """
    as_events(events, "split_last")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ArgumentError(f"split_last: expected n from 1, a whole number, came {n!r}. 1 is usual.")
    place = events.table.select(
        left=pl.int_range(pl.len()).reverse().over("user"), count=pl.len().over("user"), user="user"
    )
    out = place.select((pl.col("left") < n) & (pl.col("count") > n)).to_series()
    if not out.any():
        raise DataError(
            f"{events.source}: expected users with more than {n} events, none has. Give a smaller n, or more data."
        )
    few = place.filter(pl.col("count") <= n)["user"].n_unique()
    users = place["user"].n_unique()
    rule = f"last:{n}; {few:,} of {users:,} users had no more than {n} events and stay in train"
    return _parted(events, events.table.filter(~out), events.table.filter(out), out, rule)


def split_tail(events: Events, *, share: float = 0.1) -> tuple[Events, Events]:
    """Hold out the last share of each user's events.

        ann   a a a a a a a a a a | a a      share = 0.2
        bob   b b b b | b                    of two events or more, at least one is held out

    As with `split_last`, train holds events of other users that are later than a test event.

    Args:
        events: a log, with or without times.
        share: of each user's events, between 0 and 1, rounded down.

    Returns:
        train, and test whose `history` has the earlier events of its users.

    Raises:
        ArgumentError: `share` is not between 0 and 1.
        DataError: no user has two events.

    Cost: O(events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann", "bob", "ann", "bob", "cid"], "item": list("abcde")}))
        >>> split_tail(log, share=0.1)[1].table["item"].to_list()
        ['c', 'd']
    """
    as_events(events, "split_tail")
    _check_share(share, "split_tail", "share")
    left, count = pl.int_range(pl.len()).reverse().over("user"), pl.len().over("user")
    number = (count * share).floor().clip(1)
    out = events.table.select((left < number) & (count > 1)).to_series()
    if not out.any():
        raise DataError(f"{events.source}: expected users with two events or more, none has. Give more data.")
    return _parted(events, events.table.filter(~out), events.table.filter(out), out, f"last:{share:g} of each user")


def split_random(events: Events, *, share: float = 0.1, seed: int = 0) -> tuple[Events, Events]:
    """Hold out random events, as older papers on ratings do.

    Train holds events that are later than a test event, of the same user too. A server never has
    these: `split_by_time` measures what a server can do. Events are drawn by place.

    Args:
        events: a log, with or without times.
        share: of the events, between 0 and 1; at least one event is held out and one stays.
        seed: another seed draws other events.

    Returns:
        train, and test whose `history` has the other events of its users, in their order.

    Raises:
        ArgumentError: `share` is not between 0 and 1.
        DataError: there are fewer than two events.

    Cost: O(events log events).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann"] * 4, "item": list("abcd")}))
        >>> [len(part) for part in split_random(log, share=0.3)]
        [3, 1]
    """
    as_events(events, "split_random")
    _check_share(share, "split_random", "share")
    if len(events) < 2:
        raise DataError(f"{events.source}: expected two events or more, found {len(events)}. Give a longer log.")
    count = min(max(1, round(share * len(events))), len(events) - 1)
    out = np.zeros(len(events), bool)
    out[np.random.default_rng(seed).permutation(len(events))[:count]] = True
    return _interleaved(events, pl.Series(out), f"random:{share:g}" + (f" seed {seed}" if seed else ""))


def split_users(events: Events, *, share: float = 0.1, seed: int = 0) -> tuple[Events, Events]:
    """Hold out users with all their events, to measure recommendations for new users.

        ann   a a a a            time ->
        bob   b b b              share = 1/3
        cid   | c c c            all events of cid are tested

    Users are drawn by a hash of id and seed, whatever the order of the log. Train holds events of
    other users that are later than a test event.

    Args:
        events: a log, with or without times.
        share: of the users, between 0 and 1; at least one user is held out and one stays.
        seed: another seed draws other users.

    Returns:
        train, and test whose `history` is empty.

    Raises:
        ArgumentError: `share` is not between 0 and 1.
        DataError: there are fewer than two users.

    Cost: O(events + users log users).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann", "bob", "ann", "cid", "bob"], "item": list("abcde")}))
        >>> train, test = split_users(log, share=0.3)
        >>> train.table["item"].to_list(), test.table["item"].to_list(), len(test.history)
        (['a', 'b', 'c', 'e'], ['d'], 0)
    """
    as_events(events, "split_users")
    out, rule = _drawn(events, "user", share, seed)
    return _parted(events, events.table.filter(~out), events.table.filter(out), out, rule)


def split_items(events: Events, *, share: float = 0.1, seed: int = 0) -> tuple[Events, Events]:
    """Hold out items with all their events, to measure recommendations of new items.

        ann   a | x | a a | x |        time ->
        bob   b b                      x: a held-out item
        cid   | x | c c

    All events of held-out items are tested; train has none of them. The history of a test event is
    all that its user did before, test events included. `test.history` has the events of other items
    up to the last test event of their user, and `joined_with_history` puts both in their old order.
    Items are drawn as in `split_users`.

    Args:
        events: a log, with or without times.
        share: of the items, between 0 and 1; at least one item is held out and one stays.
        seed: another seed draws other items.

    Returns:
        train, and test with its `history`.

    Raises:
        ArgumentError: `share` is not between 0 and 1.
        DataError: there are fewer than two items.

    Cost: O(events log events + items log items).

    Example:
        >>> log = Events(pl.DataFrame({"user": ["ann"] * 5 + ["bob"], "item": ["a", "x", "b", "x", "c", "a"]}))
        >>> train, test = split_items(log, share=0.25, seed=4)
        >>> train.table["item"].to_list(), test.table["item"].to_list()
        (['a', 'b', 'c', 'a'], ['x', 'x'])
        >>> test.joined_with_history().table["item"].to_list()    # c is later than the last test event
        ['a', 'x', 'b', 'x']
    """
    as_events(events, "split_items")
    out, rule = _drawn(events, "item", share, seed)
    return _interleaved(events, out, rule)


def _drawn(events: Events, role: str, share: float, seed: int) -> tuple[pl.Series, str]:
    """Return bool[event], whether the event's user or item is held out, and the rule in words."""
    _check_share(share, f"split_{role}s", "share")
    column = events.table[role]
    ids = column.unique().cast(pl.String)
    if len(ids) < 2:
        raise DataError(
            f"{events.source}: expected at least two {role}s to hold one out, found {len(ids)}. Give a longer log."
        )
    hashes = {id: hashlib.blake2b(f"{seed} {id}".encode(), digest_size=16).digest() for id in ids}
    count = min(max(1, round(share * len(ids))), len(ids) - 1)
    drawn = sorted(hashes, key=hashes.__getitem__)[:count]
    rule = f"{role}s:{share:g}" + (f" seed {seed}" if seed else "")
    return column.cast(pl.String).is_in(drawn), f"{rule}; {count:,} of {len(ids):,} {role}s"


def _check_share(share: float, function: str, argument: str) -> None:
    if not 0 < share < 1:
        raise ArgumentError(f"{function}: expected {argument} between 0 and 1, came {share}. 0.1 is a tenth.")


#: The function of each rule with a share.
_BY_SHARE: dict[str, Callable[[Events, float], tuple[Events, Events]]] = {
    "time": lambda events, share: split_by_time(events, test=share),
    "last": lambda events, share: split_tail(events, share=share),
    "random": lambda events, share: split_random(events, share=share),
    "users": lambda events, share: split_users(events, share=share),
    "items": lambda events, share: split_items(events, share=share),
    "sessions": lambda events, share: split_sessions(events, test=share),
}


def hold_out(events: Events, rule: str) -> tuple[Events, Events]:
    """Split by a rule of the command line: "time:0.1", "last:1", "users:0.1", "items:0.1" or "sessions:0.1".

    "last:0.1" holds out the last tenth of each user's events, "random:0.1" a random tenth.

    Raises:
        ConfigError: the rule is none of these.
        ArgumentError, DataError: as the function of that rule, `split_by_time` for example.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"]}))
        >>> [len(part) for part in hold_out(log, "last:1")]
        [1, 1]
    """
    as_events(events, "hold_out")
    kind, _, size = rule.partition(":")
    try:
        if kind == "last" and float(size) >= 1:
            return split_last(events, n=int(size))
        if kind in _BY_SHARE and 0 < (share := float(size)) < 1:
            return _BY_SHARE[kind](events, share)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
    raise ConfigError(f'--hold-out: expected a rule and its size, came "{rule}". {_EXAMPLES}')


def digest(events: Events) -> str:
    """Return the SHA-256 over user, item and time of the rows, in order, as 64 hexadecimal digits.

    Equal rows have equal digests, whatever their source; ratings do not count.

    Cost: O(events) time, O(1) memory.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a"], "item": ["x"]}))
        >>> digest(log)[:8], digest(log) == digest(Events(log.as_text()))
        ('799b19bd', True)
    """
    sha = hashlib.sha256(f"segue events 1, {len(events)} rows, times {events.has_times}\n".encode())
    for start in range(0, len(events), _CHUNK):
        part = events.table.slice(start, _CHUNK)
        for name in ("user", "item"):
            ids = part[name].cast(pl.String)
            # The lengths keep "ab", "c" and "a", "bc" apart.
            sha.update(ids.str.len_bytes().to_numpy().astype("<u4").tobytes())
            sha.update(str(ids.str.join("").item()).encode())
        if events.has_times:
            sha.update(part["time"].to_numpy().astype("<i8").tobytes())
    return sha.hexdigest()


def _parted(
    events: Events, train: pl.DataFrame, test: pl.DataFrame, out: pl.Series, rule: str
) -> tuple[Events, Events]:
    """Return train, and test with the other events of its users as history."""
    note = f"held out {rule}"
    marked = replace(events, table=events.table.with_columns(out.alias(_OUT))).joined_with_history().table
    held_out = pl.col(_OUT).fill_null(False)
    # One table, no join: categoricals of two tables need not share their codes.
    known = marked.filter(~held_out & held_out.any().over("user")).drop(_OUT)
    earlier = events.with_table(known, f"earlier events of the users {note}")
    return (
        events.with_table(train, f"without rows {note}", history=events.history),
        events.with_table(test, note, history=earlier),
    )


def _interleaved(events: Events, out: pl.Series, rule: str) -> tuple[Events, Events]:
    """Return train, and test with a history between its events; `places` hold the order."""
    note = f"held out {rule}"
    whole, is_row = events.joined_with_marks()
    held = np.zeros(len(whole), bool)
    held[is_row.to_numpy()] = out.to_numpy()
    places = pl.Series(np.arange(len(whole)))
    marked = whole.table.select("user", place=places, held=pl.Series(held))
    last = pl.when("held").then("place").max().over("user")
    before = marked.select(pl.col("place") < last).to_series().fill_null(False)
    known = before & ~pl.Series(held)
    earlier = events.with_table(
        whole.table.filter(known), f"earlier events of the users {note}", places=places.filter(known)
    )
    train = events.with_table(events.table.filter(~out), f"without rows {note}", history=events.history)
    test = events.with_table(events.table.filter(out), note, history=earlier, places=places.filter(pl.Series(held)))
    return train, test
