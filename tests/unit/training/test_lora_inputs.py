"""Which parts of the base a training keeps beside the UNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import load_config
from fashion_ml.data.images import CaptionedImage
from fashion_ml.training.lora_inputs import needed_encoders

TEXT, VAE = {"text_encoder"}, {"vae"}


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({}, set()),
        ({"caption_dropout_rate": 0.2}, set()),  # empty captions are encoded once
        ({"shuffle_caption": True}, TEXT),
        ({"caption_tag_dropout_rate": 0.2}, TEXT),
        ({"enable_wildcard": True}, TEXT),
        ({"train_text_encoder": True}, TEXT),
        ({"cache_latents": False}, VAE),
        ({"cache_latents": False, "train_text_encoder": True}, TEXT | VAE),
    ],
)
def test_an_encoder_stays_where_it_trains_or_what_it_gives_is_not_kept(given: dict[str, Any], needed: set[str]):
    images = [CaptionedImage(Path("a.png"), "a dress, red", "a.png")]
    assert needed_encoders(load_config({"data": {"train_data_dir": "embedded"}}, given), images) == needed
