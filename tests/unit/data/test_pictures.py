"""What a picture file becomes, against values that were written by other programs or by hand, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fashion_ml.data import pictures
from fashion_ml.data.images import scan_training_folder
from fashion_ml.data.picture_modes import alpha_of
from fashion_ml.data.picture_prompts import prompt_of
from fashion_ml.data.pictures import PictureError, load_picture, opened
from fashion_ml.evaluation.generate import ImageFolder, Job

_POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
_D50 = np.array([0.9642, 1.0, 0.8249])
_ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
"""Its primaries as columns of XYZ at D50 (Lindbloom)."""
_SRGB = np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]])


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once Ghostscript was started, by whom ever."""
    note, programs = tmp_path / "gs_was_started", tmp_path / "programs"
    programs.mkdir()
    for name in ("gs", "gswin64c", "gswin32c", "magick", "convert"):
        (programs / name).write_text(f"#!/bin/sh\ntouch '{note}'\nexit 0\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # Pillow looks for it once
    return note


def test_pillow_alone_starts_a_program_for_a_picture(started: Path, tmp_path: Path):
    """What the tests below are about: were it not so, they could not fail."""
    (tmp_path / "look.png").write_bytes(_POSTSCRIPT)
    with suppress(Exception), Image.open(tmp_path / "look.png") as picture:
        picture.load()
    assert started.exists()


def test_postscript_called_png_is_no_picture_and_starts_nothing(started: Path, tmp_path: Path):
    folder = tmp_path / "data" / "1_look"
    folder.mkdir(parents=True)
    path = folder / "look.png"
    path.write_bytes(_POSTSCRIPT)
    Image.new("RGB", (32, 32)).save(folder / "good.png")
    with pytest.raises(PictureError, match="not an image"):
        load_picture(path)
    assert prompt_of(path) is None
    reading = scan_training_folder(tmp_path / "data", skip=True)
    assert (len(reading.items), len(reading.problems)) == (1, 1)
    assert "look.png' cannot be read (not an image); replace or remove it" in reading.problems[0]
    made = ImageFolder(tmp_path / "made", "key")
    job = Job(0, "0_0", "look", 0, (32, 32))
    made.path(job).write_bytes(_POSTSCRIPT)
    assert made.load(job) is None
    assert not started.exists()


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "PCX", "SGI", "JPEG2000", "PDF"])
def test_formats_that_are_not_listed_are_no_pictures(tmp_path: Path, kind: str):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png", kind)
    with pytest.raises(PictureError, match="not an image"):
        load_picture(tmp_path / "a.png")


def test_a_picture_with_too_many_pixels_is_refused_by_its_head(tmp_path: Path):
    """One of 1.2 billion pixels of one colour is a file of kilobytes; only its head is here."""
    for width, height in ((12_000, 9_000), (40_000, 30_000)):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        with pytest.raises(PictureError, match=r"more than the 100 million( pixels)? that are read"):
            load_picture(io.BytesIO(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")))


def test_whatever_a_decoder_raises_is_one_error(tmp_path: Path):
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole, "PNG")
    content = whole.getvalue()
    for at in range(0, len(content), 97):
        with pytest.raises(PictureError):
            load_picture(io.BytesIO(content[:at]))
    with pytest.raises(FileNotFoundError):
        load_picture(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("top", "kind"), [(1.0, "float32"), (255.0, "float32"), (65535.0, "float32"), (65535, "uint16"), (255, "uint8")]
)
def test_a_grey_tiff_keeps_its_tones_whatever_its_numbers_are(tmp_path: Path, top: float, kind: str):
    expected = np.arange(256, dtype=np.float64).reshape(16, 16)
    tifffile.imwrite(tmp_path / "a.tif", (expected / 255 * top).round(6 if top == 1 else 0).astype(kind))
    found = np.asarray(load_picture(tmp_path / "a.tif")).astype(float)
    assert np.abs(found - expected[..., None]).max() <= 0.5


def test_a_float_tiff_that_overshoots_or_holds_nan_keeps_its_tones(tmp_path: Path):
    values = np.array([[0.5, 1.04], [np.nan, np.inf], [-0.1, 0.25]], dtype=np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert np.asarray(load_picture(tmp_path / "a.tif"))[..., 0].tolist() == [[128, 255], [0, 255], [0, 64]]


def test_a_float_tiff_with_highlights_above_white_is_on_the_scale_of_one(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0.25, 0.5], [1.0, 3.0], [15.9, 0.0]], dtype=np.float32))
    assert np.asarray(load_picture(tmp_path / "a.tif"))[..., 0].tolist() == [[64, 128], [255, 255], [255, 0]]


