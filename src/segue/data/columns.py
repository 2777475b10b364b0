"""Which column is the user, the item, the time; and how a text or number becomes a time.

Knows: the names that logs give to their columns, the ways in which they write times, the units of epochs.
Does not know: files, or what happens to the rows afterwards.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from segue.errors import ColumnError

_NAMES = """
user    user userid username uid visitor visitorid customer customerid member memberid reviewerid reviewer
user    account accountid client clientid person personid session sessionid
item    item itemid iid product productid parentasin asin sku movie movieid book bookid isbn track trackid
item    song songid artist artistid video videoid article articleid news newsid game gameid business
item    businessid venue venueid recipe recipeid content contentid
time    timestamp time ts unixreviewtime unixtime epoch datetime eventtime eventtimestamp createdat date
time    timestampms reviewtime
rating  rating score stars overall
type    type eventtype event action eventname behavior behaviour
id      eventid
"""
ROLES = ("user", "item", "time", "rating", "type", "id")
#: The names of each role, the likeliest first, in small letters and without anything but letters and digits.
KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    role: tuple(name for line in _NAMES.splitlines() if line.startswith(f"{role} ") for name in line.split()[1:])
    for role in ROLES
}

#: The roles that a log must have; time may be declined with "none".
REQUIRED = ("user", "item", "time")
NONE = "none"

_SECONDS_PER = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
_SHORT = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: Years 1 to 9999 in microseconds since 1970: what ISO 8601 can write.
EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999

_CLOCKS = ("T%H:%M:%S%.f", " %H:%M:%S%.f", "T%H:%M", " %H:%M")
#: Every ISO 8601 form that is read, with and without a zone, and the "UTC" that some shops write for it.
ISO_FORMATS = (
    *(f"%Y-%m-%d{clock}{zone}" for clock in _CLOCKS for zone in ("", "%#z")),
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%d",
)


def choose_columns(
    names: Sequence[str],
    asked: Mapping[str, str | None],
    *,
    source: str,
    hints: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the column of each role: the one asked for, or else the likeliest by its name.

    A name is compared in small letters without `_`, blanks and the `:type` that RecBole appends, so
    `userId`, `user_id` and `user_id:token` are one. `hints` are guesses by content; a name goes before them.

    Args:
        names: the columns that the source has.
        asked: for each role a column's name, None to guess, or "none" to leave the role out.
        source: what messages call the source.
        hints: for some roles the column that its content suggests.

    Returns:
        role -> column. A role without a column is absent.

    Raises:
        ColumnError: a column asked for is not there or has two roles; no user, item or time column was
            found (the message lists the columns there are); a chosen column stands twice in the header.

    Cost: O(columns).

    Example:
        >>> choose_columns(["user_id:token", "item_id:token", "stars"], {"time": "none"}, source="log")
        {'user': 'user_id:token', 'item': 'item_id:token', 'rating': 'stars'}
    """
    chosen = {
        role: _find_asked(name, names, role=role, source=source)
        for role in ROLES
        if (name := asked.get(role)) is not None and (name != NONE or role in ("user", "item"))
    }
    for role in ROLES:
        if asked.get(role) is None:
            # A user or item is looked for among all columns: one that was given away is then an error that says so.
            free = names if role in ("user", "item") else [name for name in names if name not in chosen.values()]
            guess = guess_column(free, KNOWN_NAMES[role]) or (hints or {}).get(role)
            if guess is not None and guess in free:
                chosen[role] = guess
    _check(chosen, names, asked, source)
    return {role: chosen[role] for role in ROLES if role in chosen}


def find_column(name: str, names: Collection[str], *, source: str, option: str) -> str:
    """Return the column with this name, with or without RecBole's `:type`.

    Raises:
        ColumnError: there is none; the message proposes the nearest name.
    """
    for column in names:
        if column == name or column.rpartition(":")[0] == name:
            return column
    near = difflib.get_close_matches(name.lower(), {column.lower(): column for column in names}, n=1, cutoff=0.6)
    like = next((column for column in names if near and column.lower() == near[0]), None)
    advice = f'Did you mean "{like}"? Name it with {option}.' if like else f"Give {option} one of these."
    raise ColumnError(f'{source}: expected a column "{name}", found {listed(names)}. {advice}')


