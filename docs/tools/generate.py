"""Write the pages of the reference from the code, into `docs/reference/`: `python docs/tools/generate.py`.

With `--examples` it also records the answers that a server shows at `/docs`.

Knows: the command line, the settings, the names of `segue`, the metrics, and what a server says of itself.
Does not know: what any of them does; each text comes from the code that it describes.
"""

import dataclasses
import inspect
import json
import re
import sys
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any

import typer
from pydantic import TypeAdapter

import segue
from segue import config
from segue.cli import app as cli
from segue.metrics import metrics as segue_metrics

sys.path.insert(0, str(Path(__file__).parent))
import answers

PAGES = Path(__file__).parents[1] / "reference"
#: What `/docs` of a server shows.
EXAMPLES = Path(segue.__file__).parent / "serve/static/examples.json"
#: Verbs that share an option from which on it is described once, below all of them.
SHARED = 4
SETTING = re.compile(r"^        (\w+): (.*(?:\n            .*)*)", re.MULTILINE)
POINT = re.compile(r"^    - (.*(?:\n      .*)*)", re.MULTILINE)


def cell(text: str) -> str:
    """Return a text that can stand in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table; nothing where there are no rows."""
    if not rows:
        return ""
    lines = [names, tuple("---" for _ in names), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines) + "\n"


# The command line


