"""Pictures to latents in batches, as on a GPU: the same numbers, the same batches whatever is there already, keys by device and precision."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_ml.data import encode_batches, encode_latents
from fashion_ml.data.encode_batches import encode_pictures, kind_of_device
from fashion_ml.data.encoded_images import EncodedCaptions, EncodedImages
from fashion_ml.data.images import read_training_folder
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.embedded import domains
from fashion_ml.embedded.domains import write_domains
from fashion_ml.errors import InputError
from fashion_ml.models.stable_diffusion import load_pipeline
from tests.unit.training.setup import write_images


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline("embedded")


class Elsewhere:
    """An encoder that says it is on a GPU, counts what it is asked at once, and computes on the CPU."""

    def __init__(self, model: Any, room: int = 99):
        self._model, self._room, self.asked = model, room, list[int]()
        self.device, self.dtype, self.config = torch.device("cuda"), model.dtype, model.config

    def encode(self, pixels: torch.Tensor) -> Any:
        self.asked.append(len(pixels))
        if len(pixels) > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._model.encode(pixels)

    def parameters(self) -> Any:
        return iter([SimpleNamespace(device=self.device, dtype=self.dtype)])


@pytest.fixture
def vae(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """The embedded VAE as on a GPU."""
    on_cpu = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return on_cpu(self, *[one for one in args if one != torch.device("cuda")], **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    return Elsewhere(pipeline.vae)


def as_pictures(count: int, sizes: list[tuple[int, int]]) -> list[Image.Image]:
    draw = torch.Generator().manual_seed(0)
    return [Image.effect_noise(sizes[i], 50 + int(torch.randint(9, (), generator=draw))).convert("RGB") for i in range(count)]


def test_a_gpu_encodes_batches_of_one_size_with_the_numbers_of_a_cpu_that_encodes_one_by_one(
    pipeline: Any, vae: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(encode_batches, "_PIXELS", 3 * 32 * 32)
    sizes = [(32, 32), (64, 32), (32, 32), (32, 32), (64, 32), (32, 32), (32, 32)]
    pictures, readers = as_pictures(7, sizes), set[int]()

    def read(index: Any) -> Image.Image:
        readers.add(threading.get_ident())
        return pictures[index]

    one_by_one = {key: (mean, std) for key, mean, std in encode_pictures(pipeline.vae, range(7), sizes, range(7), read)}
    assert readers == {threading.get_ident()}
    together = {key: (mean, std) for key, mean, std in encode_pictures(vae, range(7), sizes, range(7), read)}
    assert vae.asked == [3, 2, 1, 1]
    assert len(readers) > 1  # threads have read ahead
    assert set(one_by_one) == set(together) == set(range(7))
    for key in range(7):
        for mine, other in zip(together[key], one_by_one[key], strict=True):
            assert torch.allclose(mine, other, rtol=0, atol=1e-5 * other.abs().max().item())


def test_an_encoding_that_goes_on_makes_bit_for_bit_what_it_would_have_made(vae: Elsewhere, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encode_batches, "_PIXELS", 3 * 32 * 32)
    sizes, pictures = [(32, 32)] * 7, as_pictures(7, [(32, 32)] * 7)
    whole = {key: mean for key, mean, _ in encode_pictures(vae, range(7), sizes, range(7), pictures.__getitem__)}
    vae.asked.clear()
    rest = {key: mean for key, mean, _ in encode_pictures(vae, range(7), sizes, [4, 6], pictures.__getitem__)}
    assert vae.asked == [3, 1]
    assert set(rest) == {4, 6}
    assert all(torch.equal(mean, whole[key]) for key, mean in rest.items())


def test_half_as_many_at_once_where_they_do_not_fit_and_one_that_does_not_is_an_error(
    vae: Elsewhere, caplog: pytest.LogCaptureFixture
):
    vae._room, sizes, pictures = 2, [(32, 32)] * 6, as_pictures(6, [(32, 32)] * 6)
    with caplog.at_level(logging.INFO, "fashion_ml"):
        found = [key for key, _, _ in encode_pictures(vae, range(6), sizes, range(6), pictures.__getitem__)]
    assert (found, vae.asked) == (list(range(6)), [6, 3, 1, 1, 1, 1, 1, 1])
    assert caplog.messages[0].startswith("6 images at once do not fit into the GPU's memory; 3 are encoded at once")
    vae._room = 0
    with pytest.raises(torch.OutOfMemoryError):
        list(encode_pictures(vae, range(6), sizes, range(6), pictures.__getitem__))


def test_a_picture_that_cannot_be_read_ends_it(vae: Elsewhere):
    def read(index: Any) -> Image.Image:
        raise InputError("data.train_data_dir: damaged")

    with pytest.raises(InputError, match="damaged"):
        list(encode_pictures(vae, range(6), [(32, 32)] * 6, range(6), read))


def test_images_and_captions_prepared_on_a_gpu_are_kept_under_their_own_keys(pipeline: Any, vae: Elsewhere, tmp_path: Path):
    """Both sides of each image, and all captions, in one batch each; the CPU's are encoded for themselves."""
    write_images(tmp_path, count=3)
    items, cache, asked = read_training_folder(tmp_path), TensorCache(), list[int]()

    class Text(torch.nn.Module):
        device, config = torch.device("cuda"), pipeline.text_encoder.config

        def parameters(self, recurse: bool = True) -> Any:
            return iter([SimpleNamespace(device=self.device, dtype=torch.float32)])

        def forward(self, ids: torch.Tensor) -> Any:
            asked.append(len(ids))
            return pipeline.text_encoder(ids)

    gpu = SimpleNamespace(vae=vae, text_encoder=Text(), tokenizer=pipeline.tokenizer, unet=pipeline.unet)
    found = [EncodedImages(one, items, [(64, 64)] * 3, cache, "v") for one in (gpu, pipeline)]
    texts = [EncodedCaptions(one, cache, "e") for one in (gpu, pipeline)]  # type: ignore[arg-type]
    for images, captions in zip(found, texts, strict=True):
        images.prepare("encode", mirrored=True)
        captions.prepare([item.caption for item in items] * 2)
    assert (vae.asked, asked) == ([6], [len({item.caption for item in items})])
    for mirrored in (False, True):
        mine, other = (images.moments(1, mirrored)["mean"] for images in found)
        assert torch.allclose(mine, other, atol=1e-5 * other.abs().max().item(), rtol=0)
    mine, other = (captions.embeddings([items[0].caption]) for captions in texts)
    assert torch.allclose(mine, other, atol=1e-5, rtol=0)
    assert len(cache._memory) == 2 * (6 + asked[0])


