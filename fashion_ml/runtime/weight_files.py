"""Files of weights: which of a folder are a model's, what is in one, and what one that cannot be read really is."""

from __future__ import annotations

import difflib
import math
import re
import struct
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import check_regular, opened, read_whole
from fashion_ml.runtime.json_file import parsed, parsed_mapping
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line

_LONGEST_HEADER = 100 << 20
"""Bytes; what safetensors itself allows."""
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
WEIGHTS = (".safetensors", ".bin")
"""What the weights of a folder end with, in lower case."""
_ENDINGS = (".safetensors", ".sft", ".gguf", ".json", ".yaml", *_PICKLED)
_AGAIN = marked("download it again")
_VARIANT = r"(?:\.(?P<variant>[\w-]+))?"


@dataclass(frozen=True)
class Header:
    """What a `.safetensors` file says of itself."""

    shapes: dict[str, tuple[int, ...]]
    """By tensor name."""
    metadata: dict[str, str]


def is_safetensors(path: Path) -> bool:
    """By the name's ending, in any case."""
    return path.suffix.lower() == ".safetensors"


def what_it_is(path: Path) -> str:
    """What a file is that should hold weights and does not, with the fix; an empty text when nothing is recognised.

    Empty files, git-lfs pointers, web pages and error texts saved in its place, archives, and `.safetensors` files that end early.
    """
    try:
        size = path.stat().st_size
        with opened(path) as file:
            start = file.read(512)
    except OSError:
        return ""
    if not size:
        return tr("is empty; {again}", again=translated(_AGAIN))
    if start.startswith(b"version https://git-lfs"):
        return tr("is a git-lfs pointer, not the weights; run git lfs pull in its folder, or download the file itself")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return tr("is an HTML page, not the weights (a download that wanted a login or a licence); download it while logged in")
    if start.startswith(b"GGUF"):
        return tr("is a quantised GGUF file; give the weights in half or full precision as .safetensors")
    if is_safetensors(path) and start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return tr("is a pickled PyTorch file named .safetensors; such files can run code, convert it to .safetensors first")
    text = start.partition(b"\n")[0][:60].decode("ascii", "replace").strip()
    if path.suffix != ".json" and text.isprintable() and "\ufffd" not in text:
        return tr("is a text that begins {text!r}, not the weights; {again}", text=text, again=translated(_AGAIN))
    return _ends_early(path, start, size) if is_safetensors(path) else ""


