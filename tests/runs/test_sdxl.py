"""Stable Diffusion XL through the command line: training with samples, checks and validation, its evaluation, and choose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.runs.command import FEW, SHORT, Finished, fashion_ml

LITTLE = ("--set", "evaluation.images_per_reference=1", "--set", "evaluation.resamples=50")
SETTINGS = (
    "--set",
    "training.sample_every=6",
    "--set",
    "training.performance_check_interval=3",
    "--set",
    "data.validation_split=0.05",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, collection: Path, sdxl: Path) -> Finished:
    """Six steps with both text encoders, on the experiment of the embedded world with another base."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_store, folder / "mlflow.db")
    shutil.copytree(collection, folder / "outputs" / collection.name)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    given = (
        "--config",
        "experiments/lora/embedded.yaml",
        "--base",
        str(sdxl),
        "--train_text_encoder",
        "--text_encoder_lr",
        "1e-4",
        "--encoder",
        "embedded",
    )
    result = fashion_ml(
        "train",
        "lora",
        *given,
        *SHORT,
        *FEW,
        *LITTLE,
        *SETTINGS,
        "--save_every_n_steps",
        "3",
        "--json",
        "facts.json",
        cwd=folder,
        uri=uri,
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


def test_a_training_validates_samples_checks_and_is_evaluated(trained: Finished):
    client = MlflowClient(trained.uri)
    run = client.get_run(trained.facts["run_id"])
    measured = {"eval/weighted_total_loss", "eval/fashion_similarity"}
    assert {"val_loss", "val_loss_gain", "total_loss", *measured} <= run.data.metrics.keys()
    assert [point.step for point in client.get_metric_history(run.info.run_id, "eval/visual_loss")] == [3, 6]
    assert len(list(trained.folder.rglob("samples/*.png"))) >= 4
    assert "fashion_similarity" in json.dumps(trained.facts)


def test_files_and_strengths_are_chosen_by_what_they_make(trained: Finished):
    given = ("--strengths", "0.5,1", "--max-references", "6", "--num-inference-steps", "1", "--images-per-reference", "1")
    run = trained.facts["run_id"]
    result = fashion_ml("evaluate", "choose", run, *given, "--json", "choice.json", cwd=trained.folder, uri=trained.uri)
    assert result.returncode == 0, result.stderr
    assert json.loads((trained.folder / "choice.json").read_text("utf-8"))["winner"]["file"].endswith(".safetensors")
