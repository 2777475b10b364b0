"""What was written down once stays true: models of every format are read, and the help says what it said.

The texts of the help are in `help/`, the routes of the server in `openapi.json`;
`UPDATE_GOLDEN=1 python -m pytest tests/golden` writes them anew.
"""

import difflib
import hashlib
import json
import os
import re
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

import segue
from golden.make_model import HERE, WRITTEN, answer
from segue.cli import app as cli
from segue.config import OLD_NAMES, by_path
from segue.files import read_arrays
from segue.manifest import read_manifest
from segue.model.backend import leaves
from segue.model_file import FORMAT
from segue.serve.api import health

MODELS = sorted(HERE.glob("model-v*.segue"))
HELP = HERE / "help"
HOW = "UPDATE_GOLDEN=1 python -m pytest tests/golden"
UPDATE = os.environ.get("UPDATE_GOLDEN", "0") not in ("", "0")


def test_the_format_that_is_written_now_has_its_model(tmp_path):
    assert WRITTEN in MODELS and f"-v{FORMAT}-" in WRITTEN.name, (
        "run tests/golden/make_model.py and keep what it writes"
    )
    segue.load(WRITTEN).save(tmp_path / "again.segue")
    written, again = (json.loads(read_arrays(path)[1]["segue"]) for path in (WRITTEN, tmp_path / "again.segue"))
    assert written.pop("digests").keys() == again.pop("digests").keys()  # bytes of Arrow change with its version
    assert written == again


def test_earlier_names_in_a_manifest_are_read_as_the_new_ones():
    _, metadata = read_arrays(WRITTEN)
    manifest = json.loads(metadata["segue"])
    earlier = {new: old for old, new in OLD_NAMES.items()}
    config = {part: {} for part in manifest["config"]}
    for path, value in by_path(manifest["config"]).items():
        part, name = earlier.get(path, path).split(".")
        config[part][name] = value
    del config["experiment"]
    facts = manifest["facts"]
    facts["asked"] = {earlier.get(path, path): value for path, value in facts["asked"].items()}
    facts["best_pass"] = facts.pop("best_epoch")
    facts["fusion"], facts["mix"] = facts.pop("blend"), facts.pop("blend_settings")
    for row in facts["curve"]:
        row["number"], row["pass_ended"] = row.pop("epoch"), row.pop("epoch_ended")
    text = json.dumps(manifest | {"config": config})
    assert "epoch" not in text and "train.passes" in text
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert read_manifest("old", {"segue": text, "digest": digest}) == read_manifest("new", metadata)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_an_old_model_is_read_and_answers_as_it_did(path):
    kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    rec = segue.load(path)
    assert rec.items == kept["items"]
    assert rec.fingerprint == kept["fingerprint"]
    assert rec.repeats == kept["repeats"]
    assert {f"weights.{name}": list(array.shape) for name, array in leaves(rec.params)} == kept["weights"]
    arrays, _ = read_arrays(path)
    assert sorted(arrays) == sorted([*kept["weights"], *kept["other parts"]])
    for asked in kept["answers"]:
        now = answer(rec, asked)
        assert [(item, title) for item, _, title in now] == [(item, title) for item, _, title in asked["list"]]
        assert [score for _, score, _ in now] == pytest.approx([score for _, score, _ in asked["list"]], abs=1e-4)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_an_old_model_is_saved_again_without_a_loss(path, tmp_path):
    rec = segue.load(path)
    rec.save(tmp_path / "again.segue")
    again = segue.load(tmp_path / "again.segue")
    assert again.fingerprint == rec.fingerprint
    assert again.facts == rec.facts
    assert again.config == rec.config


SEGUE = typer.main.get_command(cli.app)


def commands(command=SEGUE, words=("segue",)):
    """Return each command that can be asked for help, by its words."""
    found = {words: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, (*words, name))
    return found


def kind(hint) -> str:
    """Return the name of an annotated type without its None: `Path | None` is a Path."""
    hint = getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint
    members = [member for member in get_args(hint) if member is not NoneType] or [hint]
    return getattr(members[0], "__name__", str(members[0]))


def spoken(words, command) -> str:
    """Return all that a help says, drawn by ourselves: Typer's boxes, colours and types change with its version."""
    lines = [" ".join(words), "", command.help]
    taken = signature(command.callback).parameters if command.params else {}
    for asked in command.params:
        name = asked.metavar or asked.name
        if asked.param_type_name == "option":
            name = " / ".join(", ".join(names) for names in (asked.opts, asked.secondary_opts) if names)
        need = "required" if asked.required else ""
        if isinstance(asked.default, str | int | float) and asked.default is not False:
            need = f"default {asked.default}"
        notes = "; ".join(note for note in (kind(taken[asked.name].annotation), need) if note)
        lines += ["", f"{name}  ({notes})", f"    {asked.help or ''}".rstrip()]
    for name, below in getattr(command, "commands", {}).items():
        lines += ["", name, f"    {below.help}"]
    return "\n".join(lines).rstrip() + "\n"


def help_file(words) -> Path:
    return HELP / ("-".join(words) + ".txt")


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_says_what_it_said(words):
    now, path = spoken(words, commands()[words]), help_file(words)
    if UPDATE:
        path.write_text(now, encoding="utf-8")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    changes = difflib.unified_diff(before.splitlines(), now.splitlines(), str(path), "now", lineterm="")
    if before != now:
        pytest.fail("\n".join([*changes, f"The help has changed. If it is meant so, keep it: {HOW}"]), pytrace=False)


def test_no_help_of_a_verb_that_is_gone_is_kept():
    wanted = {help_file(words) for words in commands()}
    if UPDATE:
        for path in set(HELP.glob("*.txt")) - wanted:
            path.unlink()
    assert set(HELP.glob("*.txt")) == wanted, HOW


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_is_printed_whatever_the_terminal(words, terminal, monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 100)  # names are cut where lines are very short
    env = {"COLUMNS": "100", "TERM": terminal, "NO_COLOR": "1"}
    done = CliRunner().invoke(cli.app, [*words[1:], "--help"], prog_name="segue", env=env)
    assert done.exit_code == 0
    printed = " ".join(re.findall(r"[^\s\u2500-\u257f|+]+", re.sub(r"\x1b\[[\d;]*m", "", done.output)))
    assert " ".join(words) in printed
    for line in spoken(words, commands()[words]).splitlines()[2:]:
        for word in re.findall(r"[-\w]+", line.partition("  (")[0]):
            assert word in printed, f"{word} of: {line}"


def described(value):
    """Return a description without its prose, which may be bettered at any time."""
    if isinstance(value, dict):
        prose = {"description", "summary", "title", "examples"}
        return {k: described(v) for k, v in value.items() if not (k in prose and isinstance(v, str | list))}
    return [described(one) for one in value] if isinstance(value, list) else value


def test_routes_take_and_give_what_they_did():
    api = described(health.described())
    now = json.dumps({"paths": api["paths"], "schemas": api["components"]["schemas"]}, indent=1) + "\n"
    path = HERE / "openapi.json"
    if UPDATE:
        path.write_text(now, encoding="utf-8")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    changes = difflib.unified_diff(before.splitlines(), now.splitlines(), str(path), "now", lineterm="")
    if before != now:
        pytest.fail("\n".join([*changes, f"Routes have changed. If it is meant so, keep it: {HOW}"]), pytrace=False)
