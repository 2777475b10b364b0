"""What a log holds and how it was read, in words for people and as a dict for machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from segue.data.log.rating_columns import inspect_ratings
from segue.data.values.times import iso

QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}


@dataclass(frozen=True)
class Intake:
    """How a log was read; noted in passing, while `Findings` are counted.

    Args:
        rows: the number of rows in the source.
        columns: role -> its column in the source.
        guessed: the roles whose column was guessed.
        time: how times were read, in words; empty in a log without times.
        dropped: reason -> the number of rows left out for it.
        out_of_order: rows of the source that are earlier than a row above them.
        notes: all other decisions, a sentence each.
        reading: how to read the next log alike (`reading_to_dict`); a model keeps it.
    """

    rows: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()
    time: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)
    out_of_order: int = 0
    notes: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def part(self, rows: int, *notes: str) -> "Intake":
        """Return the intake of a part of the log: the same columns, no dropped rows, more notes."""
        return replace(self, rows=rows, dropped={}, out_of_order=0, notes=(*self.notes, *notes))


@dataclass(frozen=True)
class Findings:
    """What a log holds.

    Args:
        source: the file or kind of table.
        events: the rows that were read.
        users, items: distinct ids.
        first, last: the range of times, microseconds since 1970, or None.
        equal_times: rows that share user and time with another row.
        duplicates: rows that are equal in every column to a row above.
        repeats: rows whose item occurs earlier for the same user.
        missing: column -> rows without a value.
        per_user: events of a user: min, quartiles, max.
        ratings: what the ratings hold and how they are used; empty in a log without ratings.
        intake: how the log was read.
    """

    source: str
    events: int
    users: int
    items: int
    first: int | None
    last: int | None
    equal_times: int
    duplicates: int
    repeats: int
    missing: Mapping[str, int]
    per_user: Mapping[str, float]
    ratings: str
    intake: Intake

    @property
    def repeat_share(self) -> float:
        """The share of events whose item occurs earlier for the same user, 0 to 1."""
        return self.repeats / self.events if self.events else 0.0

    @property
    def order(self) -> str:
        """The rule of the order, in words."""
        if self.first is None:
            return "the order of the rows: the log has no times"
        return "by time; rows of equal time stay in the order of the file"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; times in ISO 8601."""
        return {
            "source": self.source,
            "rows": self.intake.rows,
            "dropped": dict(self.intake.dropped),
            "events": self.events,
            "users": self.users,
            "items": self.items,
            "first": None if self.first is None else iso(self.first),
            "last": None if self.last is None else iso(self.last),
            "equal_times": self.equal_times,
            "duplicates": self.duplicates,
            "out_of_order": self.intake.out_of_order,
            "repeats": self.repeats,
            "repeat_share": self.repeat_share,
            "missing": dict(self.missing),
            "events_per_user": dict(self.per_user),
            "ratings": self.ratings or None,
            "columns": dict(self.intake.columns),
            "guessed": list(self.intake.guessed),
            "time": self.intake.time or None,
            "order": self.order,
            "notes": list(self.intake.notes),
        }

    def __str__(self) -> str:
        lines = [("source", self.source)]
        lines += [
            ("" if position else "columns", f"{role} = {name}" + " (guessed)" * (role in self.intake.guessed))
            for position, (role, name) in enumerate(self.intake.columns.items())
        ]
        if self.first is not None and self.last is not None:
            lines += [("times", self.intake.time)] * bool(self.intake.time)
            lines.append(("range", f"{iso(self.first)} to {iso(self.last)}"))
        lines.append(("order", self.order))
        lines += [("rows read", f"{self.intake.rows:,}")]
        lines += [("dropped", f"{count:,}: {why}") for why, count in self.intake.dropped.items()] or [
            ("dropped", "none")
        ]
        lines += [(name, f"{getattr(self, name):,}") for name in ("events", "users", "items")]
        lines.append(("per user", ", ".join(f"{name} {value:,.6g}" for name, value in self.per_user.items())))
        lines += [("ratings", self.ratings)] * bool(self.ratings)
        lines.append(("repeats", self._share(self.repeats, "an item that the user has an earlier event with")))
        if self.first is not None:
            lines.append(("equal times", self._share(self.equal_times, "same user and time as another row")))
            lines.append(("out of order", f"{self.intake.out_of_order:,} rows earlier than a row above them"))
        lines.append(("duplicates", self._share(self.duplicates, "equal to a row above in every column")))
        lines += [("missing", f"{count:,} without {name}") for name, count in self.missing.items() if count]
        lines += [("note", note) for note in self.intake.notes]
        return "\n".join(f"{name:<13}{text}" for name, text in lines)

    def _share(self, count: int, what: str) -> str:
        return f"{count:,} ({count / max(self.events, 1):.1%}) {what}"


def inspect_table(table: pl.DataFrame, *, source: str, intake: Intake) -> Findings:
    """Count what a table of events holds. Cost: O(events) time and memory, with groups by user."""
    has_times = "time" in table.columns
    per_user = table.group_by("user").len()["len"]
    equal_times = table.lazy().group_by("user", "time").len().filter(pl.col("len") > 1) if has_times else None
    return Findings(
        source=source,
        events=table.height,
        users=len(per_user),
        items=table["item"].n_unique(),
        first=int(table["time"][0]) if has_times and table.height else None,
        last=int(table["time"][-1]) if has_times and table.height else None,
        equal_times=0 if equal_times is None else int(equal_times.select(pl.col("len").sum()).collect().item()),
        duplicates=table.height - _distinct(table),
        repeats=table.height - _distinct(table.select("user", "item")),
        missing={name: table[name].null_count() for name in table.columns},
        per_user={name: float(per_user.quantile(share) or 0) for name, share in QUANTILES.items()},
        ratings=inspect_ratings(table).text,
        intake=intake,
    )


def _distinct(table: pl.DataFrame) -> int:
    return int(table.lazy().unique().select(pl.len()).collect().item())
