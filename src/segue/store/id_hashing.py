"""Names and ids as keyed hashes: a store recognises what was erased, but cannot read it.

A store makes its secret of 32 bytes once. It looks up users and event ids by these hashes alone, so no index ever holds
a name. An erasure empties the row of a hash and leaves the hash: the id stays recognisable and refused.
"""

import hmac
import secrets
from dataclasses import dataclass, field


def new_secret() -> bytes:
    """Return a secret for a new store."""
    return secrets.token_bytes(32)


@dataclass(frozen=True)
class Hasher:
    """Keyed hashes of 16 bytes: HMAC with SHA-256, cut.

    Example:
        >>> hasher = Hasher(bytes(32))
        >>> hasher.user("ann").hex()[:8], hasher.event("web", "ann").hex()[:8]
        ('b80f9864', 'a6177420')
        >>> hasher.event("we", "bann") == hasher.event("web", "ann")
        False
    """

    secret: bytes = field(repr=False)

    def user(self, name: str) -> bytes:
        """Return the hash of a user's name."""
        return self._hash(b"user", name.encode())

    def event(self, client: str, id: str) -> bytes:
        """Return the hash of an event's id, as sent by a client."""
        sender = client.encode()
        return self._hash(b"event", b"%d:" % len(sender) + sender + id.encode())

    def body(self, digest: bytes) -> bytes:
        """Return the hash of a body's digest, which a guess of the body cannot confirm."""
        return self._hash(b"body", digest)

    def _hash(self, kind: bytes, text: bytes) -> bytes:
        return hmac.digest(self.secret, kind + b":" + text, "sha256")[:16]
