"""The shape of the package: imports follow the arrows, JAX stays in training, the public names are fixed."""

import ast
import subprocess
import sys
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import segue

SOURCE = Path(segue.__file__).parent
#: Every part with the parts it may import; what stands later is further down the arrows. A part is a folder with its
#: own files, or a file at the top; a folder inside a folder is a part of its own.
ORDER = [
    ("errors", "shapes", "addresses"),
    ("config", "files", "free_memory"),
    ("folders", "ray_cluster"),
    ("metrics",),
    ("kernels",),
    ("data",),
    ("data.values",),
    ("data.prepared",),
    ("data.log",),
    ("data.sequences",),
    ("data.features",),
    ("trends",),
    ("model",),
    ("interop",),
    ("training.update",),
    ("training",),
    ("training.distributed",),
    ("manifest",),
    ("model_file",),
    ("recommend.index", "recommend.filters"),
    ("recommend.likeness",),
    ("recommend", "recommend.lists"),
    ("evaluation.baselines",),
    ("evaluation.online",),
    ("evaluation.comparison_report",),
    ("evaluation",),
    ("evaluation.compare",),
    ("store", "store.sql"),
    ("serve.ranking",),
    ("serve.scenarios",),
    ("serve.live",),
    ("serve.http",),
    ("serve.api",),
    ("client",),
    ("serve",),
    ("api", "scenario_file"),
    ("__init__",),
    ("jobs",),
    ("testing",),
    ("insight",),
    ("cli",),
    ("__main__",),
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}


def part_of(path: Path) -> str:
    """Return the part of a file, such as `data.log`; a file at the top is its own."""
    inside = path.relative_to(SOURCE)
    return ".".join(inside.parent.parts) or inside.stem


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Return the files by the names under which they are imported."""
    found = {}
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(("segue", *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def imported(text: str, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a text imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            deeper = [f"{node.module}.{name.name}" for name in node.names]
            names |= {name if name in known else node.module for name in deeper}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    return names & known.keys()


def faults(source: Path = SOURCE, planted: dict[str, str] | None = None) -> list[str]:
    """Return each import against the arrows; `planted` maps a module to text that is read after its own."""
    known, said = modules(source), []
    for name, path in known.items():
        part = part_of(path)
        for other in imported(path.read_text() + (planted or {}).get(name, ""), known):
            theirs = part_of(known[other])
            if LEVEL[theirs] > LEVEL[part]:
                said.append(f"{name} imports {other}")
    return said


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return names each of which leads to the next and the last to the first, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_part_has_its_place():
    assert {part_of(path) for path in modules().values()} - set(LEVEL) == set()


def test_imports_follow_the_arrows():
    assert faults() == []


def test_no_file_imports_itself_by_way_of_others():
    known = modules()
    graph = {name: imported(path.read_text(), known) - {name} for name, path in known.items()}
    assert circle(graph) == []


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("segue.data.log.events", "segue.data.features.catalogue"),
        ("segue.data.values.ids", "segue.serve.server"),
        ("segue.training.update.losses", "segue.training.trainer"),
        ("segue.store.base", "segue.serve.app"),
    ],
)
def test_an_import_against_the_arrows_is_seen(lower, higher):
    assert faults(planted={lower: f"\nfrom {higher} import x\n"}) == [f"{lower} imports {higher}"]
    inside = f"\ndef f():\n    import {higher}\n"
    assert faults(planted={lower: inside}) == [f"{lower} imports {higher}"]
    assert faults(planted={higher: f"\nfrom {lower} import x\n"}) == []


def test_a_circle_is_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) in (["b", "c", "b"], ["c", "b", "c"])
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_a_folder_has_few_files_and_is_not_deep():
    for folder in {path.parent for path in SOURCE.rglob("*.py")} - {SOURCE}:
        within = [path for path in folder.iterdir() if path.stem not in ("__init__", "__pycache__")]
        assert len(within) >= 3 and sum(path.is_file() for path in within) <= 12, folder
        assert len(folder.relative_to(SOURCE).parts) <= 2, folder


def every_import():
    """Give each file with the name of each module that it imports, of the package or not."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            yield from ((path, name) for name in names if name)


def test_only_train_and_the_loop_of_the_backend_import_jax():
    users = {
        path.relative_to(SOURCE).as_posix() for path, name in every_import() if name.split(".")[0] in ("jax", "optax")
    }
    # `testing` compares the libraries; `interop` asks Keras, and that JAX, when it is called. The two of `insight`
    # differentiate, `kernels` is called by JAX; nothing that serves imports them.
    others = {"model/backend.py", "testing/cells.py", "insight/gradients.py", "insight/clipping.py"}
    others |= {"kernels/training_loops.py", "kernels/build.py"}
    assert {user for user in users if not user.startswith("training/")} == others
    keras = {path.relative_to(SOURCE).as_posix() for path, name in every_import() if name.split(".")[0] == "keras"}
    assert keras == {"interop/library.py"}


def test_importing_loading_and_asking_does_not_import_jax(tmp_path):
    code = (
        "import sys, numpy as np, polars as pl, segue\n"
        "from segue.model_file import build_network\n"
        "from segue.config import *\n"
        "from segue.data.sequences.vocabulary import Vocabulary\n"
        "config = derive(configure({'model.width': 8}), DataSize(100, 9, 4, True, 0.0))\n"
        "network = build_network(config, items=4, longest_gap=9.0)\n"
        "rec = segue.Recommender(network, network.init(0), Vocabulary(pl.Series(['a', 'b', 'c'])), config)\n"
        f"rec.save({str(tmp_path / 'b')!r})\n"
        f"rec = segue.load({str(tmp_path / 'b')!r})\n"
        "print(len(rec.recommend(rec.observe(rec.start(), 'b'))), {'jax', 'keras'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() in (["2", "set()"], ["3", "set()"])


def test_public_names_exist_and_nothing_else_is_promised():
    assert sorted(segue.__all__) == segue.__all__ or set(segue.__all__)
    for name in segue.__all__:
        assert getattr(segue, name).__doc__, name


def test_files_and_functions_stay_small():
    for path in SOURCE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 560, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.end_lineno - node.body[0].end_lineno
                assert body <= 60, f"{path}: {node.name}"


def test_a_class_name_stands_for_one_class():
    places = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(path.relative_to(SOURCE).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
