"""Every baseline there is, and all of them fitted to one log and asked the same questions.

Knows: their order in a report, and that the fault of one costs no other. Does not know: how one is made.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from segue.data.sequences.sequences import Sequences
from segue.evaluation.baselines.als import ALS
from segue.evaluation.baselines.content_knn import ContentKNN
from segue.evaluation.baselines.contract import Baseline, Fitted
from segue.evaluation.baselines.counting import DecayedMarkov, ItemKNN, OwnPopularity, Popularity, RecentPopularity
from segue.evaluation.baselines.ease import EASE
from segue.evaluation.baselines.own_process import Fault, called, each_apart
from segue.evaluation.baselines.tuning import tuned
from segue.evaluation.questions import Exam, Tally, tally
from segue.shapes import Floats

#: Every baseline, in the order of a report.
BASELINES: tuple[type[Baseline], ...] = (
    Popularity,
    RecentPopularity,
    OwnPopularity,
    DecayedMarkov,
    ItemKNN,
    EASE,
    ALS,
    ContentKNN,
)

Say = Callable[[str], None]
Found = TypeVar("Found")


class Learning(NamedTuple):
    """What baselines are tuned on and fitted to.

    Args:
        sequences: the training events.
        n_items: the length of a score row, row 0 included.
        features: float32[item, m], what is known of each item beside events, or None.
        exclude_seen: whether items of the history are left out of the lists.
    """

    sequences: Sequences
    n_items: int
    features: Floats | None = None
    exclude_seen: bool = False


class Beside(NamedTuple):
    """What stands beside a recommender in a report.

    Args:
        fitted: by name with settings.
        left_out: a sentence for each baseline that could not be fitted, with the reason.
    """

    fitted: dict[str, Fitted]
    left_out: tuple[str, ...]


class Answers(NamedTuple):
    """What baselines answered.

    Args:
        tallies: a tally for each exam, by name with settings.
        left_out: a sentence for each baseline that could not be fitted or asked, with the reason.
    """

    tallies: dict[str, list[Tally]]
    left_out: tuple[str, ...]


def answer_all(given: Learning, exams: Sequence[Exam], say: Say | None = None) -> Answers:
    """Return what every baseline answers that can be fitted, tuned on the last training event of each user.

    All is done in a process of its own (`each_apart`): a baseline that crashes, takes too much memory or does not
    end is named in `left_out`, and the others stand.

    Args:
        given: what they learn from.
        exams: the questions.
        say: called with a line for each baseline before it is tuned.

    Cost: `tuned` for each and its scores, half a second for the process, and a copy of the events.
    """
    able, obstacles = _able(given)
    bare = [Exam(exam.asked.bare(), exam.seen and exam.seen.bare()) for exam in exams]
    found = each_apart(_tuned_and_asked, (given, bare), _announced(able, say))
    return Answers(*_sorted_out(able, found, obstacles))


def answers_of(fitted: Mapping[str, Fitted], exams: Sequence[Exam]) -> Answers:
    """Return what baselines answer that are fitted already; one that raises is named in `left_out`."""
    tallies, left_out = {}, []
    for name, one in fitted.items():
        found = called(_asked, one, exams)
        if isinstance(found, Fault):
            left_out.append(f"Left out: {name}: {found.why}")
        else:
            tallies[name] = found
    return Answers(tallies, tuple(left_out))


def fit_all(
    sequences: Sequences,
    n_items: int,
    *,
    features: Floats | None = None,
    exclude_seen: bool = False,
    say: Say | None = None,
) -> Beside:
    """Return every baseline that can be fitted, in this process; one that raises is named in `left_out`.

    Args:
        sequences: the training events.
        n_items: the length of a score row, row 0 included.
        features: float32[item, m], what is known of each item beside events, or None.
        exclude_seen: whether items of the history are left out of the lists.
        say: called with a line for each baseline before it is tuned.

    Cost: `tuned` for each.

    Example:
        >>> import numpy as np, polars as pl
        >>> log = Sequences(pl.Series(["ann"]), np.array([0, 3]), np.array([1, 2, 1], np.int32))
        >>> fit_all(log, 3).left_out[-1]
        'Left out: content-kNN: expected features of the items, came none. Give a catalogue with attributes.'
    """
    given = Learning(sequences, n_items, features, exclude_seen)
    able, obstacles = _able(given)
    found = (called(_tuned, given, kind) for kind in _announced(able, say))
    return Beside(*_sorted_out(able, found, obstacles))


def _able(given: Learning) -> tuple[list[type[Baseline]], dict[type[Baseline], str]]:
    """Return the baselines that can be fitted, and for the others why not."""
    telling = [kind for kind in BASELINES if not (kind.repeats and given.exclude_seen)]
    reasons = {kind: kind.obstacle(given.n_items, given.features) for kind in telling}
    obstacles = {kind: why for kind, why in reasons.items() if why is not None}
    return [kind for kind in telling if kind not in obstacles], obstacles


def _announced(kinds: Sequence[type[Baseline]], say: Say | None) -> Iterator[type[Baseline]]:
    for number, kind in enumerate(kinds, start=1):
        if say:
            say(f"Tuning baseline {number} of {len(kinds)}: {kind.title}.")
        yield kind


def _tuned(given: Learning, kind: type[Baseline]) -> tuple[str, Fitted]:
    found = tuned(kind, given.sequences, given.n_items, features=given.features, exclude_seen=given.exclude_seen)
    return found.name, found


def _tuned_and_asked(given: tuple[Learning, Sequence[Exam]], kind: type[Baseline]) -> tuple[str, list[Tally]]:
    name, fitted = _tuned(given[0], kind)
    return name, _asked(fitted, given[1])


def _asked(fitted: Fitted, exams: Sequence[Exam]) -> list[Tally]:
    def answers(exam: Exam) -> Tally:
        return tally(exam, lambda block: fitted.score([exam.asked.history(query) for query in block]))

    return [answers(exam) for exam in exams]


def _sorted_out(
    able: Sequence[type[Baseline]], found: Iterable[tuple[str, Found] | Fault], obstacles: dict[type[Baseline], str]
) -> tuple[dict[str, Found], tuple[str, ...]]:
    """Return what was found, by name, and a sentence for each baseline that is missing, in the order of a report."""
    named, reasons = {}, dict(obstacles)
    for kind, one in zip(able, found, strict=True):
        if isinstance(one, Fault):
            reasons[kind] = f"{kind.title}: {one.why}"
        else:
            named[one[0]] = one[1]
    return named, tuple(f"Left out: {reasons[kind]}" for kind in BASELINES if kind in reasons)
