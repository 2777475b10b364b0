"""What requests may say: each type reads a request, checks it and is its description on the OpenAPI page.

Knows: names, types, bounds, examples. Does not know: what is done with them.

Nothing is converted: an id is a text, and `17` is not one. Names that are not known are refused, so that a
misspelt one is not lost without a word.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from segue.config import Repeats
from segue.data.values.times import EARLIEST, LATEST, microseconds
from segue.recommend.filters.parser import duration_of
from segue.recommend.lists.impressions import Fatigue
from segue.recommend.lists.seen import SeenRule
from segue.serve.http import limits

Example = dict[str, Any]


class Time:
    """A time: `micros` since 1970.

    Example:
        >>> Time.read(1.5).micros, Time.read("1970-01-01T00:01:00Z").micros, Time.read("60").micros
        (1500000, 60000000, 60000000)
    """

    __slots__ = ("micros",)

    def __init__(self, micros: int) -> None:
        self.micros = micros

    #: Seconds from year 1 to year 9999.
    schema: ClassVar[Example] = {
        "anyOf": [
            {"type": "number", "minimum": EARLIEST // 1_000_000, "maximum": LATEST // 1_000_000},
            {"type": "string", "format": "date-time"},
        ],
        "description": "Seconds since 1970, or ISO 8601; without a zone it is UTC.",
        "examples": [1_700_000_000],
    }

    @classmethod
    def read(cls, value: Any) -> "Time":
        """Return the time that seconds or ISO 8601 say; no zone means UTC.

        Raises:
            ValueError: it says none.
        """
        try:
            return cls(microseconds(value, "") or 0)
        except ValueError as error:
            raise ValueError(str(error).removeprefix(": ").removesuffix(".")) from None


def micros(time: Time | None) -> int | None:
    """Return the microseconds of a time, if there is one."""
    return None if time is None else time.micros


#: Kept as it is sent; blanks alone are no id.
Id = Annotated[str, Meta(min_length=1, max_length=limits.ID, pattern=r"\S")]
Scalar = str | bool | int | float
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Fields = Annotated[dict[Name, Any], Meta(max_length=limits.FIELDS)]
Values = Annotated[list[Scalar], Meta(max_length=limits.VALUES)]
Attributes = Annotated[dict[Name, Scalar | Values | None], Meta(max_length=limits.FIELDS)]
Where = (
    Annotated[str, Meta(max_length=limits.FILTER, description='A filter, such as `genre = "Comedy" and price < 20`.')]
    | Annotated[
        dict[Name, Scalar | Values],
        Meta(max_length=limits.WHERE, description="Attribute -> value, or values of which one must hold."),
    ]
)
Wheres = Annotated[
    list[str], Meta(max_length=limits.WHERE, description="attribute:value, or a filter; all of several must hold.")
]
Candidates = Annotated[list[Id], Meta(max_length=limits.CANDIDATES, description="Ids of which alone the list is made.")]
Ids = Annotated[list[Id], Meta(max_length=limits.EXCLUDE)]
Count = Annotated[int, Meta(ge=1, le=limits.K)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: A whole number stays one, so that the digest of an event is that of what was sent.
Rating = Annotated[int, Meta(ge=-(10**9), le=10**9)] | Annotated[float, Meta(ge=-1e9, le=1e9)]
Seed = Annotated[int, Meta(ge=0, le=1 << 53)]
Temperature = Annotated[float, Meta(ge=0, le=1000, description="Above 0 each place is drawn by chance.")]
Boost = Annotated[float, Meta(ge=-1000, le=1000, description="Of a boost.")]
Duration = Annotated[Name, Meta(description="Such as 30d or 12h.")]
#: In a path it is percent-encoded, the slash too.
PathId = Annotated[str, Meta(min_length=1, max_length=limits.ID)]
Text = Annotated[str, Meta(min_length=1, max_length=limits.ID)]
Texts = Annotated[list[Text], Meta(max_length=limits.VALUES)]
Moment = Annotated[Time | None, Meta(description="The time of the request; now, if it is left out.")]


class _Body(Struct, kw_only=True, forbid_unknown_fields=True):
    """What all requests have in common; `examples` stand on the OpenAPI page."""

    examples: ClassVar[tuple[Example, ...]] = ()


# --- events ---------------------------------------------------------------------------------------------------


class HistoryEvent(_Body):
    """One thing that was done, by whom it does not matter."""

    item: Id
    time: Time | None = None
    rating: Rating | None = None
    type: Name | None = None
    context: Annotated[Fields, Meta(description="What else is known of it, such as the device.")] = {}


class EventIn(HistoryEvent, kw_only=True):
    """One thing a user did."""

    examples = ({"user": "u1", "item": "17", "id": "order-4711"},)

    user: Id
    id: Annotated[Id | None, Meta(description="Makes a retry harmless. Without it every sending is an event.")] = None


class EventBatch(_Body):
    """Several events: all of them are kept, or none."""

    examples = ({"events": [{"user": "u1", "item": "17"}]},)

    events: Annotated[list[EventIn], Meta(min_length=1, max_length=limits.EVENTS)]


class IngestQuery(_Body):
    """What `POST /v1/events` takes in its address and headers."""

    recommend: Annotated[Count | None, Meta(description="How many to recommend to the last event's user.")] = None
    scenario: Annotated[Name | None, Meta(description="Named settings of that list, its length too.")] = None


class IngestHeaders(_Body, rename="kebab"):
    """Headers of `POST /v1/events`."""

    idempotency_key: Annotated[Text | None, Meta(description="Stands for the id of a single event.")] = None


# --- lists ----------------------------------------------------------------------------------------------------


class SeenRuleIn(_Body):
    """Events whose items are left out: of a type, in some time before the request, or both."""

    type: Name | None = None
    within: Duration | None = None

    def __post_init__(self) -> None:
        if self.type is None and self.within is None:
            raise ValueError("expected type, within, or both")
        self.rule()

    def rule(self) -> SeenRule:
        """Return the rule."""
        return SeenRule(self.type, None if self.within is None else duration_of(self.within, "within"))


class BoostIn(_Body):
    """What is added to the scores of some items, in this list alone; `where` may read what the request knows."""

    by: Boost
    where: Where | None = None
    items: Ids = []
    name: Annotated[str, Meta(max_length=128)] = ""


class ImpressionsIn(_Body):
    """How the user tires of items that were shown in vain."""

    discount: Annotated[float, Meta(ge=0, le=100, description="What each showing takes off a score.")] = 0.5
    half_life: Annotated[Duration, Meta(description="Until a showing takes off half of that.")] = "1d"

    def __post_init__(self) -> None:
        self.fatigue()

    def fatigue(self) -> Fatigue:
        """Return it in microseconds."""
        half_life = int(duration_of(self.half_life, "half_life").total_seconds() * 1e6)
        if half_life <= 0:
            raise ValueError("half_life: expected more than 0 seconds")
        return Fatigue(self.discount, half_life)


class ListIn(_Body):
    """What list is wanted."""

    k: Count = 10
    at: Moment = None
    type: Annotated[Name | None, Meta(description="Of the event to come, such as buy; any, if it is left out.")] = None
    context: Fields = {}
    exclude: Ids = []
    repeats: Annotated[Repeats | None, Meta(description="Whether seen items may be shown.")] = None
    where: Where | None = None
    diversity: Annotated[Share, Meta(description="Up to 1, the more unlike the items are.")] = 0.0
    explore: Annotated[Share, Meta(description="The share of places given to chance.")] = 0.0
    temperature: Temperature = 0.0
    seed: Annotated[
        Seed | None,
        Meta(
            description="Of that chance: the same seed draws the same for a user. Without it each list or event draws."
        ),
    ] = None
    boosts: Annotated[list[BoostIn], Meta(max_length=20)] = []
    debug: Annotated[bool, Meta(description="Say how each item came to its place.")] = False
    candidates: Candidates | None = None
    current: Annotated[Id | None, Meta(description="The item being looked at: `current.name` in the filter.")] = None
    params: Annotated[Fields, Meta(description="What the filter calls `$name`.")] = {}
    profile: Annotated[
        Fields,
        Meta(description="What the filter calls `user.name`; of a history or a new token also read by the model."),
    ] = {}


class SettingsIn(ListIn):
    """What list is wanted of a user."""

    exclude_events: Annotated[
        list[SeenRuleIn],
        Meta(max_length=20, description="Leave out the items of these events of the user, in place of all seen items."),
    ] = []
    impressions: Annotated[
        bool | ImpressionsIn,
        Meta(description="Note the list, and take off the scores of items what the user was shown in vain."),
    ] = False
    after: Annotated[
        Annotated[str, Meta(max_length=limits.TOKEN)] | None,
        Meta(description="`next` of the list before: its items and those before it are left out; empty for the first."),
    ] = None

    def __post_init__(self) -> None:
        if self.temperature and (self.explore or self.diversity):
            raise ValueError("expected temperature without explore and diversity")


class RecommendIn(SettingsIn):
    """For whom, and what list. Exactly one of `user`, `history` and `token` says for whom."""

    examples = (
        {"user": "u1", "k": 5, "where": {"genres": "Drama"}},
        {"user": "u1", "where": 'genres = "Drama" and year > $since', "params": {"since": 1990}},
        {"history": ["17", {"item": "42", "rating": 5}]},
        {"token": "new", "event": {"item": "17"}},
        {"user": "u1", "scenario": "home"},
    )

    user: Id | None = None
    history: Annotated[
        Annotated[list[Id | HistoryEvent], Meta(max_length=limits.EVENTS)] | None,
        Meta(description="Ids or events, oldest first; nothing of it is kept."),
    ] = None
    token: Annotated[
        Annotated[str, Meta(min_length=1, max_length=limits.TOKEN)] | None,
        Meta(description='From the last answer, or "new".'),
    ] = None
    event: Annotated[HistoryEvent | None, Meta(description="With a token: what was done since.")] = None
    scenario: Annotated[
        Name | None, Meta(description="Named settings, for all that the request itself leaves out.")
    ] = None
    list_id: Annotated[
        Id | None,
        Meta(description="Of the list: sent again, the request gets the same list, which is noted once."),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(one is not None for one in (self.user, self.history, self.token)) != 1:
            raise ValueError("expected exactly one of user, history and token")
        if self.exclude_events and self.token is not None:
            raise ValueError("expected exclude_events with user or history only; a token does not know its events")
        if self.event is not None and self.token is None:
            raise ValueError("expected event with a token only; send others with POST /v1/events")
        filtered = self.where is not None or self.boosts or self.scenario is not None
        if self.profile and not filtered and self.history is None and self.token != "new":
            raise ValueError("expected profile with a history, a new token, or a filter that reads it")


class BatchIn(_Body):
    """Lists for many."""

    examples = ({"requests": [{"user": "u1"}, {"user": "u2", "k": 3, "where": {"genres": "Drama"}}]},)

    requests: Annotated[list[RecommendIn], Meta(min_length=1, max_length=limits.LISTS)]


class RecommendQuery(_Body):
    """What `GET /v1/recommend` takes in its address."""

    user: Text | None = None
    history: Annotated[Texts, Meta(description="Ids of items, oldest first.")] = []
    scenario: Annotated[Name | None, Meta(description="Named settings, for all that the address leaves out.")] = None
    list_id: Text | None = None
    k: Count = 10
    at: Moment = None
    type: Name | None = None
    where: Wheres = []
    exclude: Annotated[Texts, Meta(description="Ids of items to leave out.")] = []
    current: Annotated[Text | None, Meta(description="The item being looked at: `current.name` in the filter.")] = None
    repeats: Repeats | None = None
    exclude_events: Annotated[Texts, Meta(description="type=buy, within=30d, or both: type=view,within=30d.")] = []
    diversity: Share = 0.0
    explore: Share = 0.0
    temperature: Temperature = 0.0
    seed: Seed | None = None
    impressions: bool = False
    debug: bool = False


class SimilarQuery(_Body):
    """What `GET /v1/similar/{item}` takes in its address."""

    k: Count = 10
    mix: Annotated[Share, Meta(description="0: what people do next; 1: what items are.")] = 0.5
    where: Wheres = []
    user: Annotated[Text | None, Meta(description="Of whom the most similar items get the order.")] = None


class RatingQuery(_Body):
    """What `GET /v1/ratings` takes in its address."""

    user: Text
    item: Text
    at: Moment = None


class ExplainIn(ListIn, kw_only=True):
    """Why an item is in the list of a user."""

    examples = ({"user": "u1", "item": "42", "last": 10},)

    user: Id
    item: Annotated[Id | None, Meta(description="The first of the list, if it is left out.")] = None
    last: Annotated[int, Meta(ge=1, le=limits.LAST, description="Events that are looked at.")] = 20
    without: Annotated[
        list[int],
        Meta(
            max_length=limits.LAST,
            description="Numbers (seq) of some of the last 1,000 events: also show the list had they not been.",
        ),
    ] = []


# --- users ----------------------------------------------------------------------------------------------------


class UserQuery(_Body):
    """What `GET /v1/users/{user}` takes in its address."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="Events in a page, latest first.")] = 100
    before: Annotated[Annotated[str, Meta(max_length=64)] | None, Meta(description="`next` of the page before.")] = None


