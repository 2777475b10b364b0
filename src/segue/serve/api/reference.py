"""The description of all routes as a page for people: `/docs`, without a script and without requests elsewhere.

Knows: OpenAPI, HTML, and a recorded request of each route: `static/examples.json`, which
`docs/tools/generate.py --examples` writes. Does not know: what a route does.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from segue.serve.http.openapi import LINES, ROLE

_KINDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
_BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "minLength": "at least {} long",
           "maxLength": "at most {} long", "minItems": "at least {}", "maxItems": "at most {}"}  # fmt: skip


def examples() -> dict[str, Any]:
    """Return a request and its answer by route, such as `GET /v1/status`."""
    found: dict[str, Any] = json.loads((Path(__file__).parents[1] / "static/examples.json").read_text(encoding="utf-8"))
    return found


def page(api: Mapping[str, Any]) -> str:
    """Return the page of all routes."""
    routes = [
        (method.upper(), path, said) for path, methods in api["paths"].items() for method, said in methods.items()
    ]
    tags: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for route in routes:
        tags.setdefault(route[2]["tags"][0], []).append(route)
    seen, schemas = examples(), api["components"]["schemas"]
    links = "".join(
        f"<h2>{escape(tag.capitalize())}</h2><ul>{''.join(map(_link, of))}</ul>" for tag, of in tags.items()
    )
    body = "".join(
        f'<section aria-label="{escape(tag)}"><h2>{escape(tag.capitalize())}</h2>'
        + "".join(_route(*one, seen.get(f"{one[0]} {one[1]}")) for one in of)
        + "</section>"
        for tag, of in tags.items()
    )
    shapes = "".join(_schema(name, schema) for name, schema in schemas.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>Segue: the API</title>'
        '<link rel="icon" type="image/svg+xml" href="/page/icon.svg"><link rel="stylesheet" href="/page/page.css">'
        '</head><body class="reference"><a class="skip" href="#main">Skip to the routes</a><header>'
        '<p class="brand"><a href="/">Segue</a></p><nav aria-label="Pages"><a href="/">Shop window</a>'
        '<a href="/operator">Operator</a><a href="/docs" aria-current="page">API</a></nav></header>'
        f'<nav class="contents" aria-label="Routes">{links}<h2><a href="#schemas">Schemas</a></h2></nav>'
        f'<main id="main"><h1>The API of this server</h1><p>{_text(api["info"]["description"])}</p>'
        "<p>Each example is a request to a server of a small film shop, with its answer; long lists are shortened. "
        "Add <code>-H 'authorization: Bearer KEY'</code> where the server asks for a key. The same description for "
        'programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f'{body}<section aria-label="Schemas"><h2 id="schemas">Schemas</h2>{shapes}</section></main></body></html>'
    )


def _text(text: str) -> str:
    """Return a text of the code as HTML: what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))


def _anchor(method: str, path: str) -> str:
    return f"{method}-{path}".lower().replace("/", "-").replace("{", "").replace("}", "")


def _link(route: tuple[str, str, Mapping[str, Any]]) -> str:
    method, path, _ = route
    return f'<li><a href="#{_anchor(method, path)}"><b class="{method.lower()}">{method}</b> {escape(path)}</a></li>'


def _route(method: str, path: str, said: Mapping[str, Any], example: Mapping[str, Any] | None) -> str:
    """Return one route: what it does, what it takes, what it answers, an example."""
    role = f"needs the role <strong>{said[ROLE]}</strong>" if ROLE in said else "open to all"
    parts = [
        f'<article id="{_anchor(method, path)}" aria-label="{method} {escape(path)}">',
        f'<h3><b class="{method.lower()}">{method}</b> <code>{escape(path)}</code></h3><p class="quiet">{role}</p>',
        "".join(f"<p>{_text(text)}</p>" for text in said["description"].split("\n\n")),
    ]
    rows = [
        (f"<code>{escape(one['name'])}</code>", f"{one['in']}; {_type(one['schema'])}" + "; required" * one["required"],
         _text(one.get("description", "")))
        for one in said.get("parameters", [])
    ]  # fmt: skip
    parts.append(_table(("parameter", "where, values", "what"), rows))
    for kind in said.get("requestBody", {}).get("content", {}).values():
        parts.append(f"<p>Body: {_type(kind['schema'])}.</p>")
    if LINES in said:
        lines = said[LINES]
        parts.append(f"<p>As NDJSON: {_type(lines['line'])} on each line, for each a {_type(lines['answer'])}.</p>")
    answers = [(status, one) for status, one in said["responses"].items() if status.isdigit()]
    parts += [
        f"<p>{status}: {_text(one['description'])} {_type(kind['schema'])}</p>"
        for status, one in answers
        for kind in one["content"].values()
    ]
    if example is not None:
        parts.append(f'<pre tabindex="0" aria-label="Request">{escape(_curl(method, example))}</pre>')
        parts.append(f'<pre tabindex="0" aria-label="Answer">{escape(_shown(example["answer"]))}</pre>')
    return "".join([*parts, "</article>"])


def _curl(method: str, example: Mapping[str, Any]) -> str:
    body = example.get("body")
    sent = (
        ""
        if body is None
        else f" \\\n  -H 'content-type: application/json' \\\n  -d '{json.dumps(body, ensure_ascii=False)}'"
    )
    verb = "" if method == ("GET" if body is None else "POST") else f" -X {method}"
    return f"curl{verb} 'localhost:8000{example['path']}'{sent}"


def _shown(answer: Any) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, indent=2, ensure_ascii=False)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(of) + "; required" * (field in needed),
            _text(of.get("description", "")),
        )
        for field, of in schema.get("properties", {}).items()
    ]
    sent = "".join(f'<pre tabindex="0">{escape(json.dumps(one))}</pre>' for one in schema.get("examples", []))
    return (
        f'<article id="schema-{name}"><h3>{name}</h3><p>{_text(schema.get("description", ""))}</p>'
        f"{_table(('field', 'values', 'what'), rows)}{sent}</article>"
    )


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _type(schema: Mapping[str, Any]) -> str:
    """Return in words which values a JSON schema allows, with links to the schemas it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{name}">{name}</a>'
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    return " ".join(_plain(schema))


def _plain(schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type", "any value")
    inner = schema.get("additionalProperties") or schema.get("items") or next(iter(schema.get("prefixItems", ())), None)
    names = {"array": "list", "object": "object"}
    yield names.get(kind) or _KINDS.get(kind, str(kind))
    if kind in names and inner:
        yield f"of {_type(inner)}"
    yield from (words.format(f"{schema[key]:,g}") for key, words in _BOUNDS.items() if key in schema)
    if schema.get("default") not in (None, [], {}, ""):
        yield f"(default <code>{escape(json.dumps(schema['default']))}</code>)"
