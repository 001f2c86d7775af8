"""Settings are described once: options, --help and docs/settings.md come from the fields, and all of them take every setting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from fashion_ml.cli import app
from fashion_ml.config import LoraExperiment, StarganExperiment, settings_of, short_names
from fashion_ml.config.settings_table import PLACE, settings_table
from fashion_ml.errors import InputError

PROJECT = Path(__file__).parents[2]
KINDS = {"lora": LoraExperiment, "stargan": StarganExperiment}


APP: Any = typer.main.get_command(app)


def command(*words: str) -> Any:
    found = APP
    for word in words:
        found = found.commands[word]
    return found


def parsed(words: tuple[str, ...], *arguments: str) -> dict[str, str]:
    """The settings, by path, that a command line gives."""
    return dict(command(*words).make_context("fashion-ml", list(arguments)).obj)


def refused(words: tuple[str, ...], *arguments: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        parsed(words, *arguments)
    return caught.value.problems


def help_of(*words: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    arguments = [sys.executable, "-m", "fashion_ml", *words, "--help"]
    return subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment).stdout


def test_the_docs_have_every_setting_as_the_fields_describe_it():
    """`make docs` writes the file."""
    assert PLACE.read_text(encoding="utf-8") == settings_table()
    for readme in ("README.md", "README.zh-TW.md"):
        assert "(docs/settings.md)" in (PROJECT / readme).read_text(encoding="utf-8")


@pytest.mark.parametrize("trainer", KINDS)
def test_every_name_of_a_setting_is_an_option_in_both_spellings(trainer: str):
    words, kind = ("train", trainer), KINDS[trainer]
    names = {**short_names(kind), **{one.path: one.path for one in settings_of(kind)}}
    for name, path in names.items():
        for spelled in (name, name.replace("_", "-")):
            assert parsed(words, f"--{spelled}", "x") == parsed(words, f"--{spelled}=x") == {path: "x"}


@pytest.mark.parametrize("trainer", KINDS)
def test_the_help_of_a_training_shows_each_setting_in_its_sections_panel_with_range_and_default(trainer: str):
    panels = {panel.split(" ")[1]: panel for panel in help_of("train", trainer).split("╭─")[1:]}
    settings = settings_of(KINDS[trainer])
    assert list(panels)[-len({one.section for one in settings} - {""}) :] == [
        name for name, _ in KINDS[trainer].model_fields.items() if name != "name"
    ]
    assert {"--config", "--resume", "--new", "--json", "--set", "--no-evaluate"} <= set(panels["run"].split())
    for one in settings:
        lines = panels[one.section or "tracking"].splitlines()
        option = f"--{(one.names or (one.path,))[0].replace('_', '-')}"
        number = next(number for number, line in enumerate(lines) if option in line.split())
        assert one.accepts in lines[number]
        shown = " ".join(line.strip("│ ") for line in lines[number : number + 6])
        assert "[required]" in shown if one.required else not one.default or f"[default: {one.default}]" in shown
        for name in one.names:
            assert f"--{name.replace('_', '-')}" in " ".join(lines).split()


def test_the_help_of_a_training_imports_nothing_heavy_and_costs_at_most_1_2_seconds():
    """Of processor time, the best of three: other processes may be busy."""
    code = (
        "import sys, time; from fashion_ml.cli import main; sys.argv = ['fashion-ml', 'train', 'lora', '--help']\n"
        "try: main()\nexcept SystemExit: print(len({'torch', 'mlflow', 'numpy', 'diffusers'} & set(sys.modules)), time.process_time())"
    )
    costs = []
    for _ in range(3):
        output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        heavy, seconds = output.splitlines()[-1].split()
        assert heavy == "0"
        costs.append(float(seconds))
    assert min(costs) <= 1.2


LORA = ("train", "lora")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--flip_aug"], {"data.flip_aug": "true"}),
        (["--flip-aug", "--rank", "8"], {"data.flip_aug": "true", "network.rank": "8"}),
        (["--flip_aug", "false"], {"data.flip_aug": "false"}),
        (["--rank", "", "--lr="], {"network.rank": "", "optimizer.learning_rate": ""}),
        (["--noise_offset", "-0.5"], {"loss.noise_offset": "-0.5"}),
        (["--training_comment=--x"], {"output.training_comment": "--x"}),
        (["--rank", "4", "--network_dim", "8"], {"network.rank": "8"}),
        (["--config", "a.yaml", "--json", "x.json", "--new", "--steps", "3"], {"training.max_train_steps": "3"}),
        (["--evaluation.weights.color_loss", "0.1"], {"evaluation.weights.color_loss": "0.1"}),
    ],
)
def test_a_switch_alone_means_true_and_other_options_take_what_follows(arguments: list[str], given: dict[str, str]):
    assert parsed(LORA, *arguments) == given


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (["--min_snr_gama", "5"], ["--min_snr_gama: no such option; did you mean --min_snr_gamma?"]),
        (["--bogus"], ["--bogus: no such option; --help shows what there is"]),
        (["--batch_size", "4"], ["--batch_size: no such option; did you mean --evaluation.batch_size?"]),
        (["--experiment", "x"], ["--experiment: no such option; did you mean --tracking.experiment?"]),
        (["--rank", "--seed", "1"], ["--rank: needs a value (int >= 1, <= 4096)"]),
        (["--lr"], ["--lr: needs a value (number > 0)"]),
        (["8"], ["8: was not expected here; options begin with -- (--help shows them)"]),
        (["-r", "help"], [f"{one}: was not expected here; options begin with -- (--help shows them)" for one in ("-r", "help")]),
        (["--a", "--resum", "x"], [
            "--a: no such option; --help shows what there is", "--resum: no such option; did you mean --resume?",
        ]),
    ],
)  # fmt: skip
def test_an_option_that_there_is_not_is_refused_with_what_was_meant(arguments: list[str], problems: list[str]):
    assert refused(LORA, *arguments) == problems


def test_evaluations_take_their_settings_by_their_own_names():
    run = ("evaluate", "run")
    given = parsed(run, "abc", "--guidance_scale", "5", "--seed", "2", "--batch-size", "1", "--signs", "kid", "--styles", "3")
    assert given == {
        "evaluation.guidance_scale": "5",
        "evaluation.seed": "2",
        "evaluation.batch_size": "1",
        "evaluation.extra_metrics": "kid",
        "evaluation.styles": "3",
    }
    assert parsed(run, "--weights.visual_loss=0.1", "abc") == {"evaluation.weights.visual_loss": "0.1"}
    assert parsed(("compare",), "a", "b", "--resamples", "9") == {"evaluation.resamples": "9"}
    assert refused(("compare",), "a", "b", "--guidance_scale", "5") == [
        "--guidance_scale: no such option; --help shows what there is"
    ]


def test_no_option_of_a_command_hides_a_setting():
    for words in (LORA, ("train", "stargan"), ("evaluate", "run"), ("evaluate", "images"), ("compare",)):
        found = command(*words)
        own = {option.lstrip("-").replace("-", "_") for param in found.params for option in param.opts}
        assert not own & {name for one in found.offered() for name in (*one.names, one.setting.path)}
