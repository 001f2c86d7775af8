"""Libraries that open a file themselves wait for a pipe and read a device without end: each is handed a file that was looked at first."""

from __future__ import annotations

import ast
from pathlib import Path

import fashion_ml

PACKAGE = Path(fashion_ml.__file__).parent
OPENERS = {"safe_open", "load_file", "torch.load", "np.load", "pd.read_csv"}
LOOKS = {"check_regular", "read_whole", "is_file"}
OURS = {
    "data/latent_domains.py _read": "a shard that was looked at when the latents were read",
    "models/diffusers_folder.py write_pipeline_folder": "just written",
    "embedded/making/world.py rendered": "just written",
}
"""What needs no look, and why."""


def called(node: ast.AST) -> set[str]:
    return {ast.unparse(one.func).rpartition("self.")[2] for one in ast.walk(node) if isinstance(one, ast.Call)}


def test_what_a_library_opens_was_looked_at_first():
    unseen = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            calls = called(node) if isinstance(node, ast.FunctionDef) else set[str]()
            if calls & OPENERS and not {name.rpartition(".")[2] for name in calls} & LOOKS:
                unseen.append(f"{path.relative_to(PACKAGE).as_posix()} {node.name}")  # type: ignore[attr-defined]
    assert unseen == sorted(OURS), "look at the file by fashion_ml.runtime.input_file.check_regular first"
