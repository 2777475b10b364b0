"""From an address to a store.

Knows: the kinds of stores. Does not know: what they do.
"""

from pathlib import Path

from segue.errors import StoreError
from segue.serve.store import Store


def open_store(address: str | Path, *, accept_loss: bool = False) -> Store:
    """Return the store at an address.

    Args:
        address: a path of an SQLite file, made if it is not there, or `valkey://host:port/database`
            (`redis://` is the same).
        accept_loss: be ready although a shared server does not sync each write.

    Raises:
        StoreError: the extra for servers is not installed, or the store cannot be opened.

    Example:
        >>> open_store("mysql://db")
        Traceback (most recent call last):
        ...
        segue.errors.StoreError: store mysql://db: expected a file path or valkey://host:port/0. Give one of these.
    """
    kind, mark, _ = str(address).partition("://")
    if not mark:
        from segue.serve.sqlite_store import SqliteStore

        return SqliteStore(address)
    if kind not in ("valkey", "valkeys", "redis", "rediss"):
        raise StoreError(f"store {address}: expected a file path or valkey://host:port/0. Give one of these.")
    try:
        from segue.serve.valkey_store import ValkeyStore
    except ImportError as error:
        raise StoreError(
            f"store {address}: expected the extra for it, but {error.name} is not installed. "
            'Run: pip install "segue[valkey]"'
        ) from error
    return ValkeyStore(str(address), accept_loss=accept_loss)
