"""The functions that most users need: train, load, convert."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.config import Config, DataSize, asked_of, configure, derive
from segue.data.features.catalogue import Catalogue, Profiles, in_order_of, read_items, read_profiles, unmatched
from segue.data.features.feature_encoders import FeatureEncoders, attributes_of, encode_log, fit_feature_encoders
from segue.data.log.events import Events, as_events
from segue.data.log.rating_columns import inspect_ratings, ratings_of
from segue.data.log.rating_scale import scale_of
from segue.data.log.sources import Reading
from segue.data.log.split import digest, split_by_time
from segue.data.sequences.sequences import Sequences, encode, gaps, item_vocabulary, natural_gap
from segue.data.sequences.type_weights import check_types, check_weights_count
from segue.data.sequences.vocabulary import Vocabulary
from segue.data.values.ids import check_matched
from segue.errors import ArgumentError, ConfigError, DataError, SegueError
from segue.interop.keras_cell import KerasCell
from segue.model.cells import CELLS, SimpleRNN
from segue.model.transitions import TransitionCounts
from segue.model_file import build_network, with_fingerprint
from segue.recommend.arguments import profiles_of
from segue.recommend.new_items import with_catalogue
from segue.recommend.recommender import Recommender, load_model

if TYPE_CHECKING:
    from segue.training.budget import Budget
    from segue.training.trainer import Progress, Trained
    from segue.training.validation import Answers, Validation

#: Users of the sample for the share of repeats.
SAMPLED_USERS = 20_000
#: Events from which on a log is looked at for drift; the last part of it, and events of it at most, from which trends
#: are learnt; events before it, at most, that the model learns which reads it on, and its epochs; the share of a time
#: budget for all this, and the seconds without which it is left out.
DRIFTING, LATER, LATEST, EARLIER, EPOCHS, TRENDS, TRENDS_LEAST = 5_000, 0.1, 100_000, 2_000_000, 3, 0.3, 5.0


def train(
    events: Events,
    *,
    catalogue: object = None,
    users: object = None,
    kinds: Mapping[str, str] | None = None,
    config: Config | Mapping[str, Any] | None = None,
    cell: KerasCell | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    report: "Callable[[Progress], None] | None" = None,
    say: Callable[[str], None] | None = None,
    facts: Mapping[str, Any] | None = None,
    workers: int | None = None,
    address: str | None = None,
) -> Recommender:
    """Train a recurrent network on a log and return it, ready to recommend.

    The last event of each user is validation: training stops when their ranks no longer improve, and the averaged
    weights of the best epoch are returned.

    Args:
        events: the log.
        catalogue: a path or table with titles and attributes by item; None for ids alone. Lists also hold items without
            events, ranked by their attributes (`train.items_without_events`).
        users: a path or table with profiles by user; None for ids alone.
        kinds: column -> kind (`segue.data.features.kinds.KINDS`) where a guess is wrong; "ignored" drops a column.
        config: settings, or paths and values such as `{"model.cell": "gru", "train.minutes": 5}`.
        cell: a Keras cell in place of `model.cell`; its units are the width.
        checkpoint: a file that holds the run until it ends.
        resume: continue from the checkpoint if there is one.
        report: called every few updates with the progress.
        say: called with lines to show: derived settings, columns, the memory that training needs.
        facts: stored in the model beside those of the training.
        workers: processes that train together, on Ray; None trains in this process. The checkpoint is then a folder.
        address: of a Ray cluster, or "auto" for the cluster of this machine; None starts Ray here.

    Raises:
        ArgumentError: `events` is a path or table; `read_events` comes first. Ray is missing, or does not answer.
        ConfigError: `train.type_weights` names a type that the log does not have, or leaves no targets.
        DataError: there are too few events to learn from.
        TrainingError: the run does not fit into memory, or the loss is not a number.

    Cost: about 6 operations for each weight and target (`segue.training.cost`).
    """
    from segue.kernels import build
    from segue.training.budget import Budget

    settings = config if isinstance(config, Config) else configure(config)
    budget = Budget(60.0 * settings.train.minutes if settings.train.minutes else None)
    from segue.training.cost import check_memory, describe, training_line
    from segue.training.distributed.place import RunPlace, run, workers_of
    from segue.training.jit_cache import keep_compiled  # these import JAX, which takes of the budget
    from segue.training.moving_biases import best_biases, better_head
    from segue.training.rating_tables import rating_tables
    from segue.training.validation import Validation, validation_users

    place = RunPlace(workers_of(workers, address), checkpoint, resume, report, say := say or (lambda text: None))
    vocabulary = item_vocabulary(as_events(events, "train"))
    lines, source, known, profiles = _tables(events, vocabulary, catalogue, users)
    noted: dict[str, Any] = {"asked": asked_of(settings), "kinds": dict(kinds or {})}
    settings = settings if cell is None else _with_cell(settings, cell)
    check_types(events, weights := settings.train.weight_of_type())
    encoders = _with_scale(_encoders(events, known, profiles, settings, kinds, say), events, settings, say)
    budget.add("reading", budget.spent())
    sequences = encode_log(events, vocabulary, encoders, profiles, weight_of_type=weights)
    held_out = validation_users(sequences, settings.train.seed)
    learnt = without_last(sequences, held_out if settings.train.refit else None)
    _check_enough(events, sequences, vocabulary.size - 1)
    repeated, rated = share_of_repeats(sequences), encoders.scale is not None
    settings = derive(settings, data_size(learnt, vocabulary.size, share_of_repeats=repeated, rated=rated))
    check_weights_count(learnt.weights, weights, events.source, task=settings.train.task)
    longest = float(np.nan_to_num(gaps(learnt)).max(initial=1.0))
    attributes = attributes_of(known, encoders)
    network = build_network(settings, items=vocabulary.size, longest_gap=longest, encoders=encoders, cell=cell)
    if workers is None:
        check_memory(network, settings, len(sequences.items))
    noted["training"] = describe(network, settings, len(learnt.items))
    validation = Validation(sequences.select(held_out), exclude_seen=settings.train.repeats == "exclude")
    ratings: Any = rating_tables(learnt, vocabulary.size, encoders.scale) if encoders.scale else ()
    for line in (training_line(settings, len(learnt.items)), str(validation), build.compiling()):
        say(line)
    keep_compiled()
    budget.add("encoding", budget.spent() - budget.parts["reading"])
    budget.kept = _kept_back(settings, learnt, validation, vocabulary.size, budget)
    span = [int(sequences.times.min()), int(sequences.times.max())] if sequences.times is not None else None
    del sequences  # training can use the memory
    drift = _drifting(events, settings, budget, say)
    trained, answers = run(network, settings, learnt, validation, (attributes, ratings, budget), place)
    params = trained.params if attributes is None else network.with_attributes(trained.params, attributes)
    noted = _noted(events, learnt, span, trained) | noted | dict(facts or {})
    if encoders.scale is not None:
        answer = better_head(network, params, best_biases(learnt, encoders.scale, vocabulary.size), validation)
        say(str(answer))
        params, noted = answer.params, noted | {"ratings": str(answer)}
    counts, tuned = _blended(settings, learnt, answers, vocabulary, events, budget, say)
    noted |= tuned
    rec = Recommender(network, params, vocabulary, settings, known, noted, "", encoders, vocabulary.size, counts=counts)
    rec = rec if drift is None else _trends(drift, rec, catalogue, users, kinds, cell, budget, say)
    with budget.measured("the rest"):
        rec = with_fingerprint(rec if lines is None else _with_all_items(rec, lines, source, answers, say))
    if budget.seconds is not None:
        say(str(budget))
    return rec


class _Drifting(NamedTuple):
    """A log that drifts, cut in two, and the shortest half-life of its trends in microseconds."""

    early: Events
    later: Events
    shortest: int


def _drifting(events: Events, settings: Config, budget: "Budget", say: Callable[[str], None]) -> _Drifting | None:
    """Return the log cut in two where it drifts, or where trends are wanted; None where lists need no trends."""
    from segue.evaluation.trend_questions import drift_of

    wanted = settings.model.trends
    if wanted == "off" or settings.train.task == "rating" or not events.has_times:
        if wanted == "on":
            raise ConfigError(
                f"config model.trends: expected a log with times and a task that ranks items, came {events.source} "
                "without. Leave model.trends out."
            )
        return None
    if (wanted == "auto" and len(events) < DRIFTING) or events.table["time"].n_unique() < 2:
        return None
    early, later = split_by_time(events, test=min(LATER, LATEST / len(events)))
    if not len(later) or not len(early):
        return None
    early = early.with_table(early.table.tail(EARLIER)) if len(early) > EARLIER else early
    drift = drift_of(early, later, exclude_seen=settings.train.repeats == "exclude")
    if wanted == "auto" and not drift.found:
        return None
    say(
        f"The log drifts: counts that read on have NDCG@10 {drift.online:.4f} on the last {len(later):,} events, "
        f"frozen ones {drift.frozen:.4f}. A second model of the earlier events learns how lists follow the trends."
    )
    budget.kept += TRENDS * (budget.seconds or 0.0)
    return _Drifting(early, later, drift.shortest)


def _trends(
    drift: _Drifting,
    rec: Recommender,
    catalogue: object,
    users: object,
    kinds: Mapping[str, str] | None,
    cell: KerasCell | None,
    budget: "Budget",
    say: Callable[[str], None],
) -> Recommender:
    """Return a recommender with the ranker of trends that a model of the earlier events learnt from the later ones."""
    from segue.evaluation.trend_questions import trend_questions
    from segue.training.trend_fit import fit_ranker

    if budget.left() < TRENDS_LEAST:
        say("No time is left to learn the trends: lists follow the user's own events alone. Raise train.minutes.")
        return rec
    seconds = None if budget.seconds is None else 0.6 * budget.left()
    model, short = replace(rec.config.model, trends="off"), min(EPOCHS, rec.config.train.epochs or EPOCHS)
    asked = replace(rec.config.train, epochs=short, minutes=None if seconds is None else seconds / 60)
    with budget.measured("learning the trends"):
        try:
            earlier = train(
                drift.early, catalogue=catalogue, users=users, kinds=kinds, cell=cell,
                config=replace(rec.config, model=model, train=asked),
            )  # fmt: skip
        except SegueError as error:  # such as a weight of a type that came later
            say(f"Lists do not follow the trends, for no model of the earlier events can be trained: {error}")
            return rec
        profiles = profiles_of(rec.facts, users, drift.later)
        questions = trend_questions(earlier, drift.early, drift.later, drift.shortest, profiles=profiles, say=say)
        always, seed = rec.config.model.trends == "on", rec.config.train.seed
        fit = fit_ranker(*questions[:4], drift.shortest, seed=seed, always=always)
    say(str(fit))
    return replace(rec, ranker=fit.ranker, facts=rec.facts | {"trends": str(fit)})


def _with_all_items(
    rec: Recommender, lines: pl.DataFrame, source: str, answers: "Answers | None", say: Callable[[str], None]
) -> Recommender:
    """Return a recommender that also knows the items of its catalogue without events, and say how many."""
    from segue.free_memory import memory_available

    more, said = with_catalogue(rec, lines, source, answers, room=memory_available())
    if said:
        say(said)
    added = len(more.vocabulary) - len(rec.vocabulary)
    return replace(more, facts=dict(rec.facts) | {"items_without_events": added})


def _blended(
    settings: Config,
    learnt: Sequences,
    answers: "Answers | None",
    vocabulary: Vocabulary,
    events: Events,
    budget: "Budget",
    say: Callable[[str], None],
) -> tuple[TransitionCounts | None, dict[str, Any]]:
    """Return the counts that are blended with the network, None where these gain nothing, and what a model keeps."""
    from segue.training.blend import recounted, tune_blend
    from segue.training.budget import BLEND, blend_seconds

    if not settings.model.transitions or answers is None:
        return None, {}
    least = blend_seconds(len(learnt.items), len(answers.targets), vocabulary.size, least=True)
    if budget.seconds is not None and least > max(budget.left() - budget.kept, 2.0, 0.1 * budget.seconds):
        say("No time is left to tune the blend with transition counts: the network answers alone.")
        return None, {}
    budget.kept = min(budget.parts["encoding"], BLEND * (budget.seconds or 0.0))
    say("Tuning the blend with transition counts on validation data.")
    with budget.measured("tuning the blend"):
        blend = tune_blend(learnt, answers, vocabulary.size, budget, say)
    say(str(blend))
    counts = blend.counts
    if settings.train.refit and counts is not None:
        with budget.measured("counting all"):
            counts = recounted(blend, encode(events, vocabulary), vocabulary.size)
    return counts, {"blend": str(blend), "blend_settings": blend.settings._asdict()}


class _Tables(NamedTuple):
    """All lines of the table of items with its name, the lines of items in the log, and the profiles; or None."""

    lines: pl.DataFrame | None
    source: str
    known: Catalogue | None
    profiles: Profiles | None


def _tables(events: Events, vocabulary: Vocabulary, catalogue: object, users: object) -> _Tables:
    """Return the tables of items and users, read with the id columns and missing words of the log."""
    kept = events.intake.reading
    reading, columns = Reading(missing=tuple(kept.get("missing", ()))), kept.get("columns", {})
    lines, source, known, profiles = None, "", None, None
    if catalogue is not None:
        lines, source, notes = read_items(catalogue, reading=reading, like=columns.get("item"))
        check_matched(lines["item"], vocabulary.ids, source=source, of_log=events.source, role="item")
        known = in_order_of(vocabulary, lines, source, notes)
    if users is not None:
        profiles = read_profiles(users, reading=reading, like=columns.get("user"))
        ids = profiles.table["user"]
        check_matched(ids, events.users, source=profiles.source, of_log=events.source, role="user")
    return _Tables(lines, source, known, profiles)


def _kept_back(settings: Config, learnt: Sequences, validation: "Validation", items: int, budget: "Budget") -> float:
    """Return the seconds of a budget that are reserved for the steps after training."""
    from segue.training.budget import BLEND, blend_seconds

    if budget.seconds is None or not (settings.model.transitions and settings.train.task != "rating"):
        return 0.0
    blend = blend_seconds(len(learnt.items), len(validation.sequences), items)
    least = min(BLEND / 3 * budget.seconds, 10.0)  # a machine may be slower than predicted
    return min(BLEND * budget.seconds, max(blend, least) + budget.parts["encoding"])


def data_size(learnt: Sequences, items: int, *, share_of_repeats: float = 0.0, rated: bool = False) -> DataSize:
    """Return the facts of a log and of this machine for `segue.config.derive`.

    Args:
        learnt: the log of the training.
        items: rows of the catalogue.
        share_of_repeats: see `share_of_repeats`; 0 where lists leave out seen items.
        rated: whether ratings are learnt.
    """
    from segue.kernels import build

    return DataSize(
        events=len(learnt.items),
        users=len(learnt),
        items=items,
        has_times=learnt.times is not None,
        share_of_repeats=share_of_repeats,
        session_gap=natural_gap(gaps(learnt)),
        rated=rated,
        fast_bfloat16=build.fast_bfloat16(),
    )


def _noted(events: Events, learnt: Sequences, span: list[int] | None, trained: "Trained") -> dict[str, Any]:
    """Return the facts of a training that a model stores."""
    return {
        "events": len(learnt.items),
        "users": len(learnt),
        "range": span,
        "digest": digest(events),
        "source": events.source,
        "reading": dict(events.intake.reading),
        "curve": [vars(row) for row in trained.curve],
        "best_epoch": trained.best + 1,
    }


def _encoders(
    events: Events,
    catalogue: Catalogue | None,
    profiles: Profiles | None,
    settings: Config,
    kinds: Mapping[str, str] | None,
    say: Callable[[str], None],
) -> FeatureEncoders:
    """Return the encoders of features beside ids, and say how each column is encoded."""
    model = settings.model
    encoders = fit_feature_encoders(events, catalogue, profiles, kinds=kinds, text=model.text)
    if not model.attributes:
        encoders = encoders._replace(items=None)
    if not model.event_features:
        encoders = encoders._replace(events=None, request_width=0)
    for role in ("items", "users", "events"):
        encoder = getattr(encoders, role)
        if encoder is not None:
            say(f"Features of {role}: {'; '.join(encoder.describe())}.")
    for note in [*_of_tables(events, catalogue, profiles), *_unreadable(encoders, events, catalogue, profiles)]:
        say(note)
    return encoders


def describe_tables(
    events: Events, catalogue: object = None, users: object = None, kinds: Mapping[str, str] | None = None
) -> list[str]:
    """Return what training would say about the tables of items and users: kinds, fit, unreadable values.

    Args:
        events: the log.
        catalogue, users, kinds: as for `train`.

    Raises:
        ColumnError: there is no column of ids, or an id stands twice.
        DataError: no id of a table is in the log.

    Cost: O(events + rows), and the encoding of texts.
    """
    lines: list[str] = []
    as_events(events, "describe_tables")
    _, _, known, profiles = _tables(events, item_vocabulary(events), catalogue, users)
    _encoders(events, known, profiles, configure(None), kinds, lines.append)
    return lines


def _of_tables(events: Events, catalogue: Catalogue | None, profiles: Profiles | None) -> list[str]:
    notes = list(catalogue.notes if catalogue else ())
    if profiles is not None:
        notes += [*profiles.notes, unmatched(profiles.table["user"], events.users, source=profiles.source, role="user")]
    return notes


def _unreadable(
    encoders: FeatureEncoders, events: Events, catalogue: Catalogue | None, profiles: Profiles | None
) -> Iterator[str]:
    """Give a sentence for each column in which some values cannot be read as the kind of the column."""
    if encoders.items is not None and catalogue is not None:
        yield from encoders.items.warnings(catalogue.table, "item")
    if encoders.users is not None and profiles is not None:
        yield from encoders.users.warnings(profiles.rows(events.users), "user")
    if encoders.events is not None:
        yield from encoders.events.warnings(events.table, "user")


def convert(rec: Recommender) -> Recommender:
    """Return a recommender with Segue's own cells in place of Keras cells; it gives the same scores.

    It runs without Keras and JAX. Its fingerprint differs, so states must be computed again (`rec.encode`).

    Raises:
        ArgumentError: its cell is no Keras cell, or no cell of Segue has its equation.

    Cost: a copy of the weights of the cells.
    """
    rec = rec.with_trends(None)
    cell = rec.network.cell
    if not isinstance(cell, KerasCell):
        raise ArgumentError(f"convert: expected a recommender with a cell of Keras, came {cell}: nothing to do.")
    converted = [cell.to_segue(block.cell) for block in rec.params.blocks]
    kind = converted[0][0]
    settings = {"model.cell": next(name for name, each in CELLS.items() if each is type(kind))}
    if isinstance(kind, SimpleRNN):
        settings["model.activation"] = kind.activation
    blocks = tuple(block._replace(cell=params) for block, (_, params) in zip(rec.params.blocks, converted, strict=True))
    params, network = rec.params._replace(blocks=blocks), replace(rec.network, cell=kind)
    config = configure(settings, base=rec.config)
    asked = rec.facts.get("asked", {}) | settings | {"model.width": rec.config.model.width}
    facts = dict(rec.facts) | {"asked": asked}
    return with_fingerprint(replace(rec, network=network, params=params, config=config, facts=facts))


def _with_scale(
    encoders: FeatureEncoders, events: Events, settings: Config, say: Callable[[str], None]
) -> FeatureEncoders:
    """Return the encoders with the scale of the ratings where these are learnt, and describe the scale."""
    ratings = inspect_ratings(events.table)
    if not (ratings.predicted if settings.train.task is None else settings.train.task != "next"):
        if ratings.text and settings.train.task is None:
            say(f"Ratings: {ratings.text}.")
        return encoders
    scale = scale_of(events, settings.train.rating_scale)
    values = ratings_of(events.table)
    missing = int(np.isnan(values).sum())
    beyond = int(np.count_nonzero(scale.clip(values) != values)) - missing
    steps = f"{len(scale.levels)} steps" if scale.has_steps else "any number between"
    without = f"; {missing:,} of {len(events):,} rows have none and are no targets" if missing else ""
    outside = f"; {beyond:,} lie far outside and count as the nearer end" if beyond else ""
    say(f"Ratings: {scale.lowest:g} to {scale.highest:g}, {steps}, mean {scale.mean:.4g}{outside}{without}.")
    return encoders._replace(scale=scale)


def load(path: str | Path) -> Recommender:
    """Return the recommender of a model file; see `segue.model_file.read_model`."""
    return load_model(path)


def _with_cell(config: Config, cell: KerasCell) -> Config:
    if not isinstance(cell, KerasCell):
        raise ArgumentError(
            f"train: expected cell as segue.interop.KerasCell, came {type(cell).__name__}. "
            "Write cell=KerasCell(...) around a Keras cell, or name a cell of Segue with model.cell."
        )
    return replace(config, model=replace(config.model, cell="keras", width=config.model.width or cell.width))


def without_last(sequences: Sequences, users: NDArray[np.int64] | None = None) -> Sequences:
    """Return the sequences without the last event of users, int64[n] or all, who have at least two events."""
    cut = sequences.lengths >= 2
    if users is not None:
        cut &= np.isin(np.arange(len(sequences)), users)
    keep = np.ones(len(sequences.items), bool)
    keep[sequences.offsets[1:][cut] - 1] = False
    return sequences.keep(keep)


def share_of_repeats(sequences: Sequences) -> float:
    """Return the share of last events whose item the user had seen before; with many users, an evenly spread sample."""
    sample = sequences.select(np.unique(np.linspace(0, len(sequences) - 1, SAMPLED_USERS).astype(np.int64)))
    able = sample.lengths >= 2
    last = np.zeros(len(sample.items), bool)
    last[sample.offsets[1:][able] - 1] = True
    users = np.repeat(np.arange(len(sample)), sample.lengths)
    pairs = users * (int(sample.items.max(initial=0)) + 1) + sample.items
    return float(np.isin(pairs[last], pairs[~last]).mean()) if able.any() else 0.0


def _check_enough(events: Events, sequences: Sequences, items: int) -> None:
    most = int(sequences.lengths.max(initial=0))
    if items < 2 or most < 2:
        raise DataError(
            f"{events.source}: expected at least two items and a user with two events, found "
            f"{items} item{'s' * (items != 1)} and {most} event{'s' * (most != 1)} of the busiest user. "
            "There is nothing to learn an order from: give a longer log."
        )
