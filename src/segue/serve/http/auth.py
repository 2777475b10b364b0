"""Who may do what: API keys.

Knows: names, roles, and how a key is recognised without being kept.
Does not know: HTTP, or which route needs which role.

A key is `segue_ID_SECRET` with 256 random bits in SECRET, so one SHA-256 is enough: nothing can be guessed that
a slow hash would make slower to guess.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from segue.errors import ArgumentError, NotFoundError
from segue.files import replacing

Role = Literal["read", "write", "admin"]
#: Each may do what those before it may.
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Key:
    """One line of a file of keys.

    Args:
        name: of the client; ids of events belong to it, and a new key under the same name goes on with them.
        role: what it may do.
        id: by which the key is found.
        digest: SHA-256 of the key, as hex.
    """

    name: str
    role: Role
    id: str = ""
    digest: str = field(default="", repr=False)

    def may(self, role: Role) -> bool:
        """Return whether this key may do what needs a role.

        Example:
            >>> Key("web", "write").may("read"), Key("web", "write").may("admin")
            (True, False)
        """
        return ROLES.index(self.role) >= ROLES.index(role)


#: The key of all clients where no keys are needed: they are on this machine.
ANYBODY = Key("", "admin")


@dataclass(frozen=True)
class KeyRing:
    """The keys of a server, by id."""

    keys: Mapping[str, Key]

    def find(self, secret: str) -> Key | None:
        """Return the key that a client sent, if it is one of these; in constant time for a known id."""
        pieces = secret.split("_", 2)
        known = self.keys.get(pieces[1]) if len(pieces) == 3 else None
        digest = known.digest if known else _digest("")
        return known if hmac.compare_digest(_digest(secret), digest) and known else None


def read_keys(path: Path) -> KeyRing:
    """Return the keys in a file.

    Raises:
        ArgumentError: there is no such file, or it is not one of keys.
    """
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["keys"]
        keys = [Key(**line) for line in lines]
        if any(key.role not in ROLES or len(key.digest) != 64 or not key.id for key in keys):
            raise ValueError("a role or digest")
    except FileNotFoundError:
        raise ArgumentError(f"{path}: expected a file of keys, found none. Make one: segue keys add NAME.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArgumentError(
            f"{path}: expected a file that segue keys made, came something else ({type(error).__name__}). "
            "Take it from a backup, or make a new one."
        ) from None
    return KeyRing({key.id: key for key in keys})


def read_key(path: Path) -> str:
    """Return the key in a file of a client, which holds the key alone.

    Raises:
        ArgumentError: there is no such file.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ArgumentError(f"{path}: expected a file with a key ({type(error).__name__}). Check the path.") from None


def add_key(path: Path, name: str, role: Role) -> str:
    """Put a new key into a file, made if it is not there, and return the key: it is kept nowhere else.

    Raises:
        ArgumentError: the name is taken, empty or too long, or there is no such role.
    """
    keys = list(read_keys(path).keys.values()) if path.exists() else []
    if role not in ROLES:
        raise ArgumentError(f'--role: expected {", ".join(ROLES)}, came "{role}". Give one of these.')
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise ArgumentError("name of a key: expected 1 to 64 printable characters. Choose another.")
    if any(key.name == name for key in keys):
        raise ArgumentError(
            f'{path}: expected a new name, there is a key "{name}". Remove it first: segue keys remove.'
        )
    id = secrets.token_hex(6)
    secret = f"segue_{id}_{secrets.token_urlsafe(32)}"
    _write(path, [*keys, Key(name, role, id, _digest(secret))])
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file; a running server reads the file again at SIGHUP.

    Raises:
        NotFoundError: there is no key of this name.
    """
    keys = list(read_keys(path).keys.values())
    left = [key for key in keys if key.name != name]
    if len(left) == len(keys):
        raise NotFoundError(f'{path}: expected a key "{name}", there is none. See segue keys list.')
    _write(path, left)


def _write(path: Path, keys: list[Key]) -> None:
    try:
        with replacing(path, secret=True) as part:
            part.write_text(json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be written: {error.strerror or error}. Check the folder.") from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
