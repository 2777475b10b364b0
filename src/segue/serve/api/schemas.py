"""What requests may say, with examples: the source of the OpenAPI page.

Knows: names, types, bounds. Does not know: what is done with them.

Nothing is converted: an id is a text, and `17` is not one. Names that are not known are refused, so that a
misspelt one is not lost without a word.
"""

from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
    model_validator,
)

from segue.data.values.times import EARLIEST, LATEST, microseconds
from segue.serve.http import limits

#: Seconds from year 1 to year 9999.
_FIRST, _LAST = EARLIEST // 1_000_000, LATEST // 1_000_000


def to_microseconds(time: float | int | str) -> int:
    """Return microseconds since 1970 from seconds or ISO 8601 (no zone means UTC).

    Raises:
        ValueError: it is neither.

    Example:
        >>> to_microseconds(1.5), to_microseconds("1970-01-01T00:01:00Z"), to_microseconds("60")
        (1500000, 60000000, 60000000)
    """
    found = microseconds(time)
    if found is None:
        raise ValueError("time: expected seconds since 1970 or ISO 8601, came null. Leave it out if unknown.")
    return found


def _from_path(text: str) -> str:
    plain = unquote(text, errors="strict")
    if not 0 < len(plain) <= limits.ID:
        raise ValueError(f"expected 1 to {limits.ID} characters")
    return plain


_TIMES = {
    "anyOf": [{"type": "number", "minimum": _FIRST, "maximum": _LAST}, {"type": "string", "format": "date-time"}],
    "description": "Seconds since 1970, or ISO 8601; without a zone it is UTC.",
    "examples": [1_700_000_000],
}
#: Microseconds, from what `to_microseconds` reads.
Time = Annotated[int, BeforeValidator(to_microseconds), WithJsonSchema(_TIMES)]
#: Kept as it is sent; blanks alone are no id.
Id = Annotated[StrictStr, Field(min_length=1, max_length=limits.ID, pattern=r"\S")]
#: An id in a path: percent-encoded, the slash too.
PathId = Annotated[str, AfterValidator(_from_path)]
Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
Name = Annotated[StrictStr, Field(min_length=1, max_length=128)]
Fields = Annotated[dict[Name, Any], Field(max_length=limits.FIELDS)]
Values = Annotated[list[Scalar], Field(max_length=limits.VALUES)]
Where = Annotated[
    dict[Name, Scalar | Values],
    Field(max_length=limits.WHERE, description="Attribute -> value, or values of which one must hold."),
]
Count = Annotated[StrictInt, Field(ge=1, le=limits.K)]
Share = Annotated[StrictInt | StrictFloat, Field(ge=0, le=1)]
Repeats = Literal["allow", "exclude"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class HistoryEvent(_Body):
    """One thing that was done, by whom it does not matter."""

    item: Id
    time: Time | None = None
    rating: Annotated[StrictInt | StrictFloat, Field(ge=-1e9, le=1e9)] | None = None
    type: Name | None = None
    context: Fields = Field(default_factory=dict, description="What else is known of it, such as the device.")


class EventIn(HistoryEvent):
    """One thing a user did."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "u1", "item": "17", "id": "order-4711"}]})

    user: Id
    id: Id | None = Field(None, description="Makes a retry harmless. Without it every sending is an event.")


class EventBatch(_Body):
    """Several events: all of them are kept, or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [{"user": "u1", "item": "17"}]}]})

    events: Annotated[list[EventIn], Field(min_length=1, max_length=limits.EVENTS)]


def _kind(body: Any) -> str:
    return "many" if isinstance(body, dict) and "events" in body else "one"


Events = Annotated[Annotated[EventIn, Tag("one")] | Annotated[EventBatch, Tag("many")], Discriminator(_kind)]


class QuestionIn(_Body):
    """What list is wanted."""

    k: Count = 10
    at: Time | None = Field(None, description="The time of the question; now, if it is left out.")
    type: Name | None = Field(None, description="Of the event to come, such as buy; any, if it is left out.")
    context: Fields = Field(default_factory=dict)
    exclude: Annotated[list[Id], Field(max_length=limits.EXCLUDE)] = Field(default_factory=list)
    repeats: Repeats | None = Field(None, description="Whether what the user had may be shown.")
    where: Where = Field(default_factory=dict)
    diversity: Share = Field(0.0, description="Up to 1, the more unlike the items are.")
    explore: Share = Field(0.0, description="The share of places given to chance.")
    seed: Annotated[StrictInt, Field(ge=0, le=1 << 53)] | None = Field(
        None,
        description="Of that chance: the same draws the same for a user. Without it each event draws anew.",
    )
    debug: StrictBool = Field(False, description="Say how each item came to its place.")


