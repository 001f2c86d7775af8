"""What the pixels of a picture become: 8-bit RGB in sRGB, or 8-bit alpha, from every depth, mode and colour profile."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

PIXELS = 3
"""Raised whenever the same file becomes other pixels: part of the key of all that is kept of pictures."""
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_TOPS = {1.0: 16.0, 255.0: 510.0, 65535.0: 131070.0, float(2**32 - 1): float(2**33)}
"""What white may be where only the values tell, and the most that may be in such a picture: sharpening overshoots, and highlights of floats
lie up to four stops above white. One to 255 with no more than 16 in it would be as good as black."""
_SAMPLE_FORMAT, _UNSIGNED = 339, 1
"""TIFF's tag of what a sample is."""


def may_be_transparent(picture: Image.Image) -> bool:
    """Whether a picture has an alpha channel or a colour that is transparent, by its head."""
    return picture.mode in _ALPHA or "transparency" in picture.info


def as_rgb(file: Image.Image) -> Image.Image:
    """8-bit RGB of an opened picture file: its EXIF turn is applied, its colours are brought to sRGB, alpha is composited on white.

    A colour profile that cannot be used is as none: the values are sRGB. Raises what the decoder raises.
    """
    picture = _as_rgba(file)
    if picture.mode != "RGBA":
        return picture
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def alpha_of(file: Image.Image) -> Image.Image | None:
    """8-bit alpha of an opened picture file, after its EXIF turn; None where there is none, or all of it is opaque."""
    if not may_be_transparent(file):
        return None  # before it is decoded
    picture = _as_rgba(file)
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    return None if alpha is None or alpha.getextrema()[0] == 255 else alpha


def _as_rgba(file: Image.Image) -> Image.Image:
    """8-bit RGBA, or RGB where nothing is transparent, in sRGB; the EXIF turn is applied."""
    deep_rgb = file.mode == "RGB" and any(str(tile[3]).endswith(";16B") for tile in getattr(file, "tile", ()))
    unsigned = getattr(file, "tag_v2", {}).get(_SAMPLE_FORMAT, (_UNSIGNED,)) == (_UNSIGNED,)
    profile = file.info.get("icc_profile")
    picture = ImageOps.exif_transpose(file)
    picture.load()
    transparent, alpha = picture.info.pop("transparency", None), None
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture)
        if transparent is not None:
            alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8), "L")
        picture = Image.fromarray(_eight_bits(values.view(np.uint32) if picture.mode == "I" and unsigned else values), "L")
    elif transparent is not None:
        if deep_rgb:  # Pillow keeps the upper byte of each value, and all of the transparent colour's
            transparent = tuple(value >> 8 for value in transparent)
        picture.info["transparency"] = transparent
        alpha = picture.convert("RGBA").getchannel("A")
        del picture.info["transparency"]
    elif picture.mode in _ALPHA:
        alpha = picture.convert("RGBA").getchannel("A")
    colours = _in_srgb(picture, profile)
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w) of 16-bit, 32-bit or float grey as 8 bits: white is 65535 for 16 bits, else the least of 1 (floats only), 255, 65535 and
    2^32 - 1 that what is in the picture allows. NaN is black, and what is above white is white."""
    if values.dtype.kind != "f" and values.dtype.itemsize == 2:
        top = 65535.0
    else:
        most = float(np.max(values, initial=0, where=np.isfinite(values)))
        tops = {one: allowed for one, allowed in _TOPS.items() if one > 1 or values.dtype.kind == "f"}
        top = next((one for one, allowed in tops.items() if most <= allowed), max(most, 1.0))
    scaled = values.astype(np.float32)
    scaled *= np.float32(255 / top)
    scaled += np.float32(0.5)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit RGB, brought from the picture's own colour profile to sRGB by relative colorimetry with black points matched."""
    base = {"LA": "L", "La": "L", "1": "L"}.get(picture.mode, picture.mode)
    if base not in ("L", "CMYK", "RGB"):
        base = "RGB"
    plain = picture.convert("RGBA").convert("RGB") if picture.mode == "RGBa" else picture
    plain = plain if plain.mode == base else plain.convert(base)
    transform = _to_srgb(bytes(profile), base) if profile else None
    if transform is not None:
        return transform.apply(plain)
    return plain if plain.mode == "RGB" and plain is not picture else plain.convert("RGB")


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> Any:
    """The transform from a profile; None for sRGB itself, and for one that is damaged or of another kind of picture."""
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if (ImageCms.getProfileDescription(source) or "").lower().lstrip().startswith("srgb"):
            return None
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, ValueError, TypeError):
        return None
