"""Files that others may have written are read in one place for each format: there the limits are, and one kind of error.

No file of theirs is opened otherwise than by `input_file.py`, which waits for no pipe.
"""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fashion_ml"
_PLACES = {"runtime/json_file.py", "runtime/yaml_file.py"}
_OF_THE_PACKAGE = {"models/single_file.py", "models/original_checkpoint.py", "models/lora_convert.py"}
"""These read configurations that come with the package."""
_OF_A_FILE = {"read_text", "read_bytes", "read"}


def readers_in(path: Path) -> list[str]:
    """The lines that parse YAML, or JSON straight from a file or a download, otherwise than by the two readers."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)):
            continue
        name = f"{node.func.value.id}.{node.func.attr}"
        inside = {inner.attr for argument in node.args for inner in ast.walk(argument) if isinstance(inner, ast.Attribute)}
        of_json = name == "json.loads" and bool(inside & _OF_A_FILE)
        if name in ("yaml.safe_load", "yaml.full_load", "yaml.unsafe_load", "json.load") or of_json:
            found.append(f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}: {name}")
    return found


def test_json_and_yaml_of_files_are_read_with_limits():
    paths = [
        path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).as_posix() not in _PLACES | _OF_THE_PACKAGE
    ]
    ours = [path for path in paths if not {"making", "tracking"} & set(path.relative_to(PACKAGE).parts)]
    assert len(ours) > 200
    assert [line for path in ours for line in readers_in(path)] == []


_OPEN_OTHERWISE = {
    *("runtime/label_font.py", "runtime/parent_process.py", "sweep/local_workers.py", "runs/ui_routes.py"),
    *("models/single_file.py", "models/original_checkpoint.py"),
    *("runs/doctor.py", "evaluation/html_report.py", "reports/run_page.py", "sweep/suite_report.py"),
    *("evaluation/lora_plan.py", "evaluation/lora_file.py", "deploy/export.py", "deploy/inspect_file.py", "training/kohya_metadata.py"),
    *("runs/evaluation_note.py", "runs/stargan_inputs.py"),
}  # fmt: skip
"""Files of the package or of this process, and weights whose header was read before."""


def test_files_are_opened_where_no_pipe_is_waited_for():
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        place, text = path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")
        if "/making/" not in place and (".read_bytes()" in text or '.open("rb")' in text):
            found.add(place)
    assert found == _OPEN_OTHERWISE
