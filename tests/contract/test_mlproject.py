"""MLproject, conda.yaml, constraints and the Makefile agree with the code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from mlflow import MlflowClient

from fashion_ml.cli import app
from fashion_ml.runs.training_speed import OF_THE_MACHINE
from tests.runs.command import FEW

PROJECT = Path(__file__).parents[2]
MLPROJECT = yaml.safe_load((PROJECT / "MLproject").read_text(encoding="utf-8"))
CONDA = yaml.safe_load((PROJECT / "conda.yaml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    lines = (PROJECT / name).read_text(encoding="utf-8").split()
    return {part.split("==")[0].lower().replace("_", "-"): part.split("==")[1] for part in lines}


@pytest.mark.parametrize("name", MLPROJECT["entry_points"])
def test_every_entry_point_calls_a_command_with_options_it_has(name: str):
    entry = MLPROJECT["entry_points"][name]
    filled = re.sub(r"\{(\w+)\}", "''", entry["command"])
    words = shlex.split(filled)
    assert words[:3] == ["python", "-m", "fashion_ml"]
    command = typer.main.get_command(app)
    words = words[3:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    if hasattr(command, "offered"):
        known |= {f"--{name}" for one in command.offered() for name in one.names}
    assert {word for word in words if word.startswith("--")} <= known | {option.replace("-", "_") for option in known}
    assert set(re.findall(r"\{(\w+)\}", entry["command"])) == set(entry["parameters"])


@pytest.mark.parametrize("name", ["train_lora", "train_stargan"])
def test_without_a_config_the_command_decides_which_experiment_it_is(name: str):
    assert MLPROJECT["entry_points"][name]["parameters"]["config"]["default"] == ""


def test_conda_yaml_pins_every_dependency_at_the_tested_version_and_nothing_local():
    project = re.search(r"\ndependencies = \[\n(.*?)\n\]", (PROJECT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)
    assert project
    found = re.findall(r'"([\w.-]+)([^"]*)"', project[1])
    needed = {name.lower().replace("_", "-") for name, rest in found if "python_version <" not in rest}  # of an older Python
    listed = {part.split("==")[0].lower().replace("_", "-"): part.split("==")[1] for part in CONDA["dependencies"][-1]["pip"]}
    assert listed.keys() == needed
    assert listed.items() <= pins("constraints.txt").items()


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-py310.txt"])
def test_constraints_are_exact_versions_only(name: str):
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []
    assert {"torch", "torchvision", "mlflow", "diffusers", "pytest"} <= pins(name).keys()


def projects_store() -> tuple[int, int] | None:
    """Size and time of a store in the project's folder, where `make demo` leaves one; None without."""
    file = PROJECT / "mlflow.db"
    return (file.stat().st_size, file.stat().st_mtime_ns) if file.exists() else None


def test_mlflow_run_trains_in_the_run_that_mlflow_made(workdir: Path):
    """The whole way of `mlflow run . -e train_lora --env-manager local -P rank=8`."""
    config = workdir / "short.yaml"
    text = yaml.safe_load((PROJECT / "experiments" / "lora" / "embedded.yaml").read_text(encoding="utf-8"))
    text["evaluation"] |= {"max_references": 2, "num_inference_steps": 2, "prompts": "none"}
    config.write_text(yaml.safe_dump(text), encoding="utf-8")
    assert FEW
    parameters = ["-P", f"config={config}", "-P", "rank=8", "-P", "steps=4", "-P", f"output_dir={workdir / 'out'}"]
    command = [sys.executable, "-m", "mlflow", "run", str(PROJECT), "-e", "train_lora", "--env-manager", "local", *parameters]
    command += ["--run-name", "mine"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}  # seen from where it is called
    before = projects_store()
    result = subprocess.run(command, cwd=workdir, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = {run.info.run_id: run for run in client.search_runs(["0"])}
    kinds = {run.data.tags.get("kind"): run for run in runs.values()}
    assert len(runs) == 5  # training, evaluation, three metrics: no second training run
    training = kinds["train_lora"]
    assert training.info.run_name == "mine"
    assert projects_store() == before  # the store is that of the working folder
    assert training.data.tags["mlflow.project.entryPoint"] == "train_lora"
    assert training.data.params["network.rank"] == "8"
    assert kinds["evaluation"].data.tags["mlflow.parentRunId"] == training.info.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    names = {name for name in training.data.metrics if not name.startswith("eval/")}
    assert names - {*OF_THE_MACHINE} == {"total_loss", "learning_rate", "epoch", "grad_norm"}
    rows = [
        line
        for line in (workdir / "out" / "training_logs" / "training_loss_log.txt").read_text().splitlines()
        if line[0].isdigit()
    ]
    assert rows
    assert all(line.split(",").count("N/A") == 3 for line in rows)
