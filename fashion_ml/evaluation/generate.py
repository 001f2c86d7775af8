"""Images for every reference caption: the same prompts and seeds with the LoRA and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.captioned_images import CaptionedImage
from fashion_ml.progress import Bar
from fashion_ml.seeding import derive_seed


def image_seed(seed: int, name: str, index: int) -> int:
    """Seed of the initial noise of image `index` for the reference of that name; other references do not change it."""
    return derive_seed(seed, f"evaluation/{name}", index)


@torch.no_grad()
def generate(
    pipeline: Any, references: Sequence[CaptionedImage], settings: Evaluation, resolution: int, progress: Bar | None
) -> list[Image.Image]:
    """RGB pictures, `images_per_reference` for each reference in turn. A picture does not depend on the batch it was made in."""
    jobs = [
        (reference.caption, image_seed(settings.seed, reference.name, index))
        for reference in references
        for index in range(settings.images_per_reference)
    ]
    pictures: list[Image.Image] = []
    for first in range(0, len(jobs), settings.batch_size):
        part = jobs[first : first + settings.batch_size]
        output = pipeline(
            [caption for caption, _ in part],
            height=resolution,
            width=resolution,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for _, seed in part],
        )
        pictures += output.images
        if progress is not None:
            progress.advance(len(part))
    return pictures
