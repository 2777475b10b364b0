"""The features of items, users and events: their encoders together, and a log encoded with them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.features.calendar import Calendar
from segue.data.features.catalogue import Catalogue, Profiles
from segue.data.features.column_encoders import Categories
from segue.data.features.kinds import KINDS, Kind, kinds_of
from segue.data.features.table_encoder import TableEncoder, fit_table_encoder
from segue.data.log.columns import ROLES, plain_name
from segue.data.log.events import Events
from segue.data.log.rating_columns import ratings_of
from segue.data.log.rating_scale import RATING_WIDTH, Scale
from segue.data.sequences.sequences import Sequences, encode, sequence_order
from segue.data.sequences.type_weights import weights_of
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError, ColumnError
from segue.shapes import Floats

#: Rows of a log encoded at a time.
_ROWS = 1 << 20


class FeatureEncoders(NamedTuple):
    """How items, users and events become numbers; None where there is nothing beside ids.

    The columns of `events` are the context, the time, the type and the rating, in this order. A
    request knows all but the rating: the first `request_width` numbers. Where ratings are
    predicted, the last numbers of an event are its rating on `scale`.
    """

    items: TableEncoder | None = None
    users: TableEncoder | None = None
    events: TableEncoder | None = None
    request_width: int = 0
    scale: Scale | None = None

    @property
    def event_width(self) -> int:
        """The numbers per event."""
        return (self.events.width if self.events else 0) + (RATING_WIDTH if self.scale else 0)

    @property
    def timed(self) -> tuple[int, int]:
        """The place of hour and weekday in an event: the first number, and the first after."""
        columns = self.events.columns if self.events else ()
        calendar = next((column.name for column in columns if isinstance(column, Calendar)), None)
        place = self.events.slices[calendar] if self.events and calendar is not None else slice(0, 0)
        return place.start, place.stop

    @property
    def event_types(self) -> tuple[str, ...]:
        """The types of events that were learnt, the most frequent first."""
        columns = self.events.columns if self.events else ()
        known = next((column for column in columns if column.name == "type"), None)
        return known.words if isinstance(known, Categories) else ()

    def of_events(self, events: Sequence[Mapping[str, Any]]) -> Floats | None:
        """Return float32[event, event_width], the features of events or requests.

        Args:
            events: by column: the context, `time` in microseconds, `type`, `rating`.

        Returns:
            None where events have no features.

        Cost: about two microseconds an event, and one microsecond a column.
        """
        if not self.event_width:
            return None
        out = np.zeros((len(events), self.event_width), np.float32)
        if self.events is not None:
            for line, values in zip(out, events, strict=True):
                self.events.add_row(values, line[: self.events.width])
        if self.scale is not None:
            ratings = [values.get("rating") for values in events]
            known = np.array([np.nan if rating is None else rating for rating in ratings], np.float32)
            out[:, out.shape[1] - RATING_WIDTH :] = self.scale.encode(known)
        return as_float16(out)

    def check_request(self, type: str | None = None, context: Mapping[str, object] | None = None) -> None:
        """Do nothing if the model reads all columns of a request; new values are no error.

        A server does not check this: its clients may know columns of an earlier or a later model.

        Raises:
            ArgumentError: the model does not read the type, or a column of the context.
        """
        if type is None and not context:
            return
        known = [] if self.events is None else self.events.slices
        read = [name for name in known if name not in ("rating", "time")]
        for name in [*(context or {}), *(["type"] if type is not None else [])]:
            if name not in read:
                option = "--type-col" if name == "type" else "--context-col"
                raise ArgumentError(
                    f'request: expected columns among {", ".join(read) or "none"}, came "{name}". '
                    f"Leave it out, or train on a log that has it ({option})."
                )


#: The encoders of a model that reads ids alone.
IDS_ALONE = FeatureEncoders()


def fit_feature_encoders(
    events: Events,
    catalogue: Catalogue | None = None,
    profiles: Profiles | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    text: str = "auto",
) -> FeatureEncoders:
    """Fit encoders to the features of a log's items, users and events.

    Args:
        events: the log to train on.
        catalogue: its items, those that have an event.
        profiles: its users; other users are left out here.
        kinds: column -> kind, where the guess is wrong; "ignored" leaves a column out. "time" is
            the hour and weekday of an event (`Calendar.fit`).
        text: the text encoder, see `segue.data.features.text.text_encoder`.

    Raises:
        ColumnError: a column of `kinds` is in no table, or a kind is unknown.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a", "a", "b", "b"], "item": list("xyxy"),
        ...                            "type": ["view", "buy", "buy", "view"], "device": ["tv", "tv", "pc", "pc"]}))
        >>> encoders = fit_feature_encoders(log)
        >>> encoders.events.describe(), encoders.request_width
        (['device: category, 2 values', 'type: category, 2 values'], 4)
    """
    tables: dict[str, pl.DataFrame | None] = {"items": None, "users": None, "events": None}
    if catalogue is not None:
        tables["items"] = catalogue.table.drop("item")
    if profiles is not None:
        tables["users"] = profiles.rows(events.users).drop("user")
    context = [name for name in events.table.columns if name not in ROLES]
    of_events = [name for name in (*context, "time", "type", "rating") if name in events.table.columns]
    tables["events"] = events.table.select(of_events)
    kinds = kinds or {}
    _check_kinds(kinds, tables)
    encoders = {
        role: None if table is None else _fit(table, kinds, text, timed=role == "events")
        for role, table in tables.items()
    }
    columns = encoders["events"].columns if encoders["events"] is not None else ()
    request_width = sum(column.width for column in columns if column.name != "rating")
    return FeatureEncoders(encoders["items"], encoders["users"], encoders["events"], request_width)


def _check_kinds(kinds: Mapping[str, str], tables: Mapping[str, pl.DataFrame | None]) -> None:
    columns = {role: table.columns for role, table in tables.items() if table is not None}
    known = [name for names in columns.values() for name in names]
    if kinds.get("time", "ignored") != "ignored" and known.count("time") == columns["events"].count("time") == 1:
        raise ColumnError(
            f"kind time={kinds['time']}: expected ignored, since the hour and weekday of events are read from it. "
            "Leave it out, or give the time under another name too."
        )
    for name, kind in kinds.items():
        if not any(name in (column, plain_name(column)) for column in known):
            raise ColumnError(
                f"kind {name}={kind}: expected a column of the items, users or events, "
                f"found {', '.join(known) or 'none'}. Name one of these."
            )
        if kind not in KINDS:
            raise ColumnError(f"kind {name}={kind}: expected one of {', '.join(KINDS)}. Name one of these.")


def _fit(table: pl.DataFrame, requested: Mapping[str, str], text: str, *, timed: bool) -> TableEncoder | None:
    by_user = {name: requested.get(name) or requested.get(plain_name(name)) for name in table.columns}
    times = [name for name in table.columns if timed and name == "time"]
    kinds: dict[str, Kind] = kinds_of(
        table.drop(times), {name: kind for name, kind in by_user.items() if kind and name not in times}
    )
    if "type" in table.columns and not by_user["type"] and kinds["type"] != "ignored":
        kinds["type"] = "category"
    if "rating" in table.columns and not by_user["rating"] and kinds["rating"] != "ignored":
        kinds["rating"] = "number"
    if times and by_user["time"] != "ignored":
        kinds = {name: kinds.get(name, "calendar") for name in table.columns}
    encoder = fit_table_encoder(table, kinds, text=text)
    columns = tuple(column for column in encoder.columns if column.width or not isinstance(column, Calendar))
    return replace(encoder, columns=columns) if encoder.width else None


def encode_log(
    events: Events,
    vocabulary: Vocabulary,
    encoders: FeatureEncoders,
    profiles: Profiles | None = None,
    *,
    weight_of_type: Mapping[str, float] | None = None,
) -> Sequences:
    """Return a log as sequences, with the features of its events and the profiles of its users.

    Args:
        vocabulary: its items; others get row 0.
        profiles: of its users; None leaves them unknown.
        weight_of_type: how much an event of a type counts as a target; other types count 1.

    Raises:
        ColumnError, ConfigError: the log has no types, or lacks a type that has a weight.

    Cost: O(events log events) time; 2 bytes for each number of an event, 4 for each of a user.
    """
    sequences = encode(events, vocabulary)
    details = people = None
    if encoders.event_width:
        starts = range(0, max(len(events), 1), _ROWS)
        blocks = [_details(events.table[at : at + _ROWS], encoders) for at in starts]
        details = np.concatenate(blocks)[sequence_order(events)]
    if encoders.users is not None and profiles is not None:
        people = encoders.users.encode(profiles.rows(sequences.users))
    weights = weights_of(events, weight_of_type)[sequence_order(events)] if weight_of_type else None
    return replace(sequences, details=details, profiles=people, weights=weights)


def _details(table: pl.DataFrame, encoders: FeatureEncoders) -> NDArray[np.float16]:
    parts = [] if encoders.events is None else [encoders.events.encode(table)]
    if encoders.scale is not None:
        parts.append(encoders.scale.encode(ratings_of(table)))
    return np.concatenate(parts, axis=1).astype(np.float16)


def attributes_of(catalogue: Catalogue | None, encoders: FeatureEncoders) -> Floats | None:
    """Return float32[row, m], the features of a catalogue's items; None for ids alone.

    Row 0 is zeros. The numbers are rounded to float16, in which training stores them.
    """
    if catalogue is None or encoders.items is None:
        return None
    encoded = encoders.items.encode(catalogue.table)
    rows: Floats = np.concatenate([np.zeros((1, encoded.shape[1]), np.float32), encoded])
    return as_float16(rows)


def as_float16(numbers: Floats) -> Floats:
    """Return numbers rounded to float16, as training stores them: serving reads the same."""
    rounded: Floats = numbers.astype(np.float16).astype(np.float32)
    return rounded
