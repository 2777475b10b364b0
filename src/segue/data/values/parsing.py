"""One value of an attribute as a word, a number, a vector or a text; the others are missing."""

import html
import math
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Characters of a text that are used; later ones hardly change its vector.
LONGEST_TEXT = 10_000
#: Characters of a text that are read before tags are removed.
_LONGEST_RAW = 4 * LONGEST_TEXT
#: Larger numbers are errors of measurement, and differences of two of them would overflow.
LARGEST = 1e300

_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_BLANKS = re.compile(r"\s+")
_NUMBER = re.compile(r"[$€£¥]?\s?([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
_THOUSANDS = re.compile(r"[-+]?[$€£¥]?\s?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_SEPARATORS_OF_NUMBERS = re.compile(r"[\s,;]+")


def plain_value(value: object) -> Any:
    """Return a value of NumPy or Polars as the Python value that it holds, any other as it is."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pl.Series):
        return value.to_list()
    return value


def word(value: object) -> str | None:
    """Return the text that equal values share, None where there is no value.

    Example:
        >>> word(" F "), word(25), word(25.0), word(True), word(""), word(float("nan")), word(["a"])
        ('F', '25', '25', 'true', None, None, None)
    """
    if isinstance(value, str):
        return value.strip() or None
    value = plain_value(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else None
    if isinstance(value, (float, Decimal)):
        value = float(value)
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return value.isoformat() if hasattr(value, "isoformat") else None


def words_of(value: object, separator: str | None) -> list[str]:
    """Return the distinct words of a list, or of a text with a separator, in order.

    Example:
        >>> words_of("Drama| War |Drama", "|"), words_of(["Drama", None], "|"), words_of(None, "|")
        (['Drama', 'War'], ['Drama'], [])
    """
    value = plain_value(value)
    if isinstance(value, str):
        parts: list[Any] = value.split(separator) if separator is not None else [value]
    else:
        parts = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    words = (word(part) for part in parts)
    return list(dict.fromkeys(each for each in words if each is not None))


def number_of(value: object) -> float | None:
    """Return a value as a finite number, None where it is not one.

    Example:
        >>> number_of("$1,299.50"), number_of(True), number_of("3e2"), number_of("nan"), number_of("12 kg")
        (1299.5, 1.0, 300.0, None, None)
    """
    value = plain_value(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        text = value.strip()
        if _THOUSANDS.fullmatch(text):
            text = text.replace(",", "")
        match = _NUMBER.fullmatch(text)
        value = match[1] if match and len(text) < 400 else None
    if not isinstance(value, (str, int, float, Decimal)):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if abs(number) < LARGEST else None


def vector_of(value: object) -> list[float] | None:
    """Return a list of finite numbers, or a text of such a list, as floats; else None.

    Example:
        >>> vector_of([1, 2]), vector_of("[0.5, -1]"), vector_of("0.5 -1"), vector_of([1, None]), vector_of("a b")
        ([1.0, 2.0], [0.5, -1.0], [0.5, -1.0], None, None)
    """
    value = plain_value(value)
    if isinstance(value, str):
        value = _SEPARATORS_OF_NUMBERS.split(value.strip().strip("[]()").strip())
    if not isinstance(value, (list, tuple)) or not value:
        return None
    numbers = [number_of(each) for each in value]
    return None if None in numbers else [each for each in numbers if each is not None]


def text_of(value: object) -> str:
    """Return a text without HTML, trimmed and cut to 10,000 characters; empty where there is none.

    Example:
        >>> text_of(" <b>Salt</b> &amp; pepper<br>"), text_of(1984), text_of(None)
        ('Salt & pepper', '1984', '')
    """
    value = plain_value(value)
    if isinstance(value, (list, tuple)):
        value = " ".join(each for each in value[:_LONGEST_RAW] if isinstance(each, str))
    if not isinstance(value, str):
        return word(value) or ""
    text = value[:_LONGEST_RAW]
    if "<" in text:
        text = _BLANKS.sub(" ", _TAG.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    return text.strip()[:LONGEST_TEXT].strip()


def is_present(value: object) -> bool:
    """Return whether there is a value, readable or not: no null, NaN, empty text or list."""
    value = plain_value(value)
    if isinstance(value, float):
        return not math.isnan(value)
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, (list, tuple)) and not value)


def distinct(column: pl.Series) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values of a column and int64[row], the number of each row's value.

    Where a type has no order or hash (lists, objects), each row counts as a separate value.

    Example:
        >>> values, numbers = distinct(pl.Series(["b", "a", None, "b"]))
        >>> [values[number] for number in numbers]
        ['b', 'a', None, 'b']
    """
    kind = column.dtype
    if kind.is_nested() or kind in (pl.Object, pl.Binary) or len(column) < 32:
        return column.to_list(), np.arange(len(column))
    if kind in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    rows = pl.DataFrame({"value": column})
    values = rows.unique(maintain_order=True).with_row_index("number")
    numbers = rows.join(values, on="value", how="left", nulls_equal=True, maintain_order="left")["number"]
    return values["value"].to_list(), numbers.to_numpy().astype(np.int64)


def numbers_of(column: pl.Series, read: Callable[[object], float | None]) -> NDArray[np.float64]:
    """Return float64[row], each value read by `number_of` or `moment_of`, NaN if unreadable.

    Example:
        >>> numbers_of(pl.Series(["1", "x", None]), number_of).tolist()
        [1.0, nan, nan]
    """
    if read is number_of and column.dtype.is_numeric() and not column.dtype.is_decimal():
        numbers = column.cast(pl.Float64).to_numpy().astype(np.float64)
        return np.where(np.abs(numbers) < LARGEST, numbers, np.nan)
    values, which = distinct(column)
    numbers_read = (read(value) for value in values)
    return np.array([np.nan if number is None else number for number in numbers_read], np.float64)[which]