def listed(names: Collection[str]) -> str:
    """Return names as a message lists them, the first twenty."""
    shown = ", ".join(list(names)[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def option_of(role: str) -> str:
    """Return how the column of a role is named by hand, in Python and on the command line."""
    return f"{role}= (--{role}-col)"


def _find_asked(name: str, names: Sequence[str], *, role: str, source: str) -> str:
    return find_column(name, names, source=source, option=option_of(role))


def _plain(name: str) -> str:
    stem = re.sub(r":(token|token_seq|float|float_seq)$", "", name.strip())
    return re.sub(r"[\W_]", "", stem.lower())


def guess_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the name that is the likeliest of the known ones (likeliest first), None where none is."""
    plain = {_plain(name): name for name in reversed(names)}
    return next((plain[one] for one in known if one in plain), None)


def _check(chosen: Mapping[str, str], names: Sequence[str], asked: Mapping[str, str | None], source: str) -> None:
    for role in REQUIRED:
        if role not in chosen and asked.get(role) != NONE:
            without = ', or --time-col none (time="none") if the order of the rows is the order' * (role == "time")
            bare = all(re.fullmatch(r"-?\d[\d.]*(_duplicated_\d+)?", name) for name in names)
            header = " Is the first line no header? Say header=False (--no-header)." * bare
            one = " One column only: is the separator another? Give sep= (--sep)." if len(names) == 1 else ""
            raise ColumnError(
                f"{source}: expected a column that names the {role}, found {listed(names)}. "
                f"Give {option_of(role)}{without}.{header}{one}"
            )
    roles: dict[str, str] = {}
    for role, name in chosen.items():
        if name in roles:
            raise ColumnError(
                f'{source}: expected a column for each role, column "{name}" was named for both '
                f"{roles[name]} and {role}. Give {option_of(role)} another column."
            )
        roles[name] = role
        if any(re.fullmatch(re.escape(name) + r"_duplicated_\d+", other) for other in names):
            raise ColumnError(
                f'{source}: expected one column "{name}" for the {role}, the header has it more than once. '
                "Rename one of them."
            )


def hints_by_position(sample: pl.DataFrame) -> dict[str, str]:
    """Return what the columns of a file without a header seem to be: user, item, then rating and time.

    From the third column on, the first that holds large whole numbers or ISO 8601 is the time, and a
    column of other numbers before the fifth is the rating.

    Example:
        >>> hints_by_position(pl.DataFrame({"1": ["7"], "2": ["a"], "3": ["4.5"], "4": ["964982703"]}))
        {'user': '1', 'item': '2', 'time': '4', 'rating': '3'}
    """
    names = sample.columns
    hints = dict(zip(("user", "item"), names, strict=False))
    later = names[2:]
    time = next((name for name in later if _looks_like_time(sample[name])), None)
    rating = next((name for name in later[:2] if name != time and _is_numeric(sample[name])), None)
    return hints | ({"time": time} if time else {}) | ({"rating": rating} if rating else {})


def hints_by_type(schema: Mapping[str, pl.DataType]) -> dict[str, str]:
    """Return the only column of dates as the time, whatever its name."""
    dates = [name for name, kind in schema.items() if kind.base_type() in (pl.Datetime, pl.Date)]
    return {"time": dates[0]} if len(dates) == 1 else {}


def _is_numeric(column: pl.Series) -> bool:
    return column.cast(pl.Float64, strict=False).null_count() == column.null_count() < len(column)


def _looks_like_time(column: pl.Series) -> bool:
    if _is_numeric(column):
        median = column.cast(pl.Float64, strict=False).median()
        return isinstance(median, float) and median >= 1e8
    return TimeRule.guess(column).formats != ISO_FORMATS


@dataclass(frozen=True)
class TimeRule:
    """How a column becomes int64 microseconds since 1970 in UTC.

    Args:
        kind: "integer" or "float" (an epoch), "text" (formats) or "datetime" (a column of that type).
        unit: of an epoch: seconds, milliseconds, microseconds, nanoseconds.
        formats: of a text, in the notation of chrono; the first that fits counts. No zone means UTC.
        guessed: whether nobody said so.

    Example:
        >>> rule = TimeRule.guess(pl.Series(["1700000000123", "1700000000999"]))
        >>> rule.words
        'epoch milliseconds (guessed by magnitude)'
        >>> pl.select(rule.microseconds(pl.lit("1700000000123"))).item()
        1700000000123000
    """

    kind: str
    unit: str = "seconds"
    formats: tuple[str, ...] = ()
    guessed: bool = True

    @classmethod
    def guess(cls, sample: pl.Series, time_format: str | None = None) -> "TimeRule":
        """Return the rule that reads the most of a sample; a format that was given is not questioned.

        A median below 1e11 counts seconds, below 1e14 milliseconds, below 1e17 microseconds: each is the
        only unit in which it lies between 1973 and 5138.
        """
        base = sample.dtype.base_type()
        if base in (pl.Datetime, pl.Date):
            return cls("datetime")
        if time_format in _SHORT:
            floats = base.is_float() or _count(sample, pl.Int64) < _count(sample, pl.Float64)
            return cls("float" if floats else "integer", _SHORT[time_format], guessed=False)
        if time_format is not None:
            return cls("text", formats=(time_format,), guessed=False)
        whole, real = _count(sample, pl.Int64), _count(sample, pl.Float64)
        whole = 0 if base.is_float() else whole
        if base.is_numeric() or (real and real >= len(sample) / 2):
            return cls("float" if real > whole else "integer", _unit(sample))
        return cls("text", formats=_formats_of(sample) or ISO_FORMATS)

    def microseconds(self, column: pl.Expr) -> pl.Expr:
        """Return the expression; null where a value is not a time between the years 1 and 9999."""
        if self.kind == "datetime":
            return column.cast(pl.Datetime("us")).cast(pl.Int64)
        if self.kind == "text":
            return pl.coalesce([_parsed(column.cast(pl.String), each) for each in self.formats]).cast(pl.Int64)
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
        """Return a slower rule that reads more, or None: floats among integers, any form of ISO 8601."""
        if self.kind == "integer":
            return replace(self, kind="float")
        if self.kind == "text" and self.guessed and self.formats != ISO_FORMATS:
            return replace(self, formats=ISO_FORMATS)
        return None

    @property
    def words(self) -> str:
        """The rule as a report says it."""
        if self.kind == "datetime":
            return "a column of dates; no zone means UTC"
        if self.kind == "text":
            return "ISO 8601; no zone means UTC" if self.guessed else f'format "{self.formats[0]}"; no zone means UTC'
        return f"epoch {self.unit}" + (" (guessed by magnitude)" if self.guessed else "")


def _count(sample: pl.Series, kind: type[pl.DataType]) -> int:
    return int(sample.cast(kind, strict=False).is_not_null().sum())


def _unit(sample: pl.Series) -> str:
    size = sample.cast(pl.Float64, strict=False).abs().median()
    size = size if isinstance(size, float) else 0.0
    limits = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17}
    return next((unit for unit, limit in limits.items() if size < limit), "nanoseconds")


def _formats_of(sample: pl.Series) -> tuple[str, ...]:
    column = pl.col("time").cast(pl.String)
    fits = pl.DataFrame({"time": sample}).select(
        _parsed(column, each).is_not_null().any().alias(each) for each in ISO_FORMATS
    )
    return tuple(each for each in ISO_FORMATS if fits[each].item())


def _parsed(column: pl.Expr, time_format: str) -> pl.Expr:
    # A zone is folded into UTC here, so that every format gives the same type.
    zoned = re.search(r"%[:#]*z|%\+", time_format) is not None
    stamp = column.str.to_datetime(
        time_format, time_unit="us", time_zone="UTC" if zoned else None, strict=False, exact=True
    )
    return stamp.dt.replace_time_zone(None) if zoned else stamp
