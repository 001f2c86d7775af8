"""val_loss compares between steps and runs: every held-out image has its own fixed noise and timesteps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fashion_ml.data.images import CaptionedImage
from fashion_ml.runtime.seeding import generator
from fashion_ml.training.validation import MASKED, Validation

ITEMS = [replace(CaptionedImage(Path(f"{name}.png"), name, f"{name}.png"), sha256=name * 64) for name in "abc"]


def a_validation(items: list[CaptionedImage], seed: int = 0) -> Validation:
    """Latents of 0, so that what the UNet is shown is the noise alone, scaled."""
    images: Any = SimpleNamespace(
        items=items,
        latent_shape=lambda index: (4, 2, 2),
        moments=lambda index: {"mean": torch.zeros(4, 2, 2)},
        with_sizes=lambda text, rows: text,
    )
    alphas = torch.linspace(0.999, 0.001, 1000)
    text_of = lambda captions: torch.zeros(len(captions), 1, 1)  # noqa: E731
    return Validation(images, text_of, alphas_cumprod=alphas, prediction_type="epsilon", scaling=1.0, seed=seed)


def shown(validation: Validation) -> tuple[list[torch.Tensor], list[torch.Tensor], dict[str, float]]:
    """What the UNet is asked for each image, and the figures when it always answers 0: the mean square of the noise."""
    noisy, steps = [], []

    def predict(x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        noisy.append(x)
        steps.append(t)
        return torch.zeros_like(x)

    return noisy, steps, validation.measure(predict, "cpu")


def test_the_noise_of_an_image_is_its_own_wherever_it_stands():
    straight, turned = shown(a_validation(ITEMS)), shown(a_validation(ITEMS[::-1]))
    for index in range(3):
        assert torch.equal(straight[0][index], turned[0][2 - index])
        assert torch.equal(straight[1][index], turned[1][2 - index])
    assert straight[2]["val_loss"] == pytest.approx(turned[2]["val_loss"])


def test_another_image_and_another_seed_have_other_noise():
    straight, other = shown(a_validation(ITEMS))[0], shown(a_validation(ITEMS, seed=1))[0]
    assert not torch.equal(straight[0], straight[1])
    assert not torch.equal(straight[0], other[0])


def test_every_image_has_one_timestep_in_each_band_and_the_bands_means_are_val_loss():
    _, steps, figures = shown(a_validation(ITEMS))
    for t in steps:
        assert [step // 250 for step in t.tolist()] == [0, 1, 2, 3]
    bands = [figures[f"val_loss_bands/t{low:04d}_{low + 249:04d}"] for low in (0, 250, 500, 750)]
    assert figures["val_loss"] == pytest.approx(sum(bands) / 4)
    assert 0.6 < figures["val_loss"] < 1.5  # the mean square of 192 standard normal numbers


def test_measuring_keeps_no_gradients():
    weight = torch.ones((), requires_grad=True)
    a_validation(ITEMS).measure(lambda x, t, text: predicted(x * weight), "cpu")


def predicted(x: torch.Tensor) -> torch.Tensor:
    assert not x.requires_grad
    return x


def test_val_loss_is_of_whole_images_with_masks_too_and_the_masked_one_of_what_they_show():
    """The prediction is 0 and the target the noise: inside the mask is the mean square of the noise there; b has no mask."""
    mask = torch.tensor([[[1.0, 0], [0, 0]]])
    plain, masked = a_validation(ITEMS), a_validation(ITEMS)
    masked._masks = SimpleNamespace(mask=lambda index: None if index == 1 else mask)  # type: ignore[assignment]
    noisy, _, whole = shown(plain)
    found = shown(masked)[2]
    assert {name: value for name, value in found.items() if name != MASKED} == whole
    noise = [generator(0, f"validation {item.sha256}") for item in ITEMS]
    drawn = [torch.randn((4, 4, 2, 2), generator=draw) for draw in noise]
    inside = torch.stack([drawn[index][:, :, 0, 0].square().mean() for index in (0, 2)]).mean().item()
    assert found[MASKED] == pytest.approx(inside, rel=1e-5)
    assert len(noisy) == 3
