"""Lists of models that Segue did not train: a table with the list of each held-out event."""

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from segue.data.log.columns import candidates
from segue.data.log.sources import Reading, open_source
from segue.data.values.ids import text_of_ids
from segue.errors import ArgumentError
from segue.evaluation.comparison_report.compared import Compared, Ranked, rows_of
from segue.shapes import Rows, Times

#: A path or a table of Polars, pandas or Arrow.
Lists: TypeAlias = str | Path | pl.DataFrame | Any
#: The shortest list whose metrics a report shows.
LEAST = 10


class GivenLists(NamedTuple):
    """The lists of one model.

    Args:
        name: of the model.
        source: what messages call the table.
        table: `user` and `item` as text, `place` in the list from 1, and `event`, the number of the held-out event of
            its user from 1, where the table says so.
    """

    name: str
    source: str
    table: pl.DataFrame

    @property
    def longest(self) -> int:
        """The length of the longest list."""
        return int(self.table["place"].max() or 0)  # type: ignore[arg-type]

    @property
    def items(self) -> pl.Series:
        """The ids of all lists."""
        return self.table["item"].unique(maintain_order=True)

    def ranked(self, measured: Compared, events: Times, n_items: int) -> tuple[Ranked, list[str]]:
        """Return where the lists have the targets, and sentences for the reader of the report.

        Args:
            measured: the held-out events; its items are those of these lists, too.
            events: int64[query], which held-out event of its user each is, from 1.
            n_items: the rank of a target that is not in its list.

        Raises:
            ArgumentError: a user has several held-out events and the table does not say which is meant, or no list is
                of a held-out event.
        """
        queries = pl.DataFrame({"user": measured.log["user"].gather(measured.places), "event": events})
        key = ["user", "event"] if "event" in self.table.columns else ["user"]
        if key == ["user"] and (several := queries["user"].is_duplicated()).any():
            user = queries["user"].filter(several)[0]
            raise ArgumentError(
                f'{self.source}: expected a column "event", the number of the held-out event of its user from 1, for '
                f"user {user} has {(queries['user'] == user).sum()}; found none. Add the column, or predict one event "
                'of each user with targets="last".'
            )
        numbered = self.table.join(queries.with_row_index("query"), on=key, how="inner")
        if not len(numbered):
            raise ArgumentError(
                f"{self.source}: expected lists of held-out users such as {queries['user'][0]}, came lists of "
                f"{self.table['user'][0]} and others, of which none is held out. Write the ids as the log has them."
            )
        lists: Rows = np.zeros((len(queries), self.longest), np.int32)
        query, rows = numbered["query"].to_numpy(), rows_of(measured.items, numbered["item"])
        lists[query, numbered["place"].to_numpy() - 1] = rows
        found = (lists == measured.targets[:, None]) & (lists > 0)
        ranks = np.where(found.any(axis=1), found.argmax(axis=1) + 1, n_items).astype(np.float64)
        notes = [f"{self.name} is a table of lists of up to {self.longest} items: it has no metric of longer lists."]
        if none := int((~lists.any(axis=1)).sum()):
            notes.append(f"{self.name} has no list for {none:,} of the {len(lists):,} held-out events: misses.")
        return Ranked(ranks, lists[:, :LEAST], np.ones(len(ranks), bool), longest=self.longest), notes


def read_lists(name: str, source: Lists) -> GivenLists:
    """Return the lists of a table: a row for each place, with user, item, and rank (from 1) or score (higher first).

    Args:
        name: of the model.
        source: a path or a table.

    Raises:
        ArgumentError: a column is missing, an item stands twice in a list, or all lists are shorter than 10.
        DataError: the file cannot be read.

    Example:
        >>> rows = {"user_id": ["ann"] * 10, "item_id": list("abcdefghij"), "score": range(10)}
        >>> read_lists("SASRec", pl.DataFrame(rows)).table["item"].to_list()[:2]
        ['j', 'i']
    """
    opened = open_source(source, Reading())
    what = f"lists of {name} ({opened.name})"
    with opened.explained():
        table = opened.frame.collect()
    columns = {role: next(iter(candidates(table.columns, role)), None) for role in ("user", "item")}
    plain = {column.lower(): column for column in table.columns}
    by = "rank" if "rank" in plain else "score"
    if None in columns.values() or by not in plain:
        raise ArgumentError(
            f"{what}: expected columns user, item, and rank or score, found {', '.join(table.columns)}. Rename them."
        )
    ids = [text_of_ids(pl.col(column), table.schema[column]).alias(role) for role, column in columns.items() if column]
    key = ["user", *(["event"] if "event" in plain else [])]
    order = pl.col(plain[by]).cast(pl.Float64).rank("ordinal", descending=by == "score").over(key)
    event = [pl.col(plain["event"]).cast(pl.Int64)] if "event" in plain else []
    lists = table.select(*ids, *event, pl.col(plain[by])).with_columns(place=order.cast(pl.Int64)).drop(plain[by])
    lists = lists.drop_nulls().sort(*key, "place")
    twice = lists.filter(lists.select(*key, "item").is_duplicated())
    if len(twice):
        user, item = twice["user"][0], twice["item"][0]
        raise ArgumentError(
            f"{what}: expected each item once in a list, came {item} twice for {user}. Drop the repeats; where a user "
            'has lists for several held-out events, number them in a column "event".'
        )
    given = GivenLists(name, what, lists)
    if given.longest < LEAST:
        raise ArgumentError(
            f"{what}: expected lists of {LEAST} items or more, came {given.longest}. Give longer lists."
        )
    return given
