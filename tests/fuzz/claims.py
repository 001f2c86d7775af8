"""Files that claim, or unpack to, far more than they are: pictures and weights that take all memory of who believes them."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from functools import cache

from PIL import Image

from tests.fuzz.files import picture


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG's header of any size with almost nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@cache
def png_with_profile() -> bytes:
    """A small PNG whose colour profile unpacks to 300 MB."""
    plain = picture("PNG")
    data = b"icc\0\0" + zlib.compress(bytes(300_000_000), 1)
    chunk = struct.pack(">I", len(data)) + b"iCCP" + data + struct.pack(">I", zlib.crc32(b"iCCP" + data))
    return plain[:33] + chunk + plain[33:]


@cache
def png_with_text() -> bytes:
    """A small PNG whose text unpacks to 300 MB."""
    plain = picture("PNG")
    data = b"parameters\0\0" + zlib.compress(b"a" * 300_000_000, 1)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return plain[:33] + chunk + plain[33:]


@cache
def many_pages() -> bytes:
    """A GIF of 3,000 pictures."""
    kept = io.BytesIO()
    pages = [Image.new("P", (8, 8), number % 250) for number in range(3000)]
    pages[0].save(kept, "GIF", save_all=True, append_images=pages[1:], optimize=False)
    return kept.getvalue()


def header_that_claims(size: int) -> bytes:
    """The beginning of a safetensors file whose header is said to have so many bytes."""
    return struct.pack("<Q", size) + b'{"a":'


def tensors_that_claim(shape: list[int], end: int) -> bytes:
    """A safetensors file of one tensor that is said to be as large as that."""
    head = json.dumps({"lora_unet_x.lora_down.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(64)


@cache
def zip_bomb() -> bytes:
    """A zip as torch writes its files, of 256 MB of zeros."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 28))
    return kept.getvalue()
