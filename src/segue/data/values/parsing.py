"""One value of an attribute, whatever its type, as a word, a number, a moment, a vector or a text.

Knows: how people and files write these, and that what cannot be read is missing.
Does not know: columns, what was learnt, or what becomes of a value.
"""

import html
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.values.times import written_date

#: A longer text is cut; what stands further back hardly changes its vector.
LONGEST_TEXT = 10_000
#: So much is looked at before tags are removed.
_LONGEST_RAW = 4 * LONGEST_TEXT
#: Numbers beyond are errors of measurement, and differences of two of them would overflow.
_LARGEST = 1e300

_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_BLANKS = re.compile(r"\s+")
_NUMBER = re.compile(r"[$€£¥]?\s?([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
_THOUSANDS = re.compile(r"[-+]?[$€£¥]?\s?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_DATE_FORMATS = ("%d-%b-%Y", "%Y/%m/%d", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%d %b %Y", "%Y-%m-%d %H:%M:%S UTC")
_SEPARATORS_OF_NUMBERS = re.compile(r"[\s,;]+")


def word(value: object) -> str | None:
    """Return a value as the text that two equal values share, None where there is none.

    Example:
        >>> word(" F "), word(25), word(25.0), word(True), word(""), word(float("nan")), word(["a"])
        ('F', '25', '25', 'true', None, None, None)
    """
    if isinstance(value, str):
        return value.strip() or None
    value = _plain(value)
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
    """Return the distinct words of a list, or of a text with a separator, in their order.

    Example:
        >>> words_of("Drama| War |Drama", "|"), words_of(["Drama", None], "|"), words_of(None, "|")
        (['Drama', 'War'], ['Drama'], [])
    """
    value = _plain(value)
    if isinstance(value, str):
        parts: list[Any] = value.split(separator) if separator is not None else [value]
    else:
        parts = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    found = (word(part) for part in parts)
    return list(dict.fromkeys(each for each in found if each is not None))


def number_of(value: object) -> float | None:
    """Return a value as a finite number, None where it is not one.

    Example:
        >>> number_of("$1,299.50"), number_of(True), number_of("3e2"), number_of("nan"), number_of("12 kg")
        (1299.5, 1.0, 300.0, None, None)
    """
    value = _plain(value)
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
    return number if abs(number) < _LARGEST else None


def moment_of(value: object) -> float | None:
    """Return a date or time as seconds since 1970; a number such as 1970 or 19700102 is a date, another an epoch.

    Example:
        >>> moment_of("1970-01-02"), moment_of("01-Jan-1970"), moment_of(1970), moment_of(19700102), moment_of("soon")
        (86400.0, 0.0, 0.0, 86400.0, None)
    """
    value = _plain(value)
    if isinstance(value, str):
        value = _parsed(value.strip())
    if isinstance(value, datetime):
        return _since_1970(value)
    if isinstance(value, date):
        return _since_1970(datetime(value.year, value.month, value.day))
    number = None if isinstance(value, (bool, timedelta)) else number_of(value)
    if number is not None and number.is_integer() and (written := written_date(int(number))):
        return _since_1970(written)
    if number is not None and 1_000 <= number < 3_000 and number.is_integer():
        return _since_1970(datetime(int(number), 1, 1))
    if number is not None and abs(number) >= 1e21:
        return None
    while number is not None and abs(number) >= 1e11:  # milli-, micro-, nanoseconds: see TimeRule.guess
        number /= 1_000
    return number


def vector_of(value: object) -> list[float] | None:
    """Return a list of finite numbers, or a text that holds one, as floats; None where it is not one.

    Example:
        >>> vector_of([1, 2]), vector_of("[0.5, -1]"), vector_of("0.5 -1"), vector_of([1, None]), vector_of("a b")
        ([1.0, 2.0], [0.5, -1.0], [0.5, -1.0], None, None)
    """
    value = _plain(value)
    if isinstance(value, str):
        value = _SEPARATORS_OF_NUMBERS.split(value.strip().strip("[]()").strip())
    if not isinstance(value, (list, tuple)) or not value:
        return None
    numbers = [number_of(each) for each in value]
    return None if None in numbers else [each for each in numbers if each is not None]


def text_of(value: object) -> str:
    """Return a text without html, trimmed and cut to 10,000 characters; empty where there is none.

    Example:
        >>> text_of(" <b>Salt</b> &amp; pepper<br>"), text_of(1984), text_of(None)
        ('Salt & pepper', '1984', '')
    """
    value = _plain(value)
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
    """Return whether somebody wrote a value, readable or not: not null, not NaN, not an empty text or list."""
    value = _plain(value)
    if isinstance(value, float):
        return not math.isnan(value)
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, (list, tuple)) and not value)


def distinct(column: pl.Series) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values of a column and int64[row], which of them a row has.

    Where a type has no order or hash (lists, objects), each row counts as a value of its own.

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
    """Return float64[row], what `read` (`number_of` or `moment_of`) makes of each value, NaN where nothing.

    Example:
        >>> numbers_of(pl.Series(["1", "x", None]), number_of).tolist()
        [1.0, nan, nan]
    """
    if read is number_of and column.dtype.is_numeric() and not column.dtype.is_decimal():
        numbers = column.cast(pl.Float64).to_numpy().astype(np.float64)
        return np.where(np.abs(numbers) < _LARGEST, numbers, np.nan)
    values, which = distinct(column)
    found = (read(value) for value in values)
    return np.array([np.nan if number is None else number for number in found], np.float64)[which]


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pl.Series):
        return value.to_list()
    return value


def _parsed(text: str) -> object:
    if len(text) > 40 or not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    if not text[-1].isalnum() or text.replace(".", "").isdigit():
        return text
    for form in _DATE_FORMATS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def _since_1970(moment: datetime) -> float:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