def test_device_and_precision_are_in_the_key_but_of_float32_on_a_cpu():
    def of(dtype: torch.dtype, device: str) -> dict[str, str]:
        return kind_of_device(torch.nn.Linear(1, 1, dtype=dtype, device=device))

    assert of(torch.float32, "cpu") == {}
    assert of(torch.bfloat16, "cpu") == {"device": "cpu bfloat16"}
    assert of(torch.float32, "meta") == {"device": "meta float32"}


def test_a_folder_of_latents_holds_those_of_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One from before the device was noted goes on, and stays unnoted."""
    monkeypatch.setattr(domains, "PICTURES", 4)
    images, out = write_domains(tmp_path / "images"), tmp_path / "out"
    given = {"size": 64, "flips": False, "packed": False, "device": "cpu"}
    encode_latents.encode_folder(images, out, "embedded", **given)  # type: ignore[arg-type]
    note = json.loads((out / "manifest.json").read_text())
    assert note["device"] == "cpu float32"
    monkeypatch.setattr(encode_latents, "device_of", lambda vae: "cuda float32")
    with pytest.raises(InputError, match=r"encoded with another device \(cpu float32, this is cuda float32\)"):
        encode_latents.encode_folder(images, out, "embedded", **given)  # type: ignore[arg-type]
    del note["device"]
    (out / "manifest.json").write_text(json.dumps(note))
    assert encode_latents.encode_folder(images, out, "embedded", **given).made == 0  # type: ignore[arg-type]
    assert json.loads((out / "manifest.json").read_text())["device"] == ""


def test_an_image_that_does_not_fit_into_a_gpus_memory_is_one_line(
    tmp_path: Path, pipeline: Any, vae: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    for domain in ("coats", "hats"):
        (tmp_path / "images" / domain).mkdir(parents=True)
        Image.new("RGB", (64, 64), "red").save(tmp_path / "images" / domain / "a.png")
    monkeypatch.setattr(encode_latents, "load_vae", lambda *_: Elsewhere(pipeline.vae, room=0))
    monkeypatch.setattr(encode_latents, "weights_sha256", lambda _: "0")
    given = {"size": 64, "flips": False, "packed": False, "device": "cuda"}
    with pytest.raises(
        InputError, match=r"^--size: with 64 encoding an image does not fit into the GPU's memory; use a smaller one$"
    ):
        encode_latents.encode_folder(tmp_path / "images", tmp_path / "out", "embedded", **given)  # type: ignore[arg-type]
