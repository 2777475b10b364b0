"""Which column is the user, the item, the time, by its name or the last words of its name."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from segue.data.values.times import ISO_FORMATS, TimeRule
from segue.errors import ColumnError, listed, nearest

_NAMES = """
user    user userid username uid visitor visitorid customer customerid member memberid reviewerid reviewer
user    account accountid client clientid person personid session sessionid
item    item itemid iid product productid parentasin asin sku movie movieid book bookid isbn track trackid
item    song songid artist artistid video videoid article articleid news newsid game gameid business
item    businessid venue venueid recipe recipeid content contentid
time    timestamp time ts unixreviewtime unixtime epoch datetime eventtime eventtimestamp createdat date
time    timestampms reviewtime
rating  rating score stars overall
type    type eventtype event action eventname behavior behaviour
id      eventid
"""
ROLES = ("user", "item", "time", "rating", "type", "id")
#: The names of each role, the likeliest first, in lower case, letters and digits only.
KNOWN_NAMES: Mapping[str, tuple[str, ...]] = {
    role: tuple(name for line in _NAMES.splitlines() if line.startswith(f"{role} ") for name in line.split()[1:])
    for role in ROLES
}

#: A session is the user in a log without a better column.
_SESSIONS = ("session", "sessionid", "visit", "visitid")
#: The last words of a name, before "id" and the like, that fit a role: the likeliest first.
_NOUNS_OF = """
user    user visitor customer client member person account profile viewer listener reader reviewer buyer shopper
user    subscriber player learner student patient guest household cookie
item    item product article movie film song track book video sku asin isbn ean gtin upc listing recipe news game
item    business venue poi hotel property job course offer ad post story episode show podcast app content document
item    doc artist album playlist
time    timestamp datetime ts epoch unixtime at date time when dt
session session
"""
_NOUNS = {
    role: [name for line in _NOUNS_OF.splitlines() if line.startswith(f"{role} ") for name in line.split()[1:]]
    for role in ("user", "item", "time", "session")
}
_CODES = ("id", "ids", "key", "code", "no", "nr", "num", "number", "uuid", "guid", "hash", "pk", "index", "idx")
#: Words that may follow the word of a time, and words that make a name the time of something else.
_UNITS = (
    *("ms", "us", "ns", "s", "sec", "secs", "seconds", "millis", "milliseconds", "micros"),
    *("unix", "utc", "gmt", "iso"),
)
_NOT_OF_EVENTS = {
    *("birth", "birthday", "release", "released", "publish", "published", "publication", "signup", "registration"),
    *("registered", "expiry", "expires", "expiration", "join", "joined", "start", "end", "update", "updated", "dwell"),
    *("watch", "reading", "read", "play", "playing", "listen", "listening", "spent", "elapsed", "response", "load"),
    *("total", "run", "running", "delta", "gap", "session", "valid", "deleted", "modified", "launch", "per", "avg"),
}

#: The roles that a log must have; time may be declined with "none".
REQUIRED = ("user", "item", "time")
NONE = "none"


class ColumnChoice(NamedTuple):
    """The columns of a log.

    Args:
        columns: role -> column; a role without a column is absent.
        guessed: the roles whose column was guessed.
        notes: which other columns could be meant, a sentence each.
    """

    columns: dict[str, str]
    guessed: tuple[str, ...]
    notes: tuple[str, ...]


def choose_columns(
    names: Sequence[str],
    requested: Mapping[str, str | None],
    *,
    source: str,
    hints: Mapping[str, str] | None = None,
    known: Mapping[str, str] | None = None,
) -> ColumnChoice:
    """Return the column of each role: as requested, as in an earlier log, or the likeliest.

    Names are compared in lower case without `_`, blanks and the `:type` that RecBole appends:
    `userId`, `user_id` and `user_id:token` are equal. Where no name is usual, its last words
    decide: `click_article_id` is an item, `click_timestamp` a time. `hints` are guesses by content;
    a guess by name goes before them.

    Args:
        names: the columns of the source.
        requested: for each role a column's name, None to guess, or "none" to leave the role out.
        source: what messages call the source.
        hints: role -> the column that its content suggests.
        known: role -> its column in an earlier log, or "none"; a column must exist in the source.

    Raises:
        ColumnError: a requested column does not exist or has two roles; the source has no user,
            item or time column; a chosen column stands twice in the header.

    Cost: O(columns).

    Example:
        >>> choose_columns(["user_id:token", "item_id:token", "stars"], {"time": "none"}, source="log").columns
        {'user': 'user_id:token', 'item': 'item_id:token', 'rating': 'stars'}
    """
    given = {role: requested.get(role) or _of_earlier_log(role, names, known or {}) for role in ROLES}
    columns = {
        role: find_column(name, names, source=source, option=option_of(role))
        for role in ROLES
        if (name := given[role]) is not None and (name != NONE or role in ("user", "item"))
    }
    guessed, notes = [], []
    for role in ROLES:
        if given[role] is None:
            # A user or item is guessed among all columns: a column with two roles is an error.
            free = names if role in ("user", "item") else [name for name in names if name not in columns.values()]
            hint = (hints or {}).get(role)
            likely = candidates(free, role) or ([hint] if hint is not None and hint in free else [])
            if likely:
                columns[role] = likely[0]
                guessed.append(role)
                notes += [_ambiguous(role, likely)] * (len(likely) > 1)
    _check(columns, names, given, source)
    return ColumnChoice({role: columns[role] for role in ROLES if role in columns}, tuple(guessed), tuple(notes))


def _of_earlier_log(role: str, names: Sequence[str], known: Mapping[str, str]) -> str | None:
    name = known.get(role)
    return name if name in names or (name == NONE and role not in ("user", "item")) else None


def _ambiguous(role: str, likely: Sequence[str]) -> str:
    others = " and ".join(likely[1:3])
    return f"{role}: {likely[0]} was taken, {others} could be meant too; {option_of(role)} names another."


def find_column(name: str, names: Collection[str], *, source: str, option: str) -> str:
    """Return the column with this name, with or without RecBole's `:type`.

    Raises:
        ColumnError: there is no such column; the message proposes the nearest name.
    """
    for column in names:
        if column == name or column.rpartition(":")[0] == name:
            return column
    like = nearest(name, names)
    advice = f'Did you mean "{like}"? Name it with {option}.' if like else f"Give {option} one of these."
    raise ColumnError(f'{source}: expected a column "{name}", found {listed(names)}. {advice}')


def option_of(role: str) -> str:
    """Return the option that names the column of a role, in Python and on the command line."""
    return f"{role}= (--{role}-col)"


def plain_name(name: str) -> str:
    """Return a column's name without the `:type` that RecBole appends."""
    return re.sub(r":(token|token_seq|float|float_seq)$", "", name)


