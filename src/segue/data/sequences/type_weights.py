"""How much an event of each type counts as a target: the weights of a setting against the types of a log.

Knows: what the setting may say, which types a log has, what to do about a type that the log does not have.
Does not know: how a target is learnt.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from segue.data.log.events import Events
from segue.errors import ColumnError, ConfigError, listed, nearest
from segue.shapes import Floats

#: Types that a message names.
_SHOWN = 12
#: Weights that are not 0 lie between these: of larger ones the smaller say nothing.
LOWEST, HIGHEST = 1e-3, 1e3


def types_of(events: Events) -> list[str]:
    """Return the types of a log's events, the most frequent first; nothing where it has none.

    Example:
        >>> types_of(Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x"] * 3, "type": ["buy", "view", "view"]})))
        ['view', 'buy']
    """
    if "type" not in events.table.columns:
        return []
    counts = events.table["type"].cast(pl.String).drop_nulls().value_counts()
    return counts.sort("count", "type", descending=[True, False])["type"].to_list()


def check_types(events: Events, weight_of_type: Mapping[str, float]) -> None:
    """Do nothing if a log has every type that is weighed, by a number that can be learnt with, or none is.

    Raises:
        ColumnError: the log has no types.
        ConfigError: a type is not in the log; the message names those that are, and the nearest. Or a weight is out of range.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x"] * 3, "type": ["buy", "view", "view"]}))
        >>> check_types(log, {"bought": 3.0})
        Traceback (most recent call last):
        ...
        segue.errors.ConfigError: config train.type_weights: expected types of table (view, buy), came "bought". Did you mean buy?
    """  # noqa: E501
    if not weight_of_type:
        return
    known = types_of(events)
    if not known:
        raise ColumnError(
            f"{events.source}: expected a column of types to weigh, the log has none. "
            "Name it with --type-col, or weigh nothing: --set train.type_weights= (empty)."
        )
    for name, weight in weight_of_type.items():
        if weight and not LOWEST <= weight <= HIGHEST:
            raise ConfigError(
                f"config train.type_weights: expected weights of 0 or from {LOWEST:g} to {HIGHEST:,.0f}, "
                f"came {weight:g} for {name}. Ratios matter alone: keep within, or give 0 to learn none of a type."
            )
    for name in weight_of_type:
        if name not in known:
            raise ConfigError(
                f"config train.type_weights: expected types of {events.source} ({listed(known, _SHOWN)}), "
                f'came "{name}". Did you mean {nearest(name, known, cutoff=0.0)}?'
            )


def weights_of(events: Events, weight_of_type: Mapping[str, float]) -> Floats:
    """Return float32[event], how much each event counts; 1 where its type is not named or missing.

    Raises:
        ColumnError, ConfigError: as of `check_types`.
    """
    check_types(events, weight_of_type)
    types = events.table["type"].cast(pl.String)
    weights: Floats = types.replace_strict(weight_of_type, default=1.0, return_dtype=pl.Float32).to_numpy()
    return weights


def check_weights_count(
    weights: Floats | None, weight_of_type: Mapping[str, float], source: str, *, task: str | None = None
) -> None:
    """Do nothing if there are no weights, or an event that is learnt counts as a target of what comes next.

    Raises:
        ConfigError: none does, or ratings alone are learnt, of which each counts alike.
    """
    if weight_of_type and task == "rating":
        raise ConfigError(
            "config train.type_weights: expected a task that learns what comes next, came rating, in which all events "
            "count alike. Train with --task both, or weigh nothing: --set train.type_weights= (empty)."
        )
    if weights is not None and not np.any(weights):
        said = ",".join(f"{name}:{weight:g}" for name, weight in weight_of_type.items())
        raise ConfigError(
            f'config train.type_weights: expected events that count among those of {source} to learn, came "{said}", '
            f"by which none of the {len(weights):,} does. Give a type that these have a weight above 0."
        )
