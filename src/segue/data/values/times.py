"""Reading a time, whatever it is written as; all of Segue reads times here.

- `microseconds` reads one time: an argument, an option, a field of a request; it raises for others.
- `TimeRule` reads a column of a log; the rule is guessed from a sample, or given.
- `moment_of` reads an attribute such as a date of birth; what it cannot read is missing.
- `iso` writes a time.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from typing import Any

import numpy as np
import polars as pl

from segue.data.values.parsing import number_of, plain_value
from segue.errors import ArgumentError

#: Years 1 to 9999 in microseconds since 1970: what ISO 8601 can write.
EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999

_SECONDS_PER = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
#: Below these sizes a number counts in each unit; larger ones count nanoseconds.
_MAGNITUDES = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17}
_SHORT = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_CLOCKS = ("T%H:%M:%S%.f", " %H:%M:%S%.f", "T%H:%M", " %H:%M")
#: Every ISO 8601 form that a column may have, with and without a zone or "UTC".
ISO_FORMATS = (
    *(f"%Y-%m-%d{clock}{zone}" for clock in _CLOCKS for zone in ("", "%#z")),
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%d",
)
#: How attributes write dates otherwise.
_DATE_FORMATS = ("%d-%b-%Y", "%Y/%m/%d", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%d %b %Y")
#: Dates written as whole numbers, by their number of digits; missing parts are 1 January, 0 h.
_DIGITS = {14: "YYYYMMDDHHMMSS", 12: "YYYYMMDDHHMM", 10: "YYYYMMDDHH", 8: "YYYYMMDD", 6: "YYYYMM", 4: "YYYY"}
_FIRST = "YYYY0101000000"
#: The years that a number may name, and the least share of such numbers by digits.
_YEARS, _MOST, _HALF = (1900, 2100), 0.9, 0.5
_1970 = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(time: object, name: str = "time") -> int | None:
    """Return int microseconds since 1970 of seconds, a date or ISO 8601 (no zone means UTC).

    Args:
        time: the value; None is unknown.
        name: what messages call it.

    Raises:
        ArgumentError: the value is none of these, not finite, outside the years 1 to 9999, or a
            number such as 20240131 that writes a date by its digits.

    Example:
        >>> microseconds(1.5), microseconds(datetime(1970, 1, 1, 0, 1)), microseconds(" 1970-01-01 00:01"), microseconds("60")
        (1500000, 60000000, 60000000, 60000000)
        >>> microseconds(None)
        >>> microseconds(1_700_000_000_000)
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: time: expected seconds since 1970, from year 1 to year 9999, came 1700000000000. \
It seems to count milliseconds: divide it by 1,000.
    """  # noqa: E501
    if time is None:
        return None
    value: Any = _of_text(time, name) if isinstance(time, str) else time
    if isinstance(value, np.datetime64):
        value = None if np.isnat(value) else value.astype("datetime64[us]").item()
    if isinstance(value, date) and value == value:  # NaT of pandas is a date that equals nothing
        return _bounded(_since_1970(value), time, name)
    if isinstance(value, np.number):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isinstance(value, int) or isfinite(value)):
        raise _no_time(time, name)
    if not EARLIEST <= value * 1_000_000 <= LATEST:
        raise ArgumentError(
            f"{name}: expected seconds since 1970, from year 1 to year 9999, came {_shown(time)}. {_unit_advice(value)}"
        )
    if value == int(value) and (form := _looks_like(int(value))):
        raise ArgumentError(
            f"{name}: expected seconds since 1970, came {_shown(time)}, which seems to write a date as {form}. "
            'Write it as ISO 8601, such as "2024-01-31".'
        )
    return value * 1_000_000 if isinstance(value, int) else round(value * 1e6)


def moment_of(value: object) -> float | None:
    """Return a date or time of an attribute as seconds since 1970, None if unreadable.

    A number such as 1970 or 19700102 is a date, another counts from 1970.

    Example:
        >>> moment_of("1970-01-02"), moment_of("01-Jan-1970"), moment_of(1970), moment_of(19700102), moment_of("soon")
        (86400.0, 0.0, 0.0, 86400.0, None)
    """
    value = plain_value(value)
    if isinstance(value, str):
        value = _date_of_text(value.strip())
    if isinstance(value, date):
        return _since_1970(value) / 1e6 if value == value else None
    number = None if isinstance(value, (bool, timedelta)) else number_of(value)
    if number is not None and number.is_integer() and (written := written_date(int(number))):
        return _since_1970(written) / 1e6
    if number is not None and 1_000 <= number < 3_000 and number.is_integer():
        return _since_1970(date(int(number), 1, 1)) / 1e6
    if number is not None and abs(number) >= 1e21:
        return None
    while number is not None and abs(number) >= _MAGNITUDES["seconds"]:  # milli-, micro-, nanoseconds
        number /= 1_000
    return number


def iso(time: int) -> str:
    """Return microseconds since 1970 as ISO 8601 in UTC, without a fraction where there is none.

    Example:
        >>> iso(964_982_703_000_000)
        '2000-07-30T18:45:03Z'
    """
    return (_1970 + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")


def _of_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None


def _of_text(text: str, name: str) -> object:
    plain = text.strip()
    if re.fullmatch(r"\d{8}", plain) and _looks_like(int(plain)):
        plain = f"{plain[:4]}-{plain[4:6]}-{plain[6:]}"  # the short form of ISO 8601, and no number
    if re.fullmatch(r"(19|20)\d\d((0[1-9]|1[0-2]))?", plain):
        raise ArgumentError(
            f"{name}: expected seconds since 1970 or ISO 8601, came {_shown(text)}, which seems to be a year or month. "
            'Write a date, such as "2024-01-31".'
        )
    for number in (int, float):
        try:
            return number(plain)
        except ValueError:
            pass
    moment = _of_iso(plain)
    if moment is None:
        raise _no_time(text, name)
    return moment


def _date_of_text(text: str) -> object:
    """Return the date that a text writes, the text where it may be a number, else None."""
    if len(text) > 40 or not text:
        return None
    if (moment := _of_iso(text)) is not None:
        return moment
    if not text[-1].isalnum() or text.replace(".", "").isdigit():
        return text
    for form in _DATE_FORMATS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def _bounded(time: int, given: object, name: str) -> int:
    if not EARLIEST <= time <= LATEST:  # a zone moves a date of the first or last day beyond it
        raise ArgumentError(
            f"{name}: expected seconds since 1970 or a date, from year 1 to year 9999 in UTC, came {_shown(given)}. "
            "Leave it out if unknown."
        )
    return time


def _since_1970(moment: date) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int((aware - _1970) // timedelta(microseconds=1))


def _looks_like(value: int) -> str:
    """Return the form in which a number seems to write a date, "" for none."""
    return _DIGITS[len(str(value))] if written_date(value) else ""


def written_date(value: int) -> datetime | None:
    """Return the date from 1900 to 2100 that the digits of a number write, YYYYMMDD or longer.

    Example:
        >>> written_date(20240131), written_date(20240199), written_date(2024)
        (datetime.datetime(2024, 1, 31, 0, 0), None, None)
    """
    text = str(value)
    if len(text) not in (8, 12, 14) or not _YEARS[0] <= int(text[:4]) <= _YEARS[1]:
        return None
    try:
        return datetime.strptime(text + _FIRST[len(text) :], "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _unit_advice(value: float) -> str:
    if isinstance(value, int) and _looks_like(value):
        return f'It seems to write a date as {_looks_like(value)}: write ISO 8601, such as "2024-01-31T12:00".'
    if abs(value) > 1e20:
        return "Leave it out if unknown."
    unit = _unit_by_size(max(abs(value), _MAGNITUDES["seconds"]))
    return f"It seems to count {unit}: divide it by {_SECONDS_PER[unit]:,}."


def _unit_by_size(size: float) -> str:
    return next((unit for unit, limit in _MAGNITUDES.items() if size < limit), "nanoseconds")


def _no_time(time: object, name: str) -> ArgumentError:
    return ArgumentError(
        f"{name}: expected seconds since 1970 (a number), a datetime or ISO 8601, came {_shown(time)}. "
        "Leave it out if unknown."
    )


def _shown(time: object) -> str:
    return repr(time.item() if isinstance(time, np.number) else time)[:60]


@dataclass(frozen=True)
class TimeRule:
    """How a column becomes int64 microseconds since 1970 in UTC.

    Args:
        kind: "integer" or "float" (an epoch), "digits" (a date as a whole number), "text" (formats)
            or "datetime" (a column of that type).
        unit: of an epoch: seconds, milliseconds and so on; of digits their form, such as YYYYMMDD.
        formats: of a text, in the notation of chrono; the first that fits. No zone means UTC.
        guessed: whether the rule was guessed, not given.

    Example:
        >>> rule = TimeRule.guess(pl.Series(["1700000000123", "1700000000999"]))
        >>> rule.words
        'epoch milliseconds (guessed by magnitude)'
        >>> pl.select(rule.microseconds(pl.lit("1700000000123"))).item()
        1700000000123000
        >>> TimeRule.guess(pl.Series([20231230, 20240102])).words
        'dates written as numbers, YYYYMMDD (guessed by their digits); UTC'
    """

    kind: str
    unit: str = "seconds"
    formats: tuple[str, ...] = ()
    guessed: bool = True

    @classmethod
    def guess(cls, sample: pl.Series, time_format: str | None = None) -> "TimeRule":
        """Return the rule that reads the most of a sample; a given format is taken as it is.

        Whole numbers that write dates between 1900 and 2100 by their digits are these dates. Of
        other numbers a median below 1e11 counts seconds, below 1e14 milliseconds, below 1e17
        microseconds: each is the only unit in which it lies between 1973 and 5138.
        """
        base = sample.dtype.base_type()
        if base in (pl.Datetime, pl.Date):
            return cls("datetime")
        sample = sample.str.strip_chars() if base == pl.String else sample
        whole, real = _count(sample, pl.Int64), _count(sample, pl.Float64)
        whole = 0 if base.is_float() else whole
        if time_format in _SHORT:
            return cls("float" if whole < real else "integer", _SHORT[time_format], guessed=False)
        if time_format is not None:
            return cls("text", formats=(time_format,), guessed=False)
        if form := _form_of(sample):
            return cls("digits", form)
        if base.is_numeric() or (real and real >= len(sample) / 2):
            return cls("float" if real > whole else "integer", _unit(sample))
        return cls("text", formats=_formats_of(sample) or ISO_FORMATS)

    def microseconds(self, column: pl.Expr, kind: pl.DataType | None = None) -> pl.Expr:
        """Return the expression; null where a value is not a time between the years 1 and 9999.

        Args:
            column: the times, without blanks around a text.
            kind: its type; None for text.
        """
        kind = kind or pl.String()
        if self.kind == "datetime":
            times = column.cast(pl.Datetime("us")).cast(pl.Int64)
            return pl.when(times.is_between(EARLIEST, LATEST)).then(times)
        if self.kind in ("text", "digits"):
            text = text_of_times(column, kind)
            forms = [_parsed(text, each) for each in self.formats] or [_dates(text, len(self.unit))]
            times = pl.coalesce(forms).cast(pl.Int64)
            return pl.when(times.is_between(EARLIEST, LATEST)).then(times)
        per_second = _SECONDS_PER[self.unit]
        value = column.cast(pl.Int64 if self.kind == "integer" else pl.Float64, strict=False)
        low, high = EARLIEST * per_second // 1_000_000, LATEST * per_second // 1_000_000
        if per_second > 1_000_000:
            low, high = -(2**63), 2**63 - 1
        inside = pl.when(value.is_between(low, high)).then(value)
        if self.kind == "float":
            return (inside * (1_000_000 / per_second)).round().cast(pl.Int64, strict=False)
        return inside * (1_000_000 // per_second) if per_second <= 1_000_000 else inside // 1_000

    def widened(self) -> "TimeRule | None":
        """Return a slower rule that reads more (floats, any ISO 8601), or None."""
        if self.kind == "integer":
            return replace(self, kind="float")
        if self.kind == "text" and self.guessed and self.formats != ISO_FORMATS:
            return replace(self, formats=ISO_FORMATS)
        return None

    @property
    def is_epoch(self) -> bool:
        """Whether times are numbers that count from 1970."""
        return self.kind in ("integer", "float")

    @property
    def words(self) -> str:
        """The rule in words."""
        if self.kind == "datetime":
            return "a column of dates; no zone means UTC"
        if self.kind == "digits":
            return f"dates written as numbers, {self.unit} (guessed by their digits); UTC"
        if self.kind == "text":
            return "ISO 8601; no zone means UTC" if self.guessed else f'format "{self.formats[0]}"; no zone means UTC'
        return f"epoch {self.unit}" + (" (guessed by magnitude)" if self.guessed else "")


def unit_of(text: str) -> str:
    """Return the unit in which a number seems to count from 1970; empty for other texts.

    Example:
        >>> unit_of("1700000000"), unit_of("1700000000000"), unit_of("soon")
        ('seconds', 'milliseconds', '')
    """
    try:
        number = float(text)
    except ValueError:
        return ""
    return _unit(pl.Series([number])) if isfinite(number) else ""


def other_units(times: pl.Series) -> pl.Series:
    """Return the times that seem to be in another unit: 1,000, a million or 1e9 times off.

    Logs before 1973, and clocks that start at 0, are not checked.

    Args:
        times: int64, microseconds since 1970, sorted.

    Cost: O(log events).

    Example:
        >>> other_units(pl.Series([1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_060_000_000])).to_list()
        [1700000000000]
        >>> other_units(pl.Series(range(0, 2_000_000_000_000_000, 1_000_000_000_000))).to_list()
        []
    """
    for reference in (times[len(times) // 2], times[-1]) if len(times) else ():
        if reference < 1e14:
            continue
        windows = [(reference / 10**power * 0.4, reference / 10**power * 2.5) for power in (9, 6, 3)]
        places = [[int(times.search_sorted(max(1, int(edge)))) for edge in window] for window in windows]
        others = pl.concat([times[begin:end] for begin, end in places])
        lower = int(times.search_sorted(int(reference / 4)) - times.search_sorted(1))
        if len(others) > 9 * (lower - len(others)):
            return others
    return times.clear()


def text_of_times(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return a column as texts; a whole number in a column of floats is written whole."""
    if kind.is_float():
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String)