def letters_of(name: str) -> str:
    """Return a column's name in lower case, letters and digits only, as `KNOWN_NAMES` has it."""
    return re.sub(r"[\W_]", "", plain_name(name.strip()).lower())


def guess_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the name that comes first in `known`, None where no name is known."""
    plain = {letters_of(name): name for name in reversed(names)}
    return next((plain[each] for each in known if each in plain), None)


def candidates(names: Sequence[str], role: str) -> list[str]:
    """Return the columns whose names fit a role, the likeliest first.

    A usual name goes before names by their last words. Sessions are the last candidates for the
    user.

    Example:
        >>> candidates(["session_id", "click_article_id", "user_id", "click_timestamp", "item_price"], "user")
        ['user_id', 'session_id']
        >>> candidates(["click_article_id", "category_id", "click_timestamp", "release_date", "item_price"], "item")
        ['click_article_id']
    """
    usual = [name for name in KNOWN_NAMES[role] if name not in _SESSIONS]
    exact = guess_column(names, usual)
    ranked = [(_rank(name, role), place, name) for place, name in enumerate(names)]
    similar = [name for rank, _, name in sorted(each for each in ranked if each[0] is not None)]
    sessions = [
        name for name in names if role == "user" and (letters_of(name) in _SESSIONS or _rank(name, "session") == 0)
    ]
    return list(dict.fromkeys([*([exact] if exact is not None else []), *similar, *sessions]))


def _rank(name: str, role: str) -> int | None:
    """Return how well the last words of a name fit a role, 0 the best; None where they do not."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", plain_name(name.strip()))]
    endings = _UNITS if role == "time" else _CODES
    while len(words) > 1 and words[-1] in endings and words[-1] not in _NOUNS.get(role, []):
        words.pop()
    nouns = _NOUNS.get(role, [])
    if not words or (role == "time" and _NOT_OF_EVENTS.intersection(words)):
        return None
    last = words[-1] if words[-1] in nouns or role == "time" else words[-1].removesuffix("id")
    return nouns.index(last) if last in nouns else None


