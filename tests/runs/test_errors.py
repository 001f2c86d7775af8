"""Bad input: one line naming field, value and fix, exit code 2, no traceback, no run left RUNNING."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from fashion_ml import cli
from tests.runs.command import Command, fashion_ml


def runs() -> list[Any]:
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def kohya_folder(folder: Path) -> Path:
    (folder / "2_hat").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (64, 64), "red").save(folder / "2_hat" / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rank", "0"], "network.rank: '0' is not accepted; input should be greater than or equal to 1"),
        (["--rank", "many"], "network.rank: 'many' is not accepted; input should be a valid integer"),
        (["--set", "network.rnk=4"], "network.rnk: unknown key; did you mean rank?"),
        (["--set", "rank"], "--set: 'rank' is not of the form a.b=c"),
        (["--config", "none.yaml"], "config: 'none.yaml' does not exist"),
        (
            ["--pretrained_model_name_or_path", "nonsense", "--train_data_dir", "embedded", "--no-evaluate"],
            "model.base: 'nonsense' is not known; use embedded",
        ),
        (
            ["--base", "embedded", "--train_data_dir", "none"],
            "data.train_data_dir: 'none' does not exist; give the path of a folder",
        ),
        (["--references", "none"], "evaluation.references: 'none' does not exist"),
        (["--resolution", "72"], "data.resolution: 72 is not divisible by 32 (the VAE's factor 4 x 8); use 64 for this base"),
        (["--mixed-precision", "fp16"], "training.mixed_precision: fp16 needs a CUDA GPU"),
        (["--set", "evaluation.encoder=local-dir:none"], "evaluation.encoder: 'none' is not there; give an existing path"),
        (
            ["--set", "evaluation.encoder=nonsense"],
            "evaluation.encoder: 'nonsense' is not known; use embedded, hf-hub:OWNER/NAME, local-dir:FOLDER",
        ),
        (["--json", "none/x.json"], "--json: 'none/x.json' cannot be written"),
        (["--network_weights", "none.safetensors"], "network.network_weights: 'none.safetensors' is not there"),
        (["--optimizer_type", "nowhere.Adam"], "optimizer.optimizer_type: nowhere.Adam needs nowhere, which is not installed"),
        (
            ["--base", "embedded", "--train_data_dir", "x" * 300],
            "cannot be read (File name too long); give the path of a folder",
        ),
        (["--output_name", "x" * 300], "output.output_name: 'xxx"),
        (["--output_dir", "x" * 300], "cannot be"),
        (["--bogus", "1"], "--bogus: no such option"),
        (["--set", "evaluation.extra_metrics=[kid"], "evaluation.extra_metrics.0: '[kid' is not accepted"),
        (["--without", "fashion_clip", "--encoder", "x", "--rank", "0"], "network.rank: '0' is not accepted"),
        (["--signs", "kid,nonsense"], "evaluation.extra_metrics.1: 'nonsense' is not accepted"),
        (["--min_snr_gama", "5"], "--min_snr_gama: no such option; did you mean --min_snr_gamma?"),
        (["--flip_aug", "--no-such"], "--no-such: no such option"),
        (["--resume", "--new"], "--new: contradicts --resume"),
        (["--resume"], "resume: there is no unfinished run below"),
        (["--no-evaluate", "--evaluate", "true"], "evaluate: true and --no-evaluate contradict each other"),
    ],
)
def test_one_line_names_field_value_and_fix(refused: Command, arguments: list[str], said: str):
    lines = refused("train", "lora", *arguments)
    assert len(lines) == 1
    assert said in lines[0]
    assert runs() == []


def test_several_problems_are_listed_together(refused: Command):
    lines = refused("train", "lora", "--rank", "0", "--lr", "fast", "--steps", "-3", "--set", "a.b=c")
    assert [line.split(":")[1].strip() for line in lines] == [
        "network.rank",
        "optimizer.learning_rate",
        "training.max_train_steps",
        "a",
    ]


def test_problems_of_folders_base_and_references_are_listed_together(refused: Command):
    lines = refused("train", "lora", "--base", "nonsense", "--train-data-dir", "none", "--references", "neither")
    assert [line.split(":")[1].strip() for line in lines] == ["model.base", "data.train_data_dir", "evaluation.references"]


def test_problems_of_settings_and_of_folders_are_listed_together(refused: Command):
    lines = refused("train", "lora", "--rank", "0", "--train-data-dir", "none", "--references", "neither")
    assert [line.split(":")[1].strip() for line in lines] == ["network.rank", "data.train_data_dir", "evaluation.references"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.mkdir(), "is empty; put images into it"),
        (lambda folder: (folder / "dress").mkdir(parents=True), "holds no folder named N_class"),
        (lambda folder: (kohya_folder(folder) / "2_hat" / "b.png").write_bytes(b"no"), "b.png' cannot be read (not an image)"),
        (lambda folder: (kohya_folder(folder) / "2_hat" / "b.txt").write_bytes(b"\xff\xfe\xff"), "b.txt' is not UTF-8"),
    ],
)
def test_bad_training_folders(refused: Command, workdir: Path, make: Callable[[Path], object], said: str):
    make(workdir / "set")
    (line,) = refused("train", "lora", "--base", "embedded", "--train-data-dir", "set")
    assert said in line


def test_snake_case_kebab_case_and_empty_strings_are_accepted(refused: Command):
    for option in ("--max_train_steps", "--max-train-steps"):
        (line,) = refused("train", "lora", option, "0", "--rank", "", "--learning_rate", "")
        assert "training.max_train_steps: '0'" in line


def test_an_output_folder_that_cannot_be_written_leaves_no_run_running(refused: Command, workdir: Path):
    (workdir / "file").write_text("", encoding="utf-8")
    (line,) = refused("train", "lora", "--output-dir", "file")
    assert "output.output_dir: 'file' is a file" in line


@pytest.mark.parametrize("run_id", ["none", "0" * 32])
def test_evaluating_a_run_that_is_not_there(refused: Command, run_id: str):
    (line,) = refused("evaluate", "run", run_id)
    assert f"run_id: '{run_id}' is not in sqlite" in line


def test_a_run_that_is_no_training_cannot_be_evaluated(refused: Command, workdir: Path):
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    run = client.create_run("0", tags={"kind": "metric"})
    client.set_terminated(run.info.run_id)
    (line,) = refused("evaluate", "run", run.info.run_id)
    assert "is no LoRA training (its tag kind is metric)" in line


def test_a_collection_can_be_written_into_the_working_folder_while_that_is_empty(workdir: Path):
    (workdir / "new").mkdir()
    result = fashion_ml("embedded", "collection", ".", cwd=workdir / "new", uri=os.environ["MLFLOW_TRACKING_URI"])
    assert result.returncode == 0, result.stderr
    assert len(list((workdir / "new" / "train" / "10_zarya").glob("*.png"))) == 72


def test_a_collection_never_overwrites_what_is_there(refused: Command, workdir: Path):
    (workdir / "photos").mkdir()
    (workdir / "photos" / "a.png").write_bytes(b"mine")
    (line,) = refused("embedded", "collection", "photos")
    assert "already holds something else" in line
    assert (workdir / "photos" / "a.png").read_bytes() == b"mine"


def test_a_server_that_does_not_answer_is_told_at_once_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["fashion-ml", "evaluate", "run", "x"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "error: MLFLOW_TRACKING_URI: 'http://127.0.0.1:9' does not answer" in errors
    assert "secret" not in errors


def test_two_that_start_together_in_a_new_folder_both_work(tmp_path: Path):
    command = [
        sys.executable,
        "-c",
        "from fashion_ml.tracking.store import open_tracking; open_tracking().search_experiments()",
    ]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'new.db'}"}
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(process.communicate()[1].count("Error"), process.returncode) for process in processes] == [(0, 0)] * 2
