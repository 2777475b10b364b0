"""Names and ids as keyed hashes: what was erased can be recognised, but not read.

Knows: one secret of 32 bytes, which a store makes at its beginning and keeps.
Does not know: where hashes are kept.

A store looks users and event ids up by these hashes from the start, so a hash whose entry has been emptied is
the tombstone, and no index ever holds a name.
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
        """Return the hash of a body's digest, so that the digest of something guessed says nothing."""
        return self._hash(b"body", digest)

    def _hash(self, kind: bytes, text: bytes) -> bytes:
        return hmac.digest(self.secret, kind + b":" + text, "sha256")[:16]
