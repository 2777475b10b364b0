"""What an id is: one rule for each way in, of logs, tables of items and of users, and single values.

Knows: that text stays as it stands but for blanks around it, which numbers are ids, which words seem to mean that
there is none. Does not know: files, roles beyond their name in a message, or what an id names.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from segue.errors import ArgumentError, ColumnError, DataError

#: Words, in small letters, that logs write where an id is missing.
_WORDS = {
    "null", "(null)", "\\n", "nan", "none", "n/a", "#n/a", "na", "<na>", "nat", "nil", "undefined", "unknown",
    "-", "--", "?",
}  # fmt: skip
#: From here on a float has lost digits of whole numbers.
_EXACT: Mapping[Any, int] = {pl.Float32: 2**24, pl.Float64: 2**53}
_WHOLE_AS_FLOAT = r"^[+-]?\d+\.0+$"


@dataclass(frozen=True)
class CleanIds:
    """Ids as they are used, and what was noted of them.

    Args:
        ids: the column; null where there is no id.
        trimmed: rows whose id had blanks around it.
        missing: word -> rows that it left without an id, as `missing` asked.
        suspects: word -> rows whose id it is, though it seems to say that there is none.
        float: an id, where all are written as whole numbers with .0, such as 17.0; else empty.
    """

    ids: pl.Series
    trimmed: int = 0
    missing: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    suspects: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    float: str = ""

    def notes(self, role: str) -> list[str]:
        """Return a sentence for each thing that was noted; role is user or item."""
        said = [f"{role}: {_counted(self.trimmed, 'id')} had blanks around, which do not count."] * bool(self.trimmed)
        if self.missing:
            said.append(f"{role}: left out as missing: {_listed(self.missing)}.")
        if self.suspects:
            words = " ".join(f"--missing '{word}'" for word in self.suspects)
            said.append(
                f"{role}: ids that look like no id, kept as they are: {_listed(self.suspects)}. "
                f"If they mean that there is none, say so: {words}."
            )
        if self.float:
            said.append(
                f"{role}: all ids are whole numbers written as floats, such as {self.float}, and are kept as they are: "
                "where the shop writes whole numbers, write these here too."
            )
        return said


def text_of_ids(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return a column of ids as text, null where there is none; check it with `lost_ids` first."""
    if kind.is_float():
        column = column.fill_nan(None).cast(pl.Int64, strict=False)
    elif kind.is_decimal():
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String)


def check_ids(frame: pl.LazyFrame, name: str, *, source: str, role: str) -> None:
    """Do nothing if a column can be ids: text, whole numbers, or floats and decimals that are all whole numbers.

    Raises:
        ColumnError: it has another type, or a number is not whole or so large that it has lost digits.
    """
    kind = frame.collect_schema()[name]
    wrong = kind.is_nested() or kind.is_temporal() or kind in (pl.Binary, pl.Object, pl.Boolean)
    if wrong:
        raise ColumnError(
            f'{source}: expected {role} ids as text or whole numbers, column "{name}" has type {kind}. '
            f"Cast it to text, or give {role}= (--{role}-col) another column."
        )
    if not (kind.is_float() or kind.is_decimal()):
        return
    limit = _EXACT.get(kind.base_type(), 2**11 if kind.is_float() else 2**63)
    column = pl.col(name) if kind.is_decimal() else pl.col(name).fill_nan(None)
    broken = (column.cast(pl.Float64) != column.cast(pl.Float64).round()) | (column.abs() >= limit)
    rows = frame.select(name).with_row_index("row").filter(broken).head(1).collect()
    if rows.height:
        value = rows[name][0]
        size = f"2**{limit.bit_length() - 1}"
        lost = (
            f" A column of type {kind} has lost the last digits of such ids: read them anew as whole numbers or text."
        )
        raise ColumnError(
            f"{source}, row {rows['row'][0] + 1:,}: expected {role} ids as text or whole numbers below {size}, "
            f'column "{name}" holds {value}.' + (lost if abs(value) >= limit else " Cast it to text before.")
        )


