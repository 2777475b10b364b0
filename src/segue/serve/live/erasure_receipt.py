"""The erasure receipt: the answer to a request for an erasure.

Knows: what was erased and what an erasure cannot reach. Does not know: how it was done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segue.recommend.recommender import Recommender
from segue.serve.live.state_tokens import DAYS

#: What the erasure of a user, and that of an event, keeps out from then on.
BLOCKED = {
    "user": "The id is blocked, also where nothing was known under it: events that come under it later are refused "
    "(410). To take the id again: segue readmit USER --store STORE, or DELETE /v1/users/USER/block (role admin).",
    "event": "The id of the event, if it had one, is blocked: an event that comes under it later is refused (410).",
}


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a request for an erasure. Asked for again, it is the same but for `already` and `events`.

    Args:
        erased: "user" or "event".
        events: how many were erased by this request.
        already: all was erased before.
        models: those that may have learnt from what was erased, with the range of their training.
        blocked: what is refused from now on, and how to undo that.
        remains: what was not erased.
        advice: what to do about it.
    """

    erased: str
    events: int
    already: bool
    models: list[dict[str, Any]]
    blocked: str
    remains: str = (
        "Backups of the store, exported files, what the weights of these models learnt, and tokens that clients hold "
        f"of their own accord: they name nobody and are good until they expire, {DAYS} days after they were given."
    )
    advice: str = (
        "Train again on the store as it is now (segue retrain) and roll out the new model; then delete old models, "
        "backups and exports."
    )


def receipt(erased: str, events: int, models: Sequence[Recommender], *, already: bool = False) -> Receipt:
    """Return the receipt of an erasure under the models at hand."""
    return Receipt(erased, events, already, [_named(rec) for rec in models], BLOCKED[erased])


def _named(rec: Recommender) -> dict[str, Any]:
    span = rec.facts.get("range")
    times = [datetime.fromtimestamp(at / 1e6, UTC).isoformat() for at in span] if span else None
    return {"model": rec.fingerprint, "trained_on": rec.facts.get("source"), "range": times}
