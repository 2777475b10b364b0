"""The shape of the package: imports follow the arrows, JAX stays in training, the public names are fixed."""

import ast
import subprocess
import sys
from pathlib import Path

import segue

SOURCE = Path(segue.__file__).parent
#: Every part with the parts it may import; what stands later is further down the arrows.
ORDER = [
    ("errors", "shapes", "addresses"),
    ("config", "files", "memory"),
    ("data",),
    ("measure",),
    ("kernels",),
    ("model",),
    ("interop",),
    ("training",),
    ("recommend",),
    ("manifest",),
    ("bundle",),
    ("evaluation", "serve"),
    ("testing",),
    ("api",),
    ("insight",),
    ("retraining",),
    ("progress",),
    ("demo",),
    ("cli_options",),
    ("cli_store", "cli_insight", "cli_keys"),
    ("cli",),
    ("__main__",),
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
#: Imports inside a function, each a documented convenience.
LAZY = {("recommend", "bundle")}


def imports():
    for path in SOURCE.rglob("*.py"):
        part = path.relative_to(SOURCE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            yield from ((path, part, name) for name in names if name)


def test_imports_follow_the_arrows():
    for path, part, name in imports():
        pieces = name.split(".")
        if pieces[0] != "segue" or len(pieces) < 2 or part == "__init__":
            continue
        if (part, pieces[1]) in LAZY:
            continue
        assert LEVEL[pieces[1]] <= LEVEL[part], f"{path}: {part} imports {name}"


def test_only_train_and_the_loop_of_the_backend_import_jax():
    users = {
        path.relative_to(SOURCE).as_posix() for path, _, name in imports() if name.split(".")[0] in ("jax", "optax")
    }
    # `testing` compares the libraries; `interop` asks Keras, and that JAX, when it is called. The two of `insight`
    # differentiate, `kernels` is called by JAX; nothing that serves imports them.
    others = {"model/backend.py", "testing.py", "insight/gradients.py", "insight/clipping.py"}
    others |= {"kernels/fused.py", "kernels/library.py"}
    assert {user for user in users if not user.startswith("training/")} == others
    keras = {path.relative_to(SOURCE).as_posix() for path, _, name in imports() if name.split(".")[0] == "keras"}
    assert keras == {"interop/library.py"}


def test_importing_loading_and_asking_does_not_import_jax(tmp_path):
    code = (
        "import sys, numpy as np, polars as pl, segue\n"
        "from segue.bundle import build_network\n"
        "from segue.config import *\n"
        "from segue.data.vocabulary import Vocabulary\n"
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
