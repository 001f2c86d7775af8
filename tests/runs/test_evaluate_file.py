"""`evaluate lora`: a file that nobody trained here, in a run of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from fashion_ml.models.kohya_format import model_hash
from tests.runs.command import Command, Finished, fashion_ml

FEW = (
    "--max-references",
    "2",
    "--images-per-reference",
    "2",
    "--num-inference-steps",
    "2",
    "--resamples",
    "50",
    "--guidance-scale",
    "3",
    "--batch-size",
    "16",
)


@pytest.fixture(scope="module")
def own(finished: Finished) -> Finished:
    """The finished training with its file beside it as of another program."""
    (file,) = finished.folder.glob("outputs/lora/*/lora.safetensors")
    save_file(
        load_file(file),
        finished.folder / "elsewhere.safetensors",
        {"ss_resolution": "(64, 64)", "ss_sd_model_name": "toy.ckpt"},
    )
    return finished


def measured(own: Finished, *arguments: str) -> subprocess.CompletedProcess[str]:
    return fashion_ml("evaluate", "lora", *arguments, "--json", "file.json", cwd=own.folder, uri=own.uri)


def test_a_file_is_measured_as_after_its_training_to_the_last_digit(own: Finished):
    result = measured(own, "elsewhere.safetensors", "--training", "embedded", *FEW)
    assert result.returncode == 0, result.stderr
    here, trained = json.loads((own.folder / "file.json").read_text(encoding="utf-8")), own.facts["evaluation"]
    assert here["fingerprint"] == trained["fingerprint"]
    assert here["metrics"] == trained["metrics"]
    assert here["kid"] == trained["kid"]
    client = MlflowClient(own.uri)
    run = client.get_run(here["run_id"])
    tags = run.data.tags
    assert "mlflow.parentRunId" not in tags
    content = (own.folder / "elsewhere.safetensors").read_bytes()
    assert (tags["kind"], tags["source"], tags["lora_file"]) == ("evaluation", "file", "elsewhere.safetensors")
    assert (tags["lora_sha256"], tags["lora_form"], tags["lora_base_name"]) == (model_hash(content), "kohya", "toy.ckpt")
    below = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert {one.info.run_name for one in below} == {"ssim", "fashion_clip", "color"}
    assert tags["references_seen_in_training"] == "false"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"report.html", "per_image.csv", "images"}
    assert "in the names of kohya" in result.stderr
    assert run.data.metrics["gain_visual_loss"] == trained["metrics"]["visual_loss"]["gain"]["mean"]


def test_an_evaluation_of_a_file_that_was_killed_goes_on_in_its_run(own: Finished):
    shutil.copy(own.folder / "elsewhere.safetensors", own.folder / "killed.safetensors")
    assert measured(own, "killed.safetensors", *FEW).returncode == 0
    first = json.loads((own.folder / "file.json").read_text(encoding="utf-8"))
    place = own.folder / "outputs" / "evaluations" / "killed"
    note = json.loads((place / "evaluation_run.json").read_text(encoding="utf-8"))
    (place / "evaluation_run.json").write_text(json.dumps({**note, "finished": False}), encoding="utf-8")
    lost = next((place / "images" / "lora").glob("*.png"))
    kept = [path for path in (place / "images").rglob("*.png") if path != lost]
    times = [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    result = measured(own, "killed.safetensors", *FEW)
    again = json.loads((own.folder / "file.json").read_text(encoding="utf-8"))
    assert result.returncode == 0, result.stderr
    assert "Going on with evaluation" in result.stderr
    assert again == first
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_what_compare_finds_different_can_be_given_to_evaluate_run(own: Finished):
    """A clip skip and a resolution are settings of the training, and decide the images of an evaluation."""
    run = own.facts["run_id"]
    few = ("--max-references", "2", "--num-inference-steps", "1", "--resamples", "50", "--json", "again.json")
    assert fashion_ml("evaluate", "run", run[:10], "--resolution", "32", *few, cwd=own.folder, uri=own.uri).returncode == 0
    first = json.loads((own.folder / "again.json").read_text(encoding="utf-8"))
    assert fashion_ml("evaluate", "run", run, *few, cwd=own.folder, uri=own.uri).returncode == 0
    second = json.loads((own.folder / "again.json").read_text(encoding="utf-8"))
    refused = fashion_ml("compare", first["run_id"], second["run_id"], cwd=own.folder, uri=own.uri)
    assert 'were measured differently; sizes: ["32x32"], ["64x64"]' in refused.stderr
    assert fashion_ml("evaluate", "run", run, "--resolution", "32", *few, cwd=own.folder, uri=own.uri).returncode == 0
    third = json.loads((own.folder / "again.json").read_text(encoding="utf-8"))
    assert fashion_ml("compare", first["run_id"], third["run_id"], cwd=own.folder, uri=own.uri).returncode == 0


def test_what_a_file_cannot_be_measured_with_is_one_line_each_and_no_run(refused: Command, workdir: Path):
    save_file({"lora_te1_x.lora_down.weight": torch.ones(1, 1)}, workdir / "xl.safetensors")
    assert refused("evaluate", "lora", "nowhere.safetensors") == [
        "error: lora: 'nowhere.safetensors' is no file; give a LoRA's .safetensors file"
    ]
    (line,) = refused("evaluate", "lora", "xl.safetensors")
    assert "is a LoRA of SDXL (it holds lora_te1_x.lora_down.weight)" in line
    (line,) = refused("evaluate", "lora", "xl.safetensors", "--base", "/a/base.safetensors")
    assert line.startswith("error: evaluation.references: is not given; give a folder of pictures with captions")
    (line,) = refused("evaluate", "lora", "xl.safetensors", "--set", "network.rank=4")
    assert line.startswith("error: network.rank: decides nothing where a file is measured")
    store = MlflowClient()
    assert not store.search_runs([one.experiment_id for one in store.search_experiments()])