def _form_of(sample: pl.Series) -> str:
    """Return the form in which most values write a date as a whole number, or ""."""
    column = text_of_times(pl.col("time"), sample.dtype)
    if sample.dtype.is_float() and (sample != sample.round()).any():
        return ""
    texts = pl.DataFrame({"time": sample}).select(column)["time"]
    for width, form in _DIGITS.items():
        of_width, share = texts.filter(texts.str.len_chars() == width), _HALF if width >= len("YYYYMMDD") else _MOST
        if len(of_width) < max(1, share * len(texts)) or not of_width.str.contains(r"^\d+$").all():
            continue
        dates = pl.DataFrame({"time": of_width}).select(_dates(pl.col("time"), width))["time"]
        fits = dates.dt.year().is_between(*_YEARS)
        return form if int(fits.sum()) >= share * len(texts) else ""
    return ""


def _dates(text: pl.Expr, width: int) -> pl.Expr:
    whole = pl.when(text.str.len_chars() == width).then(text) + pl.lit(_FIRST[width:])
    return _parsed(whole, "%Y%m%d%H%M%S")


def _count(sample: pl.Series, kind: type[pl.DataType]) -> int:
    return int(sample.cast(kind, strict=False).is_not_null().sum())


def _unit(sample: pl.Series) -> str:
    size = sample.cast(pl.Float64, strict=False).abs().median()
    return _unit_by_size(size if isinstance(size, float) else 0.0)


def _formats_of(sample: pl.Series) -> tuple[str, ...]:
    column = text_of_times(pl.col("time"), sample.dtype)
    fits = pl.DataFrame({"time": sample}).select(
        _parsed(column, each).is_not_null().any().alias(each) for each in ISO_FORMATS
    )
    return tuple(each for each in ISO_FORMATS if fits[each].item())


def _parsed(column: pl.Expr, time_format: str) -> pl.Expr:
    # The day and the month that a format leaves out are the first.
    if not re.search(r"%[-_0]?[djeDFcxvs+]", time_format):
        column, time_format = column + " 01", time_format + " %d"
        if not re.search(r"%[-_0]?[mbBh]", time_format):
            column, time_format = column + " 01", time_format + " %m"
    # A zone is folded into UTC here, so that every format gives the same type.
    zoned = re.search(r"%[:#]*z|%\+", time_format) is not None
    stamp = column.str.to_datetime(
        time_format, time_unit="us", time_zone="UTC" if zoned else None, strict=False, exact=True
    )
    return stamp.dt.replace_time_zone(None) if zoned else stamp
