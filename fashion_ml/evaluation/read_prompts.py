"""What a pipeline is called with for the prompts of each batch: as text, or as what they are read as.

On a GPU prompts are read ahead, those of many batches at once, and the text encoder leaves while the UNet and the VAE compute: 0.46 GiB of
Stable Diffusion 1.5's that nothing needs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fashion_ml.config import Evaluation
from fashion_ml.models.families.known import family_of
from fashion_ml.models.new_words import spelt
from fashion_ml.models.stable_diffusion import prompt_embeddings
from fashion_ml.models.text_encoding import TextSettings
from fashion_ml.runtime.gpu_memory import fits_into_memory, is_on_gpu
from fashion_ml.runtime.language import tr

AHEAD = 16
"""Batches whose prompts are read at once: one way there and back for the text encoder, and some 60 MB on the host."""


class Prompts:
    """The prompts of batches, read when the first of them is asked for."""

    def __init__(self, pipeline: Any, batches: Sequence[Sequence[str]], settings: Evaluation, text: TextSettings):
        self._pipeline, self._batches, self._settings, self._text = pipeline, batches, settings, text
        self._read: dict[int, dict[str, torch.Tensor]] = {}

    def of(self, number: int, rows: slice) -> tuple[list[str] | None, dict[str, Any]]:
        """What a pipeline is called with for some rows of a batch: prompts, or None and what they are read as by the arguments' names."""
        if self._may_leave():
            if number not in self._read:
                self._read_from(number)
            device = self._pipeline.unet.device
            return None, {name: one[rows].to(device) for name, one in self._read[number].items()}
        prompts = list(self._batches[number][rows])
        negative = [self._settings.negative_prompt] * len(prompts)
        if self._text.unusual():
            return None, dict(prompt_embeddings(self._pipeline, prompts, negative, self._text))
        prompts = [spelt(self._pipeline.tokenizer, prompt) for prompt in prompts]
        return prompts, {"negative_prompt": negative} if self._settings.negative_prompt else {}

    def _may_leave(self) -> bool:
        """Whether the text encoder has anywhere to go. One that trains stays, for a recorded step knows where it lies."""
        unet = getattr(self._pipeline, "unet", None)
        if not isinstance(unet, torch.nn.Module) or not is_on_gpu(unet):
            return False
        encoders = family_of(self._pipeline).encoders(self._pipeline)
        return not any(one.requires_grad for encoder in encoders for one in encoder.parameters())

    def _read_from(self, first: int) -> None:
        encoders, device = family_of(self._pipeline).encoders(self._pipeline), self._pipeline.unet.device
        self._read.clear()
        for encoder in encoders:
            encoder.to(device)
        for number, prompts in list(enumerate(self._batches))[first : first + AHEAD]:
            negative = [self._settings.negative_prompt] * len(prompts)
            with fits_into_memory(
                tr("reading prompts"), "evaluation.batch_size", len(prompts), tr("use less, or a GPU that is free")
            ):
                found = prompt_embeddings(self._pipeline, prompts, negative, self._text)
            self._read[number] = {name: one.cpu() for name, one in found.items()}
        for encoder in encoders:
            encoder.to("cpu")