def _ends_early(path: Path, start: bytes, size: int) -> str:
    if len(start) < 8:
        return tr("ends after {size} bytes (half a download); {again}", size=size, again=translated(_AGAIN))
    (length,) = struct.unpack("<Q", start[:8])
    if length > _LONGEST_HEADER:
        return ""
    if 8 + length > size:
        return tr("ends within its header (half a download); {again}", again=translated(_AGAIN))
    try:
        with opened(path) as file:
            file.seek(8)
            header = parsed(file.read(length))
        whole = (
            8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return ""
    return (
        tr("ends after {size} of {whole} bytes (half a download); {again}", size=size, whole=whole, again=translated(_AGAIN))
        if size < whole
        else ""
    )


def read_header(path: Path, field: str) -> Header:
    """Names and shapes of a `.safetensors` file, without its tensors. InputError, beginning with `field`, if it is none or ends early."""
    try:
        size = path.stat().st_size
        with opened(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError(tr("the header is too long"))
            header = parsed_mapping(file.read(length))
        metadata = header.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        if size < 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0):
            raise ValueError(tr("it ends early"))
        _check_room(shapes, size - 8 - length)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        really = what_it_is(path)
        raise InputError(
            f"{field}: {str(path)!r} "
            + (
                really
                or tr("is no .safetensors file ({first_line}); give a checkpoint in that form", first_line=first_line(error))
            )
        ) from None
    return Header(shapes, metadata)


def _check_room(shapes: Mapping[str, tuple[int, ...]], size: int) -> None:
    """ValueError for sides that are none, and for more numbers than so many bytes hold at 4 bits each: what is made by a head may take all
    memory."""
    if not all(type(side) is int and side >= 0 for shape in shapes.values() for side in shape):
        raise ValueError(tr("it has tensors whose shapes are none"))
    if (numbers := sum(math.prod(shape) for shape in shapes.values())) > 2 * size:
        raise ValueError(tr("it tells of {numbers:,} numbers in {size:,} bytes", numbers=numbers, size=size))


def check_not_packed(file: Path | BytesIO) -> None:
    """ValueError for a pickled file whose parts are compressed, as PyTorch writes none: a few kilobytes may unpack to all memory."""
    if is_zipfile(file):
        with ZipFile(file) as archive:
            packed = next((one.filename for one in archive.infolist() if one.compress_type != ZIP_STORED), None)
        if packed is not None:
            raise ValueError(tr("its part {packed!r} is compressed, as PyTorch writes none", packed=packed[:80]))
    if isinstance(file, BytesIO):
        file.seek(0)


def read_tensors(path: Path, field: str, names: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` or pickled file by name, all or those of `names`, on the CPU; InputError if it cannot be read.

    Pickled files are read without running code, and a `state_dict` inside them is what counts.
    """
    from safetensors import safe_open

    try:
        check_regular(path)
        if is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}
        check_not_packed(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
        found = found.get("state_dict", found)
        return {
            name: tensor
            for name, tensor in found.items()
            if isinstance(tensor, torch.Tensor) and (names is None or name in names)
        }
    except Exception as error:  # unpickling raises errors of its own kinds
        really = what_it_is(path) or tr(
            "cannot be read ({first_line}); {again}", first_line=first_line(error), again=translated(_AGAIN)
        )
        raise InputError(f"{field}: {str(path)!r} {really}") from None


@dataclass(frozen=True)
class WeightFiles:
    """The files that a model of a folder is in."""

    paths: tuple[Path, ...]
    """One, or the shards."""
    variant: str
    """`fp16` and the like; empty for the plain one."""

    def read(self, field: str) -> dict[str, torch.Tensor]:
        """The tensors of all of them by name. InputError as `read_tensors`."""
        tensors: dict[str, torch.Tensor] = {}
        for path in self.paths:
            tensors |= read_tensors(path, field)
        return tensors


def find_weights(folder: Path, stems: Collection[str], field: str) -> WeightFiles:
    """The weights of a model's folder: the plain `.safetensors` first, then a variant of it, then pickled files, each whole or in shards.

    `stems` are the names without ending, such as `diffusion_pytorch_model`. InputError, saying what is there instead, when there are none
    or a shard is missing.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    stem = "|".join(map(re.escape, stems))
    whole = re.compile(rf"(?:{stem}){_VARIANT}\.(?P<ending>safetensors|bin)", re.IGNORECASE)
    index = re.compile(rf"(?:{stem})\.(?P<ending>safetensors|bin)\.index{_VARIANT}\.json")
    other_index = re.compile(rf"(?:{stem}){_VARIANT}\.(?P<ending>safetensors|bin)\.index\.json")
    found = []
    for name in names:
        for sharded, pattern in ((False, whole), (True, index), (True, other_index)):
            match = pattern.fullmatch(name)
            if match:
                variant = match["variant"] or ""
                found.append(
                    (match["ending"].lower() != "safetensors", variant != "", variant != "fp16", sharded, name, variant)
                )
                break
    if not found:
        raise InputError(f"{field}: {str(folder)!r} {_instead(names, next(iter(stems)))}")
    *_, sharded, name, variant = min(found)
    paths = _shards(folder, folder / name, field) if sharded else (folder / name,)
    return WeightFiles(paths, variant)


def _instead(names: list[str], stem: str) -> str:
    shards = [name for name in names if re.search(r"-\d{5}-of-\d{5}\.", name)]
    others = [name for name in names if Path(name).suffix.lower() in (".safetensors", ".msgpack", ".h5", ".onnx", *_PICKLED)]
    wanted = f"{stem}.safetensors"
    if shards:
        return tr(
            "holds shards ({shards}, …) without the index that names them ({wanted}.index.json); {again}",
            shards=shards[0],
            wanted=wanted,
            again=translated(_AGAIN),
        )
    if others:
        return tr(
            "holds no {wanted}, but {names}; give the weights under that name", wanted=wanted, names=", ".join(others[:3])
        )
    return tr("holds no weights ({wanted}): half a download; {again}", wanted=wanted, again=translated(_AGAIN))


def _shards(folder: Path, index: Path, field: str) -> tuple[Path, ...]:
    named = read_json(index, field).get("weight_map")
    if not isinstance(named, dict):
        raise InputError(
            tr(
                "{field}: {index!r} names no shards (weight_map); {again}",
                field=field,
                index=str(index),
                again=translated(_AGAIN),
            )
        )
    paths = tuple(folder / Path(str(name)).name for name in sorted(set(named.values())))
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        first = tr(", first {missing}", missing=missing[0]) if missing else ""
        raise InputError(
            tr(
                "{field}: {folder!r} lacks {count} of its {count_2} shards{first}; {again}",
                field=field,
                folder=str(folder),
                count=len(missing),
                count_2=len(paths),
                first=first,
                again=translated(_AGAIN),
            )
        )
    return paths


def read_json(path: Path, field: str) -> dict[str, Any]:
    """The object in a JSON file. InputError, saying what it is instead, if it is none."""
    try:
        found = parsed_mapping(read_whole(path))
    except (OSError, ValueError) as error:
        really = what_it_is(path) or tr(
            "cannot be read ({first_line}); {again}", first_line=first_line(error), again=translated(_AGAIN)
        )
        raise InputError(f"{field}: {str(path)!r} {really}") from None
    return found


def is_path(given: str) -> bool:
    """Whether a text can only mean a file or folder, and no hub id: by its ending, its separators, a drive letter, or more than one slash."""
    return (
        given.startswith((".", "~", "/"))
        or "\\" in given
        or re.match(r"[A-Za-z]:", given) is not None
        or given.count("/") > 1
        or given.endswith("/")
        or Path(given).suffix.lower() in _ENDINGS
    )


def not_there(given: str, field: str) -> InputError:
    """The error for a path that names nothing, with the nearest name beside it, or a folder in a file's place, or the reverse."""
    if "://" in given:
        tail = re.search(r"huggingface\.co/([\w.-]+/[\w.-]+)", given)
        return InputError(
            tr("{field}: {given!r} is an address; give ", field=field, given=given)
            + (tr("the hub id {tail}", tail=tail[1]) if tail else tr("a local path"))
        )
    path, beside, there = Path(given), dict[str, str](), True
    with suppress(OSError, RuntimeError):  # a name that is too long, an unknown ~user
        path = path.expanduser()
        if path.is_dir():
            names = sorted(one.name for one in path.iterdir() if is_safetensors(one))
            return InputError(
                tr("{field}: {given!r} is a folder; give a file", field=field, given=given)
                + (tr(", such as {names!r} inside", names=names[0]) if names else "")
            )
        if path.is_file():
            return InputError(tr("{field}: {given!r} is a file; give the folder that holds it", field=field, given=given))
        if path.exists():
            return InputError(
                tr("{field}: {given!r} is a pipe or a device, and no file; give a file", field=field, given=given)
            )
        there = path.parent.is_dir()
        beside = {one.stem: one.name for one in path.parent.iterdir()} if there else {}
    near = difflib.get_close_matches(path.stem, beside, n=1)
    return InputError(
        tr(
            "{field}: {given!r} is not there{part}; ",
            field=field,
            given=given,
            part="" if there else tr(" (nor is {parent!r})", parent=str(path.parent)),
        )
        + (tr("did you mean {beside!r} beside it?", beside=beside[near[0]]) if near else tr("give an existing path"))
    )
