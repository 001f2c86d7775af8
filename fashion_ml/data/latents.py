"""Folders of latents, one a domain: `.pt` and `.npy` files of anyone, or the packed form, read without loading it whole.

Latents on disk are *unscaled*: what the VAE gives, before latent_scale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashion_ml.data.folder_listing import other_endings
from fashion_ml.data.notices import Kind, Notice
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path, write_text
from fashion_ml.runtime.input_file import check_regular, read_whole
from fashion_ml.runtime.json_file import below, parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import printable
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import check_not_packed

MANIFEST, PACKED, PACKED_FOLDER = "manifest.json", "packed.json", "packed-shards"
MIRRORED = ".mirrored"
"""Ends the names of latents of mirrored images."""
_ENDINGS = (".pt", ".npy")
_FIELD = "data.latents_dir"
_SHARD_BYTES, _LATENT_BYTES = 1 << 30, 256 << 20
"""Of a packed shard, and at most of one latent's own file: sixteen channels of 8,192 x 8,192 pixels have 64 MiB."""
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Domain:
    """The latents of one domain, in the order of their names."""

    name: str
    files: tuple[str, ...]
    """Names without endings."""
    _whole: torch.Tensor | None
    _shards: tuple[tuple[Path, int], ...] = ()
    """Files of the packed form and how many latents each holds."""
    _sha256: str = ""
    """Of the packed latents, when they were packed."""

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Sequence[int]) -> torch.Tensor:
        """Unscaled latents (N, C, h, w), float32."""
        if self._whole is not None:
            return self._whole[list(indices)].float()
        return torch.stack([self._read(index) for index in indices]).float()

    def sha256(self) -> str:
        """Of all latents as float32, in their order."""
        return self._sha256 or hashlib.sha256(self.take(range(len(self))).numpy().tobytes()).hexdigest()

    def _read(self, index: int) -> torch.Tensor:
        from safetensors import safe_open

        for path, count in self._shards:
            if index < count:
                with safe_open(path, framework="pt") as file:
                    return file.get_slice("latents")[index : index + 1][0]
            index -= count
        raise IndexError(index)


@dataclass(frozen=True)
class LatentSet:
    """All domains, and what the manifest says; `manifest` is empty for folders that others made."""

    folder: Path
    domains: tuple[Domain, ...]
    shape: Shape
    manifest: Mapping[str, Any]

    def digest(self) -> str:
        """SHA-256 over domains, names and latents; the packed form and the single files have the same."""
        digest = hashlib.sha256()
        for domain in self.domains:
            digest.update(f"{domain.name}\0{chr(0).join(domain.files)}\0{domain.sha256()}\n".encode())
        return digest.hexdigest()


def read_latents(folder: Path) -> LatentSet:
    """Read and check a folder of domains; the packed form is preferred.

    InputError where the packed form is damaged or lists other latents than the single files beside it, and, naming every file, for what
    cannot be read or is no latent, for NaN or infinite numbers, mixed sizes, sides that are not divisible by 4, and fewer than two domains.
    """
    if folder.is_file():
        raise InputError(
            tr("{field}: {folder!r} is a file; give the folder that fashion-ml encode wrote", field=_FIELD, folder=str(folder))
        )
    if not folder.is_dir() and folder.parts[:1] == ("embedded",):
        raise InputError(
            tr("{field}: {folder!r} is not known; the embedded latents are embedded", field=_FIELD, folder=str(folder))
        )
    if not folder.is_dir():
        raise InputError(
            tr(
                "{field}: {folder!r} does not exist; make it: fashion-ml encode IMAGES_DIR {folder_2}",
                field=_FIELD,
                folder=str(folder),
                folder_2=folder,
            )
        )
    manifest = _manifest(folder / MANIFEST)
    packed = folder / PACKED
    domains = _packed_domains(packed) if packed.is_file() else _file_domains(folder)
    if len(domains) < 2:
        names = ", ".join(domain.name for domain in domains) or "none"
        raise InputError(
            tr(
                "{field}: {folder!r} holds {count} domains ({names}); give at least two folders of latents",
                field=_FIELD,
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
                field=_FIELD,
                shape=shape[1],
                shape_2=shape[2],
            )
        )
    return LatentSet(folder, tuple(domains), shape, manifest)


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


