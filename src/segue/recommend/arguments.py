"""What a call is given: counts, and tables of users.

Knows: which numbers are counts, how a table was read in the training. Does not know: models.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from segue.data.features.catalogue import Profiles, read_profiles
from segue.data.log.events import Events
from segue.data.log.sources import Reading
from segue.data.values.ids import check_matched
from segue.errors import ArgumentError

#: Seconds since 1970, a datetime or its ISO text; None when unknown.
Time = float | int | str | datetime | None


def check_count(count: object, expected: str) -> None:
    """Do nothing if a count is a whole number from 1.

    Raises:
        ArgumentError: it is another number, a truth value, or no number; the message begins with `expected`.

    Example:
        >>> check_count(2.0, "recommend: expected k")
        Traceback (most recent call last):
        ...
        segue.errors.ArgumentError: recommend: expected k from 1, a whole number, came 2.0. Ask for 1 item or more.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ArgumentError(f"{expected} from 1, a whole number, came {count!r}. Ask for 1 item or more.")


def check_known(items: pl.Series, log: Events) -> None:
    """Do nothing if a recommender knows an item of a log, or of what its users did before.

    Args:
        items: the ids that it knows.
        log: what it is asked about.

    Raises:
        DataError: it knows none; the message shows one of each, and why they may differ.
    """
    tables = [each.table["item"].cast(pl.String) for each in (log, log.history) if each is not None]
    check_matched(items, pl.concat(tables).unique(), source="model", of_log=log.source, role="item", what="model")


def profiles_of(facts: Mapping[str, Any], users: object, log: Events | None = None) -> Profiles | None:
    """Return the profiles of a path or table, read as that of the training; None for None.

    Args:
        facts: of a recommender.
        users: a path or table.
        log: events of whose users there must be profiles; None asks for none.

    Raises:
        ColumnError: there is no column of ids, or an id stands twice.
        DataError: no user of the log has a profile.
    """
    if users is None:
        return None
    kept = facts.get("reading", {})
    reading, like = Reading(missing=tuple(kept.get("missing", ()))), kept.get("columns", {}).get("user")
    found = read_profiles(users, reading=reading, like=like)
    if log is not None:
        check_matched(found.table["user"], log.users, source=found.source, of_log=log.source, role="user")
    return found
