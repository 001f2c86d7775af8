"""Folders of latents, one a domain: `.pt` and `.npy` files of anyone, or the packed form, read without loading it whole.

Latents on disk are *unscaled*: what the VAE gives, before latent_scale.
"""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashion_ml.data.folder_listing import other_endings
from fashion_ml.data.latent_domains import FIELD, Domain, LatentSet, Shape, all_finite, check_count
from fashion_ml.data.notices import Kind, Notice
from fashion_ml.data.packed_latents import PACKED, PACKED_FOLDER, packed_domains
from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import printable
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import check_not_packed

MANIFEST = "manifest.json"
_ENDINGS = (".pt", ".npy")
_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_LATENT_BYTES = 256 << 20
"""At most of one latent, in its own file and as float32: sixteen channels of 8,192 x 8,192 pixels have 64 MiB."""


def read_latents(folder: Path) -> LatentSet:
    """Read and check a folder of domains; the packed form is preferred.

    InputError where the packed form is damaged or lists other latents than the single files beside it, and, naming every file, for what
    cannot be read or is no latent, for NaN or infinite numbers, mixed sizes, sides that are not divisible by 4, and fewer than two domains.
    """
    if folder.is_file():
        raise InputError(
            tr("{field}: {folder!r} is a file; give the folder that fashion-ml encode wrote", field=FIELD, folder=str(folder))
        )
    if not folder.is_dir() and folder.parts[:1] == ("embedded",):
        raise InputError(
            tr("{field}: {folder!r} is not known; the embedded latents are embedded", field=FIELD, folder=str(folder))
        )
    if not folder.is_dir():
        raise InputError(
            tr(
                "{field}: {folder!r} does not exist; make it: fashion-ml encode IMAGES_DIR {folder_2}",
                field=FIELD,
                folder=str(folder),
                folder_2=folder,
            )
        )
    manifest = _manifest(folder / MANIFEST)
    packed = folder / PACKED
    domains = _packed(packed) if packed.is_file() else _file_domains(folder)
    if len(domains) < 2:
        names = ", ".join(domain.name for domain in domains) or "none"
        raise InputError(
            tr(
                "{field}: {folder!r} holds {count} domains ({names}); give at least two folders of latents",
                field=FIELD,
                folder=str(folder),
                count=len(domains),
                names=names,
            )
        )
    shape: Shape = tuple(domains[0].take([0]).shape[1:])  # type: ignore[assignment]
    if shape[1] % 4 or shape[2] % 4:
        raise InputError(
            tr(
                "{field}: latents of {shape} x {shape_2} cannot be used; height and width must be divisible by 4",
                field=FIELD,
                shape=shape[1],
                shape_2=shape[2],
            )
        )
    return LatentSet(folder, tuple(domains), shape, manifest)


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = parsed_mapping(read_whole(path))
        kinds = {"vae": str, "vae_sha256": str, "latent_scale": float, "files": dict}
        if wrong := [key for key, kind in kinds.items() if not isinstance(tree[key], kind)]:
            raise ValueError(tr("{names} of another kind", names=", ".join(wrong)))
        if not 0 < tree["latent_scale"] < math.inf:
            raise ValueError(tr("latent_scale {scale}, not a number above 0", scale=tree["latent_scale"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            tr(
                "{field}: {path!r} is damaged ({first_line}); encode again",
                field=FIELD,
                path=str(path),
                first_line=first_line(error)[:160],
            )
        ) from None
    return dict(tree)


def _packed(index: Path) -> list[Domain]:
    """The packed form, which the single files beside it, where there are any, must not contradict."""
    domains = packed_domains(index)
    beside = {printable(place.name): _latent_files(place) for place in _domain_folders(index.parent)}
    beside = {name: files for name, files in beside.items() if files}
    names = {name: tuple(printable(path.stem) for path in files) for name, files in beside.items()}
    if beside and names != {domain.name: domain.files for domain in domains}:
        raise InputError(
            tr(
                "{field}: {index!r} does not list the latents that are in {parent!r} now; encode again, or remove "
                "{packed} to read the single files",
                field=FIELD,
                index=str(index),
                parent=str(index.parent),
                packed=PACKED,
            )
        )
    for domain in domains if beside else ():
        for place in {0, len(domain) - 1}:  # all of them would be read as if there were no packed form
            _check_same(beside[domain.name][place], domain.take([place])[0])
    return domains


def _check_same(path: Path, packed: torch.Tensor) -> None:
    """InputError where a single file is not the latent that was packed under its name."""
    try:
        same = torch.equal(read_latent(path), packed)
    except ValueError:
        same = False
    if not same:
        raise InputError(
            tr(
                "{field}: {path!r} is not the latent that {packed} has under its name; encode again, or remove {packed} to "
                "read the single files",
                field=FIELD,
                path=str(path),
                packed=PACKED,
            )
        )


def _domain_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name != PACKED_FOLDER)


def _latent_files(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.suffix in _ENDINGS and not path.name.startswith("."))


def left_out(folder: Path) -> list[Notice]:
    """What lies in a folder of domains and is not read: loose latents, folders inside a domain's, files of other endings."""
    notices = [Notice(Kind.LOOSE, printable(path.name)) for path in _latent_files(folder)]
    for place in _domain_folders(folder):
        name, latents = f"{printable(place.name)}/", len(_latent_files(place))
        inside = sorted(path for path in place.iterdir() if path.is_dir())
        below = [(path, sum(one.suffix in _ENDINGS for one in path.rglob("*"))) for path in inside]
        notices += [
            Notice(Kind.NESTED, f"{name}{printable(path.name)}/", tr("{count} latents", count=count), count)
            for path, count in below
            if count
        ]
        others = [path.name for path in place.iterdir() if path.is_file() and path.suffix not in _ENDINGS]
        notices += other_endings(sorted(others), name)
        if not latents and not inside and not others:
            notices.append(Notice(Kind.EMPTY_FOLDER, name))
    return notices


def _file_domains(folder: Path) -> list[Domain]:
    problems: list[str] = []
    found: list[tuple[str, list[str], list[torch.Tensor]]] = []
    first: tuple[Path, Shape] | None = None
    listed = [(place, files) for place in _domain_folders(folder) if (files := _latent_files(place))]
    check_count(len(listed), FIELD, folder)
    for place, files in listed:
        names, tensors = [], []
        for path in files:
            try:
                latent = read_latent(path)
            except ValueError as error:
                problems.append(f"{FIELD}: {str(path)!r} {error}")
                continue
            if first is None:
                first = path, tuple(latent.shape)  # type: ignore[assignment]
            elif tuple(latent.shape) != first[1]:
                sizes = tr(
                    "{tuple} and {first!r} has {first_2}", tuple=tuple(latent.shape), first=str(first[0]), first_2=first[1]
                )
                problems.append(
                    tr("{field}: {path!r} has {sizes}; give latents of one size", field=FIELD, path=str(path), sizes=sizes)
                )
                continue
            names.append(printable(path.stem))
            tensors.append(latent)
        if names:
            found.append((printable(place.name), names, tensors))
    if problems:
        raise InputError(
            problems[:50]
            + ([tr("{field}: and {count} more", field=FIELD, count=len(problems) - 50)] if len(problems) > 50 else [])
        )
    return [Domain(name, tuple(names), torch.stack(tensors)) for name, names, tensors in found]


def read_latent(path: Path) -> torch.Tensor:
    """One unscaled latent (C, h, w), float32, from `.pt` (a tensor, or a dict with `latent`) or `.npy`. ValueError, saying what is wrong."""
    try:
        content = BytesIO(read_whole(path, _LATENT_BYTES))
        if path.suffix == ".npy":
            value: Any = torch.from_numpy(np.load(content, allow_pickle=False))
        else:
            check_not_packed(content)
            value = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            tr("cannot be read ({first_line}); encode it again or remove it", first_line=first_line(error)[:160])
        ) from None
    if isinstance(value, dict):
        value = value.get("latent")
    if not isinstance(value, torch.Tensor) or not _is_plain(value):
        raise ValueError(tr("holds no latent (a float tensor, or a dict with `latent`); encode it again or remove it"))
    if value.dim() == 4 and len(value) == 1:
        value = value[0]
    if value.dim() != 3 or 0 in value.shape:
        raise ValueError(
            tr("has the shape {tuple}, not (channels, height, width); encode it again or remove it", tuple=tuple(value.shape))
        )
    if value.numel() * 4 > _LATENT_BYTES:  # numbers that share a place in the file
        raise ValueError(
            tr(
                "has the shape {tuple}, which is too large for one latent; encode it again or remove it",
                tuple=tuple(value.shape),
            )
        )
    found = value.detach().float()
    if not all_finite(found):
        raise ValueError(tr("holds NaN or infinite numbers; encode it again or remove it"))
    return found


def _is_plain(value: torch.Tensor) -> bool:
    """Whether a tensor has numbers of its own, each in its place: not a sparse or a nested one, or one of the device `meta`, which has none."""
    return value.dtype in _TYPES and value.device.type == "cpu" and value.layout == torch.strided and not value.is_nested
