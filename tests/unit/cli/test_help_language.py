"""Help and usage errors of the command line in Traditional Chinese, all of them in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from fashion_ml.cli import app
from fashion_ml.cli.help_language import translate_help, usage_problem
from fashion_ml.runtime.language import VARIABLE
from tests.runs.chinese import english


def helps(command: Any, name: str = "fashion-ml") -> Iterator[tuple[str, str]]:
    yield name, command.help
    yield from ((f"{name} {one.name}", one.help) for one in command.params if getattr(one, "help", None))
    for word, below in getattr(command, "commands", {}).items():
        yield from helps(below, f"{name} {word}")


def test_every_command_and_each_of_its_own_options_has_help_in_chinese(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "zh-TW")
    command = typer.main.get_command(app)
    before = dict(helps(command))
    assert len(before) > 150
    translate_help(command)
    assert [name for name, told in helps(command) if told == before[name] or english(told)] == []


@pytest.mark.parametrize("arguments", ["split", "split x --nope", "splt", "sweep a b", "split x --seed", "inspect", "nothing"])
def test_what_is_wrong_with_a_command_line_is_said_in_chinese(monkeypatch: pytest.MonkeyPatch, arguments: str):
    monkeypatch.setenv(VARIABLE, "zh-TW")
    with pytest.raises(Exception) as caught:
        typer.main.get_command(app).main(arguments.split(), standalone_mode=False)
    said = usage_problem(caught.value.format_message())  # type: ignore[attr-defined]
    assert english(said) == []
    assert any("\u4e00" <= letter <= "\u9fff" for letter in said), said