def _check(columns: Mapping[str, str], names: Sequence[str], given: Mapping[str, str | None], source: str) -> None:
    absent = [role for role in REQUIRED if role not in columns and given.get(role) != NONE]
    if absent:
        options = ", ".join(option_of(role) for role in absent)
        without = ', or --time-col none (time="none") if the order of the rows is the order' * ("time" in absent)
        bare = all(re.fullmatch(r"-?\d[\d.]*(_duplicated_\d+)?", name) for name in names)
        header = " Is the first line no header? Say header=False (--no-header)." * bare
        narrow = " One column only: is the separator another? Give sep= (--sep)." if len(names) == 1 else ""
        a_column = "a column that names" if len(absent) == 1 else "columns that name"
        raise ColumnError(
            f"{source}: expected {a_column} the {' and the '.join(absent)}, found {listed(names)}. "
            f"Give {options}{without}.{header}{narrow}"
        )
    roles: dict[str, str] = {}
    for role, name in columns.items():
        if name in roles:
            raise ColumnError(
                f'{source}: expected a column for each role, column "{name}" was named for both '
                f"{roles[name]} and {role}. Give {option_of(role)} another column."
            )
        roles[name] = role
        if any(re.fullmatch(re.escape(name) + r"_duplicated_\d+", other) for other in names):
            raise ColumnError(
                f'{source}: expected one column "{name}" for the {role}, the header has it more than once. '
                "Rename one of them."
            )


def hints_by_position(sample: pl.DataFrame) -> dict[str, str]:
    """Return the likely columns of a file without a header: user, item, then rating and time.

    From the third column on, the first with large whole numbers or ISO 8601 is the time. A third or
    fourth column of other numbers is the rating.

    Example:
        >>> hints_by_position(pl.DataFrame({"1": ["7"], "2": ["a"], "3": ["4.5"], "4": ["964982703"]}))
        {'user': '1', 'item': '2', 'time': '4', 'rating': '3'}
    """
    names = sample.columns
    hints = dict(zip(("user", "item"), names, strict=False))
    later = names[2:]
    time = next((name for name in later if _looks_like_time(sample[name])), None)
    rating = next((name for name in later[:2] if name != time and _is_numeric(sample[name])), None)
    return hints | ({"time": time} if time else {}) | ({"rating": rating} if rating else {})


def hints_by_type(sample: pl.DataFrame) -> dict[str, str]:
    """Return the only column of dates, or of texts that write dates, as the time.

    Example:
        >>> hints_by_type(pl.DataFrame({"t_dat": ["2018-09-20", "2018-09-21"], "price": ["1.5", "2"]}))
        {'time': 't_dat'}
    """
    dates = [name for name, kind in sample.schema.items() if kind.base_type() in (pl.Datetime, pl.Date)]
    dates = dates or [column.name for column in sample if column.dtype == pl.String and _is_written_date(column)]
    return {"time": dates[0]} if len(dates) == 1 else {}


def _is_numeric(column: pl.Series) -> bool:
    return column.cast(pl.Float64, strict=False).null_count() == column.null_count() < len(column)


def _looks_like_time(column: pl.Series) -> bool:
    if _is_numeric(column):
        median = column.cast(pl.Float64, strict=False).median()
        return isinstance(median, float) and (median >= 1e8 or "DD" in TimeRule.guess(column).unit)
    return _is_written_date(column)


def _is_written_date(column: pl.Series) -> bool:
    present = column.drop_nulls()
    return len(present) > 0 and TimeRule.guess(present).formats not in ((), ISO_FORMATS)
