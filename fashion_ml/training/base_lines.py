"""What a training is told of its base: that it was made for another size of pictures, and what of its noise is not usual."""

from __future__ import annotations

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
    return [*_of_size(config.data.resolution, pipeline), *said]


def _of_size(resolution: int, pipeline: Any) -> list[str]:
    """Where the training's pictures are of another size than those of the base, which its UNet's configuration says in latent cells."""
    cells, family = pipeline.unet.config.sample_size, family_of(pipeline)
    side = cells * vae_factor(pipeline) if isinstance(cells, int) else resolution
    if side == resolution:
        return []
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
