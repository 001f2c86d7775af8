"""kohya-style training folders and flat reference folders: images, captions, repeats."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fashion_ml.data.image_index import KnownImages
from fashion_ml.errors import InputError
from fashion_ml.runtime.console import bar

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
_MANY = 1000
"""Images that take so long to check that it is shown."""
_CLASS_FOLDER = re.compile(r"(\d+)_(.+)")


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image file, its caption, and how often it is seen in one epoch."""

    path: Path
    caption: str
    name: str
    """Path below the folder that was read, with forward slashes; different for every image of it."""
    repeats: int = 1
    size: tuple[int, int] = (0, 0)
    """Width and height after the EXIF turn, pixels."""
    sha256: str = ""
    """Of the file's bytes."""


def read_training_folder(
    folder: Path,
    caption_extension: str = ".txt",
    *,
    field: str = "data.train_data_dir",
    skipped: list[str] | None = None,
    known: KnownImages | None = None,
) -> list[CaptionedImage]:
    """The images of every `N_class` folder, sorted; N is the repeat count, the class the caption where none lies beside.

    InputError, with every problem at once, for a missing or empty folder, no `N_class` folder, an unreadable image or a caption
    that is not UTF-8. With a list `skipped`, unreadable images and captions are left out and described there instead. Files that are `known`
    are not decoded again.
    """
    _check_folder(folder, field)
    found: list[CaptionedImage] = []
    problems: list[str] = []
    classes = [
        (match, path) for path in sorted(folder.iterdir()) if path.is_dir() and (match := _CLASS_FOLDER.fullmatch(path.name))
    ]
    if not classes:
        example = f"for example {folder / '10_dress'}"
        raise InputError(
            f"{field}: {str(folder)!r} holds no folder named N_class (repeats, underscore, class); put the images into one, {example}"
        )
    bad: list[str] = []
    for match, path in classes:
        repeats = int(match[1])
        if repeats < 1:
            problems.append(f"{field}: {str(path)!r} asks for 0 repeats; the number before _ must be at least 1")
            continue
        found += _read_captions(path, f"{path.name}/", caption_extension, match[2], repeats, field, bad)
    if not found and not problems and not bad:
        raise InputError(f"{field}: {str(folder)!r} holds no images; put {_endings()} files into its N_class folders")
    readable = look_at_files(found, field, bad, known=known)
    if skipped is None:
        problems += bad
    else:
        skipped += bad
        if not readable and not problems:
            problems = [f"{field}: {str(folder)!r} holds no image that can be read; see the files named above"]
    _raise_all(problems)
    return readable


def read_references(
    folder: Path, caption_extension: str = ".txt", limit: int | None = None, *, skipped: list[str] | None = None
) -> list[CaptionedImage]:
    """The images directly in `folder`, sorted by name, each with its caption; at most `limit`. InputError and `skipped` as for training."""
    field = "evaluation.references"
    _check_folder(folder, field)
    problems: list[str] = []
    found = _read_captions(folder, "", caption_extension, None, 1, field, problems)[:limit]
    if not found and not problems:
        raise InputError(f"{field}: {str(folder)!r} holds no images; put {_endings()} files with captions into it")
    readable = look_at_files(found, field, problems)
    if skipped is not None and readable:
        skipped += problems
        problems = []
    _raise_all(problems)
    return readable


def count_images(folder: Path) -> int:
    """How many image files lie directly in a folder."""
    return len(_image_files(folder))


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith("."))


def load_picture(source: Path | io.BytesIO) -> Image.Image:
    """The image as 8-bit RGB: EXIF turn applied, alpha composited on white, 16-bit, greyscale, palette and CMYK converted."""
    with Image.open(source) as file:
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
    return picture.convert("RGB")


def load_unchanged(item: CaptionedImage) -> Image.Image:
    """The picture of an item, as `load_picture`. InputError when the file no longer has the bytes that it had when it was checked."""
    content = item.path.read_bytes()
    if item.sha256 and hashlib.sha256(content).hexdigest() != item.sha256:
        raise InputError(f"data.train_data_dir: {str(item.path)!r} was changed while the training ran; start again")
    return load_picture(io.BytesIO(content))


def fit_square(picture: Image.Image, resolution: int) -> Image.Image:
    """Scaled (Lanczos) so that the shorter side fits, then cropped at the centre to resolution x resolution pixels."""
    return fit(picture, (resolution, resolution))


