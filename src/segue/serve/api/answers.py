"""What answers look like: each type is made by `serializers`, sent as it is, and described on the OpenAPI page.

Knows: names and types of fields. Does not know: where their values come from (`serializers`). A field that is `UNSET`
is left out.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from segue.serve.http.problems import Problem


class _Answer(Struct, kw_only=True):
    pass


class ItemOut(_Answer, kw_only=True):
    """One line of a list."""

    item: str
    score: float
    title: str | None
    probability: Annotated[
        float | UnsetType, Meta(description="Of the item at its place, given those before it; of a list by chance.")
    ] = UNSET


class _ListSource(_Answer, kw_only=True):
    """What a list is made of, and which settings made it."""

    source: Annotated[
        Literal["state", "profile", "new user"] | UnsetType,
        Meta(description="What the list is made of: the user's events, their profile alone, or neither."),
    ] = UNSET
    list_id: Annotated[str | UnsetType, Meta(description="Of the list, where one was sent or is needed.")] = UNSET
    scenario: Annotated[
        str | UnsetType, Meta(description="Whose settings hold; in an experiment those of the arm.")
    ] = UNSET
    scenario_version: Annotated[str | UnsetType, Meta(description="A digest of these settings.")] = UNSET
    arms: Annotated[
        dict[str, str] | UnsetType, Meta(description="The user's arm in each experiment that made the list.")
    ] = UNSET


class ItemList(_ListSource, kw_only=True):
    """A list, best first."""

    items: list[ItemOut]
    unknown: Annotated[list[str], Meta(description="Ids of the request that the model does not know.")]
    model: Annotated[str, Meta(description="The fingerprint of what answered.")]
    count: Annotated[int | UnsetType, Meta(description="Events of the user in the state that answered.")] = UNSET
    rebuilding: Annotated[bool | UnsetType, Meta(description="The state lacks events; it is being rebuilt.")] = UNSET
    debug: dict[str, Any] | UnsetType = UNSET
    notes: Annotated[
        list[str] | UnsetType, Meta(description="Why the list is short, and what of the filter no item has.")
    ] = UNSET
    next: Annotated[str | UnsetType, Meta(description="`after` of the next page, if `after` was sent.")] = UNSET
    token: Annotated[str | UnsetType, Meta(description="The state after it, for a client that holds its own.")] = UNSET


class BatchListOut(_Answer):
    """The list of one request, or why there is none."""

    items: ItemList | UnsetType = field(default=UNSET, name="list")
    error: Problem | UnsetType = UNSET


class BatchOut(_Answer):
    """What came of each request, in their order."""

    lists: list[BatchListOut]


class StepOut(_Answer):
    """One step of the scale of ratings."""

    rating: float
    share: float


class RatingOut(_Answer):
    """What a user would think of an item, in the scale of the log."""

    item: str
    rating: float
    deviation: Annotated[float, Meta(description="The standard deviation.")]
    shares: Annotated[list[StepOut], Meta(description="How likely each step is; empty where the scale has no steps.")]
    known: Annotated[bool, Meta(description="Whether the model knows the item.")]
    model: str
    count: int
    rebuilding: bool


class EventOut(_Answer):
    """An event as it is kept."""

    seq: int
    user: str
    item: str
    title: str | UnsetType = UNSET
    time: float | UnsetType = UNSET
    id: str | UnsetType = UNSET
    rating: float | UnsetType = UNSET
    type: str | UnsetType = UNSET
    context: dict[str, Any] | UnsetType = UNSET


class Ingested(_ListSource, kw_only=True):
    """It is on disk. With `?recommend=k` the fields of a list stand beside these."""

    events: list[EventOut]
    duplicates: Annotated[int, Meta(description="How many had been sent before, under the same ids.")]
    items: list[ItemOut] | UnsetType = UNSET
    unknown: list[str] | UnsetType = UNSET
    model: str | UnsetType = UNSET
    count: int | UnsetType = UNSET
    rebuilding: bool | UnsetType = UNSET
    debug: dict[str, Any] | UnsetType = UNSET
    notes: list[str] | UnsetType = UNSET


class EventLineOut(_Answer):
    """What came of one event of NDJSON: it is on disk, or why not."""

    seq: int | UnsetType = UNSET
    duplicate: Annotated[bool | UnsetType, Meta(description="Whether it had been sent before, under its id.")] = UNSET
    error: Problem | UnsetType = UNSET


class UserOut(_Answer):
    """What is known of a user."""

    user: Annotated[str, Meta(description="The name that events are kept under.")]
    events: Annotated[list[EventOut], Meta(description="A page, latest first.")]
    count: Annotated[int, Meta(description="Events in all.")]
    model: str
    state_bytes: int
    rebuilding: bool
    picture: Annotated[list[float], Meta(description="At most 256 numbers from -1 to 1: the state, for the eye.")]
    next: Annotated[str | None, Meta(description="`before` of the page after this one.")]


class LearntFrom(_Answer):
    """A model that may have learnt from what was erased."""

    model: str
    trained_on: str | None
    range: Annotated[list[str] | None, Meta(description="The first and the last time of its training.")]


class ErasureReceipt(_Answer):
    """What was erased, what is blocked from now on, and what an erasure cannot reach."""

    erased: Annotated[str, Meta(description='"user" or "event".')]
    events: Annotated[int, Meta(description="How many this request erased.")]
    already: Annotated[bool, Meta(description="All was erased before.")]
    models: list[LearntFrom]
    blocked: str
    remains: str
    advice: str


class BlockOut(_Answer):
    """Whether the id of a user is blocked."""

    user: str
    blocked: bool


class MergeResult(_Answer):
    """The user that stays, and how many events they have."""

    user: str
    count: int


class PartOut(_Answer):
    """What one event did for the score of an item."""

    event: EventOut
    change: Annotated[float, Meta(description="The score less that without the event; above 0 it spoke for the item.")]
    shared: Annotated[list[str], Meta(description="Attributes that both items have.")]


class ExplanationOut(ItemOut, kw_only=True):
    """Why an item has its score, the strongest event first."""

    labels: list[str]
    parts: list[PartOut]
    what_if: ItemList | UnsetType = UNSET


class FoundItem(_Answer):
    """An item with what the catalogue says of it."""

    item: str
    title: str | None
    attributes: Annotated[dict[str, Any], Meta(description="By the names that filters use; without vectors.")]
    shown: Annotated[bool, Meta(description="Whether lists may show it: it is in stock, and no rule blocks it.")]


class FacetValue(_Answer):
    """A value of an attribute, and how many of the items found have it."""

    value: str
    items: int


class FacetOut(_Answer):
    """An attribute by which items can be narrowed down."""

    name: Annotated[str, Meta(description="As filters name it.")]
    kind: Annotated[str, Meta(description="number, date, duration (seconds), word, or words: several for an item.")]
    values: Annotated[list[FacetValue], Meta(description="The most frequent ones, up to 30; empty with a range.")]
    range: Annotated[
        list[float] | UnsetType, Meta(description="The lowest and the highest number; dates in seconds since 1970.")
    ] = UNSET


class ItemsFound(_Answer):
    """Items, the best match first."""

    items: list[FoundItem]
    total: Annotated[int, Meta(description="How many were found in all.")]
    unknown: Annotated[list[str], Meta(description="Ids of the request that the model does not know.")]
    model: str
    facets: list[FacetOut] | UnsetType = UNSET


class ItemsAdded(_Answer):
    """How many items are new, and how many there are."""

    added: int
    items: int


class ItemChanged(_Answer):
    """What was changed of an item."""

    item: str
    available: bool | None
    attributes: dict[str, Any]


class RulesSet(_Answer):
    """How many rules hold."""

    rules: int


class ScenarioOut(_Answer):
    """A scenario as it was set."""

    version: Annotated[str, Meta(description="A digest of the settings.")]
    valid: Annotated[bool, Meta(description="Whether it holds now.")]
    settings: dict[str, Any]


class ExperimentOut(_Answer):
    """An experiment as it was set."""

    scenario: Annotated[str, Meta(description="Whose users are split; empty in an experiment between models.")]
    arms: Annotated[dict[str, str], Meta(description="Arm -> scenario, or -> running or shadow.")]
    shares: dict[str, float]
    valid: bool
    settings: Annotated[dict[str, Any], Meta(description="What was set.")]


class ScenariosOut(_Answer):
    """All scenarios and experiments of a shop."""

    scenarios: dict[str, ScenarioOut]
    experiments: dict[str, ExperimentOut]


class RuleOut(_Answer):
    """A merchandising rule."""

    kind: str
    where: str | dict[str, Any]
    items: list[str]
    by: float
    name: str
    reach: Annotated[int, Meta(description="How many items of the running model the rule is about.")]


class RulesOut(_Answer):
    """All rules, in the order in which they are applied."""

    rules: list[RuleOut]


class RulesPreview(_Answer):
    """The list of a user by the rules that hold, and by others."""

    rules: Annotated[list[RuleOut], Meta(description="The others.")]
    before: ItemList
    after: ItemList


class ModelFile(_Answer):
    """A model that may be rolled out."""

    name: str
    bytes: int
    modified: Annotated[float, Meta(description="Seconds since 1970.")]
    running: Annotated[bool, Meta(description="Whether it answers, or is being rolled out.")]


class ModelsOut(_Answer):
    """The models in the folder of models."""

    models: Annotated[list[ModelFile], Meta(description="The newest first; none without --models.")]
    running: Annotated[str | None, Meta(description="The file of the model that answers, if it came from one.")]
    previous: Annotated[str | None, Meta(description="The fingerprint to which `roll_back` goes, if there is one.")]


class ActiveUserOut(_Answer):
    """A user with events."""

    user: str
    active: Annotated[int, Meta(description="The number (seq) of the latest event.")]


class UsersOut(_Answer):
    """Users with events, the latest arrival first."""

    users: list[ActiveUserOut]
    next: Annotated[int | None, Meta(description="`before` of the next page.")]


class ModelChanged(_Answer):
    """What answers, or will when everybody is caught up."""

    model: str
    rolling_out_to: str | None


class ReadinessOut(_Answer):
    """Whether what is ingested now would survive a loss of power."""

    ready: bool
    reason: str


class TrendsOut(_Answer):
    """Where the counts of what everybody does stand."""

    half_life: Annotated[float, Meta(description="The shortest half-life, in seconds.")]
    events: Annotated[int, Meta(description="Events counted since the start.")]
    caught_up: Annotated[bool, Meta(description="Whether the log has been read to its end since the start.")]
    behind: Annotated[float, Meta(description="Seconds since the log was read to its end.")]
    items: int
    pairs: int
    bytes: int


class StatusOut(_Answer):
    """Where the server stands."""

    model: str
    rolling_out_to: str | None
    caught_up: Annotated[float, Meta(description="The share of the users whose states are there.")]
    ready: ReadinessOut
    items: int
    unavailable: int
    lists: str
    types: Annotated[list[str], Meta(description="The types of events that the model learnt, the most frequent first.")]
    ratings: Annotated[list[float], Meta(description="The steps of the scale of ratings, where the model learnt some.")]
    trends: Annotated[TrendsOut | None, Meta(description="What everybody does, where lists of the model follow it.")]


class MeansOut(_Answer):
    """Online metrics of a group of events."""

    n: int
    recall: float = field(name="recall@10")
    mrr: float = field(name="mrr@10")
    log_loss: float
    recall_interval: Annotated[
        list[float], Meta(description="95 % confidence interval, events taken as independent.")
    ] = field(name="recall@10_interval")
    mrr_interval: list[float] = field(name="mrr@10_interval")


class HourMeans(MeansOut):
    """Online metrics of one hour."""

    begin: Annotated[int, Meta(description="Of the hour, seconds since 1970.")]


class ShadowMetricsOut(_Answer):
    """The model that runs and the one in the shadow, on the same events."""

    running: MeansOut
    shadow: MeansOut


class IntervalOut(_Answer):
    """A mean, and its 95 % confidence interval; null where there are too few users for one."""

    mean: float
    low: float | None
    high: float | None


class DifferenceOut(_Answer):
    """The means of an arm less those of the first arm."""

    recall: IntervalOut | None = field(name="recall@10")
    mrr: IntervalOut | None = field(name="mrr@10")
    log_loss: IntervalOut | None
    taken: IntervalOut | None


class ArmOut(DifferenceOut):
    """What came of an arm; a measure is null where nothing was measured."""

    n: Annotated[int, Meta(description="Events of the users of the arm.")]
    lists: Annotated[int, Meta(description="Lists that they got; `taken` is the share that they took an item of.")]
    difference: DifferenceOut | UnsetType = UNSET


class OnlineMetricsOut(_Answer):
    """Whether each event was in the list that its user would have been shown just before it, by group."""

    sampled: Annotated[bool, Meta(description="The log-loss is an estimate.")]
    series: Annotated[list[HourMeans], Meta(description="By the time of events: up to 168 hours, oldest first.")]
    all: dict[str, MeansOut] | UnsetType = UNSET
    model: dict[str, MeansOut] | UnsetType = UNSET
    hour: dict[str, MeansOut] | UnsetType = UNSET
    type: dict[str, MeansOut] | UnsetType = UNSET
    shadow_model: str | UnsetType = UNSET
    shadow: ShadowMetricsOut | UnsetType = UNSET
    experiments: Annotated[
        dict[str, dict[str, ArmOut]], Meta(description="By experiment and arm, since this server started.")
    ] = {}


class HealthOut(_Answer):
    """The process answers."""

    status: str
