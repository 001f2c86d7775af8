"""Picture files: which formats can be read here, and what a file becomes: 8-bit RGB."""

from __future__ import annotations

import io
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, features

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""Of the files that are images; of a .gif, .webp or .tif with several pictures the first counts."""
_PLUGINS = {
    ".heic": ("pillow_heif", "pillow-heif"),
    ".heif": ("pillow_heif", "pillow-heif"),
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin"),
}
"""Endings of images that Pillow reads with the help of a module, and the package that has it."""
_AVIF = ("pillow_avif", "pillow-avif-plugin")
"""The same for .avif where Pillow was built without it."""
_SEVERAL = "MPO"
"""A JPEG of a phone with a second picture for depth or brightness, which nobody takes for an animation."""


def is_image(name: str) -> bool:
    """Whether a file of that name is an image that can be read on this machine; hidden files are none."""
    ending = _ending(name)
    return not name.startswith(".") and (ending in IMAGE_ENDINGS or ending in _PLUGINS) and missing_package(name) is None


def missing_package(name: str) -> str | None:
    """The package that would read an image of that name and is not installed; None for every other file."""
    ending = _ending(name)
    module, package = _PLUGINS.get(ending, ("", ""))
    if ending == ".avif" and not _reads_avif():
        module, package = _AVIF
    return package if module and not _has_plugin(module) else None


def _ending(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


@lru_cache(maxsize=1)
def _reads_avif() -> bool:
    return bool(features.check("avif"))


@lru_cache
def _has_plugin(module: str) -> bool:
    """Whether a plugin of Pillow is installed; from then on Pillow knows its format."""
    if find_spec(module) is None:
        return False
    try:
        plugin = import_module(module)
    except ImportError:  # it needs a library that is not there
        return False
    if hasattr(plugin, "register_heif_opener"):  # the others register themselves
        plugin.register_heif_opener()
    return True


def load_picture(source: Path | io.BytesIO) -> Image.Image:
    """The image as 8-bit RGB: EXIF turn applied, alpha composited on white, 16-bit, greyscale, palette and CMYK converted.

    Of several pictures in a file it is the first.
    """
    return open_picture(source)[0]


def open_picture(source: Path | io.BytesIO) -> tuple[Image.Image, bool]:
    """As `load_picture`, and whether the file holds more pictures than this one: an animation, or pages."""
    with Image.open(source) as file:
        several = file.format != _SEVERAL and bool(getattr(file, "is_animated", False))
        picture = ImageOps.exif_transpose(file)
        picture.load()
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        sixteen = picture.mode.startswith("I;16") or values.max(initial=0) > 255  # of mode I and F only the values tell
        top = 65535.0 if sixteen else 255.0
        picture = Image.fromarray(np.clip(values / top * 255 + 0.5, 0, 255).astype(np.uint8), "L")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB"), several


def fit_square(picture: Image.Image, resolution: int) -> Image.Image:
    """Scaled (Lanczos) so that the shorter side fits, then cropped at the centre to resolution x resolution pixels."""
    return fit(picture, (resolution, resolution))


def fit(picture: Image.Image, size: tuple[int, int], resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Scaled so that it covers width x height, then cropped at the centre to exactly that."""
    if picture.size == size:
        return picture
    return ImageOps.fit(picture, size, resampling, centering=(0.5, 0.5))
