"""A route: a function whose signature says what it takes and what it answers.

Knows: signatures, roles, how an error of a route becomes a document. Does not know: what a single route does.

The parameters of the function are read by name. `call` is the request itself; `body`, `query` and `headers` have the
types that read them; any other parameter is a part of the path. What the function returns is sent as JSON. The
OpenAPI page is made of the same signatures (`segue.serve.http.openapi`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from types import UnionType
from typing import Any, BinaryIO, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.responses import Response

from segue.serve.http.app_context import AppContext
from segue.serve.http.auth import Key, Role
from segue.serve.http.bodies import Receive, convert, line_groups, parse_json
from segue.serve.http.limits import LARGE
from segue.serve.http.middleware import NDJSON, Passed, Scope, Send, allow, send_json
from segue.serve.http.problems import Invalid, Problem, Refusal, problem_of

_LINES = msgspec.json.Encoder()
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


class Call(msgspec.Struct):
    """One request.

    Args:
        context: what routes work with.
        key: of the client.
        status: of the answer; the function may change it.
        sent: the body as JSON says it, or without a body the names and texts of the address.
    """

    context: AppContext
    key: Key
    status: int = 200
    sent: Any = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """What a route takes in its address that takes nothing there."""


class Operation:
    """An ASGI application that reads a request, calls a function and sends what it returns.

    Args:
        method: of HTTP.
        path: with the names of its parts in braces.
        run: the function.
        role: that its callers need; None for none.
        tag: of the OpenAPI page; None leaves it out.
        also: other statuses of the same answer, and what they mean.
        each: does with one line of NDJSON, its parameter `line`, what `run` does with a body. Its answer has a field
            `error`, a problem document.
    """

    def __init__(
        self,
        method: str,
        path: str,
        run: Callable[..., Awaitable[Any]],
        *,
        role: Role | None = None,
        tag: str | None = None,
        also: Mapping[int, str] | None = None,
        each: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        self.method, self.path, self.run, self.name = method, path, run, run.__name__
        self.role, self.tag, self.also = role, tag, also or {}
        hints = get_type_hints(run, include_extras=True)
        hints.pop("call", None)
        self.answer: Any = hints.pop("return")
        body = hints.pop("body", None)
        self.bodies: tuple[type[msgspec.Struct], ...] = get_args(body) if isinstance(body, UnionType) else (body,)
        self.bodies = () if body is None else self.bodies
        self.query, self.headers = hints.pop("query", Nothing), hints.pop("headers", None)
        self.parts: type[msgspec.Struct] | None = msgspec.defstruct("Parts", list(hints.items())) if hints else None
        self.each, line = each, get_type_hints(each, include_extras=True) if each else {}
        self.line: Any = line.get("line")
        self.line_answer: Any = line.get("return")
        self._lists = {one.encode_name for one in msgspec.structs.fields(self.query) if _is_list(one.type)}
        self._named = {name.encode(): name for name in _names(self.headers)} if self.headers else {}
        self._needed = [(kind, _names(kind, required=True)) for kind in reversed(self.bodies[1:])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope["segue.route"] = self.path
        passed: Passed = scope["segue.passed"]
        context: AppContext = scope["app"].state.context
        try:
            if self.role is not None:
                allow(passed.key, self.role)
            call = Call(context, passed.key)
            if passed.lines is not None:
                self._check_lines(scope, passed)
                await self._answer_lines(call, scope["path"], passed.lines, receive, send)
                return
            depth = context.access.limits.depth
            read = context.run(self._read, call, scope, passed, depth) if len(passed.body) > LARGE else None
            answer = await self.run(call, **(self._read(call, scope, passed, depth) if read is None else await read))
            body = b"" if isinstance(answer, Response) else msgspec.json.encode(answer)
        except Exception as error:
            answer = problem_of(error, scope["path"])
        if isinstance(answer, Response):
            await answer(scope, receive, send)
        else:
            await send_json(send, call.status, body)

    def _read(self, call: Call, scope: Scope, passed: Passed, depth: int) -> dict[str, Any]:
        """Return the arguments of the function, but for the call, which gets what was sent."""
        found: dict[str, Any] = {}
        if self.parts is not None:
            found = msgspec.structs.asdict(convert(_unquoted(scope["path_params"]), self.parts, "path", text=True))
        if self.query is not Nothing:
            pairs = call.sent = self._pairs(scope["query_string"])
            query = found["query"] = convert(pairs, self.query, "query", text=True)
            for name in pairs:
                if getattr(query, name) is None:  # to msgspec the text "null" is a null
                    raise Invalid(f"query.{name}", f'expected a value, came "{pairs[name][:60]}"')
        elif scope["query_string"]:
            convert(self._pairs(scope["query_string"]), Nothing, "query")
        if self.headers is not None:
            sent = {
                name: passed.headers[raw].decode("latin-1")
                for raw, name in self._named.items()
                if raw in passed.headers
            }
            found["headers"] = convert(sent, self.headers, "header", text=True)
        if self.bodies:
            value = call.sent = parse_json(passed.body, depth)
            found["body"] = convert(value, self._kind_of(value), "body")
        return found

    def _check_lines(self, scope: Scope, passed: Passed) -> None:
        """Do nothing if a request of NDJSON may be answered line by line."""
        if self.each is None:
            raise Refusal(415, "Content-Type: expected application/json on this route, came NDJSON. Send JSON.")
        if scope["query_string"] or self._named.keys() & passed.headers.keys():
            raise Refusal(422, "NDJSON: expected no options in address or headers, came some. Each line says its own.")

    async def _answer_lines(self, call: Call, path: str, lines: BinaryIO, receive: Receive, send: Send) -> None:
        """Answer each line of NDJSON with a line, in their order, group by group while the client reads."""
        assert self.each is not None
        each, limits, gone = self.each, call.context.access.limits, asyncio.ensure_future(receive())

        async def one(text: bytes) -> Any:
            try:
                if len(text) > limits.body_bytes:
                    raise Refusal(413, f"line: expected at most {limits.body_bytes:,} bytes, came more. Shorten it.")
                value = parse_json(text, limits.depth)
                return await each(Call(call.context, call.key, sent=value), convert(value, self.line, "line"))
            except Exception as error:
                problem = msgspec.json.decode(problem_of(error, path).body, type=Problem)
                return self.line_answer(error=problem)

        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON.encode())]})
            for group in line_groups(lines, limits):
                if gone.done():  # the client
                    break
                found = await asyncio.gather(*map(one, group))
                await send({"type": "http.response.body", "body": _LINES.encode_lines(found), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()

    def _pairs(self, query: bytes) -> dict[str, Any]:
        """Return what an address says behind its question mark; of a name sent twice the last holds, or all."""
        found: dict[str, Any] = {}
        if query:
            for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                if name in self._lists:
                    found.setdefault(name, []).append(text)
                else:
                    found[name] = text
        return found

    def _kind_of(self, value: Any) -> type[msgspec.Struct]:
        """Return the type of body that a value is of: the last whose required names are all there."""
        for kind, needed in self._needed:
            if isinstance(value, dict) and needed <= value.keys():
                return kind
        return self.bodies[0]


class Routes:
    """An ASGI application that hands each request to the operation of its path and method.

    Args:
        operations: no two of the same path and method; GET also answers HEAD.
        refuse: returns the error for a method and a path that none takes, given the methods that the path takes.
    """

    def __init__(
        self, operations: Iterable[Operation], refuse: Callable[[str, str, Collection[str]], Exception]
    ) -> None:
        self._refuse = refuse
        self._plain: dict[str, dict[str, Operation]] = {}
        for one in operations:
            methods = self._plain.setdefault(one.path, {})
            methods[one.method] = one
            if one.method == "GET":
                methods["HEAD"] = one
        named = [path for path in self._plain if "{" in path]
        self._named = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), self._plain.pop(path)) for path in named
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or raise why no operation does."""
        path, method = scope["path"], scope["method"]
        methods: Mapping[str, Operation] | None = self._plain.get(path)
        if methods is None:
            methods, scope["path_params"] = self._matched(path)
        if method not in methods:
            raise self._refuse(method, path, methods)
        await methods[method](scope, receive, send)

    def _matched(self, path: str) -> tuple[Mapping[str, Operation], dict[str, str]]:
        for shape, methods in self._named:
            if found := shape.fullmatch(path):
                return methods, found.groupdict()
        return {}, {}


class Router:
    """Routes of one kind, as functions declare them."""

    def __init__(self, tag: str | None) -> None:
        self.tag = tag
        self.operations: list[Operation] = []

    def route(
        self,
        method: str,
        path: str,
        role: Role | None = None,
        *,
        hidden: bool = False,
        also: Mapping[int, str] | None = None,
        each: Callable[..., Awaitable[Any]] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Return what makes a function a route."""

        def declare(run: Handler) -> Handler:
            tag = None if hidden else self.tag
            self.operations.append(Operation(method, path, run, role=role, tag=tag, also=also, each=each))
            return run

        return declare


def _unquoted(parts: Mapping[str, str]) -> dict[str, str]:
    try:
        return {name: unquote(text, errors="strict") for name, text in parts.items()}
    except UnicodeError:
        raise Invalid("path", "expected UTF-8, came bytes that are no text") from None


def _names(kind: type[msgspec.Struct], *, required: bool = False) -> set[str]:
    return {one.encode_name for one in msgspec.structs.fields(kind) if one.required or not required}


def _is_list(kind: Any) -> bool:
    """Say whether a type, with whatever notes, is a list."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    return get_origin(kind) is list
