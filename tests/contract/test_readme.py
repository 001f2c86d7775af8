"""The two READMEs name the same commands, metrics and files, and every command is one that there is."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def commands(readme: str) -> list[str]:
    """The commands of the indented blocks, without their comments."""
    lines = [line.split("#")[0].strip() for line in readme.splitlines() if line.startswith("    ")]
    joined = "\n".join(lines).replace("\\\n", " ")
    starts = ("make ", "source ", "fashion-ml ", "mlflow ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.startswith(starts)]


def metrics(readme: str) -> list[set[str]]:
    """The names in the first cell of every row."""
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    return [set(re.findall(r"`[^`]+`", cell)) for cell in rows]


def test_both_readmes_name_the_same_commands_and_metrics_in_the_same_order():
    english, chinese = text("README.md"), text("README.zh-TW.md")
    assert len(commands(english)) > 12
    assert commands(english) == commands(chinese)
    assert metrics(english) == metrics(chinese)
    links = [re.findall(r"\]\(([^)]+)\)", readme) for readme in (english.replace("[正體中文](README.zh-TW.md)", ""), chinese)]
    assert links[0] == links[1]


def test_every_command_of_the_readme_is_one_that_there_is():
    import typer

    from fashion_ml.cli import app

    there = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = {line.split()[1] for line in commands(text("README.md")) if line.startswith("fashion-ml ")}
    assert named <= there
