"""The tables of the stores in SQL, and what a database must be able to do.

Statements have `?` for each value. They are those that SQLite and PostgreSQL both understand.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

#: The tables. A hash without a uid is a user who was erased, one without a seq an event that was
#: erased. Item -1 of `shared` stands for all items.
SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE people(uid INTEGER PRIMARY KEY, name BLOB NOT NULL);
CREATE TABLE bodies(seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE names(hash BLOB PRIMARY KEY, uid INTEGER) WITHOUT ROWID;
CREATE INDEX names_of ON names(uid);
CREATE TABLE keys(hash BLOB PRIMARY KEY, seq INTEGER, digest BLOB) WITHOUT ROWID;
CREATE TABLE users(uid INTEGER PRIMARY KEY, version INTEGER NOT NULL, count INTEGER NOT NULL,
                   place INTEGER, seq INTEGER, active INTEGER NOT NULL);
CREATE INDEX users_by_activity ON users(active);
CREATE TABLE log(seq INTEGER PRIMARY KEY, uid INTEGER NOT NULL, place INTEGER NOT NULL, key BLOB);
CREATE INDEX log_in_order ON log(uid, place, seq);
CREATE TABLE bundles(bid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE states(uid INTEGER NOT NULL, bid INTEGER NOT NULL, version INTEGER NOT NULL, memory BLOB NOT NULL,
                    UNIQUE(uid, bid));
CREATE INDEX states_of_bundle ON states(bid);
CREATE TABLE snapshots(uid INTEGER NOT NULL, bid INTEGER NOT NULL, place INTEGER NOT NULL, seq INTEGER NOT NULL,
                       count INTEGER NOT NULL, memory BLOB NOT NULL, UNIQUE(uid, bid, place, seq));
CREATE INDEX snapshots_of_bundle ON snapshots(bid);
"""
#: Tables that stores of older versions lack.
LATER_SCHEMA = """
CREATE TABLE IF NOT EXISTS erased(uid INTEGER NOT NULL, seq INTEGER NOT NULL, key BLOB,
                                  PRIMARY KEY(uid, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rated(bid INTEGER NOT NULL, seq INTEGER NOT NULL, item INTEGER NOT NULL,
                                 amount INTEGER NOT NULL, UNIQUE(seq, bid));
CREATE INDEX IF NOT EXISTS rated_of_bundle ON rated(bid);
CREATE TABLE IF NOT EXISTS shared(bid INTEGER NOT NULL, item INTEGER NOT NULL, sum INTEGER NOT NULL,
                                  count INTEGER NOT NULL, PRIMARY KEY(bid, item)) WITHOUT ROWID;
"""


def statements(schema: str) -> list[str]:
    """Return the statements of a schema."""
    return [statement for statement in schema.split(";") if statement.strip()]


@dataclass(frozen=True)
class Rows:
    """Where rows go, and what becomes of a row that is there already.

    Args:
        table: its name.
        columns: the type of each column by name, in the order of the rows.
        key: the columns that a row there shares with the new row; the other columns then become
            those of the new row. Empty where no row is there.

    Example:
        >>> Rows("t", {"a": "INTEGER", "b": "BLOB"}, key=("a",)).conflict
        ' ON CONFLICT(a) DO UPDATE SET b = excluded.b'
    """

    table: str
    columns: dict[str, str]
    key: tuple[str, ...] = ()

    @cached_property
    def conflict(self) -> str:
        """The end of the statement that inserts."""
        if not self.key:
            return ""
        changes = ", ".join(f"{name} = excluded.{name}" for name in self.columns if name not in self.key)
        return f" ON CONFLICT({', '.join(self.key)}) DO UPDATE SET {changes}"

    @cached_property
    def into(self) -> str:
        """The begin of the statement that inserts."""
        return f"INSERT INTO {self.table}({', '.join(self.columns)})"

    @cached_property
    def statement(self) -> str:
        """The statement that inserts one row."""
        return f"{self.into} VALUES ({', '.join('?' * len(self.columns))}){self.conflict}"


def _rows(table: str, columns: str, key: str = "") -> Rows:
    kinds = {"name": "BLOB", "body": "BLOB", "hash": "BLOB", "key": "BLOB", "digest": "BLOB", "memory": "BLOB"}
    named = {column: kinds.get(column, "INTEGER") for column in columns.split()}
    return Rows(table, named, tuple(key.split()))


PEOPLE = _rows("people", "uid name")
NAMES = _rows("names", "hash uid")
BODIES = _rows("bodies", "seq body")
LOG = _rows("log", "seq uid place key")
KEYS = _rows("keys", "hash seq digest")
USERS = _rows("users", "uid version count place seq active", "uid")
STATES = _rows("states", "uid bid version memory", "uid bid")
RATED = _rows("rated", "bid seq item amount")
SNAPSHOTS = _rows("snapshots", "uid bid place seq count memory", "uid bid place seq")


class Find(NamedTuple):
    """A query for the rows whose column has one of some values.

    Args:
        select: the query up to this condition, so that the text ends with WHERE or AND.
        column: in the condition.
        values: one of which the column has.
        before: the values that `select` has places for.
    """

    select: str
    column: str
    values: Sequence[Any]
    before: tuple[Any, ...] = ()


class Database(Protocol):
    """A connection inside a transaction, or outside one to read.

    `blank` is the expression for bytes that say nothing in place of a column, and `row_id` the
    column that names a row of any table.
    """

    blank: str
    row_id: str

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""

    def find(self, *queries: Find) -> list[list[Any]]:
        """Return the rows of several queries, which a server gets together."""

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement, of which nothing is read."""

    def changed(self, statement: str, *values: Any) -> int:
        """Run a statement and return the number of rows that it changed."""

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of values."""

    def insert(self, into: Rows, rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows."""

    def new_uids(self, count: int) -> Iterable[int]:
        """Return numbers for new users."""


def first(rows: Sequence[Any]) -> Any:
    """Return the first row, None without rows."""
    return rows[0] if rows else None
