"""A served LoRA reads prompts as its training read captions."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fashion_ml.deploy.lora_model import LoraModel
from fashion_ml.models.stable_diffusion import load_pipeline, prompt_embeddings
from fashion_ml.models.text_encoding import TextSettings
from tests.unit.training.setup import experiment, train, write_images

SAMPLER = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
PROMPT = "a (red:1.3) dress"


def test_what_the_base_was_said_to_predict_counts_where_it_is_served(tmp_path: Path):
    write_images(tmp_path / "images")
    config = experiment(tmp_path / "images", model={"prediction_type": "v_prediction", "zero_terminal_snr": True})
    path = train(config, tmp_path / "out").result.path
    pipeline = load_pipeline("embedded", prediction_type="v_prediction", zero_terminal_snr=True)
    pipeline.load_lora_weights(str(path))
    wanted = np.asarray(pipeline(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **SAMPLER).images[0])
    assert alike(served(path, {"schedule": config.model.schedule()}), wanted)
    assert not alike(served(path, {}), wanted)


def served(path: Path, facts: dict[str, Any]) -> np.ndarray[Any, Any]:
    (made,) = LoraModel("embedded", path, {"base": "embedded", **SAMPLER, **facts}).predict(pd.DataFrame({"prompt": [PROMPT]}))
    return np.asarray(Image.open(io.BytesIO(made)))


def by_hand(path: Path, settings: TextSettings | None) -> np.ndarray[Any, Any]:
    """The pipeline's own reading of the prompt where no settings are given."""
    pipeline = load_pipeline("embedded")
    pipeline.load_lora_weights(str(path))
    given = prompt_embeddings(pipeline, [PROMPT], [""], settings) if settings else {"prompt": PROMPT}
    return np.asarray(pipeline(**given, generator=torch.Generator().manual_seed(0), **SAMPLER).images[0])


def test_clip_skip_length_and_weights_of_the_training_count_and_older_models_are_read_as_they_were(tmp_path: Path):
    write_images(tmp_path / "images")
    config = experiment(tmp_path / "images", model={"clip_skip": 2}, data={"max_token_length": 150, "weighted_captions": True})
    path = train(config, tmp_path / "out").result.path
    plain, read = served(path, {}), served(path, {"text": config.text_encoding()})
    assert alike(plain, by_hand(path, None))
    assert alike(read, by_hand(path, TextSettings(150, 2, True)))
    assert not alike(plain, read)


@pytest.mark.parametrize("network", [{"use_dora": True, "train_text_encoder": True}, {"algo": "loha"}])
def test_what_diffusers_does_not_read_is_served_as_it_was_trained(tmp_path: Path, network: dict[str, Any]):
    """Against the model that trained, with its network still on it."""
    write_images(tmp_path / "images")
    config = experiment(tmp_path / "images", network=network, optimizer={"learning_rate": 0.05})
    trained = train(config, tmp_path / "out")
    pipeline = trained.pipeline
    pipeline.unet.eval(), pipeline.text_encoder.eval()
    wanted = np.asarray(pipeline(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **SAMPLER).images[0])
    assert alike(served(trained.result.path, {}), wanted)
    plain = load_pipeline("embedded")
    base = np.asarray(plain(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **SAMPLER).images[0])
    assert not alike(base, wanted)


def alike(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """But for rounding: another order of the same sums."""
    return bool(np.abs(one.astype(int) - other.astype(int)).max() <= 1)
