"""Every command that a document shows is one that there is, with options and targets that it has, and files that lie there."""

from __future__ import annotations

import importlib.util
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from fashion_ml.cli import _lang_first, _with_latest, app
from fashion_ml.config import LoraExperiment, StarganExperiment, load_config
from fashion_ml.config.settings import settings_of
from tests.documents import DOCUMENTS, PROJECT, shown, split

SHIPPED = re.compile(r"(?:experiments|suites|sweeps|docs|examples)/.+\.\w+")


def leaf(words: list[str]) -> tuple[Any, list[str]]:
    """The typer command that the words name, and what it is given."""
    command, rest = typer.main.get_command(app), [word for word in _lang_first(_with_latest(words)) if word != "…"]
    if rest[:1] == ["--lang"]:
        rest = rest[2:]
    while hasattr(command, "commands") and rest:
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    return command, rest


def parsed_fashion_ml(words: list[str], whole: bool) -> None:
    """InputError, a usage error or AssertionError for what the command does not take."""
    command, rest = leaf(words[1:])
    if hasattr(command, "commands"):
        assert not whole
        return
    try:
        context = command.make_context(command.name, rest)
    except Exception as error:
        if whole or type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise
        return
    if words[1:2] == ["train"] and isinstance(context.obj, dict):
        load_config({"train_data_dir": "x"} if words[2] == "lora" else {"latents_dir": "x"}, context.obj, kind=words[2])  # type: ignore[arg-type, call-overload]


def parsed_mlflow(words: list[str], whole: bool) -> None:
    """As MLflow's own command line reads it; of `mlflow run` also entry point and parameters."""
    from mlflow.cli import cli

    command: Any = cli
    rest = words[1:]
    while hasattr(command, "commands") and rest:
        name = rest.pop(0)
        command = command.get_command(None, name)  # knows the other names of a command
        assert command is not None, f"mlflow has no command {name!r}"
    if not whole:
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= known
        return
    context = command.make_context(command.name, rest)
    if words[1] == "run":
        points = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
        entry = points[context.params.get("entry_point") or "main"]
        given = {text.partition("=")[0] for text in context.params.get("param_list") or ()}
        assert given <= set(entry["parameters"])


def parsed_make(words: list[str]) -> None:
    """Targets of the Makefile and variables that it has."""
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    there = set(re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split())  # type: ignore[index]
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        assert (f"{name}=…" in text or f"$({name})" in text) if equals else word in there, word


def parsed_python(words: list[str]) -> None:
    """`python -m` of a module that there is."""
    assert words[1] == "-m"
    assert importlib.util.find_spec(words[2]) is not None


def parsed_pip(words: list[str]) -> None:
    """Extras of the package are ones that it has."""
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"^(\w+) = \[", text.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE))
    for word in words[2:]:
        asked = re.fullmatch(r"(?:fashion-ml|\.)\[(.+)\]", word)
        assert asked is None or set(asked[1].split(",")) <= extras, word


def parsed_other(words: list[str]) -> None:
    """Other people's programs: the few calls that are meant."""
    text = " ".join(words)
    assert re.fullmatch(r"docker compose (up -d|down|logs|pull)|kubectl apply -f \S+", text), text


def known_settings(words: list[str]) -> None:
    """`--set a.b=c` of a setting that some experiment has."""
    paths = {setting.path for kind in (LoraExperiment, StarganExperiment) for setting in settings_of(kind)}
    given = [after.partition("=")[0] for word, after in pairwise(words) if word == "--set"]
    assert [one for one in given if one not in paths and "…" not in one] == []


def check(words: list[str], whole: bool) -> None:
    """Raises where the command is none, or names a file of this project that is not there."""
    program = words[0]
    if program == "fashion-ml":
        parsed_fashion_ml(words, whole)
        known_settings(words)
    elif program == "mlflow":
        parsed_mlflow(words, whole)
    else:
        readers = {
            "make": parsed_make,
            "python": parsed_python,
            "pip": parsed_pip,
            "docker": parsed_other,
            "kubectl": parsed_other,
        }
        assert program in readers or program in ("sbatch", "mkdocs", "export", "cd", "cp"), f"what is {program}?"
        readers.get(program, lambda _: None)(words)
    missing = [word for word in words if SHIPPED.fullmatch(word) and "…" not in word and not (PROJECT / word).is_file()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_command_of_a_document_is_one_that_there_is(document: Path):
    problems = []
    for command in shown(document):
        try:
            check(command.words, command.whole)
        except Exception as error:
            problems.append(f"{command.where}: {' '.join(command.words)}: {type(error).__name__} {error}")
    assert problems == []


def test_the_documents_show_commands_at_all():
    words = [command.words for document in DOCUMENTS for command in shown(document)]
    assert len(words) > 200
    assert {one[0] for one in words} >= {"fashion-ml", "make", "mlflow", "python", "pip", "sbatch"}


@pytest.mark.parametrize(
    "line",
    [
        "fashion-ml trian lora",
        "fashion-ml train lora --rnak 8",
        "fashion-ml train lora --rank eight",
        "fashion-ml evaluate lora",  # without its file
        "fashion-ml split DIR --referencs 8",
        "fashion-ml suite suites/no_such.yaml",
        "fashion-ml evaluate run latest --set evaluation.no_such=1",
        'A="b c" nohup .venv/bin/fashion-ml trian',
        "uv run fashion-ml trian",
        "docker compose upp",
        "kubectl apply -f docs/cluster/no_such_job.yaml",
        "tensorboard --logdr outputs",
        "mlflow run . -e train_lroa",
        "mlflow run . -e train_lora -P rnak=8",
        "make demoo",
        "make test NOTHING=1",
        "python -m benchmarkz",
        "pip install 'fashion-ml[sweep]'",
    ],
)
def test_a_command_that_there_is_not_is_noticed(line: str):
    (words,) = split(line)
    with pytest.raises(Exception):  # noqa: B017
        check(words, whole=True)


@pytest.mark.parametrize("page", ["docs/commands.md", "docs/zh-TW/commands.md"])
def test_every_command_that_there_is_has_its_line_among_all_commands(page: str):
    listed = [" ".join(command.words[1:]) for command in shown(PROJECT / page) if command.words[0] == "fashion-ml"]
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        for full in [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]:
            assert any(f"{line} ".startswith(f"{full} ") for line in listed), full
