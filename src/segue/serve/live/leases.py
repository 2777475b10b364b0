"""Which models have states in a store, and which servers still answer by them.

Knows: that a server says from time to time what it uses, and that nothing is known of one that has not for long.
Does not know: what a model is.
"""

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.store.base import Store, change_value

#: Seconds for which a server's word holds, and how often it gives it. Clocks may differ by the rest.
HELD, RENEWED = 180.0, 30.0
_VALUE = "bundles"


@dataclass(frozen=True)
class Leases:
    """What the servers of a store use.

    Args:
        store: of these servers.
        clock: seconds since 1970.
        name: of this server.
    """

    store: Store
    clock: Callable[[], float] = time.time
    name: str = field(default_factory=lambda: secrets.token_hex(8))

    def renew(self, models: Sequence[str]) -> list[str]:
        """Say which models this server uses, and return those that have states and that no server uses."""
        kept = self._change(lambda kept: self._used(kept, models))
        used = {model for one in kept["used"].values() for model in one["bundles"]}
        return [model for model in kept["had"] if model not in used]

    def drop(self, model: str) -> None:
        """Drop the states of a model."""
        self.store.drop_model(model)
        self._change(lambda kept: {**kept, "had": [one for one in kept["had"] if one != model]})

    def release(self) -> None:
        """Say that this server uses nothing any more."""
        self._change(lambda kept: {**kept, "used": {who: one for who, one in kept["used"].items() if who != self.name}})

    def _used(self, kept: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
        now = self.clock()
        others = {} if self.store.exclusive else kept["used"]
        used = {who: one for who, one in others.items() if one["until"] > now}
        used[self.name] = {"until": now + HELD, "bundles": list(models)}
        return {"had": list(dict.fromkeys([*kept["had"], *models])), "used": used}

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        def changed(value: bytes | None) -> bytes:
            kept = json.loads(value or b"[]")  # formerly a list of those that have states
            return json.dumps(change(kept if isinstance(kept, dict) else {"had": kept, "used": {}})).encode()

        found: dict[str, Any] = json.loads(change_value(self.store, _VALUE, changed))
        return found
