"""From the bytes of a request to JSON: bounded in size, time and depth, and without two meanings.

Knows: bytes and JSON. Does not know: what a body should say (`schema`).
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from segue.serve.http.limits import Limits
from segue.serve.http.problems import Problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: The connection is closed with these, since the rest of the body is not read.
CLOSE = {"Connection": "close"}


async def read_body(receive: Receive, announced: str | None, limits: Limits) -> bytes:
    """Return the whole body of a request.

    Args:
        receive: of the request.
        announced: its Content-Length, if any.
        limits: of size and time.

    Raises:
        Problem: 413 if it is too large, 408 if it came too slowly, 400 if it was cut short.
    """
    if announced is not None and announced.isdecimal() and int(announced[:18]) > limits.body_bytes:
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Problem(400, "body: it was cut short. Send it again.", CLOSE)
                part = message.get("body", b"")
                size += len(part)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Problem(
            408, f"body: expected all of it within {limits.body_seconds:g} s. Send it again.", CLOSE
        ) from None


def parse_json(body: bytes, depth: int) -> Any:
    """Return what a JSON text says, if it says one thing and all of it can be said again.

    Args:
        body: UTF-8.
        depth: lists and objects inside one another.

    Raises:
        Problem: 400: not JSON, a name twice in one object, NaN or a number beyond float64, half a surrogate
            pair, or nested too deeply.

    Example:
        >>> parse_json(b'{"user": "u1", "rating": 4.5}', 8)
        {'user': 'u1', 'rating': 4.5}
        >>> parse_json(b'{"user": "a", "user": "b"}', 8)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ...
        Problem: 400: body: expected each name once in an object, came "user" twice. Leave one out.
    """
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise Problem(400, "body: expected UTF-8, came bytes or escapes that are no text. Encode it anew.") from None
    except RecursionError:
        raise _too_deep(depth) from None
    except ValueError as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(400, f"body: expected JSON, came something else{place}. Check quotes and commas.") from None
    if body.count(b"[") + body.count(b"{") > depth and _depth(value, depth) > depth:
        raise _too_deep(depth)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1).encode(errors="replace").decode()
        raise Problem(400, f'body: expected each name once in an object, came "{twice[:40]}" twice. Leave one out.')
    return found


def _constant(name: str) -> float:
    raise Problem(400, f"body: expected a number, came {name}. Leave it out if it is unknown.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Problem(400, "body: expected numbers of 64 bits, came a larger one. Send it as a text.")
    return number


def _depth(value: Any, most: int) -> int:
    """Return how deep a value is nested, or `most + 1` as soon as that is clear."""
    level, depth = [value], 0
    while level and depth <= most:
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.append(one.values())
            elif isinstance(one, list):
                inner.append(one)
        level = [below for group in inner for below in group]
        depth += bool(inner)
        if not inner:
            break
    return depth


def _too_deep(depth: int) -> Problem:
    return Problem(400, f"body: expected at most {depth} lists and objects inside one another, came more. Flatten it.")


def _too_large(limits: Limits) -> Problem:
    return Problem(413, f"body: expected at most {limits.body_bytes:,} bytes, came more. Send it in parts.", CLOSE)
