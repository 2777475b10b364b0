"""Several users or several events at once: one step or one scan, in place of many calls of `Recommender.observe`.

The result equals observing event by event (a law).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import msgspec
import numpy as np

from segue.errors import ArgumentError
from segue.kernels.serving_loops import leave_out
from segue.model.backend import leaves, map_tree
from segue.model.network import Memory, Window
from segue.model.transitions import RECENT, nothing_recent, pushed
from segue.recommend.ratings import Rated, rate, residuals_of
from segue.recommend.scorer import Scorer
from segue.recommend.state import NO_KEYS, NO_TIME, Seen, State, gaps_seconds, with_key
from segue.shapes import Bools, Floats, Rows, Times

#: Positions in one scan of a replay.
_STEPS = 256


class ToCome(Protocol):
    """What may be known of a future event: its type and context."""

    @property
    def type(self) -> str | None:
        """What is done."""

    @property
    def context(self) -> Mapping[str, Any]:
        """What else is known of it."""


class Happened(ToCome, Protocol):
    """What is read of an event."""

    @property
    def item(self) -> str:
        """The id."""

    @property
    def time(self) -> int | None:
        """Microseconds since 1970."""

    @property
    def rating(self) -> float | None:
        """Its value."""


def observe_each(rec: Scorer, states: Sequence[State], events: Sequence[Happened]) -> list[State]:
    """Return the state of each user after one more event each: `observe` for each, in one step.

    Cost: one step of B users, which costs little more than that of one.
    """
    if not states:
        return []
    items = [rec.vocabulary.learnt_row(event.item) for event in events]
    gaps = gaps_seconds([event.time for event in events], [state.time for state in states])
    rows, memories, details = np.array(items, np.int32), _rows(states), _details(rec, events)
    if rec.fused.fits:
        memories = rec.fused.step(memories, rows, gaps, details)
    else:
        memories = _flat(rec.network.step(rec.params, _unflat(rec, memories), rows, gaps, details))
    recent = pushed(np.concatenate([state.recent for state in states]), rows)
    return [
        FlatState(
            rec,
            row,
            event.time,
            state.count + 1,
            state.seen.add(item),
            last[None],
            with_key(state.unknown, item, event.item),
        )
        for row, event, state, item, last in zip(memories, events, states, items, recent, strict=True)
    ]


def observe_long(rec: Scorer, state: State, events: Sequence[Happened]) -> State:
    """Return a user's state after many events: `observe` one after the other, as a scan.

    Cost: O(events), without the overhead of a step for each.
    """
    return observe_rated(rec, state, events)[0]


def observe_rated(rec: Scorer, state: State, events: Sequence[Happened]) -> tuple[State, list[Rated | None]]:
    """Return what `observe_long` does, and for each event what `rated_each` returns."""
    rated: list[Rated | None] = []
    for begin in range(0, len(events), _STEPS):
        block = events[begin : begin + _STEPS]
        rows = np.array([rec.vocabulary.learnt_row(event.item) for event in block], np.int32)
        times = [state.time, *(event.time for event in block)]
        gaps = gaps_seconds(times[1:], times[:-1])
        details = _details(rec, block)
        none = np.zeros((len(block), 1), bool)
        window = Window(rows[:, None], gaps[:, None], none, none, None if details is None else details[:, None])
        memory, outputs = rec.network.scan(rec.params, state.memory, window)
        rated += _rated(rec, np.concatenate([state.memory.output, outputs[:-1, 0]]), gaps, block)
        seen = state.seen.to_rows()
        known = Seen.of(max(state.seen.size, rec.vocabulary.learnt_size), np.concatenate([seen, rows]))
        recent = np.concatenate([state.recent[0], rows])[None, -RECENT:]
        unknown = state.unknown
        for row, event in zip(rows.tolist(), block, strict=True):
            unknown = with_key(unknown, row, event.item)
        state = State(memory, block[-1].time, state.count + len(block), known, rec.fingerprint, recent, unknown)
    return state, rated


def rated_each(rec: Scorer, states: Sequence[State], events: Sequence[Happened]) -> list[Rated | None]:
    """Return for each user what one more event adds to the shared value; None for nothing.

    An event adds something if it has a rating that the model did not learn: its time is after the training, or the
    training had no times. A rating outside the scale counts as the nearer end of the scale. The states are those before
    the events.

    Cost: O(width squared) for each event that has a rating, nothing for the others.
    """
    if rec.network.rating is None or not events:
        return [None] * len(events)
    gaps = gaps_seconds([event.time for event in events], [state.time for state in states])
    return _rated(rec, _rows(states)[:, -rec.network.read_width :], gaps, events)


def _rated(rec: Scorer, outputs: Floats, gaps: Floats, events: Sequence[Happened]) -> list[Rated | None]:
    rated: list[Rated | None] = [None] * len(events)
    until = rec.learnt_until
    places = [n for n, event in enumerate(events) if event.rating is not None and _later(event.time, until)]
    if rec.network.rating is None or not places:
        return rated
    rows = np.array([rec.vocabulary.learnt_row(events[n].item) for n in places], np.int32)
    latent, _ = rate(rec, outputs[places], gaps[places], rows)
    residuals = residuals_of(rec.network.rating, [events[n].rating for n in places], latent)
    for n, row, residual in zip(places, rows.tolist(), residuals.tolist(), strict=True):
        if np.isfinite(residual):
            rated[n] = Rated(row, residual)
    return rated


def _later(time: int | None, until: int | None) -> bool:
    return until is None or (time is not None and time > until)


def score_each(rec: Scorer, states: Sequence[State], at: Sequence[int | None], details: Floats | None = None) -> Floats:
    """Return float32[user, row]: the score of every row of the catalogue, row 0 -inf; nothing else is filtered.

    Args:
        rec: the model of these states.
        states: one for each user.
        at: the time of each request, microseconds since 1970; None when unknown.
        details: float32[user, m], what is known of the future events.
    """
    return leave_out(rec.score_outputs(*_inputs(rec, states, at), details))


def score_rows(
    rec: Scorer, states: Sequence[State], at: Sequence[int | None], rows: Rows, details: Floats | None = None
) -> Floats:
    """Return float32[user, n]: the scores of `score_each` for the given rows, without scoring the others.

    Args:
        rec, states, at, details: as of `score_each`.
        rows: int32[n], the same for all, or int32[user, n].

    Cost: O(users x n x width).
    """
    scores = rec.score_outputs(*_inputs(rec, states, at), details, rows)
    return np.where(rows == 0, np.float32(-np.inf), scores)


def score_sample(
    rec: Scorer, states: Sequence[State], at: Sequence[int | None], number: int, details: Floats | None = None
) -> tuple[Rows, Floats]:
    """Return a random sample of rows, int32[n], in order, and their scores as of `score_each`, float32[user, n].

    Args:
        rec, states, at, details: as of `score_each`.
        number: of the sample; see `FusedInference.sample`.
    """
    outputs, gaps, recent = _inputs(rec, states, at)
    rows, table = rec.fused.sample(number)
    return rows, rec.finished(table.scores(rec.fused.query(outputs, gaps, details)), recent, rows)


def find_each(
    rec: Scorer,
    states: Sequence[State],
    at: Sequence[int | None],
    k: int,
    details: Floats | None = None,
    *,
    allowed: Bools | None = None,
    excluded: Sequence[Rows] | None = None,
) -> list[Rows]:
    """Return for each user rows of an index among which are the k best; `score_rows` scores them.

    Args:
        rec, states, at, details: as of `score_each`.
        k, allowed, excluded: as of `Scorer.candidates`.
    """
    return rec.candidates(*_inputs(rec, states, at), k, details, allowed=allowed, excluded=excluded)


def _inputs(rec: Scorer, states: Sequence[State], at: Sequence[int | None]) -> tuple[Floats, Floats, Rows]:
    """Return the outputs of states, the seconds from their last events to the requests, and their last items."""
    outputs = _rows(states)[:, -rec.network.read_width :]  # a memory ends with the output
    gaps = gaps_seconds(at, [state.time for state in states])
    return outputs, gaps, np.concatenate([state.recent for state in states])


def question_details(rec: Scorer, questions: Sequence[ToCome], at: Sequence[int | None]) -> Floats | None:
    """Return float32[question, m] of times, types and contexts; None where this model reads none."""
    pairs = zip(questions, at, strict=True)
    return rec.encoders.of_events([{**to_come.context, "time": time, "type": to_come.type} for to_come, time in pairs])


def _details(rec: Scorer, events: Sequence[Happened]) -> Floats | None:
    lines = [{**e.context, "time": e.time, "type": e.type, "rating": e.rating} for e in events]
    return rec.encoders.of_events(lines)


class FlatState(State):
    """A state whose memory is one row of numbers, float32[n], until its arrays are needed.

    One copy joins the states of many users, and storing a state needs no copy.
    """

    rec: Scorer
    row: Floats

    def __init__(
        self, rec: Scorer, row: Floats, time: int | None, count: int, seen: Seen, recent: Rows, unknown: Times = NO_KEYS
    ) -> None:
        vars(self).update(rec=rec, row=row, time=time, count=count, seen=seen, model=rec.fingerprint, recent=recent)
        vars(self)["unknown"] = unknown

    @cached_property
    def memory(self) -> Memory:
        """The network's arrays, as views of the row."""
        return _unflat(self.rec, self.row[None])

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how it is pickled and copied: as a plain state, without the recommender."""
        return State, (self.memory, self.time, self.count, self.seen, self.model, self.recent, self.unknown)


def _row(state: State) -> Floats:
    """Return float32[n]: all numbers of the memory of one user in a row."""
    return state.row if isinstance(state, FlatState) else _flat(state.memory)[0]


def _rows(states: Sequence[State]) -> Floats:
    """Return float32[user, n]."""
    rows: Floats = np.concatenate([_row(state) for state in states]).reshape(len(states), -1)
    return rows


def _flat(memory: Memory) -> Floats:
    """Return float32[user, n]: all numbers of the memory of each user in a row."""
    rows: Floats = np.concatenate([array.reshape(len(array), -1) for _, array in leaves(memory)], axis=1)
    return rows


def _unflat(rec: Scorer, flat: Floats) -> Memory:
    """Return the memory in the rows of `_flat`, as views."""
    at = 0

    def take(like: Floats) -> Floats:
        nonlocal at
        at += like.size
        return flat[:, at - like.size : at].reshape(len(flat), *like.shape[1:])

    memory: Memory = map_tree(take, rec.empty_memory)
    return memory


class _StoredState(msgspec.Struct, array_like=True):
    """A state as it is stored; rows of the catalogue stand for items."""

    time: int
    count: int
    size: int
    rows: bytes | None
    bits: bytes | None
    memory: bytes
    recent: bytes = b""
    unknown: bytes = b""


_DECODER = msgspec.msgpack.Decoder(_StoredState)


def state_to_bytes(state: State) -> bytes:
    """Return a state as bytes: numbers only, no ids. Its size does not grow with the history.

    Rows of the catalogue stand for items, so they mean something to the model of the state alone.
    """
    seen, time = state.seen, NO_TIME if state.time is None else state.time
    rows = None if seen.rows is None else seen.rows.tobytes()
    bits = None if seen.bits is None else seen.bits.tobytes()
    memory, recent = _row(state).tobytes(), state.recent.tobytes()
    unknown = state.unknown.tobytes()
    return msgspec.msgpack.encode(_StoredState(time, state.count, seen.size, rows, bits, memory, recent, unknown))


def state_from_bytes(rec: Scorer, body: bytes) -> State:
    """Return the state in the bytes that `state_to_bytes` made with the same model.

    Raises:
        ArgumentError: the bytes are no state, or a state of another model: other lengths, unknown rows.
    """
    try:
        stored = _DECODER.decode(body)
        memory = _memory(rec, stored.memory)
        seen = _seen(rec, stored)
        recent = _recent(stored.recent)
        unknown = np.frombuffer(stored.unknown, np.int64)[-RECENT:]
        if stored.count < 0 or not NO_TIME <= stored.time <= -(NO_TIME + 1):
            raise ValueError(f"a count of {stored.count}, a time of {stored.time}")
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArgumentError(
            f"state: expected the bytes of a state of model {rec.fingerprint[:12]}, came others ({error}). "
            "Rebuild it from the events of its user."
        ) from None
    time = None if stored.time == NO_TIME else stored.time
    return FlatState(rec, memory, time, stored.count, seen, recent, unknown)


def _memory(rec: Scorer, body: bytes) -> Floats:
    numbers, zeros = np.frombuffer(body, np.float32), rec.no_memory
    with np.errstate(invalid="ignore"):
        finite = len(numbers) == len(zeros) and numbers.dot(zeros) == 0  # what is not finite makes NaN
    if not finite:
        raise ValueError(f"expected {len(zeros):,} finite numbers of memory, came {len(numbers):,}")
    return numbers


def _seen(rec: Scorer, stored: _StoredState) -> Seen:
    if not 0 < stored.size <= rec.vocabulary.size:
        raise ValueError(f"a catalogue of {stored.size:,} rows")
    if stored.bits is not None:
        if stored.rows is not None or len(stored.bits) != -(-stored.size // 8) or stored.bits[0] & 128:
            raise ValueError("bits of other rows than those of the catalogue")
        return Seen(stored.size, bits=np.frombuffer(stored.bits, np.uint8))
    if stored.rows is None:
        return Seen(stored.size)
    rows = np.frombuffer(stored.rows, np.int32)
    if len(rows) and (rows[0] < 1 or rows[-1] >= stored.size or not (rows[1:] > rows[:-1]).all()):
        raise ValueError("seen rows that are not those of the catalogue, in order")
    return Seen(stored.size, rows=rows)


def _recent(body: bytes) -> Rows:
    # States that keep fewer of the last items, or none, are of models that do not ask for more. Rows that the counts
    # do not know say nothing, so they are not looked at here.
    recent = np.frombuffer(body, np.int32)[None]
    if recent.shape[1] != RECENT:
        recent = np.concatenate([nothing_recent(1), recent], axis=1)[:, -RECENT:]
    return recent
