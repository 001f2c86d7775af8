"""What a training is told of its base: that it was made for another size of pictures, and what of its noise is not usual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment
from fashion_ml.models.families.known import family_of
from fashion_ml.models.schedule_lines import schedule_lines
from fashion_ml.models.stable_diffusion import vae_factor
from fashion_ml.runtime.language import tr


def base_lines(config: LoraExperiment, pipeline: Any) -> list[str]:
    """A line for each thing that the experiment leaves to the base, or has other than the base, with the setting that changes it."""
    model = config.model
    said = schedule_lines(model.base, pipeline.scheduler, model.prediction_type, model.zero_terminal_snr)
    return [*_of_size(config.data.resolution, pipeline, Path(model.base).expanduser().is_file()), *said]


def _of_size(resolution: int, pipeline: Any, one_file: bool) -> list[str]:
    """Where the training's pictures are of another size than those of the base, which its UNet's configuration says in latent cells.

    A single file has no configuration, so that of it only its family's size is known: 768 px for 2.x, some of which were made for 512.
    """
    cells, family = pipeline.unet.config.sample_size, family_of(pipeline)
    side = cells * vae_factor(pipeline) if isinstance(cells, int) else resolution
    if side == resolution:
        return []
    if one_file:
        return [
            tr(
                "data.resolution is {resolution} px; most bases of {title} were made for {side} px, and a single file does not say for which",
                resolution=resolution,
                title=family.title,
                side=side,
            )
        ]
    ours = tr(" ({experiment} is for such a base)", experiment=family.experiment) if side == family.resolution else ""
    return [
        tr(
            "data.resolution is {resolution} px, and this base ({title}) was made for {side} px; data.resolution {side} is its own size{ours}",
            resolution=resolution,
            title=family.title,
            side=side,
            ours=ours,
        )
    ]
