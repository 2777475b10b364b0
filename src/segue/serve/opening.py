"""From an address to a store, from a file to a bundle that answers.

Knows: the kinds of stores; which index finds the lists of a bundle. Does not know: what they do.
"""

from pathlib import Path

from segue.addresses import is_address, is_whole, shown
from segue.bundle import load_bundle
from segue.errors import StoreError
from segue.recommend.approximate import exact_index, open_index
from segue.recommend.recommender import Recommender
from segue.serve.store import Store

#: Items up to which all are scored for each list, and live quality is exact.
EVERY = 50_000


def open_bundle(path: Path) -> tuple[Recommender, str]:
    """Return the bundle in a file as it answers, and how its lists are found, in a sentence.

    The index beside it is used if it fits (`segue.recommend.approximate.open_index`). One that does not is
    refused with the reason, and lists are searched among all items; so they are where there is none.

    Raises:
        ModelError: it is not a whole bundle.
    """
    rec = load_bundle(path)
    index, said = open_index(rec, path)
    if index is None and len(rec.items) > EVERY:
        index = exact_index(rec)
    return rec.with_index(index), said


def is_shared(address: str | Path) -> bool:
    """Return whether an address is one of a server that several processes share.

    Example:
        >>> is_shared("valkey://db:6379/0"), is_shared("shop.db")
        (True, False)
    """
    kind, mark, _ = str(address).partition("://")
    return bool(mark) and kind.lower() in ("valkey", "valkeys", "redis", "rediss")


def open_store(address: str | Path, *, accept_loss: bool = False) -> Store:
    """Return the store at an address, to which something can be written just now.

    Args:
        address: a path of an SQLite file, made if it is not there, or `valkey://host:port/database`
            (`redis://` is the same).
        accept_loss: be ready although a shared server does not sync each write.

    Raises:
        StoreError: the extra for servers is not installed, or the store cannot be opened or written.

    Example:
        >>> open_store("mysql://db")
        Traceback (most recent call last):
        ...
        segue.errors.StoreError: store mysql://db: expected a file path or valkey://host:port/0. Give one of these.
    """
    store = open_unproved(address, accept_loss=accept_loss)
    try:
        store.prove()
    except BaseException:
        store.close()
        raise
    return store


def open_unproved(address: str | Path, *, accept_loss: bool = False) -> Store:
    """Return the store at an address, whether it can be written or not; see `open_store`."""
    if not is_address(address):
        from segue.serve.sqlite_store import SqliteStore

        return SqliteStore(address)
    if not is_shared(address):
        raise StoreError(f"store {shown(address)}: expected a file path or valkey://host:port/0. Give one of these.")
    if not is_whole(address):
        raise StoreError(
            f"store {shown(address)}: expected valkey://:password@host:port/0, came something that cannot be read so. "
            "Check each part; in a user or password write / ? # @ : as %2F %3F %23 %40 %3A."
        )
    try:
        from segue.serve.valkey_store import ValkeyStore
    except ImportError as error:
        raise StoreError(
            f"store {shown(address)}: expected the extra for it, but {error.name} is not installed. "
            'Run: pip install "segue[valkey]"'
        ) from error
    return ValkeyStore(str(address), accept_loss=accept_loss)
