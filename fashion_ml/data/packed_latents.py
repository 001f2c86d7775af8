"""The packed form of latents: a few large files beside the single ones, which are read without loading them whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashion_ml.data.latent_domains import FIELD, Domain, LatentSet, all_finite, check_count
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path, write_text
from fashion_ml.runtime.input_file import check_regular, read_whole
from fashion_ml.runtime.json_file import below, parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import is_printable
from fashion_ml.runtime.redact import first_line

PACKED, PACKED_FOLDER = "packed.json", "packed-shards"
_SHARD_BYTES = 1 << 30
_LOOKED_AT, _AT_ONCE = 2 << 30, 32 << 20
"""Bytes of all packed latents that are looked through before a training, some 30,000 of 512 pixels, and how many of them at once. What is
beyond them is looked at when it is taken: a disk may take minutes for it."""
_HASHED = 512 << 20
"""Bytes of them, as float32, whose hash is held against the one that was noted when they were packed: a second or two. Of domains beyond it
the noted one is believed."""
_TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Types of packed latents, and the bytes of a number."""
_LONGEST = 1000
"""Characters of a name: those of files have 255 bytes, of which each may take three."""


def pack(folder: Path, latents: LatentSet) -> None:
    """Write the packed form of a set beside its files: shards of at most 1 GiB, a domain apart; `packed.json` comes last."""
    from safetensors.torch import save_file

    size = int(np.prod(latents.shape)) * 4
    per_shard = max(_SHARD_BYTES // size, 1)
    index: dict[str, Any] = {}
    for domain in latents.domains:
        shards = []
        for number, first in enumerate(range(0, len(domain), per_shard)):
            part = domain.take(range(first, min(first + per_shard, len(domain))))
            name = f"{PACKED_FOLDER}/{domain.name}-{number:05d}.safetensors"
            with atomic_path(folder / name, field="OUT_DIR") as temporary:
                save_file({"latents": part.contiguous()}, temporary)
            shards.append([name, len(part)])
        index[domain.name] = {"files": list(domain.files), "shards": shards, "sha256": domain.sha256()}
    write_text(folder / PACKED, json.dumps({"shape": list(latents.shape), "domains": index}) + "\n")


def packed_domains(index: Path) -> list[Domain]:
    """The domains of `packed.json`, its names and shards checked. InputError naming the file that is not as `pack` writes it."""
    from safetensors import SafetensorError

    path = index
    try:
        tree = parsed_mapping(read_whole(index))["domains"]
        check_count(len(tree), FIELD, index)
        domains = [_domain(index.parent, name, entry) for name, entry in sorted(tree.items())]
        shapes, left, unhashed = set[tuple[int, ...]](), _LOOKED_AT, _HASHED
        for domain in domains:
            first, digest = 0, hashlib.sha256()
            for path, count in domain.shards:
                names = domain.files[first : first + count]
                shape, left = _looked_at(path, names, left, digest if unhashed > 0 else None)
                shapes.add(shape)
                first += count
                unhashed -= count * int(np.prod(shape)) * 4
            path = index
            if unhashed >= 0 and left >= 0 and digest.hexdigest() != domain.sha256():
                raise ValueError(tr("the latents of {name:.80} are not those that were packed", name=ascii(domain.name)))
        path = index
        if len(shapes) > 1:
            raise ValueError(tr("latents of {count} sizes", count=len(shapes)))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, SafetensorError) as error:
        reason = tr("{path!r} cannot be read ({first_line})", path=str(path), first_line=first_line(error)[:160])
        raise InputError(
            tr(
                "{field}: {reason}; encode again, or remove {packed} to read the single files",
                field=FIELD,
                reason=reason,
                packed=PACKED,
            )
        ) from None
    return domains


def _domain(folder: Path, name: str, entry: Any) -> Domain:
    """One entry of `packed.json`. ValueError, or what its shape raises, where it is not as `pack` writes it."""
    files, sha256 = entry["files"], entry["sha256"]
    shards = tuple((_inside(folder, place), count) for place, count in entry["shards"])
    if not isinstance(files, list) or not isinstance(sha256, str):
        raise ValueError(tr("{names} of another kind", names="files, sha256"))  # noqa: TRY004 - as every fault of the file
    for one in (name, *files):
        if not isinstance(one, str) or not one or len(one) > _LONGEST or not is_printable(one) or {"/", "\0"} & set(one):
            raise ValueError(tr("{name:.80} is no name of a file", name=ascii(one)))
    if name in (".", ".."):
        raise ValueError(tr("{name:.80} is no name of a file", name=ascii(name)))
    if len(set(files)) < len(files):
        raise ValueError(tr("{name:.80} has one name twice", name=ascii(name)))
    if any(type(count) is not int or count < 1 for _, count in shards) or sum(count for _, count in shards) != len(files):
        raise ValueError(tr("{name:.80} has {count} names and other latents", name=ascii(name), count=len(files)))
    if len({path for path, _ in shards}) < len(shards):
        raise ValueError(tr("{name:.80} has one shard twice", name=ascii(name)))
    if not files:
        raise ValueError(tr("{name:.80} has no latents", name=ascii(name)))
    return Domain(name, tuple(files), None, shards, sha256)


def _inside(folder: Path, place: Any) -> Path:
    """The path of a shard, links followed. ValueError where it is not below the folder."""
    path = below(folder, place).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(tr("{name:.80} leads out of the folder", name=ascii(place)))
    return path


def _looked_at(path: Path, names: Sequence[str], left: int, digest: Any) -> tuple[tuple[int, ...], int]:
    """The shape of the latents of a shard, and how many bytes are `left` to be looked through behind it; what is looked through goes into a
    digest, if there is one."""
    from safetensors import safe_open

    check_regular(path)
    with safe_open(path, framework="pt") as file:
        latents = file.get_slice("latents")
        shape, kind = tuple(latents.get_shape()), latents.get_dtype()
        if len(shape) != 4 or shape[0] != len(names) or 0 in shape:
            raise ValueError(
                tr("it has the shape {tuple}, not ({count}, channels, height, width)", tuple=shape, count=len(names))
            )
        if kind not in _TYPES:
            raise ValueError(tr("it holds {kind}, not {kinds}", kind=kind, kinds=", ".join(_TYPES)))
        each = int(np.prod(shape[1:])) * _TYPES[kind]
        some = max(_AT_ONCE // each, 1)
        for first in range(0, min(len(names), left // each), some):
            part = latents[first : first + some]
            if digest is not None:
                digest.update(part.float().numpy().tobytes())
            if not all_finite(part):
                bad = next(name for name, one in zip(names[first:], part, strict=False) if not all_finite(one))
                raise ValueError(tr("its latent {name:.80} holds NaN or infinite numbers", name=ascii(bad)))
    return shape[1:], left - each * len(names)