def fit(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled (Lanczos) so that it covers width x height, then cropped at the centre to exactly that."""
    if picture.size == size:
        return picture
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS, centering=(0.5, 0.5))


def data_digest(items: Iterable[CaptionedImage]) -> str:
    """SHA-256 over names, image bytes, captions and repeats, independent of where the folder lies."""
    digest = hashlib.sha256()
    for item in items:
        content = item.sha256 or hashlib.sha256(item.path.read_bytes()).hexdigest()
        digest.update(f"{item.name}\0{content}\0{item.caption}\0{item.repeats}\n".encode())
    return digest.hexdigest()


def _read_captions(
    folder: Path, prefix: str, extension: str, class_token: str | None, repeats: int, field: str, problems: list[str]
) -> list[CaptionedImage]:
    """The images of one folder with a caption each; an image whose caption cannot be had is described in `problems` instead."""
    items = []
    for path in _image_files(folder):
        caption_path = path.with_suffix(extension)
        caption = class_token
        if caption_path.exists():
            try:
                caption = caption_path.read_text(encoding="utf-8-sig").strip()
            except UnicodeDecodeError as error:
                problems.append(f"{field}: caption {str(caption_path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8")
                continue
            except OSError as error:
                reason = error.strerror or error
                problems.append(f"{field}: caption {str(caption_path)!r} cannot be read ({reason}); make it a text file")
                continue
        if caption is None:
            problems.append(f"{field}: {str(path)!r} has no caption; write what it shows into {caption_path.name}")
            continue
        items.append(CaptionedImage(path, caption, f"{prefix}{path.name}", repeats))
    return items


def look_at_files(
    items: Sequence[CaptionedImage], field: str, problems: list[str], *, least: int = 1, known: KnownImages | None = None
) -> list[CaptionedImage]:
    """The items that decode and have sides of at least `least` pixels, with size and hash; the others are described in `problems`.

    What is `known` is not decoded, and what is found becomes known.
    """

    def look(item: CaptionedImage) -> CaptionedImage | str:
        try:
            with item.path.open("rb") as file:
                state, content = os.fstat(file.fileno()), file.read()
            size = load_picture(io.BytesIO(content)).size
        except Exception as error:  # decoders raise what they like on broken files
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
            return f"{field}: image {str(item.path)!r} cannot be read ({reason}); replace or remove it"
        if min(size) < least:
            return f"{field}: {str(item.path)!r} has {size[0]} x {size[1]} pixels, which is too small; sides of {least} are the least"
        sha256 = hashlib.sha256(content).hexdigest()
        if known is not None:
            known.put(item.path, state, size, sha256)
        return replace(item, size=size, sha256=sha256)

    results: list[CaptionedImage | str | None] = [None] * len(items)
    for index, item in enumerate(items):
        found = known.get(item.path) if known is not None else None
        if found is not None and min(found[0]) >= least:
            results[index] = replace(item, size=found[0], sha256=found[1])
    unknown = [index for index, result in enumerate(results) if result is None]
    shown = bar("check images", len(unknown)) if len(unknown) >= _MANY else nullcontext()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, shown as progress:
        for index, result in zip(unknown, pool.map(look, [items[index] for index in unknown]), strict=True):
            results[index] = result
            if progress is not None:
                progress.advance()
    if known is not None:
        known.save()
    problems += [result for result in results if isinstance(result, str)]
    return [result for result in results if isinstance(result, CaptionedImage)]


def _check_folder(folder: Path, field: str) -> None:
    try:
        if not folder.exists():
            raise InputError(f"{field}: {str(folder)!r} does not exist; give the path of a folder")
        if not folder.is_dir():
            raise InputError(f"{field}: {str(folder)!r} is a file; give the path of a folder")
        if not any(folder.iterdir()):
            raise InputError(f"{field}: {str(folder)!r} is empty; put images into it")
    except OSError as error:  # no permission, or a name that is too long
        raise InputError(f"{field}: {str(folder)!r} cannot be read ({error.strerror}); give the path of a folder") from None


def _raise_all(problems: list[str]) -> None:
    if problems:
        raise InputError(problems)


def _endings() -> str:
    return ", ".join(sorted(ending[1:] for ending in IMAGE_ENDINGS))