class UsersQuery(_Body):
    """What `GET /v1/admin/users` takes in its address."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    before: Annotated[Annotated[int, Meta(ge=1, le=1 << 62)] | None, Meta(description="`next` of the page before.")] = (
        None
    )


class Merge(_Body):
    """Where the events of the user in the path go."""

    examples = ({"into": "u1"},)

    into: Id


# --- items and models -----------------------------------------------------------------------------------------


class ItemsQuery(_Body):
    """What `GET /v1/items` takes in its address."""

    q: Annotated[str, Meta(max_length=200, description="Words of the title, or of the id.")] = ""
    where: Wheres = []
    id: Annotated[Texts, Meta(description="Ids of items, instead of a search.")] = []
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    skip: Annotated[int, Meta(ge=0, le=1_000_000, description="Items before the first that is returned.")] = 0
    facets: Annotated[bool, Meta(description="Also return the attributes by which the items can be narrowed down.")] = (
        False
    )


class AddItemsIn(_Body):
    """Items that become known by what they are."""

    examples = ({"items": [{"item": "9001", "title": "A new film"}]},)

    items: Annotated[
        list[Attributes],
        Meta(min_length=1, max_length=limits.EVENTS, description="Each with `item` (its id) and attributes."),
    ]

    def __post_init__(self) -> None:
        for line in self.items:
            id = line.get("item")
            if not isinstance(id, str) or not id.strip() or len(id) > limits.ID:
                raise ValueError("expected each item with its id, a text, under the name item")


class ItemChange(_Body):
    """What changed of an item."""

    examples = ({"available": False},)

    available: bool | None = None
    attributes: Attributes = {}

    def __post_init__(self) -> None:
        if self.available is None and not self.attributes:
            raise ValueError("expected available or attributes")


class ModelChange(_Body):
    """Which model is to answer: exactly one of the two."""

    examples = ({"model": "films-2.segue"},)

    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None,
        Meta(description="The name of a file in the folder given with --models, never a path."),
    ] = None
    roll_back: Annotated[
        Annotated[bool, Meta(extra_json_schema={"const": True})] | None,
        Meta(description="Back to the model before, once: sent again it does nothing more. Forward is by name."),
    ] = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.roll_back is None) or self.roll_back is False:
            raise ValueError("expected exactly one of model, a name, and roll_back, true")


class RuleIn(_Body):
    """A merchandising rule: pin, block or boost; see `segue.recommend.lists.item_filters.Rule`."""

    kind: Literal["pin", "block", "boost"]
    where: Where | None = None
    items: Ids = []
    by: Boost = 0.0
    name: Annotated[str, Meta(max_length=128, description="As shown with debug.")] = ""


class Rules(_Body):
    """All rules, in the order in which they are applied."""

    examples = ({"rules": [{"kind": "block", "items": ["17"]}]},)

    rules: Annotated[list[RuleIn], Meta(max_length=100)]


# --- scenarios ------------------------------------------------------------------------------------------------


class ScenarioIn(SettingsIn):
    """Named settings of lists: what a request may say, but for whom and when, and when the settings hold."""

    valid_from: Annotated[Time | None, Meta(description="Before it there is no such scenario.")] = None
    valid_until: Annotated[Time | None, Meta(description="From then on there is none.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at is not None or self.current is not None or self.profile or self.after:
            raise ValueError("expected no at, current, profile, or after but an empty text: these are of a request")


class ExperimentIn(_Body):
    """A split of the users of a scenario, or of all between two models; others are compared with the first arm."""

    scenario: Name | None = None
    arms: Annotated[dict[Name, Name], Meta(max_length=20, description="Arm -> scenario.")] = {}
    models: Annotated[
        dict[Name, Name], Meta(max_length=20, description='Arm -> which model answers, "running" or "shadow".')
    ] = {}
    shares: Annotated[dict[Name, Share], Meta(description="Of the users, by arm; even, if they are left out.")] = {}
    valid_from: Time | None = None
    valid_until: Time | None = None

    def __post_init__(self) -> None:
        if bool(self.models) == bool(self.scenario and self.arms) or (self.models and (self.scenario or self.arms)):
            raise ValueError("expected either scenario and arms, or models")
        if other := set(self.models.values()) - {"running", "shadow"}:
            raise ValueError(f'models: expected running or shadow of each arm, came "{min(other)}"')


class ScenariosIn(_Body):
    """All scenarios and experiments of a shop."""

    examples = (
        {
            "scenarios": {"home": {"k": 10, "where": {"genres": "Drama"}}, "home-wide": {"k": 10, "diversity": 0.3}},
            "experiments": {"wide": {"scenario": "home", "arms": {"now": "home", "wide": "home-wide"}}},
        },
    )

    scenarios: Annotated[dict[Name, ScenarioIn], Meta(max_length=limits.SCENARIOS)]
    experiments: Annotated[dict[Name, ExperimentIn], Meta(max_length=20)] = {}


class PreviewIn(Rules, kw_only=True):
    """For whom other rules are tried."""

    examples = ({"user": "u1", "rules": [{"kind": "block", "items": ["17"]}]},)

    user: Id
    k: Count = 10
