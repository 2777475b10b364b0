"""Addresses of stores in messages: without user, password and options."""

import re
from collections.abc import Iterable
from pathlib import Path

_KINDS = r"(?:valkeys?|rediss?|unix|postgres(?:ql)?)"
#: What begins like an address, correct or not; everything else is a path.
_LIKE = re.compile(rf"{_KINDS}(?::|;|//|/:)|[^/]*://|(?://)?[^/]*:.*@", re.IGNORECASE | re.DOTALL)
_HOST = r"(?:\[[0-9a-f:.]*\]|[^\s/:@?#,]*)(?::\d{1,5})?"
#: kind, user and password, hosts with ports, path, options. A password encodes / ? # @.
_WHOLE = re.compile(
    rf"([a-z][a-z0-9+.-]*://)(?:[^@/?#]*@)?({_HOST}(?:,{_HOST})*(?:/[^:@?#]*)?)(?:\?[^@#]*)?",
    re.IGNORECASE,
)


def is_address(text: str | Path) -> bool:
    """Return whether a text is meant as an address, not as a path.

    Example:
        >>> is_address("valkey://db:6379/0"), is_address("valkey//:secret@db"), is_address("a/b:c@d.csv")
        (True, True, False)
    """
    return _LIKE.match(str(text)) is not None


def is_server(text: str | Path) -> bool:
    """Return whether an address has the kind of a store's server.

    Example:
        >>> is_server("postgresql://db/shop"), is_server("s3://bucket/plays")
        (True, False)
    """
    return re.match(rf"{_KINDS}:", str(text), re.IGNORECASE) is not None


def is_whole(text: str | Path) -> bool:
    """Return whether an address is written as it should be: KIND://USER:PASSWORD@HOST:PORT/DATABASE."""
    return _WHOLE.fullmatch(str(text)) is not None


def shown(address: str | Path) -> str:
    """Return an address without user, password and options; a path as it is.

    Of an address with a typo, whose password may end anywhere, only the kind is returned.

    Example:
        >>> shown("valkey://me:secret@db:6379/0?password=secret"), shown("plays.csv")
        ('valkey://db:6379/0', 'plays.csv')
        >>> shown("postgresql://me:secret@db1:5432,db2/shop?sslmode=require")
        'postgresql://db1:5432,db2/shop'
        >>> shown("valkey://:sec/ret@db"), shown("valkey:/:secret@db"), shown(":secret@db")
        ('valkey://...', 'valkey:...', '...')
    """
    text = str(address)
    if not is_address(text):
        return text
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        return whole[1] + whole[2]
    kind = re.match(rf"[a-z][a-z0-9+.-]*://|{_KINDS}(?::|;|//|/:)", text, re.IGNORECASE)
    return f"{kind[0] if kind else ''}..."


def hidden(text: str, given: Iterable[str]) -> str:
    """Return a text without the passwords of these addresses, whatever form of them the text holds.

    Example:
        >>> hidden("valkey:/:secret@db: found none", ["info", "--store=valkey://:secret@db"])
        'valkey://db: found none'
    """
    for argument in given:
        name, mark, value = argument.partition("=")
        address = value if mark and name.startswith("--") else argument.lstrip("-")
        if shown(address) != address:
            path = Path(address)
            parts = [part for part in (*map(str, path.parents), path.name) if "@" in part or "?" in part]
            for form in (address, str(path), *parts):
                text = text.replace(form, shown(address))
    return text
