"""The OpenAPI page: each route as its signature says it, with all types under `components`.

Knows: OpenAPI 3.1. Does not know: what a single route does.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse

from segue.serve.http import bodies
from segue.serve.http.problems import Problem
from segue.serve.http.routing import Operation

#: Under this name a route says its role.
ROLE = "x-role"
#: Under this name a route says what a line of NDJSON is, and the line that answers it: generators know JSON alone.
LINES = "x-ndjson"
_REF = "#/components/schemas/"
_DESCRIPTION = (
    "Events in, lists out. Ids are texts; in a path they are percent-encoded, the slash too. Times are seconds "
    "since 1970 or ISO 8601. Errors are problem documents (RFC 9457). Where the server asks for keys, each route "
    "needs a role (read, write or admin; each may do what those before it may): Authorization: Bearer KEY."
)
_PROBLEM = {"content": {"application/problem+json": {"schema": {"$ref": _REF + "Problem"}}}}
#: What any route may answer beside what it is for.
_PROBLEMS = {
    "4XX": {"description": "What was expected, what came, what to do (RFC 9457).", **_PROBLEM},
    "5XX": {"description": "It cannot be done just now; nothing of it was done.", **_PROBLEM},
}


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the description of all routes that have a tag."""
    shown = [one for one in operations if one.tag is not None]
    every = [kind for one in shown for kind in (*one.bodies, one.answer, one.line, one.line_answer) if kind]
    kinds = {kind for kind in every if issubclass(kind, msgspec.Struct)}
    schemas = bodies.schemas(*kinds, Problem)
    for kind in kinds:
        if examples := getattr(kind, "examples", ()):
            schemas[kind.__name__]["examples"] = list(examples)
    paths: dict[str, Any] = {}
    for one in shown:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Segue", "description": _DESCRIPTION, "version": "1"},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _operation(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tags": [one.tag],
        "summary": one.name.replace("_", " ").capitalize(),
        "description": inspect.getdoc(one.run),
        "operationId": one.name,
    }
    parameters = [
        *_parameters(one.parts, "path"), *_parameters(one.query, "query"), *_parameters(one.headers, "header")
    ]  # fmt: skip
    if parameters:
        found["parameters"] = parameters
    if one.bodies:
        shapes = [{"$ref": _REF + kind.__name__} for kind in one.bodies]
        schema = shapes[0] if len(shapes) == 1 else {"oneOf": shapes}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if one.each is not None:
        found[LINES] = {"line": {"$ref": _REF + one.line.__name__}, "answer": {"$ref": _REF + one.line_answer.__name__}}
    if one.answer is PlainTextResponse:
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": {"$ref": _REF + one.answer.__name__}}}
    statuses = {200: "Done.", **one.also}
    answers = {str(status): {"description": words, "content": content} for status, words in statuses.items()}
    found["responses"] = {**answers, **_PROBLEMS}
    return found | ({} if one.role is None else {ROLE: one.role})


def _parameters(kind: type[msgspec.Struct] | None, where: str) -> list[dict[str, Any]]:
    """Return the fields of a type as parameters; one that is not sent is absent, never null."""
    if kind is None:
        return []
    shape = bodies.schemas(kind)[kind.__name__]
    found = []
    for name, field in shape["properties"].items():
        schema = dict(field)
        kinds = [other for other in schema.get("anyOf", ()) if other != {"type": "null"}]
        if {"type": "null"} in schema.get("anyOf", ()):
            schema.pop("anyOf")
            schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        if schema.get("default", ...) in (None, []):
            del schema["default"]
        described = {"description": schema.pop("description")} if "description" in schema else {}
        needed = name in shape["required"]
        found.append({"name": name, "in": where, "required": needed, "schema": schema, **described})
    return found
