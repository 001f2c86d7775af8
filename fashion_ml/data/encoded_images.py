"""Images and captions as the UNet sees them: encoded once and kept, or encoded anew when caching is off.

On a CPU each image and each caption is encoded on its own, so that its numbers depend on nothing beside it, whatever was cached before. What a
GPU encodes ahead it encodes in batches, the same whatever was cached before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL import Image, ImageOps

from fashion_ml.data.encode_batches import encode_pictures, kind_of_device
from fashion_ml.data.images import CaptionedImage, load_unchanged
from fashion_ml.data.picture_modes import PIXELS
from fashion_ml.data.pictures import fit
from fashion_ml.data.tensor_cache import TensorCache, Tensors, key_of
from fashion_ml.models.families.family import Sizes
from fashion_ml.models.families.known import family_of
from fashion_ml.models.stable_diffusion import encode_captions, encode_latents, vae_factor
from fashion_ml.models.text_encoding import USUAL, Text, TextSettings, Tokens, from_tensors, stacked, to_tensors
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.tensor_tree import mapped

_CAPTIONS = 32
"""Captions that a GPU encodes at once."""
_PREPROCESSING = f"lanczos, centre crop, {PIXELS}"
_KEYS = 1 << 14
"""Keys that are kept rather than made anew at every step, those used last."""


class EncodedImages:
    """The images of one data set by index, each at its own size."""

    def __init__(
        self,
        pipeline: Any,
        items: Sequence[CaptionedImage],
        sizes: Sequence[tuple[int, int]],
        cache: TensorCache | None,
        vae_sha256: str,
    ):
        self.items, self.sizes = list(items), list(sizes)
        self._pipeline, self._cache, self._vae = pipeline, cache, vae_sha256
        self._channels, self._factor = pipeline.vae.config.latent_channels, vae_factor(pipeline)
        self._family = family_of(pipeline)
        self._device = kind_of_device(pipeline.vae)
        self._key = lru_cache(_KEYS)(self._key_of)

    def latent_shape(self, index: int) -> tuple[int, int, int]:
        """Channels, height and width of an image's latents."""
        width, height = self.sizes[index]
        return self._channels, height // self._factor, width // self._factor

    def bucket_of(self) -> tuple[int, ...]:
        """Number of each image's size among all sizes; empty when there is one size only."""
        known = sorted(set(self.sizes))
        return tuple(known.index(size) for size in self.sizes) if len(known) > 1 else ()

    def with_sizes(self, text: Text | Tokens, rows: Sequence[tuple[int, bool]]) -> Text | Tokens:
        """The captions of images, each by its index and whether it is mirrored, with what else the base's UNet is told of them."""
        return self._family.with_sizes(text, [Sizes(self.items[i].size, self.sizes[i], mirrored) for i, mirrored in rows])

    def moments(self, index: int, mirrored: bool = False) -> Tensors:
        """`mean` and `std` of the *unscaled* latents, each (4, h, w), float32, on the CPU."""
        if self._cache is None:
            return self._encode(index, mirrored)
        key = self._key(index, mirrored)
        return self._cache.get(key) or self._cache.put(key, self._encode(index, mirrored))

    def prepare(self, label: str, mirrored: bool) -> None:
        """Encode what the cache does not hold yet, with a progress bar; nothing without a cache."""
        if self._cache is None:
            return
        sides = (False, True) if mirrored else (False,)
        all_sides = [(i, side) for i in range(len(self.items)) for side in sides]
        missing = {one for one in all_sides if self._key(*one) not in self._cache}
        sizes = [self.sizes[i] for i, _ in all_sides]
        with bar(label, len(missing)) as progress:
            for one, mean, std in encode_pictures(
                self._pipeline.vae, all_sides, sizes, missing, lambda one: self._picture(*one)
            ):
                self._cache.put(self._key(*one), {"mean": mean, "std": std})
                progress.advance()

    def _key_of(self, index: int, mirrored: bool) -> str:
        return key_of(
            image=self.items[index].sha256,
            vae=self._vae,
            size=self.sizes[index],
            mirrored=mirrored,
            preprocessing=_PREPROCESSING,
            **self._device,
        )

    def _picture(self, index: int, mirrored: bool) -> Image.Image:
        picture = fit(load_unchanged(self.items[index]), self.sizes[index])
        return ImageOps.mirror(picture) if mirrored else picture

    def _encode(self, index: int, mirrored: bool) -> Tensors:
        mean, std = encode_latents(self._pipeline, [[self._picture(index, mirrored)]])
        return {"mean": mean[0], "std": std[0]}


class EncodedCaptions:
    """Captions as the UNet reads them, from the frozen text encoders; without a cache each is encoded whenever it is asked for."""

    def __init__(self, pipeline: Any, cache: TensorCache | None, text_encoder_sha256: str, settings: TextSettings = USUAL):
        self._pipeline, self._cache, self._encoder, self._settings = pipeline, cache, text_encoder_sha256, settings
        self._on = family_of(pipeline).encoders(pipeline)[0]
        self._device = kind_of_device(self._on)
        self._key = lru_cache(_KEYS)(self._key_of)

    def embeddings(self, captions: Sequence[str]) -> Text:
        """As `encode_captions`, float32, on the CPU: (B, L, D) for SD 1.5, L = 77 and D = 768, and L = 152 and 227 for 150 and 225 tokens."""
        return stacked([self._embedding(caption) for caption in captions])

    def prepare(self, captions: Sequence[str]) -> None:
        """Encode every different caption, with a progress bar; nothing without a cache."""
        if self._cache is None:
            return
        different = sorted(set(captions))
        at_once = _CAPTIONS if self._on.device.type == "cuda" else 1
        groups = [different[first : first + at_once] for first in range(0, len(different), at_once)]
        missing = {caption for caption in different if self._key(caption) not in self._cache}
        with bar(tr("encode captions"), len(missing)) as progress:
            for group in groups:
                some = [caption for caption in group if caption in missing]
                if some:
                    found = encode_captions(self._pipeline, group, self._settings)
                    for caption in some:
                        self._cache.put(self._key(caption), to_tensors(_row(found, group.index(caption))))
                    progress.advance(len(some))

    def _embedding(self, caption: str) -> Text:
        if self._cache is None:
            return self._encode(caption)
        key = self._key(caption)
        return from_tensors(self._cache.get(key) or self._cache.put(key, to_tensors(self._encode(caption))))

    def _encode(self, caption: str) -> Text:
        return _row(encode_captions(self._pipeline, [caption], self._settings), 0)

    def _key_of(self, caption: str) -> str:
        """Of the usual settings none is in it, so that caches from before there were such settings still serve."""
        sha256 = hashlib.sha256(caption.encode()).hexdigest()
        return key_of(caption=sha256, text_encoder=self._encoder, **self._settings.unusual(), **self._device)


def _row(text: Text, index: int) -> Text:
    """One caption of a batch, without B."""
    return mapped(lambda one: one[index].clone(), text)
