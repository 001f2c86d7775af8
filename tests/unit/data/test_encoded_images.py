"""What a cache of latents is asked by: image, VAE, size and side."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_ml.data.encoded_images import EncodedCaptions, EncodedImages
from fashion_ml.data.images import read_training_folder
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.text_encoding import TextSettings
from tests.unit.training.setup import write_images


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline("embedded")


def test_one_cache_gives_each_size_side_vae_and_image_its_own_latents(pipeline: Any, tmp_path: Path):
    write_images(tmp_path, count=2)
    items, cache = read_training_folder(tmp_path), TensorCache(tmp_path / "cache")

    def latents(size: tuple[int, int], index: int = 0, mirrored: bool = False, vae: str = "v") -> torch.Tensor:
        return EncodedImages(pipeline, items, [size] * 2, cache, vae).moments(index, mirrored)["mean"]

    small = latents((32, 32))
    assert (small.shape, latents((64, 32)).shape, latents((32, 64)).shape) == ((4, 8, 8), (4, 8, 16), (4, 16, 8))
    assert not torch.equal(small, latents((32, 32), mirrored=True))
    assert not torch.equal(small, latents((32, 32), index=1))
    latents((32, 32), vae="w")
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 6
    assert torch.equal(small, latents((32, 32)))


def test_a_mirrored_image_has_the_latents_of_the_mirrored_picture(pipeline: Any, tmp_path: Path):
    from PIL import Image, ImageOps

    write_images(tmp_path / "plain", count=1)
    (path,) = (tmp_path / "plain").rglob("*.png")
    turned = tmp_path / "turned" / "1_x"
    turned.mkdir(parents=True)
    ImageOps.mirror(Image.open(path)).save(turned / "a.png")
    found = []
    for folder, mirrored in (("plain", True), ("turned", False)):
        items = read_training_folder(tmp_path / folder)
        found.append(EncodedImages(pipeline, items, [(64, 64)], None, "v").moments(0, mirrored)["mean"])
    assert torch.equal(*found)


def test_one_cache_gives_each_caption_and_text_encoder_its_own_embeddings(pipeline: Any):
    cache = TensorCache()
    first, second = EncodedCaptions(pipeline, cache, "e").embeddings(["a red dress", "a blue hat"])
    assert not torch.equal(first, second)
    EncodedCaptions(pipeline, cache, "f").prepare(["a red dress"])
    assert len(cache._memory) == 3


def test_captions_read_otherwise_have_keys_of_their_own_and_the_usual_ones_those_of_before(pipeline: Any):
    """A cache from before there were lengths and clip skip: two parts in the key."""
    cache, caption = TensorCache(), "a (red:1.3) dress"
    old = key_of(caption=hashlib.sha256(caption.encode()).hexdigest(), text_encoder="e")
    cache.put(old, {"text": torch.ones(32, 64)})
    assert EncodedCaptions(pipeline, cache, "e", TextSettings(75, 1)).embeddings([caption]).eq(1).all()
    others = [TextSettings(150), TextSettings(clip_skip=2), TextSettings(weighted_captions=True)]
    found = [EncodedCaptions(pipeline, cache, "e", settings).embeddings([caption]) for settings in others]
    assert [part.shape[1] for part in found] == [62, 32, 32]
    assert not torch.equal(found[1], found[2])
    assert len(cache._memory) == 4
