"""What decoding takes on a GPU, counted without one, by the structure of Stable Diffusion XL's VAE."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderKL

from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.half_precision import decode_one_by_one
from fashion_ml.models.single_file import CONFIGS
from fashion_ml.training.memory_estimate import GIB, AsOnCuda
from fashion_ml.training.torch_private import LiveBytes, fake_tensors, without_numbers


def decoding(images: int) -> float:
    """The peak in GiB, at 1024 pixels in bfloat16, with the VAE's weights."""
    config = json.loads((CONFIGS / "sdxl" / "vae" / "config.json").read_bytes())
    vae = empty_model("vae", config, "vae").to(torch.bfloat16).requires_grad_(False)
    decode_one_by_one(vae)
    memory = LiveBytes()
    with fake_tensors(), torch.no_grad():
        without_numbers(vae)
        for tensor in (*vae.parameters(), *vae.buffers()):
            memory.count(tensor)
        with memory, AsOnCuda(autocast=False):
            vae.decode(torch.empty(images, 4, 128, 128, dtype=torch.bfloat16))
    return memory.peak / GIB


def test_four_images_of_1024_pixels_take_what_one_takes_and_are_decoded_whole(monkeypatch: pytest.MonkeyPatch):
    together = decoding(4)
    monkeypatch.setattr(AutoencoderKL, "device", torch.device("cuda"))
    one, four = decoding(1), decoding(4)
    assert (one, together) == pytest.approx((1.66, 6.16), abs=0.01)
    assert four == pytest.approx(one, abs=0.03)
