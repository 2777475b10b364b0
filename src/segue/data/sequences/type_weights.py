"""How much an event of each type counts as a target: `train.type_weights` against a log."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from segue.data.log.events import Events
from segue.errors import ColumnError, ConfigError, listed, nearest
from segue.shapes import Floats

#: The most types that a message names.
_SHOWN = 12
#: The range of weights other than 0; beside larger weights, the smaller would not count.
LOWEST, HIGHEST = 1e-3, 1e3


def types_of(events: Events) -> list[str]:
    """Return the types of a log's events, the most frequent first; empty in a log without types.

    Example:
        >>> types_of(Events(pl.DataFrame({"user": ["a"] * 3, "item": ["x"] * 3, "type": ["buy", "view", "view"]})))
        ['view', 'buy']
    """
    if "type" not in events.table.columns:
        return []
    counts = events.table["type"].cast(pl.String).drop_nulls().value_counts()
    return counts.sort("count", "type", descending=[True, False])["type"].to_list()


def check_types(events: Events, weight_of_type: Mapping[str, float]) -> None:
    """Do nothing if a log has every type that has a weight, and the weights are in range.

    Raises:
        ColumnError: the log has no types, and there are weights.
        ConfigError: a type is not in the log (the message names the log's types and the nearest),
            or a weight is out of range.

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
            f"{events.source}: expected a column of types for the weights, the log has none. "
            "Name it with --type-col, or leave the weights out: --set train.type_weights= (empty)."
        )
    for name, weight in weight_of_type.items():
        if weight and not LOWEST <= weight <= HIGHEST:
            raise ConfigError(
                f"config train.type_weights: expected weights of 0 or from {LOWEST:g} to {HIGHEST:,.0f}, "
                f"came {weight:g} for {name}. Only ratios matter: stay within, or give 0 to leave a type out."
            )
    for name in weight_of_type:
        if name not in known:
            raise ConfigError(
                f"config train.type_weights: expected types of {events.source} ({listed(known, _SHOWN)}), "
                f'came "{name}". Did you mean {nearest(name, known, cutoff=0.0)}?'
            )


def weights_of(events: Events, weight_of_type: Mapping[str, float]) -> Floats:
    """Return float32[event], how much each event counts; 1 for types without a weight.

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
    """Do nothing if there are no weights, or some training event counts as a target.

    Raises:
        ConfigError: no event counts, or only ratings are predicted, where all events count alike.
    """
    if weight_of_type and task == "rating":
        raise ConfigError(
            "config train.type_weights: expected a task that predicts the next item, came rating, in which all events "
            "count alike. Train with --task both, or leave the weights out: --set train.type_weights= (empty)."
        )
    if weights is not None and not np.any(weights):
        setting = ",".join(f"{name}:{weight:g}" for name, weight in weight_of_type.items())
        raise ConfigError(
            f'config train.type_weights: expected training events of {source} that count, came "{setting}", '
            f"by which none of the {len(weights):,} does. Give one of their types a weight above 0."
        )
