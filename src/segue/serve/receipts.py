"""What is said to somebody who asked to be forgotten.

Knows: what was erased and what an erasure cannot reach. Does not know: how it was done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segue.recommend.recommender import Recommender
from segue.serve.tokens import DAYS


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a request to be forgotten.

    Args:
        erased: "user" or "event".
        events: how many were erased.
        bundles: those that may have learnt from them, with the range of their training.
        remains: what was not erased.
        advice: what to do about it.
    """

    erased: str
    events: int
    bundles: list[dict[str, Any]]
    remains: str = (
        "Backups of the store, exported files, what the weights of these bundles learnt, and tokens that clients hold "
        f"of their own accord: they name nobody and are good until they expire, {DAYS} days after they were given."
    )
    advice: str = (
        "Train again on the store as it is now (segue retrain) and swap the new bundle in; then delete old bundles, "
        "backups and exports."
    )


def receipt(erased: str, events: int, bundles: Sequence[Recommender]) -> Receipt:
    """Return the receipt of an erasure under the bundles at hand."""
    return Receipt(erased, events, [_named(rec) for rec in bundles])


def _named(rec: Recommender) -> dict[str, Any]:
    span = rec.facts.get("range")
    times = [datetime.fromtimestamp(at / 1e6, UTC).isoformat() for at in span] if span else None
    return {"bundle": rec.fingerprint, "trained_on": rec.facts.get("source"), "range": times}
