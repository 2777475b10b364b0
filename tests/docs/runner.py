"""Run what a page shows: shell and Python blocks in their order, in a folder with the files of a small shop.

A block of `sh` runs line by line: `segue` in this process, `curl` against a server that the page has started. A block
of `text` or `json` after it is the output: its lines must come out again, but for numbers, ids and titles.
"""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segue.cli import app as cli

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "tools"))
import answers  # noqa: E402
import shop  # noqa: E402

#: Pages whose blocks do not run here: notes of a day, and pages that the code writes while the site is made.
NOT_RUN = ("lab-notes", "decisions", "reference")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [path for path in PAGES if not set(path.parts) & set(NOT_RUN)]
BLOCK = re.compile(r"^```(sh|python|text|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Commands that fetch, install, or run this very suite.
ELSEWHERE = re.compile(r"^(make|pip|python|cd|cp|ln|source) |^segue (demo|datasets get)\b")
QUICK = ("--set", "train.epochs=1", "--set", "model.width=8", "--set", "model.text=words")
#: The settings of a page that say how long it may train.
SLOW = re.compile(r"--set train\.(minutes|epochs)=\S+")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the blocks of a page, each with its language."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def lines(text: str) -> list[str]:
    """Return the commands of a block; a line that ends with a backslash, or within quotes, goes on with the next."""
    joined = re.sub(r"'[^']*'", lambda quoted: " ".join(quoted[0].split()), text.replace("\\\n", " "))
    return [line for line in joined.splitlines() if line.strip()]


def shape(line: str) -> str:
    """Return a line without what differs between logs and machines: numbers, ids, titles."""
    line = re.sub(r'"[^"]*"|\S+\.(tsv|csv|segue|db)\b|\b[0-9a-f]{12,}\b', "#", line)
    line = re.sub(r"^(Improvement over the best baseline), .*", r"\1", line)  # which, and whether it is one
    if re.match(r"\s*\d+\s+\S+\s+-?\d+\.\d+\b", line):  # a line of a list
        return "item"
    return " ".join(re.sub(r"[-+±]?\.?\d[\d.,:%TZ-]*", "#", line).split())


def same_keys(shown: object, found: object, where: str = "answer") -> None:
    """Fail where an answer lacks a field that is shown."""
    if isinstance(shown, dict):
        assert isinstance(found, dict) and shown.keys() <= found.keys(), f"{where}: {shown.keys()} of {found}"
        for key in shown:
            same_keys(shown[key], found[key], f"{where}.{key}")
    elif isinstance(shown, list) and shown:
        assert isinstance(found, list) and found, where
        same_keys(shown[0], found[0], f"{where}[0]")


class Reader:
    """Somebody who types what a page shows."""

    def __init__(self, folder: Path, kept: dict) -> None:
        self.folder, self.kept, self.scope, self.base, self.stack = folder, kept, {}, "", []

    def follow(self, page: Path) -> None:
        """Run all blocks of a page; fail where one does, or where an output is not what is shown."""
        said = ""
        for language, text in blocks(page):
            if language == "sh":
                said = "\n".join(map(self.type, lines(text)))
            elif language == "python":
                text = text.replace("http://127.0.0.1:8000", self.base or "http://127.0.0.1:8000")
                exec(compile(text, page.name, "exec"), self.scope)
            elif language == "json":
                same_keys(json.loads(text), json.loads(said.strip().splitlines()[-1]))
            elif said:
                found = {shape(line) for line in said.splitlines()}
                missing = [line for line in text.splitlines() if line.strip(" .") and shape(line) not in found]
                assert not missing, f"{page}: shown, and not said:\n" + "\n".join(missing) + f"\n\nsaid:\n{said}"

    def type(self, line: str) -> str:
        """Run a line and return what it printed."""
        if ELSEWHERE.match(line):
            return ""
        program, *words = shlex.split(line, comments=True) or ("#",)
        words = [word for word in words if word != "&"]
        if program == "curl":
            return self.curl(words)
        if program == "#":
            return ""
        if program == "mkdir":
            (self.folder / words[0]).mkdir()
            return ""
        assert program == "segue", f"no way to run: {line}"
        return self.serve(words) if words[0] == "serve" else self.segue(words)

    def segue(self, words: list[str]) -> str:
        """Run a verb; a training that was run before leaves its model again."""
        if words[0] == "train":
            words = shlex.split(SLOW.sub("", shlex.join(words))) + list(QUICK)
        out = words[words.index("-o") + 1] if "-o" in words else ""
        key = tuple(word for word in words if word not in (out, "--resume"))
        if key not in self.kept:
            done = CliRunner().invoke(cli.app, words)
            assert done.exit_code in ((0, 3) if words[0] == "retrain" else (0,)), (
                f"{words}: {done.output} {done.exception}"
            )
            made = (self.folder / out).read_bytes() if words[0] == "train" else b""
            if words[0] not in ("train", "evaluate"):
                return done.output
            self.kept[key] = done.output, made
        said, made = self.kept[key]
        if made:
            (self.folder / out).write_bytes(made)
        return said

    def serve(self, words: list[str]) -> str:
        """Start a server, in place of the one that ran."""
        self.close()
        server = answers.server(self.folder / words[1], *words[2:])
        self.base = server.__enter__()
        self.stack.append(server)
        return ""

    def close(self) -> None:
        """Stop the server."""
        while self.stack:
            self.stack.pop().__exit__(None, None, None)

    def curl(self, words: list[str]) -> str:
        """Send a request as curl would, and return the answer on one line."""
        parser = argparse.ArgumentParser()
        parser.add_argument("-X", dest="method")
        parser.add_argument("-s", action="store_true")
        parser.add_argument("-H", dest="header")
        parser.add_argument("-d", dest="body")
        parser.add_argument("url")
        asked = parser.parse_args(words)
        body = json.loads(asked.body) if asked.body else None
        assert body is None or asked.header == "content-type: application/json", words
        method = asked.method or ("POST" if body is not None else "GET")
        path = re.sub(r"^(http://)?localhost:8000", "", asked.url)
        got = answers.ask(self.base, method, path, body)
        assert got.status == 200, got
        return " ".join(got.text.split())


@pytest.fixture(scope="session")
def kept() -> dict:
    """What trainings and evaluations have made and said, by their words."""
    return {}


@pytest.fixture
def reader(tmp_path, monkeypatch, kept):
    """Give a reader in a folder with the files of the shop."""
    monkeypatch.chdir(shop.write(tmp_path))
    reader = Reader(tmp_path, kept)
    yield reader
    reader.close()
