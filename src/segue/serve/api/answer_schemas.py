"""What answers look like: the source of the OpenAPI page for what comes back, as `schema` is for what is sent.

Knows: names and types of fields. Does not know: how an answer is made (`replies`).
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ItemOut(BaseModel):
    """One line of a list."""

    item: str
    score: float
    title: str | None = None


class ItemList(BaseModel):
    """A list, best first."""

    items: list[ItemOut]
    unknown: list[str] = Field(description="Ids of the request that the model does not know.")
    model: str = Field(description="The fingerprint of what answered.")
    count: int | None = Field(None, description="Events of the user in the state that answered.")
    rebuilding: bool | None = Field(None, description="The state lacks events; it is being rebuilt.")
    debug: dict[str, Any] | None = None
    token: str | None = Field(None, description="The state after it, for a client that holds its own.")


class StepOut(BaseModel):
    """One step of the scale of ratings."""

    rating: float
    share: float


class RatingOut(BaseModel):
    """What a user would think of an item, in the scale of the log."""

    item: str
    rating: float
    deviation: float = Field(description="The standard deviation.")
    shares: list[StepOut] = Field(description="How likely each step is; empty where the scale has no steps.")
    known: bool = Field(description="Whether the model knows the item.")
    model: str
    count: int
    rebuilding: bool


class EventOut(BaseModel):
    """An event as it is kept."""

    seq: int
    user: str
    item: str
    title: str | None = None
    time: float | None = None
    id: str | None = None
    rating: float | None = None
    type: str | None = None
    context: dict[str, Any] | None = None


class IngestResult(BaseModel):
    """It is on disk. With `?recommend=k` the fields of a list stand beside these."""

    events: list[EventOut]
    duplicates: int = Field(description="How many had been sent before, under the same ids.")
    items: list[ItemOut] | None = None
    unknown: list[str] | None = None
    model: str | None = None
    count: int | None = None
    rebuilding: bool | None = None
    debug: dict[str, Any] | None = None


class UserOut(BaseModel):
    """What is known of a user."""

    user: str = Field(description="The name that events are kept under.")
    events: list[EventOut] = Field(description="A page, latest first.")
    count: int = Field(description="Events in all.")
    model: str
    state_bytes: int
    rebuilding: bool
    picture: list[float] = Field(description="At most 256 numbers from -1 to 1: the state, for the eye.")
    next: str | None = Field(description="`before` of the page after this one.")


class LearntFrom(BaseModel):
    """A model that may have learnt from what was erased."""

    model: str
    trained_on: str | None
    range: list[str] | None = Field(description="The first and the last time of its training.")


class ErasureReceipt(BaseModel):
    """What was erased, what is blocked from now on, and what an erasure cannot reach."""

    erased: str = Field(description='"user" or "event".')
    events: int = Field(description="How many this request erased.")
    already: bool = Field(description="All was erased before.")
    models: list[LearntFrom]
    blocked: str
    remains: str
    advice: str


class BlockOut(BaseModel):
    """Whether the id of a user is blocked."""

    user: str
    blocked: bool


class MergeResult(BaseModel):
    """The user that stays, and how many events they have."""

    user: str
    count: int


class PartOut(BaseModel):
    """What one event did for the score of an item."""

    event: EventOut
    change: float = Field(description="The score less that without the event; above 0 it spoke for the item.")
    shared: list[str] = Field(description="Attributes that both items have.")


class ExplanationOut(ItemOut):
    """Why an item has its score, the strongest event first."""

    labels: list[str]
    parts: list[PartOut]
    what_if: ItemList | None = None


class ItemsAdded(BaseModel):
    """How many items are new, and how many there are."""

    added: int
    items: int


class ItemChanged(BaseModel):
    """What was changed of an item."""

    item: str
    available: bool | None
    attributes: dict[str, Any]


class RulesSet(BaseModel):
    """How many rules hold."""

    rules: int


class ModelChanged(BaseModel):
    """What answers, or will when everybody is caught up."""

    model: str
    swapping_to: str | None


class ReadinessOut(BaseModel):
    """Whether what is ingested now would survive a loss of power."""

    ready: bool
    reason: str


class StatusOut(BaseModel):
    """Where the server stands."""

    model: str
    swapping_to: str | None
    caught_up: float = Field(description="The share of the users whose states are there.")
    ready: ReadinessOut
    items: int
    unavailable: int
    lists: str
    ratings: list[float] = Field(description="The steps of the scale of ratings, where the model learnt some.")


class MeansOut(BaseModel):
    """Online metrics of a group of events."""

    n: int
    recall: float = Field(alias="recall@10")
    mrr: float = Field(alias="mrr@10")
    log_loss: float


class TrialOut(BaseModel):
    """The model that runs and the one in the shadow, on the same events."""

    running: MeansOut
    shadow: MeansOut


class OnlineMetrics(BaseModel):
    """Whether each event was in the list that its user would have been shown just before it, by group."""

    sampled: bool = Field(description="The log-loss is an estimate.")
    all: dict[str, MeansOut] | None = None
    model: dict[str, MeansOut] | None = None
    hour: dict[str, MeansOut] | None = None
    type: dict[str, MeansOut] | None = None
    shadow_model: str | None = None
    shadow: TrialOut | None = None


class HealthOut(BaseModel):
    """The process answers."""

    status: str


class PlaceOut(BaseModel):
    """What is wrong at one place of a request."""

    where: str
    what: str


class ProblemOut(BaseModel):
    """A problem document (RFC 9457): what was expected, what came, what to do."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[PlaceOut] | None = Field(None, description="Of a request that is not valid: each place.")
