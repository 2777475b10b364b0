"""The arguments of a call: times, counts, logs, tables of users."""

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


def check_shares(**shares: float) -> None:
    """Do nothing if each share is a number from 0 to 1.

    Raises:
        ArgumentError: one is not; the message has its name.
    """
    for name, share in shares.items():
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ArgumentError(f"{name}: expected a number from 0 to 1, came {share!r}. 0 leaves the list as it is.")


def check_temperature(temperature: float) -> None:
    """Do nothing if a temperature is a number from 0.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(temperature, int | float) or not 0 <= temperature < np.inf:
        raise ArgumentError(f"temperature: expected a number from 0, came {temperature!r}. 0 takes the best items.")


def check_known(items: pl.Series, log: Events) -> None:
    """Do nothing if a model knows an item of a log or of its history.

    Args:
        items: the ids of the model.

    Raises:
        DataError: the model knows none; the message shows an id of each, and why they may differ.
    """
    tables = [each.table["item"].cast(pl.String) for each in (log, log.history) if each is not None]
    check_items(items, pl.concat(tables).unique(), log.source)


def check_items(items: pl.Series, known: pl.Series, log: str) -> None:
    """Do nothing if a model knows one of the items of a log; see `check_known`."""
    check_matched(items, known, source="model", of_log=log, role="item", what="model")


def profiles_of(facts: Mapping[str, Any], users: object, log: Events | None = None) -> Profiles | None:
    """Return the profiles of a path or table, read as the table of the training was; None for None.

    Args:
        facts: of a model.
        users: a path or table.
        log: at least one of its users must have a profile; None checks nothing.

    Raises:
        ColumnError: there is no column of ids, or an id stands twice.
        DataError: no user of the log has a profile.
    """
    if users is None:
        return None
    kept = facts.get("reading", {})
    reading, like = Reading(missing=tuple(kept.get("missing", ()))), kept.get("columns", {}).get("user")
    profiles = read_profiles(users, reading=reading, like=like)
    if log is not None:
        check_matched(profiles.table["user"], log.users, source=profiles.source, of_log=log.source, role="user")
    return profiles
