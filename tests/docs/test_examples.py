"""Every example runs, in its short form."""

import json
import runpy
import sys

import pytest

from docs.test_docs import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def run(keras, monkeypatch, capsys):
    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_example_is_run_here_and_named_on_a_page():
    assert [path.name for path in EXAMPLES] == ["keras_cell.py", "keras_rating.py"]
    said = "".join(page.read_text() for page in (ROOT / "docs" / "guides").glob("*.md"))
    assert all(f"examples/{path.name}" in said for path in EXAMPLES)


def test_keras_rating(run, tmp_path):
    said = run("keras_rating.py", "--quick", "--variant", "clipped", "--json", str(tmp_path / "out.json"))
    kept = json.loads((tmp_path / "out.json").read_text())
    assert kept["rows"] == {"train": 1350, "test": 150, "test_full": 150}
    assert [(r["inputs"], r["variant"]) for r in kept["runs"]] == [("codes", "clipped"), ("embedded", "clipped")]
    assert all(0.5 < r["rmse"] < 3 for r in kept["runs"])
    assert "mean of the training" in said and "embedded, clipped" in said


def test_keras_cell(run, caplog):
    said = run("keras_cell.py", "--quick")
    assert "validation NDCG@10 1.000" in said and "imports Keras and JAX" in caplog.text
    assert said.split("after i0, i1, i2:")[1].split()[1] == "i3"  # the ring is learnt, and kept
