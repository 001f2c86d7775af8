"""Masks of training images: what of a picture counts, from its alpha channel, from a folder, or where the garment is.

A mask goes the way of its picture: the EXIF turn, the scaling and the crop to the training size, the mirroring; then each cell of the latents
gets the mean of its pixels.
"""

from __future__ import annotations

import hashlib
import io
import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.picture_modes import PIXELS, alpha_of
from fashion_ml.data.pictures import PictureError, fit, is_image, load_picture, opened
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.errors import InputError
from fashion_ml.metrics.garment_mask import PARAMETERS, garment_mask
from fashion_ml.runtime.console import bar, warn
from fashion_ml.runtime.input_file import PICTURE_BYTES, files_below, read_whole
from fashion_ml.runtime.language import tr

_FIELD = "data.masks_dir"
_RATIO = 0.02
"""A mask may have another aspect ratio than its image by this share: one of other pixels is scaled, not bent."""
_NAMED, _MANY = 3, 100
"""Masks that are named, and that take so long to make that it is shown: some 17 ms each at 1024 pixels."""
_TURNED = range(5, 9)
"""EXIF orientations that lay an image on its side."""


@dataclass(frozen=True)
class Masks:
    """Where masks come from."""

    kind: str
    """`alpha`, `folder` or `garment`."""
    files: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    """For `folder`: the mask of each image that has one and the SHA-256 of its bytes, by the image's name."""
    unused: tuple[str, ...] = ()
    """For `folder`: names of masks that belong to no image."""
    cache: TensorCache = field(default_factory=TensorCache, compare=False)
    """Where masks are kept at the size of latents, so that each is made once."""

    def read(self, item: CaptionedImage) -> Image.Image | None:
        """8-bit grey at the size of the image, white what counts; None where the image has none."""
        if self.kind == "alpha":
            return _alpha_of(read_whole(item.path, PICTURE_BYTES))
        if self.kind == "garment":
            found = garment_mask(load_picture(item.path))
            return None if found is None else Image.fromarray(found.astype(np.uint8) * 255)
        return _read(self.files[item.name][0], item.size) if item.name in self.files else None

    def say_unused(self) -> None:
        """Say which masks belong to no image."""
        if self.unused:
            warn(
                tr(
                    "{field}: {count} masks belong to no image: {some}",
                    field=_FIELD,
                    count=len(self.unused),
                    some=_some(self.unused),
                )
            )

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
            return {"mask": "garment", "pixels": PIXELS, **PARAMETERS}
        return {"mask": self.kind, "file": self.files[item.name][1] if item.name in self.files else ""}


def find_masks(
    kind: str | None, masks_dir: str | Path | None, items: Sequence[CaptionedImage], cache: TensorCache | None = None
) -> Masks | None:
    """The masks of these images; None where none are asked for. They are made later, at the size of latents, and kept in the `cache`.

    In a folder the mask of `10_dress/a.png` is `a.png`, `a.png.*` or `a.*` in its folder `10_dress/`, else in itself. InputError, with every
    problem at once, for a folder that is not there or has no mask of any image, for masks that may be of several images, images that may have
    several masks, and masks that cannot be opened or have another shape than their image.
    """
    if kind is None:
        return None
    kept = cache if cache is not None else TensorCache()
    if kind != "folder" or masks_dir is None:
        return Masks(kind, cache=kept)
    folder = Path(masks_dir).expanduser()
    if not folder.is_dir():
        raise InputError(
            tr("{field}: {folder!r} is no folder; give the folder that holds the masks", field=_FIELD, folder=str(folder))
        )
    try:
        there = [path for path in files_below(folder) if is_image(path.name) and path.is_file()]
    except OSError as error:
        raise InputError(
            tr(
                "{field}: {folder!r} cannot be read ({strerror}); give the path of a folder",
                field=_FIELD,
                folder=str(error.filename or folder),
                strerror=error.strerror,
            )
        ) from None
    mask_of, problems = _paired(folder, there, items)
    files = dict[str, tuple[Path, str]]()
    for item in items:
        if item.name in mask_of:
            try:
                files[item.name] = mask_of[item.name], _checked(mask_of[item.name], item.size)
            except InputError as error:
                problems.extend(error.problems)
    if not files and not problems:
        example = f"{items[0].path.stem}.png" if items else "a.png"
        raise InputError(
            tr(
                "{field}: {folder!r} holds no mask of any image; name masks as their images, {example} for the first",
                field=_FIELD,
                folder=str(folder),
                example=example,
            )
        )
    if problems:
        raise InputError(problems)
    used = {path for path, _ in files.values()}
    unused = sorted(path.relative_to(folder).as_posix() for path in there if path not in used)
    return Masks(kind, files, tuple(unused), kept)


