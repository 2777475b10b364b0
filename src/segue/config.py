"""Settings: frozen, checked when made; `derive` replaces each None by a value that suits the training data."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from segue.errors import ConfigError, nearest

CellName = Literal["linear", "gru", "lstm", "simple_rnn", "keras"]
Size = Literal["small", "base", "large"]
Repeats = Literal["allow", "exclude"]
Task = Literal["next", "rating", "both"]
Precision = Literal["float32", "bfloat16"]
#: What a part of a network does with a vector before reading it: true gives all vectors one length
#: (RMSNorm), "clip" shortens long ones alone, false takes them as they are.
Norm = bool | Literal["clip"]

_STRICT = ConfigDict(extra="forbid")
PositiveInt = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


@checked(frozen=True, config=_STRICT)
class ModelConfig:
    """The network.

    Args:
        size: "small" trains in a third of the time, "base" suits most logs, "large" may learn more
            of a long log.
        cell: the recurrence: "linear" trains fastest, "gru", "lstm" and "simple_rnn" are the
            classic ones; "keras" stands for the cell that was given to `segue.train(cell=...)`.
        activation: of `simple_rnn`; other cells have their own.
        width: numbers in an item vector and in the state of a block. None derives it; a larger one
            is slower and fits more.
        depth: number of blocks; each costs about the same time.
        dropout: share of numbers zeroed in training, against overfitting: raise it if the
            validation score falls while the loss still does. None derives it.
        time_features: whether the time between events is read. None reads it wherever the log has
            times.
        attributes: whether the columns of a catalogue are read, so that new items can be
            recommended.
        event_features: whether types, ratings and context of events are read where the log has
            them.
        text: what makes vectors of texts: auto, words, wordllama, or the folder of a
            sentence-transformers model.
        session_gap: seconds without an event after which a new session begins and the state of the
            first block is emptied, so that this block follows the session and the others the user.
            "auto" finds the gap in the log; None never empties it.
        transitions: whether transition counts are blended into the scores where validation gains by
            them.
        trends: whether lists follow what everybody does after the training: "auto" where the log
            shows that this helps, "on" always, "off" never. A log that drifts is trained twice.
    """

    size: Size = "base"
    cell: CellName = "linear"
    activation: Literal["tanh", "relu", "leaky_relu"] = "tanh"
    width: PositiveInt | None = None
    depth: PositiveInt = 2
    dropout: Rate | None = None
    time_features: bool | None = None
    attributes: bool = True
    event_features: bool = True
    text: str = "auto"
    session_gap: Positive | Literal["auto"] | None = None
    transitions: bool = True
    trends: Literal["auto", "on", "off"] = "auto"


@checked(frozen=True, config=_STRICT)
class TrainConfig:
    """How the network learns.

    Args:
        seed: where all random numbers begin. The same seed gives the same result on the same
            machine.
        epochs: times the log is read, at most. None derives it.
        minutes: time budget of the whole training, from reading the tables to tuning the blend. The
            learning-rate schedule ends with the budget. Compiling cannot be interrupted and may
            overrun a small budget; the last line says so. A resumed run counts the time of its
            earlier updates.
        batch_size: users read side by side. None derives it.
        bptt_steps: events of each user in an update, through which the gradient flows back. Raise
            it if users depend on what lies further back; the state itself is always carried on.
        negatives: items drawn for each update to compare its targets with; 0 compares with the
            whole catalogue, which is exact and slow on a large one. None derives it.
        learning_rate: highest rate of the schedule. None derives it; lower it if the loss is not a
            number.
        weight_decay: of weight matrices, per update and unit of learning rate. Raise it against
            overfitting.
        clip: largest norm of the gradient. Lower it if the loss jumps.
        id_dropout: share of item ids that each update hides, so that the model learns to score new
            items from their attributes. Raise it where most items are new. Without a catalogue
            nothing is hidden.
        patience: epochs without a better validation score before training stops.
        refit: if true, the model learns all events but those that validation needs, and the
            transition counts learn these, too, once the blend is tuned. If false, nobody's last
            event is learnt, as in published comparisons.
        repeats: whether lists may hold seen items: "allow" or "exclude". None takes what the log
            shows.
        seen_as_negatives: whether the target is compared with seen items, too. None derives it.
        type_weights: how much events of a type count as targets, such as "buy:3,view:0.5"; other
            types count 1.
        task: what is predicted: "next" item, "rating", or "both" from one state. None derives it.
        rating_loss: "squared" predicts a mean, "ordinal" the probability of each step of the scale.
        rating_scale: "lowest:highest" of the ratings, such as "1:5"; empty takes what the log
            holds.
        precision: type of the factors of matrix products in training; sums and weights are float32.
            None takes the faster on this machine.
        items_without_events: whether lists may hold items of the catalogue that have no event yet,
            ranked by their attributes.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: PositiveInt | None = None
    minutes: Positive | None = None
    batch_size: PositiveInt | None = None
    bptt_steps: PositiveInt = 8
    negatives: Annotated[int, Field(ge=0)] | None = None
    learning_rate: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.01
    clip: Positive = 1.0
    id_dropout: Rate = 0.1
    patience: PositiveInt = 10
    refit: bool = True
    repeats: Repeats | None = None
    seen_as_negatives: bool | None = None
    type_weights: str = ""
    task: Task | None = None
    rating_loss: Literal["squared", "ordinal"] = "squared"
    rating_scale: str = ""
    precision: Precision | None = None
    items_without_events: bool = True

    def __post_init__(self) -> None:
        self.weight_of_type()

    @property
    def hides_seen(self) -> bool:
        """Whether seen items are left out of the comparison with a target."""
        return self.task != "rating" and self.seen_as_negatives is False

    def weight_of_type(self) -> dict[str, float]:
        """Return `type_weights` by type.

        Raises:
            ConfigError: the setting is no list of type:weight, names a type twice, or a weight is
                below 0.
        """
        parts = [part.rpartition(":") for part in self.type_weights.split(",") if part.strip()]
        try:
            weights = {name.strip(): float(weight) for name, _, weight in parts}
        except ValueError:
            weights = {}
        if len(weights) < len(parts) or "" in weights or any(not weight >= 0 for weight in weights.values()):
            raise ConfigError(
                f"config train.type_weights: expected type:weight,type:weight, each type once, with weights from 0, "
                f'came "{self.type_weights}". Write "buy:3,view:0.5".'
            )
        return weights


