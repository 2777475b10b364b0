"""What a model reads of items, users and events beside their ids: the three encodings, and a log with them.

Knows: which columns of a log say what an event was like, and which of these are known when a question is asked.
Does not know: how a column becomes numbers, or what the network makes of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from segue.data.features.calendar import Calendar
from segue.data.features.catalogue import Catalogue, Profiles
from segue.data.features.kinds import KINDS, Kind, kinds_of, plain_name
from segue.data.features.table_encoder import Encoding, learn_encoding
from segue.data.log.events import Events
from segue.data.log.rating_columns import ratings_of
from segue.data.log.rating_scale import NOTED, Scale
from segue.data.sequences.sequences import Sequences, encode, sequence_order
from segue.data.sequences.type_weights import weights_of
from segue.data.sequences.vocabulary import Vocabulary
from segue.errors import ArgumentError, ColumnError
from segue.shapes import Floats

#: Columns of a log that are roles and not context.
_ROLES = ("user", "item", "time", "rating", "type", "id")
#: Rows of a log encoded at one time.
_ROWS = 1 << 20


class Encodings(NamedTuple):
    """How items, users and events become numbers; None where nothing is known beside ids.

    `events` has the context first, then the time, the type, and the rating: the first `asked` numbers are those that
    can be known when a question is asked. Where ratings are predicted, `scale` is theirs, and the last numbers of an
    event are its rating on it.
    """

    items: Encoding | None = None
    users: Encoding | None = None
    events: Encoding | None = None
    asked: int = 0
    scale: Scale | None = None

    @property
    def event_width(self) -> int:
        """The numbers per event."""
        return (self.events.width if self.events else 0) + (NOTED if self.scale else 0)

    @property
    def timed(self) -> tuple[int, int]:
        """Which numbers of an event, from and to before, say at which hour and on which day it was."""
        calendars = [block.name for block in (self.events.blocks if self.events else ()) if isinstance(block, Calendar)]
        where = self.events.slices[calendars[0]] if self.events and calendars else slice(0, 0)
        return where.start, where.stop

    def of_events(self, events: Sequence[Mapping[str, Any]]) -> Floats | None:
        """Return float32[event, event_width], what is read of events or questions beside ids and gaps.

        Args:
            events: what is known of each: columns of the context, `time` in microseconds, `type`, `rating`.

        Returns:
            None where nothing is read.

        Cost: about two microseconds an event, and one for each column.
        """
        if not self.event_width:
            return None
        out = np.zeros((len(events), self.event_width), np.float32)
        if self.events is not None:
            for line, values in zip(out, events, strict=True):
                self.events.add_row(values, line[: self.events.width])
        if self.scale is not None:
            ratings = [values.get("rating") for values in events]
            given = np.array([np.nan if rating is None else rating for rating in ratings], np.float32)
            out[:, out.shape[1] - NOTED :] = self.scale.noted(given)
        return as_learnt(out)

    def check_question(self, type: str | None = None, context: Mapping[str, object] | None = None) -> None:
        """Do nothing if a question names only what was learnt; a value never met in learning is no error.

        A server does not ask this: what its clients send outlives the model that reads it.

        Raises:
            ArgumentError: a type is given, or a column of the context, that this model does not read.
        """
        if type is None and not context:
            return
        known = [] if self.events is None else self.events.slices
        read = [name for name in known if name not in ("rating", "time")]
        for name in [*(context or {}), *(["type"] if type is not None else [])]:
            if name not in read:
                option = "--type-col" if name == "type" else "--context-col"
                raise ArgumentError(
                    f'question: expected columns among {", ".join(read) or "none"}, came "{name}". '
                    f"Leave it out, or train on a log that has it ({option})."
                )


#: A network of ids alone.
IDS_ALONE = Encodings()


def learn_encodings(
    events: Events,
    catalogue: Catalogue | None = None,
    profiles: Profiles | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    text: str = "auto",
) -> Encodings:
    """Learn from a log and its tables how attributes become numbers.

    Args:
        events: the log to train on.
        catalogue: its items; a line of an item without an event is not in it.
        profiles: of its users; the others are left out here.
        kinds: column -> kind, where the guess is not to be trusted; "ignored" leaves a column out, "time" too, of
            which hour and day of the week are read where they may be habits (`Calendar.learnt`).
        text: what encodes texts, see `segue.data.features.text.text_encoder`.

    Raises:
        ColumnError: a column of `kinds` is in no table, or a kind is unknown.

    Example:
        >>> log = Events(pl.DataFrame({"user": ["a", "a", "b", "b"], "item": list("xyxy"),
        ...                            "type": ["view", "buy", "buy", "view"], "device": ["tv", "tv", "pc", "pc"]}))
        >>> found = learn_encodings(log)
        >>> found.events.describe(), found.asked
        (['device: category, 2 values', 'type: category, 2 values'], 4)
    """
    tables: dict[str, pl.DataFrame | None] = {"items": None, "users": None, "events": None}
    if catalogue is not None:
        tables["items"] = catalogue.table.drop("item")
    if profiles is not None:
        tables["users"] = profiles.rows(events.users).drop("user")
    context = [name for name in events.table.columns if name not in _ROLES]
    of_events = [name for name in (*context, "time", "type", "rating") if name in events.table.columns]
    tables["events"] = events.table.select(of_events)
    asked = dict(kinds or {})
    _check_kinds(asked, tables)
    learnt = {}
    for role, table in tables.items():
        learnt[role] = None if table is None else _learnt(table, asked, text, timed=role == "events")
    width = 0
    if learnt["events"] is not None:
        width = sum(block.width for block in learnt["events"].blocks if block.name != "rating")
    return Encodings(learnt["items"], learnt["users"], learnt["events"], width)


def _check_kinds(asked: Mapping[str, str], tables: Mapping[str, pl.DataFrame | None]) -> None:
    columns = {role: table.columns for role, table in tables.items() if table is not None}
    known = [name for names in columns.values() for name in names]
    if asked.get("time", "ignored") != "ignored" and known.count("time") == columns["events"].count("time") == 1:
        raise ColumnError(
            f"kind time={asked['time']}: expected ignored, for of the times of events hour and day are read. "
            "Leave it out, or give the time under another name too."
        )
    for name, kind in asked.items():
        if not any(name in (column, plain_name(column)) for column in known):
            raise ColumnError(
                f"kind {name}={kind}: expected a column of the items, users or events, "
                f"found {', '.join(known) or 'none'}. Name one of these."
            )
        if kind not in KINDS:
            raise ColumnError(f"kind {name}={kind}: expected one of {', '.join(KINDS)}. Name one of these.")


def _learnt(table: pl.DataFrame, asked: Mapping[str, str], text: str, *, timed: bool = False) -> Encoding | None:
    own = {name: asked.get(name) or asked.get(plain_name(name)) for name in table.columns}
    times = [name for name in table.columns if timed and name == "time"]
    kinds: dict[str, Kind] = kinds_of(
        table.drop(times), {n: kind for n, kind in own.items() if kind and n not in times}
    )
    if "type" in table.columns and not own["type"] and kinds["type"] != "ignored":
        kinds["type"] = "category"
    if "rating" in table.columns and not own["rating"] and kinds["rating"] != "ignored":
        kinds["rating"] = "number"
    if times and own["time"] != "ignored":
        kinds = {name: kinds.get(name, "calendar") for name in table.columns}
    encoding = learn_encoding(table, kinds, text=text)
    said = tuple(block for block in encoding.blocks if block.width or not isinstance(block, Calendar))
    return replace(encoding, blocks=said) if encoding.width else None


def encode_log(
    events: Events,
    vocabulary: Vocabulary,
    encodings: Encodings,
    profiles: Profiles | None = None,
    *,
    weight_of_type: Mapping[str, float] | None = None,
) -> Sequences:
    """Return a log as sequences, with the details of its events and the profiles of its users.

    Args:
        events: the log.
        vocabulary: its items; others get row 0.
        encodings: what is read beside ids.
        profiles: of its users; None leaves them unknown.
        weight_of_type: how much an event of a type counts as a target; a type that is not named counts 1.

    Raises:
        ColumnError, ConfigError: there are weights, and the log has no types, or not one that is named.

    Cost: O(events log events) time; 2 bytes for each number of an event, 4 for each of a user.
    """
    sequences = encode(events, vocabulary)
    details = people = None
    if encodings.event_width:
        starts = range(0, max(len(events), 1), _ROWS)
        blocks = [_details(events.table[at : at + _ROWS], encodings) for at in starts]
        details = np.concatenate(blocks)[sequence_order(events)]
    if encodings.users is not None and profiles is not None:
        people = encodings.users.encode(profiles.rows(sequences.users))
    weights = weights_of(events, weight_of_type)[sequence_order(events)] if weight_of_type else None
    return replace(sequences, details=details, profiles=people, weights=weights)


def _details(table: pl.DataFrame, encodings: Encodings) -> NDArray[np.float16]:
    parts = [] if encodings.events is None else [encodings.events.encode(table)]
    if encodings.scale is not None:
        parts.append(encodings.scale.noted(ratings_of(table)))
    return np.concatenate(parts, axis=1).astype(np.float16)


def attributes_of(catalogue: Catalogue | None, encodings: Encodings) -> Floats | None:
    """Return float32[row, m], what the items of a catalogue are, row 0 of zeros; None for ids alone.

    Rounded to float16, in which they are kept and learnt.
    """
    if catalogue is None or encodings.items is None:
        return None
    encoded = encodings.items.encode(catalogue.table)
    rows: Floats = np.concatenate([np.zeros((1, encoded.shape[1]), np.float32), encoded])
    return as_learnt(rows)


def as_learnt(numbers: Floats) -> Floats:
    """Return numbers rounded to float16, in which they are kept for training, so that answers read the same."""
    rounded: Floats = numbers.astype(np.float16).astype(np.float32)
    return rounded
