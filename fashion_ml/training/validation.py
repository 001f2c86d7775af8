"""val_loss: the noise prediction error on held-out images with noise and timesteps that never change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fashion_ml.data.encoded_images import EncodedImages
from fashion_ml.data.masks import EncodedMasks
from fashion_ml.losses.diffusion import add_noise, mask_weights, per_image_mse, target_of
from fashion_ml.models.text_encoding import Text, Tokens, rows_of
from fashion_ml.runtime.seeding import generator

BANDS = 4
"""Equal bands of timesteps; every image has one fixed timestep in each."""
MASKED = "val_loss_masked"
"""The error on what the masks show, whatever `loss.unmasked_weight` is; val_loss is that of whole images, with masks or without."""


class Validation:
    """Fixed inputs for each held-out image: a function of (seed, image bytes), so that values compare between steps and runs."""

    def __init__(
        self,
        images: EncodedImages,
        text_of: Callable[[Sequence[str]], Text | Tokens],
        *,
        alphas_cumprod: torch.Tensor,
        prediction_type: str,
        scaling: float,
        seed: int,
        masks: EncodedMasks | None = None,
    ):
        self.images, self._text_of, self._masks = images, text_of, masks
        self._abar, self._kind, self._scaling, self._seed = alphas_cumprod, prediction_type, scaling, seed
        total, step = len(alphas_cumprod), len(alphas_cumprod) // BANDS
        self.bands = [
            (first, total if i == BANDS - 1 else first + step) for i, first in enumerate(range(0, step * BANDS, step))
        ]

    @torch.no_grad()
    def measure(self, predict: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor], device: Any) -> dict[str, float]:
        """`val_loss`, the mean squared error over images and bands, and `val_loss_bands/tAAAA_BBBB` of each band; where held-out images have
        masks also `val_loss_masked`.

        `predict(noisy, timesteps, text)` with (4, 4, h, w), (4,) and what `text_of` makes of one caption, four times.
        """
        losses, masked = [], []
        for index, item in enumerate(self.images.items):
            draw = generator(self._seed, f"validation {item.sha256}")
            noise = torch.randn((BANDS, *self.images.latent_shape(index)), generator=draw)
            timesteps = torch.cat([torch.randint(low, high, (1,), generator=draw) for low, high in self.bands])
            latents = (self.images.moments(index)["mean"] * self._scaling).expand_as(noise)
            text = rows_of(self.images.with_sizes(self._text_of([item.caption]), [(index, False)]), BANDS)
            x, eps, t = latents.to(device), noise.to(device), timesteps.to(device)
            prediction = predict(add_noise(x, eps, self._abar, t), t, text.to(device))
            target = target_of(self._kind, x, eps, self._abar, t)
            losses.append(per_image_mse(prediction, target))
            mask = self._masks.mask(index) if self._masks is not None else None
            if mask is not None:
                masked.append(per_image_mse(prediction, target, mask_weights(mask, 0.0).to(device)))
        table = torch.stack(losses).double().cpu()
        bands = table.mean(0).tolist()
        named = {
            f"val_loss_bands/t{low:04d}_{high - 1:04d}": value for (low, high), value in zip(self.bands, bands, strict=True)
        }
        found = {"val_loss": table.mean().item(), **named}
        return found | ({MASKED: torch.stack(masked).double().mean().item()} if masked else {})
