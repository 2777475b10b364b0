"""Plain values out of a file, each of the kind that was written.

Knows: texts, numbers, lists of them. Does not know: which file. What is of another kind is a ValueError with its name.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

#: Numbers beyond are errors, and differences of two of them would overflow.
_LARGEST = 1e300


def json_of(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is none, or nested more than 200 deep.

    Example:
        >>> json_of('{"a": [1.5, null]}')
        {'a': [1.5, None]}
    """
    return from_json(text)


def text(value: object, name: str, *, empty: bool = False) -> str:
    """Return a text that UTF-8 can hold; with something in it, unless it may be empty."""
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"{name}: expected a text, came {_shown(value)}")
    value.encode()
    return value


def texts(values: object, name: str) -> tuple[str, ...]:
    """Return distinct texts.

    Example:
        >>> texts(["a", "b"], "words")
        ('a', 'b')
    """
    found = tuple(text(value, name) for value in _several(values, name))
    distinct(found, name)
    return found


def distinct(values: Sequence[str], name: str) -> None:
    """Do nothing if no value comes twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: expected each once, came {len(values) - len(set(values)):,} again")


def number(value: object, name: str) -> float:
    """Return a finite number."""
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    found = float(value) if whole else math.nan  # type: ignore[arg-type]
    if not abs(found) < _LARGEST:
        raise ValueError(f"{name}: expected a finite number, came {_shown(value)}")
    return found


def numbers(values: object, name: str, *, ascending: bool = False) -> tuple[float, ...]:
    """Return finite numbers, each above the one before where they are to be ascending."""
    found = tuple(number(value, name) for value in _several(values, name))
    if ascending and any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"{name}: expected numbers in ascending order")
    return found


def whole(value: object, name: str, least: int = 0, most: int = 2**62) -> int:
    """Return a whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name}: expected a whole number from {least:,} to {most:,}, came {_shown(value)}")
    return value


def truth(value: object, name: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, came {_shown(value)}")
    return value


def one_line(error: Exception) -> str:
    """Return what an error says, in a line of 300 characters at most.

    Example:
        >>> one_line(KeyError("a")), one_line(ValueError("b   c"))
        ("no 'a'", 'b c')
    """
    said = f"no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(said.split())[:300]


def _several(values: object, name: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name}: expected a list, came {_shown(values)}")
    return values


def _shown(value: object) -> str:
    return repr(value)[:40]
