"""Float32 without TF32 wherever something is read, made or measured, whatever a training beside it asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.evaluation.training_grid import draw_grids
from fashion_ml.metrics.dino import load_dino
from fashion_ml.metrics.fashion_clip import embedded_source, load_fashion_clip
from fashion_ml.metrics.lpips import Lpips
from fashion_ml.models.stable_diffusion import encode_captions, encode_latents, load_pipeline, prompt_embeddings
from fashion_ml.models.stargan import make_networks
from fashion_ml.models.text_encoding import USUAL
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.training.stargan_loop import network_sizes
from tests.unit.metrics.small_dino import small_dino
from tests.unit.training.test_stargan_loop import experiment, inputs_of

PICTURE = Image.new("RGB", (64, 64), (200, 30, 60))


def switches() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_blocks_of_two_threads_may_end_in_any_order():
    before = switches()
    first, second = exact_float32(tf32=True), exact_float32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # the one that began first, in another thread
    assert switches() == (False, False)
    second.__exit__(None, None, None)
    assert switches() == before


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline("embedded")


def seen_by(module: torch.nn.Module, ask: Callable[[], object]) -> set[tuple[bool, bool]]:
    """The switches that a module computes under while a training with TF32 goes on around it."""
    found = set[tuple[bool, bool]]()
    hook = module.register_forward_pre_hook(lambda *_: found.add(switches()))
    try:
        with exact_float32(tf32=True):
            ask()
            assert switches() == (True, True)
    finally:
        hook.remove()
    return found


def test_captions_prompts_and_images_are_read_without_tf32(pipeline: Any):
    encoder = pipeline.text_encoder
    assert seen_by(encoder, lambda: encode_captions(pipeline, ["a hat"])) == {(False, False)}
    assert seen_by(encoder, lambda: prompt_embeddings(pipeline, ["a hat"], [""], USUAL)) == {(False, False)}
    assert seen_by(pipeline.vae.encoder, lambda: encode_latents(pipeline, [[PICTURE]])) == {(False, False)}


def test_what_measures_computes_without_tf32(tmp_path: Path):
    clip = load_fashion_clip("embedded", embedded_source(EMBEDDED_DIR), "cpu")
    assert seen_by(clip.model.visual, lambda: clip.embed_images([PICTURE])) == {(False, False)}
    assert seen_by(clip.model.transformer, lambda: clip.embed_texts(["a hat"])) == {(False, False)}
    dino = load_dino(small_dino(tmp_path / "dino"))
    assert seen_by(dino.model, lambda: dino.embed([PICTURE])) == {(False, False)}
    lpips = Lpips.__new__(Lpips)  # its weights are not here
    lpips.model, lpips._device = Distance(), "cpu"
    assert seen_by(lpips.model, lambda: lpips.distances([(PICTURE, PICTURE)])) == {(False, False)}


class Distance(torch.nn.Module):
    """In place of LPIPS."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (first - second).abs().mean()


def test_a_stargans_grids_are_drawn_without_tf32(tmp_path: Path, pipeline: Any):
    for domain in "ab":
        (tmp_path / domain).mkdir()
        for number in range(4):
            torch.save(torch.randn(4, 8, 8), tmp_path / domain / f"{number}.pt")
    config = experiment(tmp_path)
    inputs = inputs_of(config, tmp_path)
    networks = make_networks(network_sizes(config, 2), 0)
    assert seen_by(networks.g.decoder[0], lambda: draw_grids(networks, inputs, pipeline.vae, 1.0, 0)) == {(False, False)}


def test_a_vae_that_decodes_one_by_one_encodes_whole_batches(pipeline: Any):
    sizes: list[int] = []
    hook = pipeline.vae.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    pipeline.vae.enable_slicing()
    try:
        encode_latents(pipeline, [[PICTURE] * 3])
        assert (sizes, pipeline.vae.use_slicing) == ([3], True)
    finally:
        pipeline.vae.disable_slicing()
        hook.remove()
