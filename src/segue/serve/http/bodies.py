"""From the bytes of a request to a value of a declared type: one decoder reads, checks and names what is wrong.

Knows: bytes, JSON, types of msgspec, and how a mismatch is said in words. Does not know: which types there are
(`segue.serve.api.schemas`).

msgspec refuses most of what is no JSON. It keeps the last of two equal names and has no small bound of depth, so
both are checked here.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

import msgspec

from segue.serve.http.limits import LARGE, LINES, LINES_BYTES, Limits
from segue.serve.http.problems import Invalid, Refusal, unknown_name

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
T = TypeVar("T")

#: The connection is closed with these, since the rest of the body is not read.
CLOSE = {"Connection": "close"}
#: What JSON calls a value, in words.
WORDS = {
    "str": "a text in quotes", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_NO_NUMBER = re.compile(rb"-?(NaN|Infinity)")
_PLACE = re.compile(r" - at (`key` in )?`\$(.*)`$")
_PARTS = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


async def read_body(
    receive: Receive, announced: str | None, limits: Limits, came: int = 0, large: Callable[[], object] = lambda: None
) -> bytes:
    """Return the whole body of a request.

    Args:
        receive: of the request.
        announced: its Content-Length, if any.
        limits: of size and time.
        came: bytes of the body that are here; once all are, no time is measured.
        large: is called once the body is larger than `LARGE`.

    Raises:
        Refusal: 413 if it is too large, 408 if it came too slowly, 400 if it was cut short.
    """
    size = int(announced[:18]) if announced is not None and announced.isdecimal() else None
    if size is not None and size > limits.body_bytes:
        raise _too_large(limits.body_bytes)
    parts: list[bytes] = []
    await _receive(receive, parts.append, limits, limits.body_bytes, large, timed=size is None or size > came)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_lines(receive: Receive, limits: Limits) -> BinaryIO:
    """Return the body of a request of NDJSON as a file: in memory while it is small, then on disk without a name.

    Raises:
        Refusal: as for `read_body`; 503 if there is no room on disk.
    """
    file = SpooledTemporaryFile(LARGE)  # noqa: SIM115
    try:
        await _receive(receive, file.write, limits, limits.lines_bytes)
        file.seek(0)
    except OSError as error:
        file.close()
        raise Refusal(503, f"body: no room for it on disk ({type(error).__name__}). Send it in parts.", CLOSE) from None
    except BaseException:
        file.close()
        raise
    return cast(BinaryIO, file)


def line_groups(file: BinaryIO, limits: Limits) -> Iterator[list[bytes]]:
    r"""Give the lines of a file that are not blank, in groups of bounded size; one that is too long is cut, and last.

    Example:
        >>> from io import BytesIO
        >>> list(line_groups(BytesIO(b"1\n\n2"), Limits()))
        [[b'1\n', b'2']]
    """
    group: list[bytes] = []
    size = 0
    while line := file.readline(limits.body_bytes + 1):
        if line.isspace():
            continue
        group.append(line)
        size += len(line)
        if len(line) > limits.body_bytes:
            break
        if len(group) == LINES or size >= LINES_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


async def _receive(
    receive: Receive,
    put: Callable[[bytes], object],
    limits: Limits,
    most: int,
    large: Callable[[], object] = lambda: None,
    *,
    timed: bool = True,
) -> None:
    """Put all parts of a body somewhere; each MiB has its time."""
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds if timed else None) as clock:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refusal(400, "body: it was cut short. Send it again.", CLOSE)
                part = message.get("body", b"")
                before, size = size, size + len(part)
                if size > most:
                    raise _too_large(most)
                if size // LARGE > before // LARGE:
                    if before < LARGE:
                        large()
                    if timed:
                        clock.reschedule(asyncio.get_running_loop().time() + limits.body_seconds)
                put(part)
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        said = f"body: expected {'all' if size < LARGE else 'each MiB'} of it within {limits.body_seconds:g} s. "
        raise Refusal(408, f"{said}Send it again.", CLOSE) from None


def parse_json(body: bytes, depth: int) -> Any:
    """Return what a JSON text says, if it says one thing.

    Args:
        body: UTF-8.
        depth: lists and objects inside one another.

    Raises:
        Refusal: 400: not JSON, a name twice in one object, NaN or a number beyond float64, half a surrogate
            pair, or nested too deeply.

    Example:
        >>> parse_json(b'{"user": "u1", "rating": 4.5}', 8)
        {'user': 'u1', 'rating': 4.5}
        >>> parse_json(b'{"user": "u1", "user": "u2"}', 8)
        Traceback (most recent call last):
        ...
        segue.serve.http.problems.Refusal: 400: body: expected each name once in an object, came "user" twice. \