def clean_ids(ids: pl.Series, missing: Collection[str] = ()) -> CleanIds:
    """Return a column of ids, text or categorical, by the rule: blanks around an id do not count, and words of
    `missing` and texts of blanks alone are no ids.

    Cost: O(rows) to find the distinct ids; no text is made for a row unless some id has to change.

    Example:
        >>> found = clean_ids(pl.Series(["7", " 7 ", "NULL", " ", "x", "-"]), ["NULL"])
        >>> found.ids.to_list(), found.trimmed, dict(found.missing), dict(found.suspects)
        (['7', '7', None, None, 'x', '-'], 1, {'NULL': 1}, {'-': 1})
    """
    known = pl.DataFrame({"raw": ids.drop_nulls()}).get_column("raw").unique().cast(pl.String).to_frame("raw")
    known = known.with_columns(id=pl.col("raw").str.strip_chars())
    words = list(missing)
    known = known.with_columns(
        gone=pl.col("id").is_in(words) | pl.col("raw").is_in(words) | (pl.col("id") == ""),
        padded=pl.col("id") != pl.col("raw"),
        suspect=pl.col("id").str.to_lowercase().is_in(list(_WORDS)),
    )
    real = known.filter(~pl.col("gone"))["id"]
    float_like = str(real.min()) if len(real) and real.str.contains(_WHOLE_AS_FLOAT).all() else ""
    odd = known.filter(pl.col("gone") | pl.col("padded") | pl.col("suspect"))
    if not odd.height:
        return CleanIds(ids, float=float_like)
    rows = ids.cast(pl.String)
    counts = rows.to_frame("raw").filter(pl.col("raw").is_in(odd["raw"].implode())).group_by("raw").len("rows")
    odd = odd.join(counts, on="raw", how="left").sort("rows", "raw", descending=[True, False])
    gone = odd.filter(pl.col("gone"))
    settled = rows.to_frame("raw").select(
        pl.when(~pl.col("raw").is_in(gone["raw"].implode())).then(pl.col("raw").str.strip_chars())
    )
    return CleanIds(
        settled.to_series().alias(ids.name).cast(ids.dtype),
        int(odd.filter(pl.col("padded") & ~pl.col("gone"))["rows"].sum()),
        _summed(gone.filter(pl.col("id") != "")),
        _summed(odd.filter(pl.col("suspect") & ~pl.col("gone"))),
        float_like,
    )


def seems_missing(text: str) -> bool:
    """Return whether a text is a word that logs write where a value is missing."""
    return text.strip().lower() in _WORDS


def id_of(value: object) -> str:
    """Return a single id as text, by the rule of a column of one; of a line of a list, `segue.Item`, that of its item.

    Example:
        >>> id_of(" 007 "), id_of(17), id_of(17.0), id_of("17.0")
        ('007', '17', '17', '17.0')
    """
    if isinstance(item := getattr(value, "item", None), str):
        value = item
    if isinstance(value, float | np.floating | Decimal) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def ids_of(given: Iterable[object], name: str) -> list[str]:
    """Return ids that an argument lists; each may stand as a line of a list, `segue.Item`.

    Raises:
        ArgumentError: it is one text, whose letters would each be taken for an id, one line of a list, a table, whose
            names of columns would be, or no list at all; or one of them is None or NaN.

    Example:
        >>> ids_of(("10", "11"), "exclude")
        ['10', '11']
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ArgumentError(f"{name}: expected a list of ids, came {given!r}. Put it in a list: [{given!r}].")
    if isinstance(getattr(given, "item", None), str) or hasattr(given, "columns"):
        kind = type(given).__name__
        raise ArgumentError(
            f"{name}: expected a list of ids, came one {kind}. "
            + ("Give its column of ids." if hasattr(given, "columns") else "Put it in a list.")
        )
    listed = list(given)
    ids = [each if isinstance(each, str) else id_of(each) for each in listed]
    for place, each in enumerate(listed):
        if not isinstance(each, str) and ids[place].lower() in ("none", "nan", "<na>", "nat"):
            raise ArgumentError(
                f"{name}: expected a list of ids, came {each!r} in place {place + 1:,}. Leave out what has no id."
            )
    return ids


def check_matched(known: pl.Series, log: pl.Series, *, source: str, of_log: str, role: str, what: str = "") -> None:
    """Do nothing if ids of a table are those of a log, or there are none to compare.

    Args:
        known: ids of the table, text.
        log: ids of the log, text.
        source: what messages call the table.
        of_log: what messages call the log.
        role: item or user.
        what: the table in a word, where it need only have one id of the log; empty: catalogue or profiles.

    Raises:
        DataError: none is, or two and a tenth of the table are ids of the log written in another way, such as 17.0 or
            017 for 17; the message shows one of each, and why they may differ.

    Example:
        >>> check_matched(pl.Series(["17"]), pl.Series(["17.0"]), source="a.csv", of_log="log.csv", role="item")
        Traceback (most recent call last):
        ...
        segue.errors.DataError: a.csv: expected items of log.csv, none of its 1 ids is in the log: 17.0 in the log, \
