"""Every verb and setting is written down, and the version that is said is the one that is built."""

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from docs.runner import PAGES
from segue.cli import app as cli
from segue.config import ExperimentConfig, ModelConfig, TrainConfig

ROOT = Path(__file__).parents[2]


def test_every_verb_is_on_a_page():
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands} | {"datasets"}
    said = "\n".join(page.read_text() for page in PAGES)
    assert {verb for verb in verbs if f"segue {verb}" not in said} <= {"datasets"}
    assert set(re.findall(r"^(?:    )?segue ([a-z][\w-]+)", said, re.M)) <= verbs | {"keys"}


def test_the_version_said_is_the_one_that_is_built():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CliRunner().invoke(cli.app, ["--version"]).output == f"segue {built}\n"


def test_every_setting_has_its_words():
    for config in (ModelConfig, TrainConfig, ExperimentConfig):
        for name in config.__dataclass_fields__:
            assert f"        {name}: " in config.__doc__, name


def test_the_project_speaks_of_itself_alone():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]:
        assert str(ROOT) not in path.read_text(), path
