from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest


def test_help_takes_0_6_seconds_of_a_processor():
    """The best of five; the time on the wall is that on an idle machine, and other processes may be busy."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "fashion_ml", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) <= 0.6


def test_help_imports_nothing_heavy():
    heavy = {"torch", "mlflow", "pydantic", "numpy", "diffusers", "rich.progress", "statistics"}
    code = f"import sys, fashion_ml.cli; print({heavy} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "set()"


def test_typer_compiles_the_types_of_no_command():
    """A type that is text is compiled four times a start."""
    from fashion_ml.cli import app

    apps = [app, *(one.typer_instance for one in app.registered_groups if one.typer_instance)]
    commands = [one.callback for each in apps for one in each.registered_commands if one.callback]
    assert len(commands) > 30
    assert [one.__name__ for one in commands if any(isinstance(type_, str) for type_ in one.__annotations__.values())] == []


@pytest.mark.parametrize(
    "words", [["train", "lora"], ["evaluate", "run"], ["embedded", "collection"], ["doctor"], ["ui"], ["demo"]]
)
def test_every_command_explains_itself(words: list[str]):
    result = subprocess.run([sys.executable, "-m", "fashion_ml", *words, "--help"], check=True, capture_output=True, text=True)
    assert "Usage:" in result.stdout


def test_collection_is_kohya_layout_with_a_new_token_and_held_out_references(tmp_path: Path):
    folder = tmp_path / "set"
    for _ in range(2):  # the second time it is kept
        subprocess.run([sys.executable, "-m", "fashion_ml", "embedded", "collection", str(folder)], check=True)
    train, references = sorted((folder / "train" / "10_zarya").glob("*.png")), sorted((folder / "references").glob("*.png"))
    assert (len(train), len(references)) == (72, 24)
    assert not {path.read_bytes() for path in train} & {path.read_bytes() for path in references}
    captions = {path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in train + references}
    assert all(caption.endswith(", zarya style") for caption in captions)
