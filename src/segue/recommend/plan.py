"""The next items as a path: the recurrence runs forward over its own choices."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segue.config import Repeats
from segue.data.values.ids import ids_of
from segue.data.values.times import microseconds
from segue.errors import ArgumentError
from segue.kernels.serving_loops import leave_out, pure_top_k
from segue.recommend.arguments import Time, check_count
from segue.recommend.batch import observe_each, question_details, score_each
from segue.recommend.scorer import Item, Scorer
from segue.recommend.state import State
from segue.shapes import Floats, Rows

Doubles: TypeAlias = NDArray[np.float64]
#: From scores and log-probabilities [path, row] to the chosen pairs of path and row, the best first.
_Choice: TypeAlias = Callable[[Floats, Doubles], list[tuple[int, int]]]


@dataclass(frozen=True)
class Beam:
    """Keep the `width` likeliest paths at each step; 1 takes the best item each time.

    A path of one or two items is never less likely than the greedy one. A longer path may be: the beam can drop the
    greedy path early, and later items would have put that path ahead.

    Raises:
        ArgumentError: the width is not a whole number from 1.
    """

    width: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.width, bool) or not isinstance(self.width, int) or self.width < 1:
            raise ArgumentError(f"plan: expected a beam of width 1 or more, came {self.width!r}. 8 is a good one.")


@dataclass(frozen=True)
class Sample:
    """Draw each item at random, in proportion to `exp(score / temperature)`; the same seed draws the same path.

    Raises:
        ArgumentError: the temperature is not a finite number above 0.
    """

    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ArgumentError(
                f"plan: expected a temperature above 0, came {self.temperature!r}. 1 draws as the model believes, "
                "less keeps closer to the best."
            )


class Plan(NamedTuple):
    """A path of items, the next item first.

    `log_probability` is in nats, by the model: at each step over the items that could be chosen.
    """

    items: list[Item]
    log_probability: float


@dataclass(frozen=True)
class _Event:
    """An event of a path, in the terms of `Happened`."""

    item: str
    time: int | None
    type: str | None
    context: Mapping[str, Any]
    rating: float | None = None


class _Path(NamedTuple):
    """The items chosen so far; `state` is the state before the last choice."""

    state: State
    rows: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    log_probability: float = 0.0


@dataclass(frozen=True)
class _Request:
    """The request of every step, and the details of its events."""

    at: int | None
    every: int | None
    type: str | None
    context: Mapping[str, Any]
    left_out: Rows
    seen_too: bool
    twice: bool

    def time(self, step: int) -> int | None:
        """Return the time of the request and of the chosen item."""
        if self.at is None or (self.every is None and step > 0):
            return None
        return self.at + step * (self.every or 0)


def plan(
    rec: Scorer,
    state: State,
    n: int = 5,
    *,
    by: Beam | Sample | None = None,
    at: Time = None,
    every: float | None = None,
    type: str | None = None,
    context: Mapping[str, object] | None = None,
    exclude: Iterable[str] = (),
    repeats: Repeats | None = None,
) -> Plan:
    """Return the next n items as an ordered path, each chosen as if the user had taken those before.

    `Beam(1)` is strictly equivalent to the loop

        for _ in range(n):
            best = rec.recommend(state, k=1, exclude=chosen)[0]
            state = rec.observe(state, best.item)

    Args:
        rec: the model.
        state: of the user; it stays as it is.
        n: how many items; fewer come back where there are no more to choose.
        by: `Beam(width)` or `Sample(temperature, seed)`; None takes the best item each time.
        at: the time of the first request and of the first item; None when unknown.
        every: seconds from one item to the next, where `at` is known; None when unknown.
        type: of the next events, such as "buy" to plan what will be bought; None for any.
        context: of the next events.
        exclude: ids to leave out; unknown ones are ignored.
        repeats: "exclude" leaves out seen items, and "allow" lets an item come more than once. With None the model's
            choice holds for seen items, and no item comes twice.

    Raises:
        ArgumentError: n is below 1, the state is of another model, or the model reads no types or not this column
            of the context.

    Cost: n steps of `width` users and n `width` times O(items x width of the network). A probability needs the scores
        of all items, so an index is not used.
    """
    check_count(n, "plan: expected n")
    by, policy = by or Beam(), repeats or rec.repeats
    rec._check(state)
    rec.encoders.check_request(type, context)
    request = _Request(
        microseconds(at, "at"), _between(every), type, context or {}, rec.vocabulary.rows(ids_of(exclude, "exclude")),
        seen_too=policy == "allow", twice=repeats == "allow",
    )  # fmt: skip
    choose = _likeliest(by.width) if isinstance(by, Beam) else _drawn(by)
    paths = [_Path(state)]
    for step in range(n):
        paths = _moved(rec, paths, request, step)
        scores = _scores(rec, paths, request, step)
        if not np.isfinite(scores.max(axis=1)).all():  # all paths are equally long, so all of them end here
            break
        likely = _log_softmax(scores) + np.array([[path.log_probability] for path in paths])
        chosen = choose(scores, likely)
        paths = [_longer(paths[parent], row, scores[parent, row], likely[parent, row]) for parent, row in chosen]
    best = paths[0]
    items = [rec._item(row, score) for row, score in zip(best.rows, best.scores, strict=True)]
    return Plan(items, best.log_probability)


def _between(every: float | None) -> int | None:
    if every is not None and (isinstance(every, bool) or not 0 <= every < 1e12):
        raise ArgumentError(
            f"plan: expected every as seconds from one item to the next, came {every!r}. An hour is 3600."
        )
    return None if every is None else round(every * 1e6)


def _moved(rec: Scorer, paths: Sequence[_Path], request: _Request, step: int) -> list[_Path]:
    """Return the paths with the states after their last choices: one step for all of them."""
    if step == 0:
        return list(paths)
    when = request.time(step - 1)
    events = [_Event(rec.vocabulary.id(path.rows[-1]), when, request.type, request.context) for path in paths]
    states = observe_each(rec, [path.state for path in paths], events)
    return [path._replace(state=state) for path, state in zip(paths, states, strict=True)]


def _scores(rec: Scorer, paths: Sequence[_Path], request: _Request, step: int) -> Floats:
    """Return float32[path, row], -inf where a row may not be chosen."""
    at = [request.time(step)] * len(paths)
    details = question_details(rec, [request] * len(paths), at)
    scores = score_each(rec, [path.state for path in paths], at, details)
    left_out = [[request.left_out] for _ in paths]
    for rows, path in zip(left_out, paths, strict=True):
        rows += [] if request.seen_too else [path.state.seen.to_rows()]
        rows += [] if request.twice else [np.array(path.rows, np.int32)]
    return leave_out(scores, [np.concatenate(rows) for rows in left_out])


def _log_softmax(scores: Floats) -> Doubles:
    """Return float64[path, row]; each path has an item to choose."""
    wide = scores - scores.max(axis=1, keepdims=True).astype(np.float64)
    result: Doubles = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return result


def _likeliest(width: int) -> _Choice:
    """Return the choice of the `width` likeliest paths, the best first; of equals the lowest row."""

    def choose(scores: Floats, likely: Doubles) -> list[tuple[int, int]]:
        places, _, count = pure_top_k(likely.reshape(1, -1), width)
        return [divmod(place, likely.shape[1]) for place in places[0, : count[0]].tolist()]

    return choose


def _drawn(by: Sample) -> _Choice:
    """Return the choice that draws the next item of the one path (the Gumbel trick: the best of noisy scores)."""
    rng = np.random.default_rng(by.seed)

    def choose(scores: Floats, likely: Doubles) -> list[tuple[int, int]]:
        noisy = scores[0] / by.temperature + rng.gumbel(size=scores.shape[1])
        return [(0, int(np.argmax(noisy)))]

    return choose


def _longer(path: _Path, row: int, score: float, log_probability: float) -> _Path:
    return _Path(path.state, (*path.rows, row), (*path.scores, float(score)), float(log_probability))
