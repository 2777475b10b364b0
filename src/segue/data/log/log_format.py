"""How a log was read, as plain values that a model keeps, so that the next log is read in the same way.

Knows: which columns and options are worth keeping, and that what is said now goes before what was said then.
Does not know: files, models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from segue.data.log.columns import NONE
from segue.data.log.sources import Reading

#: What is kept of `Reading` where it was said.
_OPTIONS = ("time_format", "header", "sep", "encoding", "missing")


def kept(
    reading: Reading, columns: Mapping[str, str], context: Sequence[str], asked: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return plain values: `columns` (role -> name, "none" where it was declined), `context`, and what was said else.

    Example:
        >>> kept(Reading(sep=";"), {"user": "u", "item": "i"}, ["shop"], {"time": "none", "user": None})
        {'columns': {'user': 'u', 'item': 'i', 'time': 'none'}, 'context': ['shop'], 'sep': ';'}
    """
    declined = {role: NONE for role, name in asked.items() if name == NONE and role not in columns}
    found: dict[str, Any] = {"columns": {**columns, **declined}}
    if context:
        found["context"] = list(context)
    for name in _OPTIONS:
        value = getattr(reading, name)
        if value is not None and value != ():
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def recalled(reading: Reading, like: Mapping[str, Any]) -> Reading:
    """Return how to read a file: as said, or else as it was said then.

    Example:
        >>> found = recalled(Reading(sep=","), {"sep": ";", "time_format": "ms", "columns": {"user": "u"}})
        >>> found.sep, found.time_format
        (',', 'ms')
    """
    then = {name: like[name] for name in _OPTIONS if name in like}
    return replace(reading, **{name: value for name, value in then.items() if getattr(reading, name) in (None, ())})
