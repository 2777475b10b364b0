"""Ids: one rule for logs, for tables of items and of users, and for single values."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from segue.errors import ArgumentError, ColumnError, DataError

#: Words, in lower case, that logs write where an id is missing.
_WORDS = {
    "null", "(null)", "\\n", "nan", "none", "n/a", "#n/a", "na", "<na>", "nat", "nil", "undefined", "unknown",
    "-", "--", "?",
}  # fmt: skip
#: From this size on a float has lost digits of whole numbers.
_EXACT: Mapping[Any, int] = {pl.Float32: 2**24, pl.Float64: 2**53}
_WHOLE_AS_FLOAT = r"^[+-]?\d+\.0+$"


@dataclass(frozen=True)
class CleanIds:
    """A column of ids after `clean_ids`.

    Args:
        ids: the column; null where there is no id.
        trimmed: rows whose id had blanks around it.
        missing: word -> rows without an id because they hold this word of `missing`.
        suspects: word -> rows with this id, though the word seems to mean "no id".
        float: an id, where all are written as whole numbers with .0, such as 17.0; else empty.
        known: the number of distinct ids.
    """

    ids: pl.Series
    trimmed: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    suspects: Mapping[str, int] = field(default_factory=dict)
    float: str = ""
    known: int = 0

    def notes(self, role: str) -> list[str]:
        """Return a sentence for each peculiarity of the ids; role is user or item."""
        notes = [f"{role}: {_counted(self.trimmed, 'id')} had blanks around, which do not count."] * bool(self.trimmed)
        if self.missing:
            notes.append(f"{role}: left out as missing: {_listed(self.missing)}.")
        if self.suspects:
            words = " ".join(f"--missing '{word}'" for word in self.suspects)
            notes.append(
                f"{role}: ids that look like no id, kept as they are: {_listed(self.suspects)}. "
                f"If they mean that there is no id, add {words}."
            )
        if self.float:
            notes.append(
                f"{role}: all ids are whole numbers written as floats, such as {self.float}, and are kept as they are: "
                "where the shop writes whole numbers, write these here too."
            )
        return notes


def text_of_ids(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Return a column of ids as text, null where there is none; check it with `lost_ids` first."""
    if kind.is_float():
        column = column.fill_nan(None).cast(pl.Int64, strict=False)
    elif kind.is_decimal():
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String)


def check_ids(frame: pl.LazyFrame, name: str, *, source: str, role: str) -> None:
    """Do nothing if a column can be ids: text, whole numbers, or whole floats and decimals.

    Raises:
        ColumnError: the column has another type, or a number is not whole or too large for exact
            digits.
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
    """Return a column of ids, text or categorical, by the rule of all ids.

    Blanks around an id do not count. Words of `missing`, and texts of blanks alone, are no ids.

    Cost: O(rows) for the distinct ids; a row becomes text only where an id has to change.

    Example:
        >>> clean = clean_ids(pl.Series(["7", " 7 ", "NULL", " ", "x", "-"]), ["NULL"])
        >>> clean.ids.to_list(), clean.trimmed, dict(clean.missing), dict(clean.suspects)
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
        return CleanIds(ids, float=float_like, known=len(real))
    rows = ids.cast(pl.String)
    counts = rows.to_frame("raw").filter(pl.col("raw").is_in(odd["raw"].implode())).group_by("raw").len("rows")
    odd = odd.join(counts, on="raw", how="left")
    gone = odd.filter(pl.col("gone"))
    changed = rows.to_frame("raw").select(
        pl.when(~pl.col("raw").is_in(gone["raw"].implode())).then(pl.col("raw").str.strip_chars())
    )
    return CleanIds(
        changed.to_series().alias(ids.name).cast(ids.dtype),
        int(odd.filter(pl.col("padded") & ~pl.col("gone"))["rows"].sum()),
        _summed(gone.filter(pl.col("id") != "")),
        _summed(odd.filter(pl.col("suspect") & ~pl.col("gone"))),
        float_like,
        len(real),
    )


def merged_ids(parts: Sequence[CleanIds]) -> CleanIds:
    """Return the counts of several parts of a column as those of the column, which is left out.

    Example:
        >>> parts = [clean_ids(pl.Series(ids)) for ids in (["7.0", "-"], [" 8.0"], ["-"])]
        >>> merged_ids(parts).notes("user")[0]
        'user: 1 id had blanks around, which do not count.'
        >>> dict(merged_ids(parts).suspects), merged_ids(parts[1:2]).float, merged_ids(parts).float
        ({'-': 2}, '8.0', '')
    """
    floats = [part.float for part in parts if part.known]
    totals: list[Counter[str]] = [Counter(), Counter()]
    for part in parts:
        for total, counts in zip(totals, (part.missing, part.suspects), strict=True):
            total.update(counts)
    missing, suspects = (dict(sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))) for total in totals)
    return CleanIds(
        pl.Series(dtype=pl.String),
        sum(part.trimmed for part in parts),
        missing,
        suspects,
        min(floats) if floats and all(floats) else "",
        max((part.known for part in parts), default=0),
    )


