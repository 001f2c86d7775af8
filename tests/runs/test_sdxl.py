"""Stable Diffusion XL through the command line: trained with samples, checks, validation; evaluated, chosen, registered, served, exported."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from mlflow import MlflowClient
from PIL import Image

from fashion_ml.models import single_file
from fashion_ml.models.stable_diffusion import load_pipeline
from tests.runs.command import FEW, SHORT, Finished, fashion_ml, free_port
from tests.runs.forked import Forked
from tests.unit.models.test_sdxl_lora_files import close, said

PROMPT = "a red dress with dots"
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
        "1e-3",
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


def with_lora(trained: Finished, sdxl: Path) -> StableDiffusionXLPipeline:
    """Base and LoRA as diffusers reads them, with the sampler that images are made with here."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl, add_watermarker=False)
    pipeline.scheduler = load_pipeline(str(sdxl)).scheduler
    lora = Path(trained.facts["lora"])
    pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    return pipeline


@pytest.fixture(scope="module")
def registered(trained: Finished) -> Finished:
    """It is version 1 of `xl`."""
    result = fashion_ml("register", trained.facts["run_id"], "--name", "xl", cwd=trained.folder, uri=trained.uri)
    assert result.returncode == 0, result.stderr
    return trained


SAMPLER = {"num_inference_steps": 3, "guidance_scale": 4.0}


def is_diffusers(picture: bytes, pipeline: StableDiffusionXLPipeline, negative: str) -> None:
    """A picture of PROMPT with seed 11 is, but for rounding, what diffusers draws."""
    noise = torch.Generator().manual_seed(11)
    pipeline.set_progress_bar_config(disable=True)
    (expected,) = pipeline(PROMPT, negative_prompt=negative or None, generator=noise, width=64, height=64, **SAMPLER).images
    difference = np.asarray(Image.open(io.BytesIO(picture))).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_registered_it_draws_what_diffusers_draws(registered: Finished, sdxl: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.uri)
    model, pipeline = mlflow.pyfunc.load_model("models:/xl/1"), with_lora(registered, sdxl)
    for negative in ("", "a hat"):
        params = {**SAMPLER, "seed": 11, "negative_prompt": negative}
        (picture,) = model.predict(pd.DataFrame({"prompt": [PROMPT]}), params=params)
        is_diffusers(picture, pipeline, negative)


def test_served_it_draws_the_same_over_http_and_a_request_out_of_bounds_is_refused(registered: Finished, sdxl: Path):
    port = free_port()
    served = Forked("serve", "models:/xl/1", "--port", str(port), cwd=registered.folder, uri=registered.uri, name="served")

    def ask(**params: Any) -> tuple[int, Any]:
        body = json.dumps({"dataframe_records": [{"prompt": PROMPT}], "params": {**SAMPLER, "seed": 11, **params}})
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    try:
        end = time.monotonic() + 60
        while not any(path.exists() and "Answers at" in path.read_text(encoding="utf-8") for path in (served.out, served.err)):
            assert not served.ends_within(0.1), served.said()
            assert time.monotonic() < end, served.said()
        status, answer = ask(negative_prompt="a hat")
        assert status == 200, answer
        is_diffusers(base64.b64decode(answer["predictions"][0]), with_lora(registered, sdxl), "a hat")
        status, answer = ask(width=65)
        assert status == 400, answer
        assert "width: " in answer["message"]
    finally:
        os.kill(served.pid, signal.SIGTERM)
    assert served.wait(30) == 0


@pytest.mark.parametrize("target", ["whole", "whole.safetensors"])
def test_merged_into_its_base_it_is_a_folder_or_one_file(
    target: str, trained: Finished, sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One file has the structure of the known configurations, here the small base's own."""
    shutil.copytree(sdxl, tmp_path / "sdxl")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path)
    given = ("export", trained.facts["run_id"], str(tmp_path / target), "--format", "merged", "--json", "export.json")
    result = fashion_ml(*given, cwd=trained.folder, uri=trained.uri)
    assert result.returncode == 0, result.stderr
    assert json.loads((trained.folder / "export.json").read_text("utf-8"))["path"] == str(tmp_path / target)
    close(said(load_pipeline(str(tmp_path / target))), said(with_lora(trained, sdxl)))
