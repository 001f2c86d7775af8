"""Private names of other packages are read in the adapters alone, where a test says which version moved them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fashion_ml"
ADAPTERS = (
    "deploy/mlflow_answers.py",
    "sweep/optuna_private.py",
    "tracking/mlflow_private.py",
    "tracking/mlflow_server.py",
    "training/accelerate_private.py",
    "training/torch_private.py",
)
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
PUBLIC = {"torch._foreach_copy_", "torch._foreach_lerp_", "os._exit"}
"""Documented, or what libraries that build on torch use alike, in spite of their names."""
UNDOCUMENTED = ("mlflow.tracking.", "mlflow.utils", "mlflow.store", "mlflow.protos", "mlflow.server")
FORMATS = ("mlflow.sharedViewState", "viewStateShareKey", "mlflow.loggedImages", "mlflow.loggedArtifacts", "fixed_params")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Private names that a module makes: functions, classes, variables, and attributes that it assigns."""
    made = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    made |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return made | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def foreign(tree: ast.AST, ours: set[str]) -> Iterator[str]:
    """What a module reads that is private to another package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours:
            if ast.unparse(node) not in PUBLIC:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            for name in names:
                inside = any(is_private(part) for part in name.split(".")) or name.startswith(UNDOCUMENTED)
                if inside and not name.startswith(("fashion_ml.", "__future__")):
                    yield f"line {node.lineno}: {name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(FORMATS):
            yield f"line {node.lineno}: {node.value!r}"


def test_the_walk_sees_imports_attributes_and_formats_and_leaves_our_own_names_alone():
    code = (
        "from optuna.storages._rdb import models\nrun.data._metric_objs\ntag = 'mlflow.loggedImages'\nself._own = 1\nself._own"
    )
    tree = ast.parse(code)
    assert sorted(foreign(tree, own_names(tree))) == [
        "line 1: optuna.storages._rdb.models",
        "line 2: run.data._metric_objs",
        "line 3: 'mlflow.loggedImages'",
    ]


def test_no_module_beside_the_adapters_reads_what_is_private_to_another_package():
    ours = set().union(*(own_names(tree) for tree in TREES.values()))
    found = {name: list(foreign(tree, ours)) for name, tree in TREES.items() if name not in ADAPTERS}
    assert {name: reads for name, reads in found.items() if reads} == {}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_still_needed(name: str):
    ours = set().union(*(own_names(tree) for path, tree in TREES.items() if path not in ADAPTERS))
    assert list(foreign(TREES[name], ours))
