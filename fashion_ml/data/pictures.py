"""Picture files: which formats can be read here, and how each is opened: by its content, with a limit, as 8-bit RGB."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError, features

from fashion_ml.data.picture_modes import as_rgb
from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.language import tr

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
"""Of the files that are images; of a .gif, .webp or .tif with several pictures the first counts."""
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JXL")
"""What a file may hold, as Pillow and its plugins call it."""
MOST_PIXELS = 100_000_000
"""Of one picture."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow warns below that
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


class PictureError(ValueError):
    """A file that is no picture, is damaged, or is too large; the text says which in a few words."""


def load_picture(source: Path | io.BytesIO) -> Image.Image:
    """The image as 8-bit RGB in sRGB: EXIF turn and colour profile applied, alpha composited on white, every depth and mode converted.

    Of several pictures in a file it is the first. PictureError for what is none, OSError where the file cannot be opened.
    """
    return open_picture(source)[0]


def open_picture(source: Path | io.BytesIO) -> tuple[Image.Image, bool]:
    """As `load_picture`, and whether the file holds more pictures than this one: an animation, or pages."""
    with opened(source) as file:
        several = file.format != _SEVERAL and bool(getattr(file, "is_animated", False))
        return as_rgb(file), several


@contextmanager
def opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    """A picture file as its head says, not decoded yet: the one place where files are opened as pictures.

    Its format is told by its content and is one of those that are read here, whatever its name says: Pillow knows others that start
    programs, such as PostScript. Errors as `load_picture`, also for what decoding raises within the block.
    """
    try:
        if isinstance(source, Path):
            check_regular(source)
        with Image.open(source, formats=_formats()) as file:
            check_size(*file.size)
            yield file
    except UnidentifiedImageError:
        raise PictureError(tr("not an image")) from None
    except Image.DecompressionBombError:
        raise PictureError(
            tr(
                "it has more than the {most_pixels:.0f} million pixels that are read; make it smaller",
                most_pixels=MOST_PIXELS / 1000000.0,
            )
        ) from None
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # decoders raise what they like on broken files
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file, not of what is in it
        raise PictureError(str(error) or type(error).__name__) from None


def check_size(width: int, height: int) -> None:
    """PictureError for more than `MOST_PIXELS`."""
    if width * height > MOST_PIXELS:
        raise PictureError(
            tr(
                "it has {width} x {height} pixels, more than the {most_pixels:.0f} million that are read; make it smaller",
                width=width,
                height=height,
                most_pixels=MOST_PIXELS / 1000000.0,
            )
        )


def _formats() -> list[str]:
    """Those of `_FORMATS` that can be read on this machine."""
    Image.init()
    return [one for one in _FORMATS if one in Image.OPEN]


def fit_square(picture: Image.Image, resolution: int) -> Image.Image:
    """Scaled (Lanczos) so that the shorter side fits, then cropped at the centre to resolution x resolution pixels."""
    return fit(picture, (resolution, resolution))


def fit(picture: Image.Image, size: tuple[int, int], resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Scaled so that it covers width x height, then cropped at the centre to exactly that."""
    if picture.size == size:
        return picture
    return ImageOps.fit(picture, size, resampling, centering=(0.5, 0.5))
