"""What a user reads uses the field's words: help, messages, the API document, the page, README and docs.

`SAY` maps a word that the project does not use to the word that stands in its place. `MEANT` lists the few places
where such a word has its ordinary meaning, each with the reason.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import segue
from docs.test_docs import ROOT
from golden.test_golden import commands, spoken
from segue.cli.app import RENAMED_OPTIONS, RENAMED_VERBS
from segue.config import OLD_NAMES
from segue.serve.api import health

SOURCE = Path(segue.__file__).parent
#: A word that is not said, as a pattern -> what is said.
SAY = {
    r"bundles?": "model",
    r"lanes?": "batch size",
    r"passes|(?:a|each|per|one|every|first|last|\d+) pass": "epoch",
    r"leads?": "improvement over the best baseline",
    r"fore(?:told|tells?|telling|saw|seen)": "predicted",
    r"judge[sd]?|judging": "ranked",
    r"forg[eo]ts?|forgotten|forgetting": "erased",
    r"tombstones?": "erasure record",
    r"shelf|shelves": "item filters",
    r"mixtures?|mixed in": "blend, blended",
    r"had again|what (?:was|is) had|what (?:a user|the user|users|they) had": "seen items, repeat consumption",
    r"told|telling|tell (?:the server|it|events?|an event)": "ingest",
    r"swap(?:s|ped|ping)?": "roll out, roll back",
    r"marks": "note, standard error, confidence interval",
    r"live quality": "online metrics",
    r"counts of what followed|what followed": "transition counts",
    r"weighed|weighing": "blended, tuned",
    r"what the shop wants": "filter, boost, pin, block",
    r"blind to each other": "do not influence each other",
    r"desk|kindred|ledger|hats": "app context, taste, rating state, linear-spline weights",
}
#: Old names of settings, verbs and options are said nowhere but in the tables that refuse them.
SAY |= {re.escape(old): new for old, new in (OLD_NAMES | RENAMED_OPTIONS).items()}
SAY |= {f"segue {old}": f"segue {new}" for old, new in RENAMED_VERBS.items()}
#: Where a word has its ordinary meaning: (place, words around it) -> why.
MEANT = {
    ("src/segue/store/sql/", "bundles"): "a table of stores that exist",
    ("src/segue/insight/report.py", "forget bias"): "a term of the LSTM",
    ("docs/results.md", "model.norm=false"): "the command of a kept run, as it was given then",
    ("docs/start/concepts.md", "|"): "its table of old words for readers of the lab notes",
}


def literals(text: str) -> Iterator[tuple[int, str]]:
    """Give each string of two words or more in Python source that is no docstring, with its line."""
    tree = ast.parse(text)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        said = node.value if isinstance(node, ast.Constant) and id(node) not in silent else None
        if isinstance(said, str) and " " in said.strip():
            yield node.lineno, said


def strings_of(value: object) -> Iterator[str]:
    """Give every string in plain values, keys included."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from (str(key), *strings_of(below))
    elif isinstance(value, list):
        for below in value:
            yield from strings_of(below)
    elif isinstance(value, str):
        yield value


def read_by_users() -> Iterator[tuple[str, str]]:
    """Give each text that a user may read, with its place."""
    for words, command in commands().items():
        yield "help of " + " ".join(words), spoken(words, command)
    for path in sorted(SOURCE.rglob("*.py")):
        for line, text in literals(path.read_text()):
            yield f"{path.relative_to(ROOT)}:{line}", text
    for text in strings_of(json.loads(json.dumps(health.described()))):
        yield "OpenAPI document", text
    for name in segue.__all__:
        public = getattr(segue, name)
        members = vars(public).items() if inspect.isclass(public) else ()
        for member, value in [("", public), *((f".{key}", each) for key, each in members if key[0] != "_")]:
            yield f"segue.{name}{member}", inspect.getdoc(value) or ""
    static = SOURCE / "serve/static"
    for path in sorted(static.glob("*.html")):
        page = path.read_text()
        yield path.name, re.sub(r"<[^>]*>", " ", page)
        for text in re.findall(r'(?:title|placeholder|aria-label)="([^"]*)"', page):
            yield path.name, text
    for path in sorted(static.glob("*.js")):
        for text in re.finditer(r'"[^"\n]* [^"\n]*"|`[^`]*`', path.read_text()):
            yield path.name, text[0]
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        inside = page.relative_to(ROOT)
        if not {"decisions", "lab-notes", "reference"} & set(inside.parts):  # the last is made of the code
            yield str(inside), page.read_text()


def faults(texts: Iterator[tuple[str, str]]) -> list[str]:
    """Return a line for each word that is not said, with what is said."""
    said = []
    for place, text in texts:
        for word, instead in SAY.items():
            for match in re.finditer(rf"(?<![\w-])(?:{word})(?![\w-])", text, re.IGNORECASE):
                around = " ".join(text[max(0, match.start() - 60) : match.end() + 40].split())
                if not any(place.startswith(where) and words in around for where, words in MEANT):
                    said.append(f'{place}: "{match[0]}", say {instead}: ... {around} ...')
    return said


def test_what_a_user_reads_has_the_words_of_the_field():
    said = faults(read_by_users())
    if said:
        pytest.fail("\n".join(said), pytrace=False)


@pytest.mark.parametrize(
    ("planted", "instead"),
    [
        ('raise ValueError(f"{name}: expected a bundle, came {other}.")', "model"),
        ('say("Weighing counts of what followed the last items")', "transition counts"),
        ('typer.Option(help="Number of passes.")', "epoch"),
        ('why = {True: "the model foretold it", False: ""}', "predicted"),
        ('LINES = ["was forgotten on request"]', "erased"),
    ],
)
def test_a_planted_word_is_seen(planted, instead):
    source = f'"""A page whose docstring may speak of bundles and passes."""\n\n{planted}\n'
    said = faults((f"planted.py:{line}", text) for line, text in literals(source))
    assert said and all(line.startswith("planted.py:3: ") for line in said)
    assert any(f", say {instead}" in line for line in said)


def test_every_exception_is_in_use():
    texts = list(read_by_users())
    for place, words in MEANT:
        assert any(where.startswith(place) and words in " ".join(text.split()) for where, text in texts), (place, words)
