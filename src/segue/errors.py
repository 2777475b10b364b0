"""Every exception that Segue raises on purpose.

    SegueError
    ├── DataError            a log, table or history that cannot be used as it is
    │   ├── ColumnError      a column is missing, doubled, or of a wrong type
    │   └── TimeParseError   a time cannot be read
    ├── DatasetError         a named data set is unknown, unreachable or damaged
    ├── ConfigError          a setting that does not exist or cannot hold
    ├── TrainingError        a run that cannot go on; names what was kept
    ├── ModelError           a file that is not a whole, unedited model of a known format
    ├── StoreError           a store that cannot do what was asked; nothing of it was done
    │   ├── LockedError      another process owns the store
    │   ├── FullError        no room: all is as before
    │   ├── LostError        the connection broke: whether it was done is not known
    │   ├── ForgottenError   a user or event that was erased on request
    │   └── ConflictError    the id of an event stands for another one already
    ├── NotFoundError        a user, event, item or model that is not there
    ├── EvaluationError      a measurement that would not mean what it says
    └── ArgumentError        a call with arguments that do not fit together

A message has four parts: what was expected, what came, where, and what to do.
"""


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
    """A setting does not exist or its value cannot hold; the message names its path."""


class TrainingError(SegueError):
    """A training run cannot go on; the message names the checkpoint that was kept."""


class ModelError(SegueError):
    """A file is not a whole, unedited model of a format this version reads."""


class StoreError(SegueError):
    """A store cannot do what was asked. Unless the message says otherwise, all is as before."""


class LockedError(StoreError):
    """Another process owns the store."""


class FullError(StoreError):
    """There is no room on disk or in memory; all is as before."""


class LostError(StoreError):
    """The connection to a store broke; whether the last write was done is not known."""


class ForgottenError(StoreError):
    """A user was erased on request and is not to come back unasked."""


class ConflictError(StoreError):
    """The id of an event stands for another event already."""


class NotFoundError(SegueError):
    """A user, event, item or model that was named is not there."""


class EvaluationError(SegueError):
    """A measurement would not mean what it says, for example on rows that were learnt."""


class ArgumentError(SegueError, ValueError):
    """A call was made with arguments that do not fit together."""