17 in the catalogue? Whole numbers became floats in the log: write them as whole numbers there.
    """
    if not len(known) or not len(log):
        return
    if known.is_in(log.implode()).any():
        if not what:
            _check_written(known, log, source=source, of_log=of_log, role=role)
        return
    table = what or ("catalogue" if role == "item" else "profiles")
    found = likely_difference(known, log)
    if found is None:
        found = Difference(log[0], known[0], 0, "Name the columns of ids, or write them alike in both.")
    raise DataError(
        f"{source}: expected {role}s of {of_log}, none of its {len(known):,} ids is in the log: "
        f"{found.log} in the log, {found.table} in the {table}? {found.why.format(table=table)}"
    )


def _check_written(known: pl.Series, log: pl.Series, *, source: str, of_log: str, role: str) -> None:
    """Do nothing if few ids of a table are no ids of a log, but another writing of one that has no line of its own."""
    table = "catalogue" if role == "item" else "profiles"
    apart, without = known.filter(~known.is_in(log.implode())), log.filter(~log.is_in(known.implode()))
    differences = (_difference(apart, without, *each) for each in _DIFFERENCES[:2])
    found = max((each for each in differences if each), key=lambda each: each.alike, default=None)
    if found is not None and found.alike >= max(2, len(known) / 10):
        raise DataError(
            f"{source}: expected {role} ids written as {of_log} has them, {found.alike:,} of {len(known):,} are "
            f"written in another way: {found.log} in the log, {found.table} in the {table}. "
            f"{found.why.format(table=table)}"
        )


class Difference(NamedTuple):
    """How ids of a table seem to differ from those of a log: one of each, how many of the table are such, and why."""

    log: str
    table: str
    alike: int
    why: str


def likely_difference(known: pl.Series, log: pl.Series, *, sure: bool = False) -> Difference | None:
    """Return how ids of a table may have come to differ from those of a log; None where that cannot be guessed.

    Args:
        known: ids of the table, text.
        log: ids of the log, text.
        sure: look only at what no two ids of one shop differ by: 17.0 and 17.

    Example:
        >>> likely_difference(pl.Series(["17", "18"]), pl.Series(["017", "x"]))[:3]
        ('017', '17', 1)
    """
    for difference in _DIFFERENCES[: 1 if sure else None]:
        if found := _difference(known, log, *difference):
            return found
    return None


def _difference(known: pl.Series, log: pl.Series, made: Callable[[pl.Expr], pl.Expr], why: str) -> Difference | None:
    """Return how ids differ if `made` makes some of both alike; None if it does not."""
    sides = (pl.DataFrame({"id": ids}) for ids in (log, known))
    left, right = (side.with_columns(key=made(pl.col("id"))).drop_nulls() for side in sides)
    met = left.join(right, on="key", maintain_order="left")
    if not met.height:
        return None
    first, _, second = met.row(0)
    changed = "log" if met.filter(pl.col("id") != pl.col("key")).height else "{table}"
    return Difference(first, second, met["id_right"].n_unique(), why.replace("{}", changed))


#: How the ids of one side may have come to differ from those of the other.
_DIFFERENCES: tuple[tuple[Callable[[pl.Expr], pl.Expr], str], ...] = (
    (
        lambda id: pl.when(id.str.contains(_WHOLE_AS_FLOAT)).then(id.str.replace(r"\.0+$", "")).otherwise(id),
        "Whole numbers became floats in the {}: write them as whole numbers there.",
    ),
    (
        lambda id: id.str.replace(r"^0+(\d)", "$1"),
        "Zeros in front stand in the {} alone: write the ids as text in both.",
    ),
    (
        lambda id: id.str.to_lowercase(),
        "Capital letters stand in the {} alone: write the ids alike in both.",
    ),
    (
        lambda id: id.str.extract(r"(\d+)$"),
        "The {} has something in front of each id: write the ids alike in both.",
    ),
)


def _summed(table: pl.DataFrame) -> Mapping[str, int]:
    grouped = table.group_by("id", maintain_order=True).agg(pl.col("rows").sum())
    return MappingProxyType(dict(grouped.iter_rows()))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f'"{word}" in {_counted(count, "row")}' for word, count in counts.items())