Leave one out.
    """
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep(depth) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Refusal(400, _why_no_json(body, str(error))) from None
    names, levels = _measured(value)
    if levels > depth:
        raise _too_deep(depth)
    if names < body.count(b":") and names < _names_in(body):  # the second look costs more
        raise Refusal(400, f'body: expected each name once in an object, came "{_twice(body)}" twice. Leave one out.')
    return value


def convert(value: Any, kind: type[T], where: str, *, text: bool = False) -> T:
    """Return a value of a type.

    Args:
        value: as JSON says it.
        kind: a type of msgspec; own types in it have `read`, which makes them, and `schema`, which describes them.
        where: what the value is called in a message, such as `body`.
        text: whether numbers come as texts, as in an address.

    Raises:
        Invalid: 422; the first place that does not fit, what was expected there, and what came.

    Example:
        >>> convert([1, "2"], list[int], "body")
        Traceback (most recent call last):
        ...
        segue.serve.http.problems.Invalid: 422: body.1: expected a whole number, came "2". See /docs.
    """
    try:
        return msgspec.convert(value, kind, strict=not text, dec_hook=_own)
    except msgspec.ValidationError as error:
        raise _invalid(value, kind, where, str(error)) from None


def _own(kind: Any, value: Any) -> Any:
    return kind.read(value)


def _invalid(value: Any, kind: type, where: str, said: str) -> Invalid:
    """Return what a message of msgspec says, in words."""
    place = _PLACE.search(said)
    path = place[2] if place else ""
    said = said[: place.start()] if place else said
    before, inside, after = path.partition("[...]")  # msgspec says the object alone, not the name in it
    parts = _parts_of(before)
    if inside and (name := _name_at(value, kind, parts, said)) is not None:
        parts.append(name)
    parts += _parts_of(after)
    what = ""
    if found := re.fullmatch(r"Object missing required field `(.*)`", said):
        parts.append(found[1])
        what = "expected, and not there"
    elif found := re.fullmatch(r"Object contains unknown field `(.*)`", said, re.DOTALL):
        parts.append(found[1])
        what = unknown_name(found[1], _names_of(kind) - {found[1]})
    elif expected := _expected(said, kind, parts):
        of_name = place is not None and place[1] is not None
        came = None if of_name else _at(value, parts)
        what = f"expected {'each name to be ' if of_name else ''}{expected}"
        what += "" if came is None else f", came {came}"
    return Invalid(".".join([where, *map(str, parts)])[:200], (what or said)[:300])


def _parts_of(path: str) -> list[Any]:
    return [name or int(number) for name, number in _PARTS.findall(path)]


def _name_at(value: Any, kind: type, parts: list[Any], said: str) -> str | None:
    """Return the name in the object at a place whose value msgspec refuses with these words."""
    inner = value
    for part in parts:
        inner = inner[part]
    for name, one in inner.items():
        smaller: Any = {name: one}  # the object with this name alone, in lists of one
        for depth in range(len(parts) - 1, -1, -1):
            around = value
            for part in parts[:depth]:
                around = around[part]
            smaller = [smaller] if isinstance(around, list) else around | {parts[depth]: smaller}
        try:
            msgspec.convert(smaller, kind, dec_hook=_own)
        except msgspec.ValidationError as error:
            if _PLACE.sub("", str(error)) == said:
                return str(name)
    return None


def _expected(said: str, kind: type, parts: list[Any]) -> str:
    """Return what was expected in words; empty where the message is one of ours."""
    if found := re.fullmatch(r"Expected `([^`]*)`, got `.*`", said):
        kinds = [one for one in found[1].split(" | ") if one != "null"]
        return " or ".join(WORDS.get(one, one) for one in kinds if not (one == "int" and "float" in kinds))
    if found := re.fullmatch(r"Expected `(\w+)` of length (>=|<=) (\d+)", said):
        bound = "at least" if found[2] == ">=" else "at most"
        text = found[1] == "str"
        return f"{'a text of ' if text else ''}{bound} {found[3]}{' characters' if text and found[2] == '<=' else ''}"
    if found := re.fullmatch(r"Expected `\w+` (>=|<=) (.*)", said):
        return f"{float(found[2]):g} or {'more' if found[1] == '>=' else 'less'}"
    if "matching regex" in said:
        return "a text that is not blank"
    if said.startswith("Invalid enum value"):
        return " or ".join(msgspec.json.encode(one).decode() for one in _choices(kind, str(parts[-1])))
    return "a number of 64 bits" if "out of range" in said else ""


def _at(value: Any, parts: list[Any]) -> str | None:
    """Return the JSON of what stands at a place, where that is short."""
    for part in parts:
        value = value[part]
    if isinstance(value, list | dict):
        return None
    return msgspec.json.encode(value).decode(errors="replace")[:60]


def schemas(*kinds: Any) -> dict[str, Any]:
    """Return the JSON Schema of types and of all types in them, by name; refer to them under `components`."""
    refer = "#/components/schemas/{name}"
    return msgspec.json.schema_components(kinds, schema_hook=_schema_of_own, ref_template=refer)[1]


def _schema_of_own(kind: Any) -> Any:
    return kind.schema


def _names_of(kind: type) -> set[str]:
    """Return the names that a type and all types in it know."""
    return {name for shape in schemas(kind).values() for name in shape.get("properties", ())}


def _choices(kind: type, name: str) -> list[Any]:
    """Return what a field may say."""
    for shape in schemas(kind).values():
        field = shape.get("properties", {}).get(name, {})
        for one in (field, *field.get("anyOf", ())):
            if "enum" in one:
                return list(one["enum"])
    return []


def _why_no_json(body: bytes, said: str) -> str:
    if not body.strip():
        return "body: expected JSON, came nothing. Send an object."
    number = re.search(r"byte (\d+)", said)
    at = int(number[1]) if number else 0
    if found := _NO_NUMBER.match(body, max(0, at - 1)) or _NO_NUMBER.match(body, at):
        return f"body: expected a number, came {found[0].decode()}. Leave it out if it is unknown."
    if "out of range" in said:
        return "body: expected numbers of 64 bits, came a larger one. Send it as a text."
    try:
        json.dumps(json.loads(body.decode()), ensure_ascii=False).encode()
    except UnicodeError:
        return "body: expected UTF-8, came bytes or escapes that are no text. Encode it anew."
    except (ValueError, RecursionError):
        pass
    if "truncated" in said:
        return "body: expected JSON, came only its beginning. Close all quotes and brackets, and send all of it."
    return f"body: expected JSON, came something else{f' at byte {at}' if number else ''}. Check quotes and commas."


def _names_in(body: bytes) -> int:
    """Return how many names stand in a JSON text, those that come twice twice: one before each colon outside texts."""
    plain = _ESCAPE.sub(b"", body) if b"\\" in body else body
    return b"".join(plain.split(b'"')[::2]).count(b":")


def _measured(value: Any) -> tuple[int, int]:
    """Return how many names all objects in a value have, and how deep it is nested."""
    names = levels = 0
    level = [value]
    while level := [one for one in level if type(one) in (dict, list)]:
        levels += 1
        names += sum(len(one) for one in level if type(one) is dict)
        level = [inner for one in level for inner in (one.values() if type(one) is dict else one)]
    return names, levels


def _twice(body: bytes) -> str:
    """Return a name that an object has twice."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        found.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    json.loads(body, object_pairs_hook=look)
    return found[0][:40]


def _too_deep(depth: int) -> Refusal:
    return Refusal(400, f"body: expected at most {depth} lists and objects inside one another, came more. Flatten it.")


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"body: expected at most {most:,} bytes, came more. Send it in parts.", CLOSE)
