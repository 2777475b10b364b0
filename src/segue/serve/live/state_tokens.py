"""A state that a client holds, sealed: it cannot be changed, and it expires.

Knows: HMAC, time, and that the bytes name their model. Does not know: what a state means.

A token is not encrypted: whoever holds it holds the state, which is numbers. It is good until it expires, and
for the model that made it.
"""

import base64
import binascii
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from segue.errors import ArgumentError, ConflictError
from segue.recommend.batch import state_from_bytes, state_to_bytes
from segue.recommend.recommender import Recommender
from segue.recommend.state import State
from segue.store.base import Store, change_value

#: Days for which a token is good.
DAYS = 30
_VALUE = "token-key"
_HEAD = struct.Struct("<BQ")  # version, seconds since 1970 at which it expires


@dataclass(frozen=True)
class Sealer:
    """Seals and opens tokens.

    Example:
        >>> sealer = Sealer(bytes(32), clock=lambda: 1_700_000_000)
        >>> sealer.open(sealer.seal(b"state"))
        b'state'
    """

    key: bytes = field(repr=False)
    clock: Callable[[], float] = time.time

    def seal(self, state: bytes) -> str:
        """Return a token that holds a state."""
        body = _HEAD.pack(1, int(self.clock()) + DAYS * 86_400) + state
        return base64.urlsafe_b64encode(body + self._mark(body)).decode().rstrip("=")

    def open(self, token: str) -> bytes:
        """Return the state in a token.

        Raises:
            ArgumentError: it is not a token of this server.
            ConflictError: it has expired.
        """
        try:
            whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            whole = b""
        body, mark = whole[:-32], whole[-32:]
        if len(body) < _HEAD.size or not hmac.compare_digest(self._mark(body), mark) or body[0] != 1:
            raise ArgumentError('token: expected one that this server made, came something else. Begin with "new".')
        if _HEAD.unpack_from(body)[1] < self.clock():
            raise ConflictError(f'token: expected one of the last {DAYS} days, came an older one. Begin with "new".')
        return body[_HEAD.size :]

    def _mark(self, body: bytes) -> bytes:
        return hmac.digest(self.key, b"token:" + body, "sha256")


def body_of(rec: Recommender, state: State) -> bytes:
    """Return a state as bytes that name their model; `state_of` reads them."""
    return rec.fingerprint.encode()[:64] + state_to_bytes(state)


def state_of(rec: Recommender, body: bytes) -> State:
    """Return the state in the bytes of a token.

    Raises:
        ConflictError: it is of another model.
    """
    if body[:64].decode(errors="replace") != rec.fingerprint[:64]:
        raise ConflictError("token: expected a state of the running model, came one of another. Begin a new one.")
    return state_from_bytes(rec, body[64:])


def sealer_of(store: Store) -> Sealer:
    """Return the sealer of a store, whose key is made once and kept in it."""
    return Sealer(change_value(store, _VALUE, lambda key: key or secrets.token_bytes(32)))
