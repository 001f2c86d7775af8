from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.config import validate
from fashion_ml.data.captioned_images import CaptionedImage
from fashion_ml.errors import InputError
from fashion_ml.losses.diffusion import per_image_mse
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.seeding import generator
from fashion_ml.training.lora import CachedImages, TrainedLora, train_lora

ITEMS = [CaptionedImage(Path(f"2_x/{name}.png"), name, 2) for name in "abc"]


def data() -> CachedImages:
    made = torch.Generator().manual_seed(5)
    return CachedImages(
        latent_mean=torch.randn(3, 4, 16, 16, generator=made),
        latent_std=torch.full((3, 4, 16, 16), 0.1),
        text=torch.randn(2, 32, 128, generator=made),
        caption_of=(0, 1, 1),
    )


def train(folder: Path, rows: list[dict[str, Any]] | None = None, **training: Any) -> TrainedLora:
    optimizer = {"learning_rate": training.pop("learning_rate", 1e-3), "max_grad_norm": training.pop("max_grad_norm", 1.0)}
    tree = {
        "data": {"train_data_dir": "x", "resolution": 64},
        "network": {"rank": 2},
        "optimizer": optimizer,
        "training": {"max_train_steps": 4, "log_every": 2, **training},
    }
    log = (rows if rows is not None else []).extend
    return train_lora(validate(tree), load_pipeline("embedded"), ITEMS, data(), folder, log)


def same(first: Path, second: Path, tolerance: float) -> bool:
    a, b = load_file(first), load_file(second)
    return all(torch.allclose(a[name], b[name], rtol=0, atol=tolerance) for name in a)


def test_the_first_loss_is_that_of_the_base_on_latents_noise_and_timesteps_of_seed_and_step(tmp_path: Path):
    """B = 0 at the first step, so the value can be worked out with the plain UNet and diffusers' own add_noise."""
    rows: list[dict[str, Any]] = []
    train(tmp_path, rows, train_batch_size=6, max_train_steps=1, seed=9)
    pipeline, cache = load_pipeline("embedded"), data()
    chosen = [i for i in (0, 1, 2) for _ in range(2)]
    order = torch.randperm(6, generator=generator(9, "order", 1)).tolist()
    chosen = [chosen[i] for i in order]
    sampled = torch.randn(6, 4, 16, 16, generator=generator(9, "latent", 1)) * 0.1
    latents = (cache.latent_mean[chosen] + sampled) * pipeline.vae.config.scaling_factor
    noise = torch.randn(6, 4, 16, 16, generator=generator(9, "noise", 1))
    timesteps = torch.randint(0, 1000, (6,), generator=generator(9, "timestep", 1))
    text = cache.text[[cache.caption_of[i] for i in chosen]]
    with torch.no_grad():
        prediction = pipeline.unet(pipeline.scheduler.add_noise(latents, noise, timesteps), timesteps, text).sample
    assert rows[0]["total_loss"] == pytest.approx(per_image_mse(prediction, noise).mean().item(), rel=1e-4)


def test_accumulation_gives_the_step_of_the_large_batch(tmp_path: Path):
    """6 images an epoch, 4 a step: the second step of each epoch holds 2, and counts each image alike."""
    large, small = (
        train(tmp_path / str(size), train_batch_size=size, gradient_accumulation_steps=4 // size).path for size in (4, 1)
    )
    assert same(large, small, 1e-4)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_does_not(tmp_path: Path):
    first, again, other = (train(tmp_path / name, seed=seed).path for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same(first, again, 0)
    assert not same(first, other, 1e-4)


def test_clipping_clips_and_the_norm_logged_is_the_one_before(tmp_path: Path):
    free: list[dict[str, Any]] = []
    clipped: list[dict[str, Any]] = []
    one = train(tmp_path / "a", free, max_grad_norm=0, max_train_steps=2).path
    two = train(tmp_path / "b", clipped, max_grad_norm=1e-9, max_train_steps=2).path
    assert free[0]["grad_norm"] == pytest.approx(clipped[0]["grad_norm"], rel=1e-5)
    assert free[0]["grad_norm"] > 1e-4
    assert not same(one, two, 1e-5)  # clipped to 1e-9, Adam's epsilon of 1e-8 holds the weights back


def test_a_loss_that_is_not_finite_stops_with_step_images_and_last_file(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"total_loss is not finite at step \d+ \(images [abc]\.png\); lower the learning rate"
    ):
        train(tmp_path, learning_rate=1e30, max_train_steps=20, max_grad_norm=0)
    assert (tmp_path / "training_logs" / "training_loss_log.txt").is_file()
    assert not (tmp_path / "lora.safetensors").exists()


def test_a_file_is_kept_every_so_many_epochs(tmp_path: Path):
    """6 images an epoch at batch 3: 2 steps; every 2 epochs of 10 steps: after steps 4 and 8."""
    train(tmp_path, train_batch_size=3, max_train_steps=10, save_every_n_epochs=2)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "lora-000002.safetensors",
        "lora-000004.safetensors",
        "lora.safetensors",
    ]