class RecommendIn(QuestionIn):
    """Who asks, and what for. Exactly one of `user`, `history` and `token` says who."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user": "u1", "k": 5, "where": {"genres": "Drama"}},
                {"history": ["17", {"item": "42", "rating": 5}]},
                {"token": "new", "event": {"item": "17"}},
            ]
        }
    )

    user: Id | None = None
    history: Annotated[list[Id | HistoryEvent], Field(max_length=limits.EVENTS)] | None = Field(
        None, description="Ids or events, oldest first; nothing of it is kept."
    )
    token: Annotated[StrictStr, Field(min_length=1, max_length=limits.TOKEN)] | None = Field(
        None, description='From the last answer, or "new".'
    )
    event: HistoryEvent | None = Field(None, description="With a token: what was done since.")
    profile: Fields = Field(default_factory=dict, description="Of whom the history or the new token is.")

    @model_validator(mode="after")
    def _one_asks(self) -> "RecommendIn":
        if sum(one is not None for one in (self.user, self.history, self.token)) != 1:
            raise ValueError("expected exactly one of user, history and token")
        if self.event is not None and self.token is None:
            raise ValueError("expected event with a token only; tell others with POST /v1/events")
        if self.profile and self.history is None and self.token != "new":
            raise ValueError("expected profile with a history or a new token only")
        return self


class ExplainIn(QuestionIn):
    """Why an item is in the list of a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "u1", "item": "42", "last": 10}]})

    user: Id
    item: Id | None = Field(None, description="The first of the list, if it is left out.")
    last: Annotated[StrictInt, Field(ge=1, le=limits.LAST)] = Field(20, description="Events that are looked at.")
    without: Annotated[list[StrictInt], Field(max_length=limits.LAST)] = Field(
        default_factory=list,
        description="Numbers (seq) of some of the last 1,000 events: also show the list had they not been.",
    )


class NewItems(_Body):
    """Items that become known by what they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [{"item": "9001", "title": "A new film"}]}]})

    items: Annotated[
        list[Annotated[dict[Name, Scalar | Values | None], Field(max_length=limits.FIELDS)]],
        Field(min_length=1, max_length=limits.EVENTS, description="Each with `item` (its id) and attributes."),
    ]

    @model_validator(mode="after")
    def _ids_are_there(self) -> "NewItems":
        for line in self.items:
            id = line.get("item")
            if not isinstance(id, str) or not id.strip() or len(id) > limits.ID:
                raise ValueError("expected each item with its id, a text, under the name item")
        return self


class ItemChange(_Body):
    """What changed of an item."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"available": False}]})

    available: StrictBool | None = None
    attributes: Annotated[dict[Name, Scalar | Values | None], Field(max_length=limits.FIELDS)] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _says_something(self) -> "ItemChange":
        if self.available is None and not self.attributes:
            raise ValueError("expected available or attributes")
        return self


class Merge(_Body):
    """Where the events of the user in the path go."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"into": "u1"}]})

    into: Id


class ModelChange(_Body):
    """Which model is to answer: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "films-2.segue"}]})

    model: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = Field(
        None, description="The name of a file in the folder given with --models, never a path."
    )
    roll_back: Literal[True] | None = Field(
        None, description="Back to the model before, once: sent again it does nothing more. Forward is by name."
    )

    @model_validator(mode="after")
    def _one_is_said(self) -> "ModelChange":
        if (self.model is None) == (self.roll_back is None):
            raise ValueError("expected exactly one of model and roll_back")
        return self


class RuleIn(_Body):
    """What the shop wants of a list; see `segue.serve.ranking.item_filters.Rule`."""

    kind: Literal["pin", "block", "boost"]
    where: Where = Field(default_factory=dict)
    items: Annotated[list[Id], Field(max_length=limits.EXCLUDE)] = Field(default_factory=list)
    by: Annotated[StrictInt | StrictFloat, Field(ge=-1000, le=1000)] = Field(0.0, description="Of a boost.")
    name: Annotated[StrictStr, Field(max_length=128)] = Field("", description="As shown with debug.")


class Rules(_Body):
    """All rules, in the order in which they are applied."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rules": [{"kind": "block", "items": ["17"]}]}]})

    rules: Annotated[list[RuleIn], Field(max_length=100)]


def body_names(body: type[BaseModel] = _Body) -> set[str]:
    """Return the names that a body and all its kinds know.

    Example:
        >>> {"exclude", "item"} <= body_names()
        True
    """
    return set(body.model_fields).union(*(body_names(kind) for kind in body.__subclasses__()))
