"""Which parts of the base a training keeps beside the UNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from fashion_ml.config import load_config
from fashion_ml.data import encoded_images
from fashion_ml.data.images import CaptionedImage, read_training_folder
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training import lora_inputs
from fashion_ml.training.lora_inputs import needed_encoders, prepare_inputs

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


@pytest.mark.parametrize("kept", [True, False])
def test_many_captions_are_encoded_when_a_step_asks_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
):
    folder = tmp_path / "images" / "1_dress"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 90, 90)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a dress, number {number}", encoding="utf-8")
    asked = list[str]()
    encode = encoded_images.encode_captions

    def noted(pipeline: Any, captions: list[str], *more: Any) -> torch.Tensor:
        asked.extend(captions)
        return encode(pipeline, captions, *more)

    monkeypatch.setattr(encoded_images, "encode_captions", noted)
    tree = {"data": {"train_data_dir": str(folder.parent)}, "training": {"train_batch_size": 2}}
    given = {"resolution": 64, **({"cache_dir": str(tmp_path / "cache")} if kept else {})}
    config, pipeline, items = load_config(tree, given), load_pipeline("embedded"), read_training_folder(folder.parent)

    def texts(most: int) -> tuple[int, bool, list[torch.Tensor]]:
        asked.clear()
        monkeypatch.setattr(lora_inputs, "_CAPTIONS_AHEAD", most)
        inputs, _ = prepare_inputs(config, pipeline, items, [], Accelerator())
        before = len(asked)
        return before, inputs.encodes, [batch.text for step in range(1, 7) for batch in inputs.batches(step)]

    later = texts(5)
    assert later[:2] == (0, True)
    assert sorted(asked) == [item.caption for item in items]  # each once, in two epochs
    ahead = texts(6)
    assert ahead[:2] == (0 if kept else 6, False)  # the folder has them from before
    assert all(torch.equal(one, other) for one, other in zip(later[2], ahead[2], strict=True))