@checked(frozen=True, config=_STRICT)
class ExperimentConfig:
    """Settings for experiments alone: benchmarks vary them, and no log is known to need it.

    Args:
        expand: width of the feed-forward layer as a multiple of `model.width`.
        norm: what each part of a block, and the output, does with a vector first: true gives all
            vectors one length (RMSNorm), "clip" shortens long ones alone, false neither. None
            derives it.
        weight_average: decay of the running average of the weights; the model holds the average.
        item_dropout: share of the events read whose item is replaced by *unknown*.
        gap_dropout: share of the gaps between events replaced by *unknown*.
        question_dropout: share of targets whose gap is *unknown*, and of those whose context is.
        event_feature_dropout: share of the events read whose type, rating and context are
            *unknown*.
        profile_dropout: share of users who begin without their profile.
    """

    expand: PositiveInt = 2
    norm: Norm | None = None
    weight_average: Rate = 0.998
    item_dropout: Rate = 0.01
    gap_dropout: Rate = 0.1
    question_dropout: Rate = 0.5
    event_feature_dropout: Rate = 0.1
    profile_dropout: Rate = 0.2


#: Earlier names of settings, refused with the new name; model files that hold them are read.
OLD_NAMES = {
    "model.clock": "model.time_features",
    "model.counts": "model.transitions",
    "model.details": "model.event_features",
    "model.expand": "experiment.expand",
    "model.norm": "experiment.norm",
    "train.average": "experiment.weight_average",
    "train.compare_had": "train.seen_as_negatives",
    "train.lanes": "train.batch_size",
    "train.passes": "train.epochs",
    "train.steps": "train.bptt_steps",
    "train.unknown_details": "experiment.event_feature_dropout",
    "train.unknown_gaps": "experiment.gap_dropout",
    "train.unknown_ids": "train.id_dropout",
    "train.unknown_items": "experiment.item_dropout",
    "train.unknown_profiles": "experiment.profile_dropout",
    "train.unknown_question": "experiment.question_dropout",
}