def held_out(domain: Domain, share: float) -> tuple[list[int], list[int]]:
    """Indices for training and held out, at least one picture on each side when share > 0; an order by the hash of the names.

    A mirrored picture is on the side of its original.
    """
    originals = [name.removesuffix(MIRRORED) for name in domain.files]
    order = sorted(set(originals), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    count = min(max(round(share * len(order)), 1), len(order) - 1) if share > 0 else 0
    held = set(order[:count])
    sides: tuple[list[int], list[int]] = [], []
    for index, name in enumerate(originals):
        sides[name in held].append(index)
    return sides


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = parsed_mapping(read_whole(path))
        kinds = {"vae": str, "vae_sha256": str, "latent_scale": float, "files": dict}
        if wrong := [key for key, kind in kinds.items() if not isinstance(tree[key], kind)]:
            raise ValueError(tr("{names} of another kind", names=", ".join(wrong)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            tr(
                "{field}: {path!r} is damaged ({first_line}); encode again",
                field=_FIELD,
                path=str(path),
                first_line=first_line(error)[:160],
            )
        ) from None
    return dict(tree)


def _packed_domains(index: Path) -> list[Domain]:
    """The domains of `packed.json`, its shards opened and their shapes checked."""
    from safetensors import SafetensorError, safe_open

    domains: list[Domain] = []
    path, shapes = index, set[tuple[int, ...]]()
    try:
        for name, entry in sorted(parsed_mapping(read_whole(index))["domains"].items()):
            shards = tuple((below(index.parent, place), int(count)) for place, count in entry["shards"])
            for path, count in shards:
                check_regular(path)
                with safe_open(path, framework="pt") as file:
                    found = file.get_slice("latents").get_shape()
                if len(found) != 4 or found[0] != count:
                    raise ValueError(
                        tr("it has the shape {tuple}, not ({count}, channels, height, width)", tuple=tuple(found), count=count)
                    )
                shapes.add(tuple(found[1:]))
            path = index
            domains.append(Domain(str(name), tuple(entry["files"]), None, shards, str(entry["sha256"])))
            if len(domains[-1]) != sum(count for _, count in shards):
                raise ValueError(tr("{name} has {count} names and other latents", name=name, count=len(domains[-1])))
        if len(shapes) > 1:
            raise ValueError(tr("latents of {count} sizes", count=len(shapes)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, SafetensorError) as error:
        reason = tr("{path!r} cannot be read ({first_line})", path=str(path), first_line=first_line(error)[:160])
        raise InputError(
            tr(
                "{field}: {reason}; encode again, or remove {packed} to read the single files",
                field=_FIELD,
                reason=reason,
                packed=PACKED,
            )
        ) from None
    beside = {
        printable(place.name): tuple(printable(path.stem) for path in _latent_files(place))
        for place in _domain_folders(index.parent)
    }
    beside = {name: files for name, files in beside.items() if files}
    if beside and beside != {domain.name: domain.files for domain in domains}:
        raise InputError(
            tr(
                "{field}: {index!r} does not list the latents that are in {parent!r} now; encode again, or remove "
                "{packed} to read the single files",
                field=_FIELD,
                index=str(index),
                parent=str(index.parent),
                packed=PACKED,
            )
        )
    return domains


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
    for place in _domain_folders(folder):
        names, tensors = [], []
        for path in _latent_files(place):
            try:
                latent = read_latent(path)
            except ValueError as error:
                problems.append(f"{_FIELD}: {str(path)!r} {error}")
                continue
            if first is None:
                first = path, tuple(latent.shape)  # type: ignore[assignment]
            elif tuple(latent.shape) != first[1]:
                sizes = tr(
                    "{tuple} and {first!r} has {first_2}", tuple=tuple(latent.shape), first=str(first[0]), first_2=first[1]
                )
                problems.append(
                    tr("{field}: {path!r} has {sizes}; give latents of one size", field=_FIELD, path=str(path), sizes=sizes)
                )
                continue
            names.append(printable(path.stem))
            tensors.append(latent)
        if names:
            found.append((printable(place.name), names, tensors))
    if problems:
        raise InputError(
            problems[:50]
            + ([tr("{field}: and {count} more", field=_FIELD, count=len(problems) - 50)] if len(problems) > 50 else [])
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
    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
        raise ValueError(tr("holds no latent (a float tensor, or a dict with `latent`); encode it again or remove it"))
    if value.dim() == 4 and len(value) == 1:
        value = value[0]
    if value.dim() != 3:
        raise ValueError(
            tr("has the shape {tuple}, not (channels, height, width); encode it again or remove it", tuple=tuple(value.shape))
        )
    if not value.isfinite().all():
        raise ValueError(tr("holds NaN or infinite numbers; encode it again or remove it"))
    return value.float()
