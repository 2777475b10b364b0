"""Turns an address into a store."""

from pathlib import Path

from segue.addresses import is_address, is_whole, shown
from segue.errors import StoreError
from segue.store.base import Store

#: By the begin of an address, the extra that its store needs.
_EXTRAS = dict.fromkeys(("valkey", "valkeys", "redis", "rediss"), "valkey")
_EXTRAS |= dict.fromkeys(("postgresql", "postgres"), "postgres")
_FORMS = {"valkey": "valkey://:password@host:port/0", "postgres": "postgresql://user:password@host:port/database"}


def is_shared(address: str | Path) -> bool:
    """Return whether an address names a server that several processes share.

    Example:
        >>> is_shared("valkey://db:6379/0"), is_shared("postgresql://db/shop"), is_shared("shop.db")
        (True, True, False)
    """
    return bool(_extra_of(address))


def _extra_of(address: str | Path) -> str:
    kind, mark, _ = str(address).partition("://")
    return _EXTRAS.get(kind.lower(), "") if mark else ""


def open_store(address: str | Path, *, accept_loss: bool = False) -> Store:
    """Return the store at an address, after a write has shown that the store can be written.

    Args:
        address: the path of an SQLite file, which is made if missing,
            `postgresql://user:password@host:port/database`, or `valkey://host:port/database`
            (`redis://` is the same).
        accept_loss: be ready although a shared server does not sync each write.

    Raises:
        StoreError: the extra for servers is missing, or the store cannot be opened or written.

    Example:
        >>> open_store("mysql://db")
        Traceback (most recent call last):
        ...
        segue.errors.StoreError: store mysql://db: expected a file path, postgresql://... or valkey://... Give one.
    """
    store = open_unchecked(address, accept_loss=accept_loss)
    try:
        store.check_writable()
    except BaseException:
        store.close()
        raise
    return store


def open_unchecked(address: str | Path, *, accept_loss: bool = False) -> Store:
    """Return the store at an address without writing to it; see `open_store`."""
    if not is_address(address):
        from segue.store.sql.sqlite_store import SqliteStore

        return SqliteStore(address)
    extra = _extra_of(address)
    if not extra:
        raise StoreError(f"store {shown(address)}: expected a file path, postgresql://... or valkey://... Give one.")
    if not is_whole(address):
        raise StoreError(
            f"store {shown(address)}: expected {_FORMS[extra]}, came an address that cannot be read so. "
            "Check each part; in a user or password write / ? # @ : as %2F %3F %23 %40 %3A."
        )
    try:
        if extra == "postgres":
            from segue.store.sql.postgres_store import PostgresStore

            return PostgresStore(str(address), accept_loss=accept_loss)
        from segue.store.valkey_store import ValkeyStore

        return ValkeyStore(str(address), accept_loss=accept_loss)
    except ImportError as error:
        raise StoreError(
            f"store {shown(address)}: expected the extra for it, but {error.name} is not installed. "
            f'Run: pip install "segue[{extra}]"'
        ) from error