@checked(frozen=True, config=_STRICT)
class Config:
    """All settings, by part.

    Example:
        >>> Config().model.cell
        'linear'
        >>> configure({"train.seed": "3", "model.cell": "gru"}).train.seed
        3
        >>> configure({"train.learningrate": "3"})
        Traceback (most recent call last):
        ...
        segue.errors.ConfigError: config train.learningrate: no such setting. Did you mean train.learning_rate?
    """

    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    experiment: ExperimentConfig = ExperimentConfig()


def setting_names(config: Any = Config, prefix: str = "") -> list[str]:
    """Return every setting's path, such as `train.seed`."""
    names = []
    for field in fields(config):
        kind = field.type
        if isinstance(kind, type) and is_dataclass(kind):
            names += setting_names(kind, f"{prefix}{field.name}.")
        else:
            names.append(prefix + field.name)
    return names


def configure(settings: Mapping[str, Any] | None = None, *, base: Config | None = None) -> Config:
    """Return `base` with settings replaced by path; values may be text, as from a command line.

    Raises:
        ConfigError: a path is not a setting (the message names the new name or the nearest), or a
            value does not fit.
    """
    base = base or Config()
    known = setting_names()
    parts: dict[str, dict[str, Any]] = {}
    for path, value in (settings or {}).items():
        if path in OLD_NAMES:
            raise ConfigError(f"config {path}: this setting is now {OLD_NAMES[path]}.")
        if path not in known:
            raise ConfigError(f"config {path[:100]}: no such setting. Did you mean {nearest(path, known, cutoff=0.0)}?")
        part, name = path.split(".")
        parts.setdefault(part, {})[name] = value
    for part, values in parts.items():
        base = replace(base, **{part: _checked(part, getattr(base, part), values)})
    return base


def asked_of(config: Config) -> dict[str, Any]:
    """Return by path the settings that are not the defaults: `configure(asked_of(c)) == c`.

    Example:
        >>> asked_of(configure({"train.seed": 3, "model.cell": "linear"}))
        {'train.seed': 3}
    """
    plain, changed = Config(), {}
    for path in setting_names():
        part, name = path.split(".")
        value = getattr(getattr(config, part), name)
        if value != getattr(getattr(plain, part), name):
            changed[path] = value
    return changed


def _checked(part: str, old: Any, values: dict[str, Any]) -> Any:
    merged = {field.name: getattr(old, field.name) for field in fields(old)} | values
    try:
        return TypeAdapter(type(old)).validate_python(merged)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            raise cause from None
        where = ".".join([part, *(str(place) for place in first["loc"][:1])])
        raise ConfigError(
            f"config {where}: {first['msg'][0].lower()}{first['msg'][1:]}, came {repr(first['input'])[:100]}. "
            "Give a value of that kind, or leave the setting out."
        ) from None


#: Bytes of a file of settings, at most.
_LONGEST = 1 << 20


def read_config(path: Path | str) -> dict[str, Any]:
    """Return the settings of a TOML file by path, such as `{"train.seed": 3}`.

    Raises:
        ConfigError: the file is missing, cannot be read, is too long, or is not TOML.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ConfigError(f"{path}: expected a TOML file with settings, came more than {_LONGEST:,} bytes.")
        parts = tomllib.loads(text.decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: expected a TOML file with settings, found no such file.") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a TOML file with settings, cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{path}: not TOML: {said[:200]}. Write it as [train] and then seed = 3.") from None
    return by_path(parts)


def by_path(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by path.

    Example:
        >>> by_path({"train": {"seed": 3}, "width": 8})
        {'train.seed': 3, 'width': 8}
    """
    settings: dict[str, Any] = {}
    for part, values in parts.items():
        settings |= (
            {f"{part}.{name}": value for name, value in values.items()} if isinstance(values, dict) else {part: values}
        )
    return settings


def parse_settings(texts: Iterable[str], *, option: str = "--set", example: str = "train.seed=3") -> dict[str, str]:
    """Return `{"train.seed": "3"}` from `["train.seed=3"]`.

    Raises:
        ConfigError: a text has no equals sign.
    """
    settings = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{option} {text}: expected name=value, such as {example}.")
        settings[path.strip()] = value.strip()
    return settings


#: Width and dropout for logs from so many events.
WIDTHS = ((5_000_000, 128, 0.2), (300_000, 256, 0.3), (0, 64, 0.4))
#: A sparse log has at least so many events, and fewer than so many an item; its width and dropout.
SPARSE_EVENTS, SPARSE, SPARSE_WIDTH = 50_000, 25, (256, 0.5)


