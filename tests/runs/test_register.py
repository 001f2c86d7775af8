"""Trained networks in the registry, loaded and asked in this process; over HTTP: tests/full."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from fashion_ml.models.stable_diffusion import load_pipeline
from tests.runs.chinese import english
from tests.runs.command import Command, Finished, fashion_ml

SETTINGS = {"seed": 11, "num_inference_steps": 3, "guidance_scale": 4.0}
PROMPT = "a red dress with dots"


@pytest.fixture(scope="module")
def registered(finished: Finished) -> dict[str, Any]:
    result = fashion_ml(
        "register",
        finished.facts["run_id"],
        "--name",
        "look",
        "--json",
        "registered.json",
        cwd=finished.folder,
        uri=finished.uri,
    )
    assert result.returncode == 0, result.stderr
    facts: dict[str, Any] = json.loads((finished.folder / "registered.json").read_text(encoding="utf-8"))
    return facts


@pytest.fixture
def store(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished.uri)
    return finished.uri


def expected(finished: Finished) -> np.ndarray[Any, Any]:
    """What diffusers itself makes of base and LoRA."""
    pipeline = load_pipeline("embedded")
    path = Path(finished.facts["lora"])
    pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    noise = torch.Generator().manual_seed(SETTINGS["seed"])  # type: ignore[arg-type]
    image = pipeline(PROMPT, generator=noise, num_inference_steps=3, guidance_scale=4.0, width=64, height=64).images[0]
    return np.asarray(image)


def test_a_version_has_its_metrics_and_is_no_champion_on_two_references(
    finished: Finished, registered: dict[str, Any], store: str
):
    assert (registered["version"], registered["champion"], registered["claim"]) == ("1", False, "")
    assert "no verdict, 2 references are fewer than 6" in registered["why"]
    client = MlflowClient(store)
    version = client.get_model_version("look", "1")
    assert "champion" not in client.get_registered_model("look").aliases
    assert "no verdict, 2 references" in version.description
    assert version.run_id == finished.facts["run_id"]
    model = client.get_logged_model(registered["uri"].removeprefix("models:/"))
    assert model.source_run_id == version.run_id
    attached = {metric.key for metric in model.metrics}
    assert {"eval/weighted_total_loss", "eval/ssim"} <= attached


def test_the_loaded_model_draws_what_the_pipeline_draws(finished: Finished, registered: dict[str, Any], store: str):
    model = mlflow.pyfunc.load_model("models:/look/1")
    first, other = model.predict(pd.DataFrame({"prompt": [PROMPT, "a blue hat"]}), params=SETTINGS)
    picture = np.asarray(Image.open(io.BytesIO(first)))
    assert np.array_equal(picture, expected(finished))
    assert first != other
    adapter = mlflow.diffusers.load_model("models:/look/1")
    assert Path(adapter.adapter_path).is_dir()


def test_a_run_that_is_no_training_is_refused(refused: Command):
    (line,) = refused("register", "0" * 32, "--name", "look")
    assert "is not in" in line


@pytest.mark.parametrize("name", ["a/b", "a:b", " "])
def test_a_name_that_no_model_can_have_is_refused_before_anything_is_logged(refused: Command, name: str):
    (line,) = refused("register", "0" * 32, "--name", name)
    assert "--name: " in line


def test_a_run_is_reproduced_to_the_last_bit(finished: Finished):
    result = fashion_ml(
        "reproduce",
        finished.facts["run_id"],
        "--output-dir",
        "repeated",
        "--json",
        "repeated.json",
        cwd=finished.folder,
        uri=finished.uri,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    facts = json.loads((finished.folder / "repeated.json").read_text(encoding="utf-8"))
    assert (facts["identical"], facts["different"], facts["versions"]) == (True, {}, {})
    client = MlflowClient(finished.uri)
    assert client.get_run(facts["after"]).data.tags["reproduces"] == finished.facts["run_id"]
    assert facts["points"] > 20
    assert facts["after"] != finished.facts["run_id"]


def test_an_evaluation_made_since_is_no_difference(finished: Finished):
    again = fashion_ml("evaluate", "run", finished.facts["run_id"], "--seed", "5", cwd=finished.folder, uri=finished.uri)
    assert again.returncode == 0, again.stderr
    asked = ["reproduce", finished.facts["run_id"], "--output-dir", "third"]
    result = fashion_ml("--lang", "zh-TW", *asked, cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "未比較：eval/" in result.stdout
    assert english(result.stdout + result.stderr) == []


def test_measured_images_of_another_model_make_no_champion(finished: Finished):
    train = ["train", "lora", "--steps", "2", "--rank", "2", "--no-evaluate", "--output-dir", "unmeasured", "--json", "u.json"]
    assert fashion_ml(*train, cwd=finished.folder, uri=finished.uri).returncode == 0
    run_id = json.loads((finished.folder / "u.json").read_text(encoding="utf-8"))["run_id"]
    images = finished.folder / "images"
    images.mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64), (90 * number, 40, 200)).save(images / f"{number}.png")
    folders = ["--generated", "images", "--reference", "images"]
    measured = ["evaluate", "images", *folders, "--run", run_id, "--encoder", "embedded"]
    result = fashion_ml(*measured, cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stderr
    register = ["register", run_id, "--name", "other", "--json", "o.json"]
    result = fashion_ml(*register, cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((finished.folder / "o.json").read_text(encoding="utf-8"))
    assert not facts["champion"]
    assert "not one of these networks" in facts["why"]
