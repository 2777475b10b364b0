"""A trained model as plain data: everything that a model file holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from segue.config import Config, Repeats
from segue.data.features.catalogue import Catalogue
from segue.data.features.column_types import Column, columns_of
from segue.data.features.feature_encoders import IDS_ALONE, FeatureEncoders
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.times import iso
from segue.model.network import Network, NetworkParams
from segue.model.transitions import TransitionCounts
from segue.shapes import Floats, Rows
from segue.trends.ranker import TrendRanker


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained model; it holds no histories.

    Args:
        network: static settings.
        params: float32 weights.
        vocabulary: the ids behind the rows.
        config: the settings of the training, none left to derive.
        catalogue: titles and attributes by row, or None.
        facts: of the training: range, curve, what was held out.
        fingerprint: of the weights and the vocabulary; states carry it.
        encoders: how attributes of items, profiles of users and details of events become numbers.
        learnt: rows of the vocabulary that training made; later rows were added by their attributes.
        counts: transition counts that are blended into the scores; None for the network alone.
        ranker: how lists follow what everybody does; None where the log of the training did not
            drift.
    """

    network: Network
    params: NetworkParams
    vocabulary: Vocabulary
    config: Config
    catalogue: Catalogue | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = "unsaved"
    encoders: FeatureEncoders = IDS_ALONE
    learnt: int = 0
    counts: TransitionCounts | None = None
    ranker: TrendRanker | None = None

    def __repr__(self) -> str:
        """Return a line with items, network, log and name."""
        model, source, until = self.config.model, self.facts.get("source", ""), self.learnt_until
        learnt = f"trained{source and f' on {source}'}" + (f" to {iso(until)[:10]}" if until is not None else "")
        parts = [f"{len(self.vocabulary):,} items", f"{model.cell} {model.depth} x {model.width}"]
        parts += [learnt] * bool(self.facts) + [f"model {self.fingerprint[:12]}"]
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def learnt_rows(self) -> int:
        """The rows that training made, row 0 included."""
        return self.learnt or self.vocabulary.size

    @property
    def learnt_until(self) -> int | None:
        """Time of the last learnt event, microseconds since 1970; None for a log without times."""
        span = self.facts.get("range")
        return int(span[1]) if span else None

    @property
    def repeats(self) -> Repeats:
        """Whether lists may hold seen items, unless a call says otherwise."""
        return self.config.train.repeats or "allow"

    @cached_property
    def unreachable(self) -> Rows:
        """int32[n]: rows of items that were added without any known attribute; never in a list."""
        added = np.arange(self.learnt_rows, self.vocabulary.size, dtype=np.int32)
        silent: Rows = added[~self.params.items[added].any(axis=1)]
        return silent

    @property
    def columns(self) -> Mapping[str, Column]:
        """The attributes of items by name, with the values that each may have."""
        blocks = () if self.encoders.items is None else self.encoders.items.columns
        return {} if self.catalogue is None else columns_of(self.catalogue.schema, blocks)

    def details(
        self,
        time: int | None,
        context: Mapping[str, object] | None = None,
        *,
        type: str | None = None,
        rating: float | None = None,
    ) -> Floats | None:
        """Return float32[1, m], the features of an event or a request; None for a model without any."""
        return self.encoders.of_events([{**(context or {}), "time": time, "type": type, "rating": rating}])
