"""The store in a Valkey or Redis server that several replicas share.

Each write is one script, which the server runs as one transaction. The data must fit into the memory of one server.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from segue.errors import ErasedError
from segue.recommend.ratings import Shared, Tally
from segue.store.base import (
    ActiveUser,
    Conflict,
    Duplicate,
    Erased,
    Head,
    Outcome,
    Readiness,
    Snapshot,
    Stale,
    Store,
    StoredState,
    Values,
    Versions,
    Write,
    Written,
    values_changed,
)
from segue.store.events import START, Event, Position, StoredEvent, event_from_bytes, event_to_bytes
from segue.store.id_hashing import Hasher, new_secret
from segue.store.valkey_server import ValkeyServer

_SHIFT = 1 << 63


class ValkeyStore(Store):
    """Events and states in a server that several processes share; see `Store` for the promises.

    Args:
        address: valkey://host:port/database; redis:// and unix:// work too.
        prefix: of the keys, so that several stores can share a server.
        accept_loss: be ready although the server does not sync each write.
        erase_wait: seconds that an erasure may take until the server's files hold no trace.

    Raises:
        LostError: the server does not answer.
    """

    def __init__(
        self, address: str, *, prefix: str = "segue", accept_loss: bool = False, erase_wait: float = 300
    ) -> None:
        self._server = ValkeyServer(address, prefix=prefix)
        self._accept_loss = accept_loss
        self._erase_wait = erase_wait
        key = self._server.prefix + "secret"
        if (secret := self._server.call("GET", key)) is None:
            self._server.call("SET", key, new_secret(), "NX")
            secret = self._server.call("GET", key)
        self._hasher = Hasher(secret)
        self._server.store_id = hashlib.sha1(secret, usedforsecurity=False).hexdigest()

    def heads(self, users: Sequence[str], model: str) -> list[Head]:
        """Return the heads of users; see `Store.heads`."""
        rows = self._server.run("heads", [self._user(user) for user in users], model)
        return [_head(user, row, model) for user, row in zip(users, rows, strict=True)]

    @contextmanager
    def begin(
        self, writes: Sequence[Write], *, values: Values = None, versions: Versions = None
    ) -> Iterator[list[Outcome]]:
        """Do one transaction, which is on disk when the server answers; see `Store.begin`."""
        packed = [self._pack(write) for write in writes]
        replies = self._server.run("commit", packed, list((values or {}).items()), list((versions or {}).items()))
        if replies == b"moved":
            raise values_changed(versions or ())
        yield [_outcome(write, reply) for write, reply in zip(writes, replies, strict=True)]

    def find_event(self, client: str, id: str) -> StoredEvent | None:
        """Return the event under an id; see `Store.find_event`."""
        rows = self._server.run("find", self._hasher.event(client, id).hex())
        return _event(rows[0]) if rows else None

    def events(
        self, user: str, *, after: Position | None = None, limit: int = 1000, backwards: bool = False
    ) -> list[StoredEvent]:
        """Return a page of a user's events; see `Store.events`."""
        start = f"({_member(after)}" if after else "+" if backwards else "-"
        return [_event(row) for row in self._server.run("page", self._user(user), start, limit, backwards)]

    def snapshot(self, user: str, model: str, *, at: Position) -> Snapshot | None:
        """Return the last snapshot at or before a position; see `Store.snapshot`."""
        row = self._server.run("snapshot", self._user(user), model, _member(at))
        if not row:
            return None
        member, count = row[0].decode().split(":")
        return Snapshot(model, int(count), row[1], _position(member))

    def shared(self, model: str, rows: Sequence[int]) -> Shared:
        """Return the shared value of a model; see `Store.shared`."""
        names = ["", *(str(row) for row in rows)]
        fields = [kind + name for name in names for kind in "sc"]
        reply = self._server.call("HMGET", f"{self._server.prefix}shared:{model}", *fields)
        numbers = [int(number or 0) for number in reply]
        every, *tallies = (Tally(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True))
        return Shared({row: tally for row, tally in zip(rows, tallies, strict=True) if tally.number}, every)

    def erase_event(self, user: str, seq: int) -> bool:
        """Erase an event; see `Store.erase_event`."""
        existed = self._server.run("erase_event", self._user(user), str(seq))
        self._server.rewrite(wait=self._erase_wait)
        return bool(existed)

    def erase_user(self, user: str) -> bool:
        """Erase a user; see `Store.erase_user`."""
        existed = self._server.run("erase_user", self._user(user))
        self._server.rewrite(wait=self._erase_wait)
        return bool(existed)

    def was_erased(self, user: str, event: int | tuple[str, str]) -> bool:
        """Return whether an event of a user was erased; see `Store.was_erased`."""
        named = ("", self._hasher.event(*event).hex()) if isinstance(event, tuple) else (str(event), "")
        return bool(self._server.run("was_erased", self._user(user), *named))

    def finish_erasures(self) -> None:
        """Erase from the files what an erasure before could not; see `Store.finish_erasures`."""
        self._server.rewrite(wait=self._erase_wait)

    def readmit(self, user: str) -> bool:
        """Let an erased user begin anew; see `Store.readmit`."""
        return bool(self._server.run("readmit", self._user(user)))

    def merge(self, old: str, new: str) -> int:
        """Give all events of one user to another; see `Store.merge`."""
        version: int = self._server.run("merge", self._user(old), old, self._user(new), new)
        if version < 0:
            name = old if version == -1 else new
            raise ErasedError(f"user {name!r} was erased. Readmit the user, or use another name.")
        return version

    def past_version(self) -> int:
        """Return a number that grows with each erasure and merge; see `Store.past_version`."""
        return int(self._server.call("GET", self._server.prefix + "past") or 0)

    def drop_model(self, model: str) -> int:
        """Drop all states, snapshots and the shared value of a model; see `Store.drop_model`."""
        users = int(self._server.call("GET", self._server.prefix + "uids") or 0)
        step = 1000  # in short scripts, between which others can write
        chunks = ((first, min(first + step - 1, users)) for first in range(1, users + 1, step))
        return sum(self._server.run("drop_model", model, *chunk) for chunk in chunks)

    def get_value(self, name: str) -> bytes | None:
        """Return a value; see `Store.get_value`."""
        value: bytes | None = self._server.call("HGET", self._server.prefix + "values", name)
        return value

    def value_version(self, name: str) -> str:
        """Return the version of a value; see `Store.value_version`."""
        version: str = self._server.run("value_version", name).decode()
        return version

    def log(self, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Return a page of all events in the order of arrival; see `Store.log`."""
        return [_event(row) for row in self._server.run("log", after, limit)]

    def users(self, *, before: int | None = None, limit: int = 1000) -> list[ActiveUser]:
        """Return a page of users by activity; see `Store.users`."""
        reply = self._server.run("users", "+inf" if before is None else f"({before}", limit)
        return [ActiveUser(name.decode(), active) for name, active in zip(reply[::2], reply[1::2], strict=True)]

    def ready(self) -> Readiness:
        """Return whether the server takes and syncs each write; see `Store.ready`."""
        return self.proved(self._server.ready(accept_loss=self._accept_loss))

    def close(self) -> None:
        """Close the connections; the server keeps the data."""
        self._server.close()

    def _user(self, name: str) -> str:
        return self._hasher.user(name).hex()

    def _pack(self, write: Write) -> tuple[Any, ...]:
        def pack(event: Event) -> tuple[str, str, str, bytes]:
            key = self._hasher.event(write.client, event.id).hex() if event.id is not None else ""
            place = f"{event.time + _SHIFT:016x}" if event.time is not None else ""
            return key, self._hasher.body(event.digest).hex(), place, event_to_bytes(event)

        expected = -1 if write.expected is None else write.expected
        snapshots = [(snapshot.model, snapshot.count, snapshot.data) for snapshot in write.snapshots]
        events = [pack(event) for event in write.events]
        rated = [
            (model, [(n, str(r.row), str(r.amount)) for n, r in enumerate(ratings, start=1) if r is not None])
            for model, ratings in write.rated.items()
        ]
        replayed = [
            (model, [(str(seq), str(r.row), str(r.amount)) for seq, r in ratings.items()])
            for model, ratings in write.replayed.items()
        ]
        states = list(write.states.items())
        group = -1 if write.group is None else write.group
        return self._user(write.user), write.user, expected, events, states, snapshots, rated, replayed, group


def _outcome(write: Write, reply: Any) -> Outcome:
    kind = reply[0].decode()
    if kind == "written":
        return Written(reply[1], tuple(_event(row) for row in reply[2]))
    if kind == "duplicate":
        return Duplicate(reply[1], tuple(_event(row) if row else None for row in reply[2]))
    if kind == "stale":
        return Stale(reply[1])
    ids = tuple(str(write.events[place - 1].id) for place in reply[1])
    return Conflict(ids) if kind == "conflict" else Erased(ids)


def _head(user: str, row: Any, model: str) -> Head:
    if not row:
        return Head(user)
    if len(row) == 1:
        return Head(user, erased=True)
    name, version, count, last = row[:4]
    held, _, data = row[4].partition(b":") if len(row) > 4 else (b"", b"", b"")
    state = StoredState(model, int(held), data) if held else None
    return Head(name.decode(), version, count, _position(last.decode()) if last else None, state)


def _event(row: Any) -> StoredEvent:
    seq, place, body, name = row
    return event_from_bytes(body, name.decode(), Position(int(place, 16) - _SHIFT, seq))


def _member(position: Position) -> str:
    """Return the text of a position; texts sort like positions.

    Example:
        >>> _member(Position(-1, 12)), _member(Position(0, 3))
        ('7fffffffffffffff0000000000000012', '80000000000000000000000000000003')
    """
    return f"{position.place + _SHIFT:016x}{min(position.seq, 10**16 - 1):016d}"


def _position(member: str) -> Position:
    return Position(int(member[:16], 16) - _SHIFT, int(member[16:]))


assert _member(START) == "0" * 32