def seems_missing(text: str) -> bool:
    """Return whether a text is a word that logs write where a value is missing."""
    return text.strip().lower() in _WORDS


def id_of(value: object) -> str:
    """Return an id as text, by the rule of a column of ids; of a `segue.Item`, its id.

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
    """Return the ids in an argument that is a list of ids, or of recommended `segue.Item`s.

    Raises:
        ArgumentError: the argument is no list, or a table; or an id is None or NaN.

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
    values = list(given)
    ids = [value if isinstance(value, str) else id_of(value) for value in values]
    for place, value in enumerate(values):
        if not isinstance(value, str) and ids[place].lower() in ("none", "nan", "<na>", "nat"):
            raise ArgumentError(
                f"{name}: expected a list of ids, came {value!r} in place {place + 1:,}. Leave out what has no id."
            )
    return ids


def check_matched(known: pl.Series, log: pl.Series, *, source: str, of_log: str, role: str, what: str = "") -> None:
    """Do nothing if the ids of a table match those of a log, or either is empty.

    Args:
        known: ids of the table, text.
        log: ids of the log, text.
        source: what messages call the table.
        of_log: what messages call the log.
        role: item or user.
        what: a word for a table that need share only one id with the log; else empty.

    Raises:
        DataError: no id matches; or at least two, and a tenth of the table, are ids of the log
            written in another way, such as 17.0 or 017 for 17. The message shows why.

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
    difference = likely_difference(known, log) or Difference(
        log[0], known[0], 0, "Name the columns of ids, or write them alike in both."
    )
    raise DataError(
        f"{source}: expected {role}s of {of_log}, none of its {len(known):,} ids is in the log: "
        f"{difference.log} in the log, {difference.table} in the {table}? {difference.why.format(table=table)}"
    )


def _check_written(known: pl.Series, log: pl.Series, *, source: str, of_log: str, role: str) -> None:
    """Do nothing if few ids of the table are another writing of ids that only the log has."""
    table = "catalogue" if role == "item" else "profiles"
    apart, without = known.filter(~known.is_in(log.implode())), log.filter(~log.is_in(known.implode()))
    differences = (_difference(apart, without, *rule) for rule in _DIFFERENCES[:2])
    largest = max((each for each in differences if each), key=lambda each: each.alike, default=None)
    if largest is not None and largest.alike >= max(2, len(known) / 10):
        raise DataError(
            f"{source}: expected {role} ids written as {of_log} has them, {largest.alike:,} of {len(known):,} are "
            f"written in another way: {largest.log} in the log, {largest.table} in the {table}. "
            f"{largest.why.format(table=table)}"
        )


class Difference(NamedTuple):
    """How ids of a table seem to differ from those of a log: an example, their number, and why."""

    log: str
    table: str
    alike: int
    why: str


def likely_difference(known: pl.Series, log: pl.Series, *, sure: bool = False) -> Difference | None:
    """Return how the ids of a table seem to differ from those of a log, None if no rule fits.

    Args:
        known: ids of the table, text.
        log: ids of the log, text.
        sure: try only the rule by which two items of a shop cannot differ: 17.0 and 17.

    Example:
        >>> likely_difference(pl.Series(["17", "18"]), pl.Series(["017", "x"]))[:3]
        ('017', '17', 1)
    """
    differences = (_difference(known, log, *rule) for rule in _DIFFERENCES[: 1 if sure else None])
    return next((difference for difference in differences if difference), None)


def _difference(known: pl.Series, log: pl.Series, rule: Callable[[pl.Expr], pl.Expr], why: str) -> Difference | None:
    """Return how ids differ if a rule makes some ids of both sides alike; None if it does not."""
    sides = (pl.DataFrame({"id": ids}) for ids in (log, known))
    left, right = (side.with_columns(key=rule(pl.col("id"))).drop_nulls() for side in sides)
    alike = left.join(right, on="key", maintain_order="left")
    if not alike.height:
        return None
    first, _, second = alike.row(0)
    changed = "log" if alike.filter(pl.col("id") != pl.col("key")).height else "{table}"
    return Difference(first, second, alike["id_right"].n_unique(), why.replace("{}", changed))


#: Rules that make ids alike which differ for a usual reason, and the reason.
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
    """Return id -> rows, the most frequent first."""
    grouped = table.group_by("id").agg(pl.col("rows").sum()).sort("rows", "id", descending=[True, False])
    return dict(grouped.iter_rows())


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f'"{word}" in {_counted(count, "row")}' for word, count in counts.items())
