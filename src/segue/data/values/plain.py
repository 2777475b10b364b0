"""Values of a JSON file; a value that is not of the expected kind is a ValueError with its name."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from segue.data.values.parsing import LARGEST


def json_of(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: the text is not JSON, or nested more than 200 deep.

    Example:
        >>> json_of('{"a": [1.5, null]}')
        {'a': [1.5, None]}
    """
    return from_json(text)


def text(value: object, name: str, *, empty: bool = False) -> str:
    """Return a text that UTF-8 can hold; not an empty one, unless `empty`."""
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
    result = tuple(text(value, name) for value in _several(values, name))
    distinct(result, name)
    return result


def distinct(values: Sequence[str], name: str) -> None:
    """Do nothing if all values are distinct."""
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: expected each once, came {len(values) - len(set(values)):,} again")


def number(value: object, name: str) -> float:
    """Return a finite number."""
    result = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not abs(result) < LARGEST:
        raise ValueError(f"{name}: expected a finite number, came {_shown(value)}")
    return result


def numbers(values: object, name: str, *, ascending: bool = False) -> tuple[float, ...]:
    """Return finite numbers, in ascending order if `ascending`."""
    result = tuple(number(value, name) for value in _several(values, name))
    if ascending and any(a >= b for a, b in itertools.pairwise(result)):
        raise ValueError(f"{name}: expected numbers in ascending order")
    return result


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
    """Return the message of an error as one line of at most 300 characters.

    Example:
        >>> one_line(KeyError("a")), one_line(ValueError("b   c"))
        ("no 'a'", 'b c')
    """
    message = f"no {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(message.split())[:300]


def _several(values: object, name: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name}: expected a list, came {_shown(values)}")
    return values


def _shown(value: object) -> str:
    return repr(value)[:40]
