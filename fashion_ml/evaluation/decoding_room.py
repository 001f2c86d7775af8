"""Whether a batch of images fits into a CPU's memory, counted before it is made: a machine that is full ends the process without a word.

Decoding is what takes most of making images: at 512 pixels Stable Diffusion's VAE has 128 channels of 512 x 512, its UNet 320 of 64 x 64.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from fashion_ml.models.vae import vae_factor_of
from fashion_ml.runtime.machine_memory import COUNTED_FROM, total_memory
from fashion_ml.training.lora_memory import decoding_bytes

_COUNTED: WeakKeyDictionary[Any, dict[tuple[int, int, int], int]] = WeakKeyDictionary()


def decoding_fits(pipeline: Any, images: int, size: tuple[int, int]) -> bool:
    """Whether decoding so many images of a width and height in pixels at once takes no more than the machine has; a GPU says it itself.

    Small batches are not counted.
    """
    vae = getattr(pipeline, "vae", None)
    if getattr(getattr(vae, "device", None), "type", None) != "cpu":
        return True
    factor = vae_factor_of(vae)
    width, height = (side // factor for side in size)
    if images * width * height < COUNTED_FROM:
        return True
    known = _COUNTED.setdefault(vae, {})
    if (images, width, height) not in known:
        known[images, width, height] = decoding_bytes(vae, images, (height, width))
    return known[images, width, height] <= total_memory()
