"""A trained network that answers.

Knows: ids, states, lists, titles, the policy on repeats. Runs on NumPy alone.
Does not know: training, files, HTTP.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segue.config import Config, Repeats
from segue.data.catalogue import Catalogue
from segue.data.events import Events
from segue.data.sequences import Sequences, encode
from segue.data.vocabulary import Vocabulary
from segue.errors import ArgumentError
from segue.model.network import Network, NetworkParams
from segue.recommend.encoder import encode_users
from segue.recommend.state import NO_TIME, Seen, State, States, gap_seconds, microseconds
from segue.shapes import Bools, Floats

Time = float | int | datetime | None


class Item(NamedTuple):
    """One line of a list: the id, its score (a log-odds: higher is better), its title if there is one."""

    item: str
    score: float
    title: str | None


@dataclass(frozen=True, eq=False)
class Recommender:
    """What was learnt, ready to answer. It holds no histories: a user's state goes in and comes out.

    Args:
        network: static settings.
        params: float32 weights.
        vocabulary: the ids behind the rows.
        config: the settings it was trained with, none left to derive.
        catalogue: titles and attributes by row, or None.
        facts: of the training: range, curve, what was held out.
        fingerprint: of the weights and the vocabulary; states carry it.
    """

    network: Network
    params: NetworkParams
    vocabulary: Vocabulary
    config: Config
    catalogue: Catalogue | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = "unsaved"

    @cached_property
    def items(self) -> list[str]:
        """The ids that can be recommended, in the order of the columns of `score`."""
        return [str(id) for id in self.vocabulary.ids]

    @property
    def repeats(self) -> Repeats:
        """Whether lists may hold what the user already had, unless a call says otherwise."""
        return self.config.train.repeats or "allow"

    def start(self) -> State:
        """Return the state of a user of whom nothing is known; it can be asked for a list at once."""
        memory = self.network.start(self.params)
        return State(memory, None, 0, Seen(self.vocabulary.size), self.fingerprint)

    def observe(self, state: State, item: str, *, time: Time = None) -> State:
        """Return the state after one more event; the old state stays as it was.

        Args:
            state: before the event.
            item: its id. An unknown item never raises: it is read as *unknown*.
            time: of the event, in seconds since 1970 or a datetime; None when unknown.

        Raises:
            ArgumentError: the state is of another bundle, or the time is not a time.

        Cost: constant, whatever the user did before.
        """
        self._check(state)
        now, row = microseconds(time), self.vocabulary.row(item)
        gap = gap_seconds(now, state.time)
        memory = self.network.step(self.params, state.memory, np.array([row], np.int32), gap)
        return State(memory, now, state.count + 1, state.seen.add(row), self.fingerprint)

    def observe_all(self, state: State, items: Iterable[str]) -> State:
        """Return the state after several events without times: `observe`, one after the other."""
        for item in items:
            state = self.observe(state, item)
        return state

    def recommend(
        self,
        state: State,
        k: int = 10,
        *,
        at: Time = None,
        exclude: Iterable[str] = (),
        repeats: Repeats | None = None,
    ) -> list[Item]:
        """Return the k items most likely to come next, best first.

        Args:
            state: of the user.
            k: how many; fewer come back where the catalogue has no more.
            at: the time of the question, in seconds since 1970 or a datetime; None when unknown.
            exclude: ids to leave out; unknown ones are ignored.
            repeats: "allow" or "exclude" what the user had; None takes the bundle's own policy.

        Raises:
            ArgumentError: k is below 1, or the state is of another bundle.

        Cost: O(items x width), the same for every history.
        """
        if k < 1:
            raise ArgumentError(f"recommend: expected k of at least 1, came {k}. Ask for 1 item or more.")
        self._check(state)
        gap = gap_seconds(microseconds(at), state.time)
        scores = self._scores(state.memory.output, gap)[0]
        scores[self.vocabulary.rows(exclude)] = -np.inf
        if (repeats or self.repeats) == "exclude":
            scores[state.seen.to_rows()] = -np.inf
        scores[0] = -np.inf
        best = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
        best = best[np.lexsort((best, -scores[best]))]
        return [self._item(int(row), float(scores[row])) for row in best if scores[row] > -np.inf]

    def encode(self, events: Events | Sequences) -> States:
        """Return the states of all users of a log, as if each event had been observed one by one.

        Cost: O(events). Memory: O(users x state).
        """
        sequences = events if isinstance(events, Sequences) else encode(events, self.vocabulary)
        memory, _ = encode_users(self.network, self.params, sequences)
        offsets, size = sequences.offsets, self.vocabulary.size
        pieces = itertools.pairwise(offsets)
        seen = tuple(Seen.of(size, sequences.items[a:b]) for a, b in pieces)
        times = np.full(len(sequences), NO_TIME)
        if sequences.times is not None:
            some = sequences.lengths > 0
            times[some] = sequences.times[offsets[1:][some] - 1]
        return States(sequences.users, memory, times, sequences.lengths, seen, self.fingerprint)

    def score(self, states: State | States, *, at: Time = None) -> Floats:
        """Return float32[user, item], a log-odds for each item of `rec.items`; nothing is filtered.

        Args:
            states: one or many.
            at: the time of the question; None when unknown.
        """
        self._check(states)
        now = microseconds(at)
        if isinstance(states, State):
            gaps = gap_seconds(now, states.time)
        else:
            pairs = ((now, None if t == NO_TIME else int(t)) for t in states.times)
            gaps = np.concatenate([gap_seconds(*pair) for pair in pairs] or [np.zeros(0, np.float32)])
        return self._scores(states.memory.output, gaps)[:, 1:]

    def save(self, path: str | Path) -> None:
        """Write a bundle; see `segue.bundle.save_bundle`."""
        from segue.bundle import save_bundle  # the arrow points back here for this one convenience

        save_bundle(self, path)

    def outputs_before(self, sequences: Sequences, wanted: Bools) -> Floats:
        """Return float32[n, d]: the output of the state just before each wanted event (evaluation)."""
        return encode_users(self.network, self.params, sequences, wanted)[1]

    def _scores(self, output: Floats, gaps: Floats) -> Floats:
        query = self.network.query(self.params, output, gaps)
        scores: Floats = self.network.scores(self.params, query)
        return scores

    def _item(self, row: int, score: float) -> Item:
        return Item(self.vocabulary.id(row), score, self.catalogue.title(row) if self.catalogue else None)

    def _check(self, state: State | States) -> None:
        if state.bundle != self.fingerprint:
            raise ArgumentError(
                f"state: expected one of bundle {self.fingerprint[:12]}, came one of {state.bundle[:12]}. "
                "A state means nothing to other weights: rebuild it with rec.encode(events)."
            )