def _paired(folder: Path, there: Sequence[Path], items: Sequence[CaptionedImage]) -> tuple[dict[str, Path], list[str]]:
    """The mask of each image that has one, by the image's name, and what cannot be told apart: a line for each kind."""
    by_stem: dict[str, list[Path]] = defaultdict(list)
    by_name = {_spelt(path.relative_to(folder).as_posix()): path for path in there}
    for path in there:
        by_stem[_spelt(path.relative_to(folder).with_suffix("").as_posix())].append(path)
    found, several = dict[str, Path](), list[str]()
    images_of: dict[Path, dict[str, str]] = defaultdict(dict)
    for item in items:
        above = dict.fromkeys([item.name.rpartition("/")[0], item.path.parent.name, ""])
        for place in (_spelt(f"{one}/" if one else "") for one in above):
            name, stem = place + _spelt(item.path.name), place + _spelt(item.path.stem)
            masks = [by_name[name]] if name in by_name else by_stem.get(name) or by_stem.get(stem) or []
            if len(masks) > 1:
                several.append(f"{item.name} ({', '.join(path.name for path in masks)})")
            elif masks:
                found[item.name] = masks[0]
                images_of[masks[0]].setdefault(item.sha256 or item.name, item.name)
            if masks:
                break
    shared = [f"{path.name} of {' and '.join(images.values())}" for path, images in images_of.items() if len(images) > 1]
    problems = []
    if several:
        problems.append(
            tr(
                "{field}: {count} images have several masks: {some}; keep one of each",
                field=_FIELD,
                count=len(several),
                some=_some(several),
            )
        )
    if shared:
        problems.append(
            tr(
                "{field}: {count} masks would be of several images: {some}; put masks into folders called as those "
                "of their images, or call them as the whole file, a.jpg.png for a.jpg",
                field=_FIELD,
                count=len(shared),
                some=_some(shared),
            )
        )
    return found, problems


def _checked(path: Path, size: tuple[int, int]) -> str:
    """The SHA-256 of a mask file that is of its image's shape by its head."""
    try:
        content = read_whole(path, PICTURE_BYTES)
        with opened(io.BytesIO(content)) as file:
            width, height = file.size[::-1] if file.getexif().get(0x0112) in _TURNED else file.size
    except (PictureError, OSError) as error:
        raise _unreadable(path, error) from None
    if abs(width * size[1] / (height * size[0]) - 1) > _RATIO:
        raise InputError(
            tr(
                "{field}: mask {path!r} has {width} x {height} pixels and its image {size} x {size_2}; make one of "
                "the image's shape",
                field=_FIELD,
                path=str(path),
                width=width,
                height=height,
                size=size[0],
                size_2=size[1],
            )
        )
    return hashlib.sha256(content).hexdigest()


class EncodedMasks:
    """The masks of images by index, at the size of their latents."""

    def __init__(self, masks: Masks, items: Sequence[CaptionedImage], sizes: Sequence[tuple[int, int]], factor: int):
        self._masks, self._items, self._sizes, self._factor = masks, items, sizes, factor

    def mask(self, index: int, mirrored: bool = False) -> torch.Tensor | None:
        """(1, h, w), float32 in [0, 1], 1 what counts; None where the image has no mask, or nothing of it is in the crop."""
        key, cache = self._key(index), self._masks.cache
        found = cache.get(key) or cache.put(key, {"mask": self._encode(self._items[index], self._sizes[index])})
        cells = found["mask"].float() / 255
        if not cells.any():
            return None
        return (cells.flip(1) if mirrored else cells)[None]

    def prepare(self) -> list[str]:
        """Make every mask, with a progress bar where that takes long; returns the names of the images without one.

        InputError, with every problem at once, for masks that cannot be read or are black all over.
        """
        cache, problems = self._masks.cache, list[str]()
        new = [index for index in range(len(self._items)) if self._key(index) not in cache]

        def encode(index: int) -> torch.Tensor | InputError:
            try:
                return self._encode(self._items[index], self._sizes[index])
            except InputError as error:
                return error

        shown = bar(tr("find masks"), len(new)) if len(new) >= _MANY else nullcontext()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, shown as progress:
            for index, found in zip(new, pool.map(encode, new), strict=True):
                if isinstance(found, InputError):
                    problems += found.problems
                else:
                    cache.put(self._key(index), {"mask": found})
                if progress is not None:
                    progress.advance()
        if problems:
            raise InputError(problems)
        return [item.name for index, item in enumerate(self._items) if self.mask(index) is None]

    def _key(self, index: int) -> str:
        item = self._items[index]
        return key_of(image=item.sha256, size=self._sizes[index], factor=self._factor, **self._masks.key(item))

    def _encode(self, item: CaptionedImage, size: tuple[int, int]) -> torch.Tensor:
        """(h, w), uint8: the mean of each cell's pixels; zeros without a mask."""
        cells = size[0] // self._factor, size[1] // self._factor
        mask = self._masks.read(item)
        if mask is None:
            return torch.zeros(cells[::-1], dtype=torch.uint8)
        small = fit(mask, size, Image.Resampling.BILINEAR).resize(cells, Image.Resampling.BOX)
        return torch.from_numpy(np.array(small))


def _unreadable(path: Path, error: Exception) -> InputError:
    """What is said of a mask that cannot be read."""
    return InputError(
        tr("{field}: mask {path!r} cannot be read ({error}); replace or remove it", field=_FIELD, path=str(path), error=error)
    )


def _alpha_of(content: bytes) -> Image.Image | None:
    with opened(io.BytesIO(content)) as file:
        return alpha_of(file)


def _read(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask file at the size of its image; where it has an alpha channel that is the mask."""
    try:
        content = read_whole(path, PICTURE_BYTES)
        mask = _alpha_of(content) or load_picture(io.BytesIO(content)).convert("L")
    except (PictureError, OSError) as error:
        raise _unreadable(path, error) from None
    if mask.getextrema()[1] == 0:
        raise InputError(
            tr(
                "{field}: mask {path!r} is black all over; paint white what counts, or remove it and the whole image counts",
                field=_FIELD,
                path=str(path),
            )
        )
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (tr(" and {count} more", count=len(names) - _NAMED) if len(names) > _NAMED else "")