@dataclass(frozen=True)
class DataSize:
    """What `derive` needs to know of the training data."""

    events: int
    users: int
    items: int
    has_times: bool
    share_of_repeats: float
    session_gap: float | None = None
    rated: bool = False
    fast_bfloat16: bool = False


def derive(config: Config, data: DataSize) -> Config:
    """Return the settings with every None replaced by a value that suits the data.

    The evidence is in docs/decisions.

    - `batch_size`: the power of two next to sqrt(events) / 8, from 8 to 128. Many small updates
      learn several times faster than few large ones; below 8, gradients are noisy and the machine
      idles.
    - `negatives`: all items up to 20,000, and at a width of 256 up to 10,000. Above that the
      softmax over all items would take most of an update, so 2,048 drawn items stand for them.
    - `epochs`: about 10,000 updates in all, from 4 to 40 epochs.
    - `width` and `dropout`, by events. Below 300,000 events 64 and .4, since wider networks
      overfit; but 256 and .5 for a sparse log, with at least 50,000 events and fewer than 25 an
      item. Up to 5 million events 256 and .3, the best on validation of ml-1m; a million events
      take about a quarter of an hour on two cores. Above that 128 and .2, so that the same hour
      reads more of the log. "small" halves a width above 64, in a third of the time; "large"
      doubles the width, with a dropout of .1 more.
    - `norm`: "clip" keeps short vectors short, which stand for little knowledge; ml-1m, ml-100k and
      Beauty rank better with it. For ratings alone RMSNorm predicts better.
    - `session_gap`: "auto" takes the gap that best separates short gaps from long ones.
    - `task`: both where the log has ratings, else the next item.
    - For ratings alone the network reads no time features, makes about 1,500 updates, and has a
      higher dropout, since it would overfit the past.
    - `learning_rate`: .004, and .002 for ratings alone.
    - `precision`: bfloat16 where the processor multiplies it at twice the rate.
    - `repeats`: "exclude" where fewer than 2 % of the events repeat an item of the same user.
    - `seen_as_negatives`: false where lists exclude seen items, since the network need not learn to
      rank these low; but true for a sparse log, where transition counts add more to a network
      trained so.
    """
    model, train, norm = config.model, config.train, config.experiment.norm
    task = train.task or ("both" if data.rated else "next")
    width, dropout = next((w, d) for least, w, d in WIDTHS if data.events >= least)
    sparse = SPARSE_EVENTS <= data.events < min(WIDTHS[1][0], SPARSE * data.items)
    if task != "rating" and sparse:
        width, dropout = SPARSE_WIDTH
    if model.size == "small":
        width, dropout = max(64, width // 2), dropout - 0.1 * (width > 64)
    elif model.size == "large":
        width, dropout = 2 * width, dropout + 0.1
    if task == "rating":
        width, dropout = min(width, 128), dropout + 0.1 * (width <= 128)
    batch_size = train.batch_size or min(max(1 << round(max(data.events, 1) ** 0.5 / 8).bit_length(), 8), 128)
    updates = max(1, data.events // (batch_size * train.bptt_steps))
    width = model.width or width
    full = data.items * max(width, 128) / 128
    seen = train.seen_as_negatives
    repeats: Repeats = train.repeats or ("exclude" if data.share_of_repeats < 0.02 else "allow")
    return Config(
        model=replace(
            model,
            width=width,
            dropout=round(dropout, 2) if model.dropout is None else model.dropout,
            time_features=data.has_times and (task != "rating" if model.time_features is None else model.time_features),
            session_gap=data.session_gap if model.session_gap == "auto" else model.session_gap,
        ),
        train=replace(
            train,
            task=task,
            learning_rate=train.learning_rate or (2e-3 if task == "rating" else 4e-3),
            precision=train.precision or ("bfloat16" if data.fast_bfloat16 else "float32"),
            batch_size=batch_size,
            negatives=(2048 if full > 20_000 else 0) if train.negatives is None else train.negatives,
            epochs=train.epochs or min(max(round((1_500 if task == "rating" else 10_000) / updates), 4), 40),
            repeats=repeats,
            seen_as_negatives=repeats == "allow" or sparse if seen is None else seen,
        ),
        experiment=replace(config.experiment, norm=(task == "rating" or "clip") if norm is None else norm),
    )
