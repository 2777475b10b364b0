"""The scenarios of a store: kept by name, followed by every server over the store.

Knows: that a change is a compare-and-set, and that a file which was taken over once is not taken over again.
Does not know: what scenarios mean (`scenarios`), who may change them.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from segue.errors import NotFoundError
from segue.serve.scenarios.scenarios import Scenarios
from segue.store.base import Store, change_value, version_of

_VALUE = "scenarios"


class KeptScenarios:
    """The scenarios of a store, and the last of them that this server has read. Safe for several threads.

    Args:
        store: where they are kept, under one name.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.follow()

    def follow(self) -> None:
        """Take over what the store has."""
        value = self._store.get_value(_VALUE)
        self._version, self.now = version_of(value), Scenarios.of(json.loads(value or b"{}"))

    def overtaken(self) -> bool:
        """Return whether another server has changed something."""
        return self._store.value_version(_VALUE) != self._version

    def put(self, new: Scenarios) -> None:
        """Keep scenarios in place of all before them."""
        self._change(lambda kept: {**new.said(), "file": kept.get("file")})

    def put_file(self, new: Scenarios) -> None:
        """Keep the scenarios of a file, unless the same file was taken over before.

        So what was changed since over HTTP stays after a restart, and a new file replaces it.
        """
        digest = blake2b(msgspec.json.encode(new.said(), order="deterministic"), digest_size=16).hexdigest()
        self._change(lambda kept: kept if kept.get("file") == digest else {**new.said(), "file": digest})

    def stop(self, experiment: str) -> None:
        """End an experiment: from the next request on everybody gets the scenario that it split. Done again it is done.

        Raises:
            NotFoundError: there was never one of this name among those kept.
        """

        def stopped(kept: dict[str, Any]) -> dict[str, Any]:
            before, ended = kept.get("experiments", {}), kept.get("ended", [])
            if experiment not in before and experiment not in ended:
                names = ", ".join(before) or "none"
                raise NotFoundError(f'experiment: expected one of {names}, came "{experiment[:60]}".')
            left = {name: one for name, one in before.items() if name != experiment}
            return {**kept, "experiments": left, "ended": list(dict.fromkeys([*ended, experiment]))[-100:]}

        self._change(stopped)

    def _change(self, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        def changed(value: bytes | None) -> bytes:
            return msgspec.json.encode(change(json.loads(value or b"{}")))

        change_value(self._store, _VALUE, changed)
        self.follow()