def test_32_bits_that_are_unsigned_are_read_to_their_top(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 2**31], [2**32 - 1, 2**30]], dtype=np.uint32))
    assert np.asarray(load_picture(tmp_path / "a.tif"))[..., 0].tolist() == [[0, 128], [255, 64]]


def test_sixteen_bit_grey_with_a_transparent_tone_is_white_there(tmp_path: Path):
    values = np.array([[0, 65535, 32896], [257, 32896, 32895]], dtype=">u2")
    path = tmp_path / "a.png"
    path.write_bytes(png(values, 0, chunk(b"tRNS", struct.pack(">H", 32896))))
    assert np.asarray(load_picture(path))[..., 0].tolist() == [[0, 255, 255], [1, 255, 128]]
    with opened(path) as file:
        alpha = alpha_of(file)
    assert alpha is not None
    assert np.asarray(alpha).tolist() == [[255, 255, 0], [255, 0, 255]]


def test_sixteen_bit_grey_with_alpha_is_composited(tmp_path: Path):
    values = np.array([[[0, 65535], [0, 0]], [[32896, 32896], [65535, 0]]], dtype=">u2")
    path = tmp_path / "a.png"
    path.write_bytes(png(values, 4))
    found = np.asarray(load_picture(path))[..., 0]
    assert np.abs(found.astype(int) - [[0, 255], [191, 255]]).max() <= 1  # 0.5 x 0.5 + 0.5 = 0.75


def test_sixteen_bit_colours_with_a_transparent_one_are_white_there(tmp_path: Path):
    values = np.array([[[0x8080, 0, 0], [0, 0x8080, 0]]], dtype=">u2")
    path = tmp_path / "a.png"
    path.write_bytes(png(values, 2, chunk(b"tRNS", struct.pack(">HHH", 0x8080, 0, 0))))
    assert np.asarray(load_picture(path)).tolist() == [[[255, 255, 255], [0, 128, 0]]]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_a_picture_in_adobe_rgb_is_brought_to_srgb(tmp_path: Path, ending: str):
    """Against the matrices and curves of the two colour spaces."""
    colours = np.array([[200, 120, 100], [90, 140, 110], [60, 70, 150], [128, 128, 128], [250, 250, 250]])
    light = _ADOBE_RGB @ (colours.T / 255) ** 2.2
    linear = np.linalg.inv(_SRGB) @ light
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055).T.clip(0, 1)
    assert np.abs(expected - colours).max() > 15  # else the profile could be left out
    for colour, wanted in zip(colours, expected, strict=True):
        path = tmp_path / f"a.{ending}"
        options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
        Image.new("RGB", (16, 16), tuple(map(int, colour))).save(path, icc_profile=adobe_rgb(), **options)
        assert np.abs(np.asarray(load_picture(path))[8, 8] - wanted).max() <= 2


def test_alpha_stays_where_a_profile_is_applied(tmp_path: Path):
    Image.new("RGBA", (8, 8), (200, 120, 100, 0)).save(tmp_path / "a.png", icc_profile=adobe_rgb())
    assert load_picture(tmp_path / "a.png").getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("profile", ["srgb", "damaged", "cmyk"])
def test_srgb_and_profiles_that_cannot_be_used_change_nothing(tmp_path: Path, profile: str):
    content = {
        "srgb": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "damaged": adobe_rgb()[:150],
        "cmyk": adobe_rgb()[:16] + b"CMYK" + adobe_rgb()[20:],
    }[profile]
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png", icc_profile=content)
    assert np.array_equal(np.asarray(load_picture(tmp_path / "a.png")), values)


def test_the_format_is_that_of_the_content_whatever_the_name(tmp_path: Path):
    Image.new("RGB", (32, 32), (10, 200, 30)).save(tmp_path / "a.png", "BMP")
    assert load_picture(tmp_path / "a.png").getpixel((1, 1)) == (10, 200, 30)
    assert pictures.is_image("a.png")


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values: NDArray[np.uint16], colour: int, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits, written by hand: (h, w[, channels]) big-endian."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def adobe_rgb() -> bytes:
    """A profile of matrix and gamma, written by hand after ICC.1:2001-04."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def text(words: bytes) -> bytes:
        return b"desc\0\0\0\0" + struct.pack(">I", len(words) + 1) + words + b"\0" + b"\0" * 78

    tags = {b"desc": text(b"Adobe-like"), b"cprt": b"text\0\0\0\0none\0", b"wtpt": b"XYZ \0\0\0\0" + fixed(*_D50)}
    for index, name in enumerate((b"r", b"g", b"b")):
        tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*_ADOBE_RGB[:, index])
        tags[name + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", at + len(body), len(content))
        body += padded
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12 + b"acsp"
    head += b"\0" * (68 - len(head)) + fixed(*_D50)
    return head + b"\0" * (128 - len(head)) + table + body