def commands(command: Any = None, words: tuple[str, ...] = ("segue",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give each command that does something, with its words."""
    command = command or typer.main.get_command(cli.app)
    below = getattr(command, "commands", {})
    if not below:
        yield words, command
    for name, each in below.items():
        yield from commands(each, (*words, name))


def option(asked: Any, hints: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return an option or argument as a line of a table: its names, its values, its help."""
    names = [asked.metavar or asked.name.upper()]
    if asked.param_type_name == "option":
        names = [*asked.opts, *asked.secondary_opts]
    members = [each for each in typing.get_args(hints[asked.name]) if each is not NoneType] or [hints[asked.name]]
    origin = typing.get_origin(members[0]) or members[0]
    kinds = {bool: "", str: "text", int: "whole number", float: "number", Path: "path", list: "text, may be repeated"}
    notes = [kinds.get(origin, "text")]
    if asked.required:
        notes.append("required")
    elif isinstance(asked.default, str | int | float) and asked.default is not False:
        notes.append(f"default `{asked.default}`")
    return ", ".join(f"`{name}`" for name in names), "; ".join(note for note in notes if note), asked.help or ""


def command_line() -> str:
    """Return the page of all verbs; options that many share are described once."""
    lines = {
        words: [option(asked, typing.get_type_hints(command.callback)) for asked in command.params]
        for words, command in commands()
    }
    often = Counter(line for of in lines.values() for line in of)
    shared = [line for line, times in often.items() if times >= SHARED and line[0].startswith("`--")]
    page = [
        "# Command line",
        "",
        "Each verb says the same with `--help`. Exit codes: 0 done, 1 bad input with a message,",
    ]
    page += ["2 wrong usage, 3 a condition of `--fail-if` holds, or `segue retrain` trained and did not publish.", ""]
    for words, command in commands():
        own = [line for line in lines[words] if line not in shared]
        common = ", ".join(line[0].split(",")[0] for line in lines[words] if line in shared)
        page += [f"## `{' '.join(words)}`", "", str(command.help), "", table(("name", "value", "what"), own)]
        page += [f"Also [shared options](#shared-options): {common}.", ""] if common else []
    page += ["## Shared options", "", "Several verbs read a log, tables, or settings. They share these options.", ""]
    return "\n".join([*page, table(("name", "value", "what"), shared)])


# The settings


def values(schema: Mapping[str, Any]) -> str:
    """Return in words which values a JSON schema allows."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [each for each in schema.get("anyOf", schema.get("oneOf", [])) if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(values(each) for each in kinds)) or "null"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{json.dumps(each).strip(chr(34))}`" for each in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {values(schema.get('items', {}))}"
    named = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    said = [f"{word} {schema[key]:g}" for key, word in bounds.items() if key in schema]
    return " ".join([named.get(kind, kind), *said])


def linked(text: str) -> str:
    """Return a text of the code with links where it names pages."""
    return re.sub(
        r"`?docs/(decisions|results)(?:\.md|/[\w-]*)?`?",
        lambda page: f"[{page[1]}](../{'results' if page[1] == 'results' else 'decisions/index'}.md)",
        text,
    )


def default_of(value: object, said: str) -> str:
    """Return the default of a setting as a table shows it."""
    if value is None:
        return "from the data" if re.search(r"None (?!never)", said) else "none"
    return f"`{json.dumps(value)}`" if isinstance(value, bool) else f"`{value}`" if value != "" else "empty"


def settings() -> str:
    """Return the page of all settings, and how those that are left out are chosen."""
    page = [
        "# Settings",
        "",
        "Most settings are chosen from your data. `segue info MODEL` shows what was chosen. Give one by",
    ]
    page += ["`--set train.minutes=5`, many in a TOML file by `--config FILE`, and in Python by `config={...}`.", ""]
    for part in dataclasses.fields(config.Config):
        kind = typing.get_type_hints(config.Config)[part.name]
        schema = TypeAdapter(kind).json_schema()["properties"]
        rows = [
            (f"`{part.name}.{name}`", values(schema[name]), default_of(schema[name].get("default"), said), said)
            for name, said in SETTING.findall(kind.__doc__)
        ]
        page += [f"## {part.name}", "", kind.__doc__.splitlines()[0], ""]
        page += [table(("setting", "values", "default", "what"), rows)]
    page += ["## How settings are chosen from the data", ""]
    page += [f"- {linked(' '.join(point.split()))}" for point in POINT.findall(str(config.derive.__doc__))]
    return "\n".join([*page, ""])


# Python and metrics

GROUPS = {
    "Read and split a log": (
        "read_events",
        "inspect",
        "Reading",
        "Events",
        "hold_out",
        "split_*",
        "windows",
        "Windows",
    ),
    "Train and measure": ("train", "evaluate", "evaluate_ratings", "evaluate_stream", "configure", "Config"),
    "Recommend": ("load", "Recommender", "Item", "State", "States", "Trends", "F", "Rule", "scenario"),
    "Plan and convert": ("Plan", "Beam", "Sample", "convert"),
    "Errors": ("SegueError",),
}


def grouped() -> dict[str, list[str]]:
    """Return the public names by group, in the order of `GROUPS`; a name of no group stands in the last."""
    left, found = list(segue.__all__), {}
    for group, patterns in GROUPS.items():
        found[group] = [n for p in patterns for n in left if n == p or (p.endswith("*") and n.startswith(p[:-1]))]
        left = [name for name in left if name not in found[group]]
    return found | ({"More": left} if left else {})


def python() -> str:
    """Return the page of all public names; mkdocstrings fills it from their docstrings."""
    page = ["# Python", "", "All that `import segue` offers. Each example runs in the tests.", ""]
    for group, names in grouped().items():
        page += [f"## {group}", ""]
        page += [line for name in names for line in (f"::: segue.{name}", "    options: {heading_level: 3}", "")]
    return "\n".join(page)


def metrics_module() -> ModuleType:
    """Return the module of the metrics."""
    return sys.modules[inspect.unwrap(segue_metrics.ndcg).__module__]


def metrics() -> str:
    """Return the page of all metrics with their formulas, from their docstrings."""
    module = metrics_module()
    page = [
        "# Metrics",
        "",
        "Each is one function of `segue.metrics`, with its formula and an example that runs. The lists may come from",
        "any model. Ranks count from 1. A target that ties with other items stands behind all of them.",
        "",
    ]
    parts = ("any_lists", "several_targets", "lists", "probabilities", "ranks", "bootstrap")
    for name in (module.__name__, *(f"segue.metrics.{part}" for part in parts)):
        options = "    options: {show_root_heading: false, show_root_toc_entry: false, heading_level: 2}"
        page += [f"::: {name}", options, ""]
    return "\n".join(page)


# HTTP


def fields(schema: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the fields of an object as lines of a table."""
    needed = schema.get("required", [])
    return [
        (f"`{name}`", values(each) + ("; required" if name in needed else ""), each.get("description", ""))
        for name, each in schema.get("properties", {}).items()
    ]


def shown(answer: answers.Answer) -> str:
    """Return a request as a line of curl, and what the server answered."""
    sent = f"'{json.dumps(answer.body, ensure_ascii=False)}'"
    body = "" if answer.body is None else f" \\\n  -H 'content-type: application/json' -d {sent}"
    method = "" if answer.method == ("GET" if answer.body is None else "POST") else f" -X {answer.method}"
    lines = [f"```sh\ncurl{method} 'localhost:8000{answer.path}'{body}\n```", "", f"`{answer.status}`", ""]
    language = "json" if answer.text[:1] in "{[" else "text"
    return "\n".join([*lines, f"```{language}\n{answer.text}\n```", ""])


def operation(
    method: str, path: str, said: Mapping[str, Any], schemas: Mapping[str, Any], seen: list[answers.Answer]
) -> str:
    """Return one route: what it does, what it takes, an example, what it answers."""
    page = [f"### `{method.upper()} {path}`", "", said.get("description", said.get("summary", "")), ""]
    taken = [
        (f"`{each['name']}`", f"{each['in']}; {values(each.get('schema', {}))}", each.get("description", ""))
        for each in said.get("parameters", [])
    ]
    page += [table(("parameter", "where, values", "what"), taken)]
    for kind in said.get("requestBody", {}).get("content", {}).values():
        schema = kind.get("schema", {})
        names = [ref.rpartition("/")[2] for ref in re.findall(r'"\$ref": "([^"]+)"', json.dumps(schema))]
        links = " or ".join(f"[{name}](#{name.lower()})" for name in names)
        page += [f"Body: {links}.", ""] if links else ["Body:", "", table(("field", "values", "what"), fields(schema))]
    return "\n".join([*page, *(shown(answer) for answer in seen)])


def http(openapi: Mapping[str, Any], seen: Mapping[tuple[str, str], list[answers.Answer]]) -> str:
    """Return the page of all routes, with what a real server answered, and the schemas that they name."""
    page = [
        "# HTTP",
        "",
        "A server describes itself at `/openapi.json`, and `/docs` shows this description in a browser.",
    ]
    page += ["The answers below came from a server that ran while this page was made.", ""]
    schemas = openapi["components"]["schemas"]
    tags: dict[str, list[str]] = {}
    for path, methods in openapi["paths"].items():
        for method, said in methods.items():
            made = operation(method, path, said, schemas, seen[method.upper(), path])
            tags.setdefault(said.get("tags", ["other"])[0], []).append(made)
    for tag, routes in tags.items():
        page += [f"## {tag.capitalize()}", "", *routes]
    page += [
        "## Refusals",
        "",
        "A refusal is one JSON object. It says what was expected, what came, and what to do.",
        "",
    ]
    page += [shown(answer) for answer in seen["refused", ""]]
    page += ["## Schemas", ""]
    for name, schema in schemas.items():
        page += [
            f"### {name}",
            "",
            schema.get("description", ""),
            "",
            table(("field", "values", "what"), fields(schema)),
        ]
    return "\n".join(page)


def shortened(value: Any) -> Any:
    """Return an answer with at most two of each list, and numbers of few digits."""
    if isinstance(value, dict):
        return {name: shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shortened(each) for each in value[:2]]
    return round(value, 3) if isinstance(value, float) else value


def examples(seen: Mapping[tuple[str, str], list[answers.Answer]]) -> str:
    """Return the examples of a server's own `/docs`: the first request of each route, with its answer."""
    found = {}
    for (method, path), (first, *_) in seen.items():
        if method != "refused":
            answer = shortened(json.loads(first.whole)) if first.text[:1] in "{[" else first.text[:600]
            found[f"{method} {path}"] = {"path": first.path, "body": first.body, "answer": answer}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def main(*, record: bool = False) -> None:
    """Write all pages; with `record` also the examples that a server shows at `/docs`."""
    PAGES.mkdir(exist_ok=True)
    pages = {"command-line": command_line(), "settings": settings(), "python": python(), "metrics": metrics()}
    openapi, seen = answers.collect()
    pages["http"] = http(openapi, seen)
    if record:
        EXAMPLES.write_text(examples(seen), encoding="utf-8")
    for name, text in pages.items():
        (PAGES / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(record="--examples" in sys.argv)
