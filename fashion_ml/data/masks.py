"""Masks of training images: what of a picture counts, from its alpha channel, from a folder, or where the garment is.

A mask goes the way of its picture: the EXIF turn, the scaling and the crop to the training size, the mirroring; then each cell of the latents
gets the mean of its pixels.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import fit, is_image, load_picture
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.errors import InputError
from fashion_ml.metrics.garment_mask import PARAMETERS, garment_mask
from fashion_ml.runtime.console import bar, say, warn

_FIELD = "data.masks_dir"
_RATIO = 0.02
"""A mask may have another aspect ratio than its image by this share: one of other pixels is scaled, not bent."""
_NAMED = 3


@dataclass(frozen=True)
class Masks:
    """Where masks come from."""

    kind: str
    """`alpha`, `folder` or `garment`."""
    files: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    """For `folder`: the mask of each image that has one and the SHA-256 of its bytes, by the image's name."""
    unused: tuple[str, ...] = ()
    """For `folder`: names of masks that belong to no image."""

    def read(self, item: CaptionedImage) -> Image.Image | None:
        """8-bit grey at the size of the image, white what counts; None where the image has none."""
        if self.kind == "alpha":
            return alpha_of(item.path.read_bytes())
        if self.kind == "garment":
            found = garment_mask(load_picture(item.path))
            return None if found is None else Image.fromarray(found.astype(np.uint8) * 255)
        return _read(self.files[item.name][0], item.size) if item.name in self.files else None

    def say_unused(self) -> None:
        """Say which masks belong to no image."""
        if self.unused:
            warn(f"{_FIELD}: {len(self.unused)} masks belong to no image: {_some(self.unused)}")

    def digest(self, images: str) -> str:
        """The digest of images with their masks, from that of the images: the same where masks come from the images themselves."""
        if not self.files:
            return images
        digest = hashlib.sha256(images.encode())
        for name, (_, sha256) in sorted(self.files.items()):
            digest.update(f"{name}\0{sha256}\n".encode())
        return digest.hexdigest()

    def key(self, item: CaptionedImage) -> dict[str, object]:
        """What decides an image's mask, beside the image."""
        if self.kind == "garment":
            return {"mask": "garment", **PARAMETERS}
        return {"mask": self.kind, "file": self.files[item.name][1] if item.name in self.files else ""}


def find_masks(kind: str | None, masks_dir: str | Path | None, items: Sequence[CaptionedImage]) -> Masks | None:
    """The masks of these images; None where none are asked for.

    In a folder the mask of `10_dress/a.png` is `10_dress/a.*` or `a.*`. InputError, with every problem at once, for a folder that is not there
    or has no mask of any image, and for masks that cannot be read, are black all over, or have another shape than their image.
    """
    if kind is None:
        return None
    if kind != "folder" or masks_dir is None:
        return Masks(kind)
    folder = Path(masks_dir).expanduser()
    if not folder.is_dir():
        raise InputError(f"{_FIELD}: {str(folder)!r} is no folder; give the folder that holds the masks")
    there = {_spelt(path.relative_to(folder).with_suffix("").as_posix()): path for path in _images(folder)}
    files, problems = dict[str, tuple[Path, str]](), list[str]()
    for item in items:
        stem = _spelt(item.path.stem)
        path = there.get(_spelt(f"{item.path.parent.name}/") + stem) or there.get(stem)
        if path is None:
            continue
        try:
            _read(path, item.size)
            files[item.name] = path, hashlib.sha256(path.read_bytes()).hexdigest()
        except InputError as error:
            problems.extend(error.problems)
    if not files and not problems:
        example = f"{items[0].path.stem}.png" if items else "a.png"
        raise InputError(
            f"{_FIELD}: {str(folder)!r} holds no mask of any image; name masks as their images, {example} for the first"
        )
    if problems:
        raise InputError(problems)
    used = {path for path, _ in files.values()}
    return Masks(kind, files, tuple(sorted(path.name for path in set(there.values()) - used)))


class EncodedMasks:
    """The masks of images by index, at the size of their latents."""

    def __init__(
        self, masks: Masks, items: Sequence[CaptionedImage], sizes: Sequence[tuple[int, int]], factor: int, cache: TensorCache
    ):
        self._masks, self._items, self._sizes, self._factor, self._cache = masks, items, sizes, factor, cache

    def mask(self, index: int, mirrored: bool = False) -> torch.Tensor | None:
        """(1, h, w), float32 in [0, 1], 1 what counts; None where the image has no mask, or nothing of it is in the crop."""
        item, size = self._items[index], self._sizes[index]
        key = key_of(image=item.sha256, size=size, factor=self._factor, **self._masks.key(item))
        found = self._cache.get(key) or self._cache.put(key, {"mask": self._encode(item, size)})
        cells = found["mask"].float() / 255
        if not cells.any():
            return None
        return (cells.flip(1) if mirrored else cells)[None]

    def prepare(self, label: str) -> None:
        """Find every mask, with a progress bar, and say how many images have one."""
        without, count = [], len(self._items)
        with bar(label, count) as progress:
            for index, item in enumerate(self._items):
                if self.mask(index) is None:
                    without.append(item.name)
                progress.advance()
        rest = f"; those without count whole: {_some(without)}" if without else ""
        tell = warn if len(without) == count else say
        tell(f"Masks (data.masks {self._masks.kind}): {count - len(without)} of {count} images have one{rest}")

    def _encode(self, item: CaptionedImage, size: tuple[int, int]) -> torch.Tensor:
        """(h, w), uint8: the mean of each cell's pixels; zeros without a mask."""
        cells = size[0] // self._factor, size[1] // self._factor
        mask = self._masks.read(item)
        if mask is None:
            return torch.zeros(cells[::-1], dtype=torch.uint8)
        small = fit(mask, size, Image.Resampling.BILINEAR).resize(cells, Image.Resampling.BOX)
        return torch.from_numpy(np.array(small))


def alpha_of(content: bytes) -> Image.Image | None:
    """The alpha channel of an image file, 8-bit, after its EXIF turn; None where there is none, or all of it is opaque."""
    with Image.open(io.BytesIO(content)) as file:
        picture = ImageOps.exif_transpose(file)
        picture.load()
    if picture.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in picture.info:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def _read(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask file at the size of its image; where it has an alpha channel that is the mask."""
    try:
        content = path.read_bytes()
        mask = alpha_of(content) or load_picture(io.BytesIO(content)).convert("L")
    except Exception as error:  # decoders raise what they like on broken files
        raise InputError(f"{_FIELD}: mask {str(path)!r} cannot be read ({error}); replace or remove it") from None
    if mask.getextrema()[1] == 0:
        raise InputError(
            f"{_FIELD}: mask {str(path)!r} is black all over; paint white what counts, or remove it and the whole image counts"
        )
    if abs(mask.width * size[1] / (mask.height * size[0]) - 1) > _RATIO:
        raise InputError(
            f"{_FIELD}: mask {str(path)!r} has {mask.width} x {mask.height} pixels and its image {size[0]} x {size[1]}; "
            "make one of the image's shape"
        )
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if is_image(path.name) and path.is_file())


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
