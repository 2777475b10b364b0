"""Every exception that Segue raises on purpose, and the words that their messages share.

    SegueError
    ├── DataError            a log, table or history that cannot be used as it is
    │   ├── ColumnError      a column is missing, doubled, or of a wrong type
    │   └── TimeParseError   a time cannot be read
    ├── DatasetError         a named data set is unknown, unreachable or damaged
    ├── ConfigError          a setting that does not exist or has an impossible value
    ├── TrainingError        a run that cannot go on; the message names the checkpoint
    ├── ModelError           a file that is not a whole, unedited model of a known format
    ├── StoreError           a store cannot do what was requested; nothing was changed
    │   ├── LockedError      another process owns the store
    │   ├── FullError        no room on disk or in memory; nothing was changed
    │   ├── LostError        the connection broke; whether the write was done is not known
    │   ├── ErasedError      a user or event was erased on request
    │   └── ConflictError    the id of an event already stands for another event
    ├── ServerError          a server refused a request of a client, or gave no answer
    ├── NotFoundError        a user, event, item or model that is not there
    ├── EvaluationError      a measurement that would not mean what it says
    └── ArgumentError        a call with arguments that do not fit together

A message has four parts: what was expected, what came, where, and what to do.
"""

import difflib
from collections.abc import Collection


class SegueError(Exception):
    """The root: catch this to catch all of Segue's own errors."""


class DataError(SegueError, ValueError):
    """A log, table or history cannot be used as it is."""


class ColumnError(DataError):
    """A column is missing, doubled, or of a wrong type."""


class TimeParseError(DataError):
    """A time cannot be read; the message names the row and the text."""


class DatasetError(SegueError):
    """A named data set is unknown, cannot be fetched, or is damaged."""


class ConfigError(SegueError, ValueError):
    """A setting does not exist or has an impossible value; the message names its path."""


class TrainingError(SegueError):
    """A training run cannot go on; the message names the last checkpoint."""


class ModelError(SegueError):
    """A file is not a whole, unedited model of a format this version reads."""


class StoreError(SegueError):
    """A store cannot do what was requested. Unless the message says otherwise, nothing was changed."""


class LockedError(StoreError):
    """Another process owns the store."""


class FullError(StoreError):
    """There is no room on disk or in memory; nothing was changed."""


class LostError(StoreError):
    """The connection to a store broke; whether the last write was done is not known."""


class ErasedError(StoreError):
    """A user or event was erased on request; the id cannot be used until the user is readmitted."""


class ConflictError(StoreError):
    """The id of an event already stands for another event."""


class ServerError(SegueError):
    """A server refused a request of a client for a reason of its own, or gave no answer."""


class NotFoundError(SegueError):
    """A user, event, item or model with this name is not there."""


class EvaluationError(SegueError):
    """A measurement would not mean what it says, for example on rows that training used."""


class ArgumentError(SegueError, ValueError):
    """A call was made with arguments that do not fit together."""


def nearest(name: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most like a name, whatever the case; None where none is as alike as `cutoff`, 0 to 1.

    Example:
        >>> nearest("UserId", ["user_id", "item_id"]), nearest("colour", ["user_id", "item_id"])
        ('user_id', None)
    """
    by_lower = {each.lower(): each for each in reversed(list(known))}
    matches = difflib.get_close_matches(name[:100].lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def listed(names: Collection[str], most: int = 20) -> str:
    """Return names as a message lists them, the first `most`.

    Example:
        >>> listed(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(list(names)[:most]) + (f" and {rest:,} more" if rest > 0 else "")
