"""What the README promises runs, and every verb and setting is written down."""

import re
import tomllib
from pathlib import Path

import polars as pl
from typer.testing import CliRunner

import segue
from segue.cli import app as cli
from segue.config import ExperimentConfig, ModelConfig, TrainConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_python_blocks_of_the_readme_run(keras, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(u, (u + t) % 20, 1_690_000_000 + u + 100 * t, 1 + (u + t) % 5) for u in range(60) for t in range(12)]
    pl.DataFrame(rows, schema=["userId", "movieId", "timestamp", "rating"], orient="row").write_csv("ratings.csv")
    pl.DataFrame({"movieId": range(20), "title": [f"film {i}" for i in range(20)]}).write_csv("movies.csv")
    quick = segue.train

    def train(*events, **given):  # a cell has its own width
        return quick(*events, **given, config={"train.epochs": 1} | ({} if "cell" in given else {"model.width": 8}))

    monkeypatch.setattr(segue, "train", train)
    scope = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(block, "README.md", "exec"), scope)
    assert len(scope["rec"].recommend(scope["state"], k=10, at=1_700_003_600)) == 10
    assert scope["rec"].recommend(scope["state"])[0].title.startswith("film")


def test_every_verb_is_in_the_readme():
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands} | {"datasets"}
    assert {verb for verb in verbs if f"segue {verb}" not in README} <= {"datasets"}
    commands = re.findall(r"^segue ([\w-]+)", README, re.M)
    assert set(commands) <= verbs


def test_the_version_said_is_the_one_that_is_built():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert CliRunner().invoke(cli.app, ["--version"]).output == f"segue {built}\n"


def test_every_setting_has_its_words():
    for config in (ModelConfig, TrainConfig, ExperimentConfig):
        for name in config.__dataclass_fields__:
            assert f"        {name}: " in config.__doc__, name


def test_the_project_speaks_of_itself_alone():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("src/**/*.py")]:
        assert str(ROOT) not in path.read_text(), path
