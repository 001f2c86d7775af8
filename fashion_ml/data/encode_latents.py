"""Folders of images, one a domain, to folders of VAE latents: resumable, with a manifest of where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from fashion_ml.data.encode_batches import device_of, encode_pictures
from fashion_ml.data.folder_listing import list_folder, other_endings
from fashion_ml.data.images import CaptionedImage, ClassFolder, Reading, look_at_files
from fashion_ml.data.latent_domains import MIRRORED, check_count
from fashion_ml.data.latents import MANIFEST, read_latents
from fashion_ml.data.notices import DOMAINS, Kind, Notice, by_kind, line_of
from fashion_ml.data.packed_latents import PACKED, PACKED_FOLDER, pack
from fashion_ml.data.pictures import fit_square, load_picture
from fashion_ml.data.split import alike
from fashion_ml.data.summary import FolderSummary, summarise
from fashion_ml.data.summary_lines import lines_of
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.errors import InputError
from fashion_ml.models.vae import load_vae, vae_factor_of
from fashion_ml.runtime.atomic_files import atomic_path, remove_leftovers, write_text
from fashion_ml.runtime.console import bar, say, warn
from fashion_ml.runtime.folder_lock import LOCK, folder_lock, refuse_locked
from fashion_ml.runtime.gpu_memory import fits_into_memory
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import below, parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import printable
from fashion_ml.runtime.weights_hash import weights_sha256

_NOTE_EVERY = 64


@dataclass(frozen=True)
class Encoded:
    """What an encoding left."""

    folder: Path
    domains: dict[str, int]
    """Latents of each domain, mirrored ones included."""
    made: int
    """Latents made now; the others were there already."""
    removed: int
    """Latents of an earlier encoding that were removed: their images are gone, or are no longer mirrored."""
    latent_scale: float
    """Of the VAE: what training multiplies by."""
    summary: FolderSummary
    """What the images are."""


def encode_folder(
    images: Path,
    out: Path,
    vae_name: str,
    *,
    size: int,
    flips: bool,
    packed: bool,
    device: str,
    check: Callable[[Any, int], None] | None = None,
) -> Encoded:
    """Encode every image of every domain folder to `out/<domain>/<stem>.pt`: the unscaled mean of the posterior, (4, size / f, size / f).

    What is there already from the same image, VAE and size is kept, so a stopped encoding goes on; latents of these domains whose images are
    gone are removed, other domains of `out` stay; latents of a CPU and of a GPU are not mixed. With `flips` mirrored images are encoded too
    (not mirrored latents, which decode differently), as `<stem>.mirrored`. `check` is asked whether there is room for the VAE at this size.
    InputError with every problem at once, and while another command works in `out`.
    """
    if out.is_file():
        raise _something_else(out)
    refuse_locked(out, "OUT_DIR")
    items, reading = _read(images)
    vae = load_vae(vae_name, device)
    factor = vae_factor_of(vae)
    if size % (4 * factor):
        near = max(round(size / (4 * factor)), 1) * 4 * factor
        raise InputError(
            tr(
                "--size: {size} is not divisible by {value} (the VAE's factor {factor} x 4); use {near}",
                size=size,
                value=4 * factor,
                factor=factor,
                near=near,
            )
        )
    if check is not None:
        check(vae, size)
    summary = _summed_up(reading, size)
    facts = {
        "format": 1,
        "vae": vae_name,
        "vae_sha256": weights_sha256(vae),
        "latent_scale": float(vae.config.scaling_factor),
        "size": size,
        "device": device_of(vae),
        "latent_shape": [vae.config.latent_channels, size // factor, size // factor],
    }
    with folder_lock(out, "OUT_DIR"):
        remove_leftovers(out)
        return _encoded(out, vae, facts, items, summary, flips=flips, packed=packed)


def _encoded(
    out: Path,
    vae: Any,
    facts: dict[str, Any],
    items: dict[str, list[CaptionedImage]],
    summary: FolderSummary,
    *,
    flips: bool,
    packed: bool,
) -> Encoded:
    """Into a folder that is locked."""
    size = facts["size"]
    before = _earlier(out, facts)
    files: dict[str, Any] = {key: entry for key, entry in before.items() if (out / f"{key}.pt").is_file()}
    jobs = list(_jobs(items, flips))
    wanted = [job for job in jobs if files.get(job[0]) != job[1]]
    stale = {key for key in before if key.split("/")[0] in items} - {job[0] for job in jobs}
    (out / PACKED).unlink(missing_ok=True)
    for key in stale:
        files.pop(key, None)
        (out / f"{key}.pt").unlink(missing_ok=True)
    _note(out, facts, files)  # from now on the folder is known as one to go on with
    with (
        bar(tr("encode"), len(wanted)) as progress,
        fits_into_memory(tr("encoding an image"), "--size", size, tr("use a smaller one")),
    ):
        by_key = {job[0]: job for job in jobs}

        def read(key: str) -> Image.Image:
            _, _, path, mirrored = by_key[key]
            picture = fit_square(load_picture(path), size)
            return ImageOps.mirror(picture) if mirrored else picture

        made = encode_pictures(vae, list(by_key), [(size, size)] * len(jobs), {job[0] for job in wanted}, read)
        for number, (key, mean, _) in enumerate(made, 1):
            with atomic_path(out / f"{key}.pt", field="OUT_DIR") as temporary, temporary.open("wb") as file:
                torch.save(mean, file)  # by its name it would keep the temporary one, and no two encodings had equal files
            files[key] = by_key[key][1]
            if number % _NOTE_EVERY == 0:
                _note(out, facts, files)
            progress.advance()
    _note(out, facts, files)
    latents = read_latents(out) if len(items) > 1 else None
    if packed and latents is not None:
        pack(out, latents)
    if latents is None:
        say(tr("One domain is not enough to train on; encode a second one into the same folder"))
    counts: dict[str, int] = {}
    for key in files:
        counts[key.split("/")[0]] = counts.get(key.split("/")[0], 0) + 1
    return Encoded(out, counts, len(wanted), len(stale), float(vae.config.scaling_factor), summary)


def _summed_up(reading: Reading, size: int) -> FolderSummary:
    """What there is, which is said."""
    groups = [[reading.items[index] for index in group] for group in alike(reading.items, TensorCache(None, 64 << 20))]
    summary = summarise(reading, [(size, size)] * len(reading.items), groups)
    for line, important in lines_of([summary]):
        warn(line.strip()) if important else say(line)
    return summary


def _read(images: Path) -> tuple[dict[str, list[CaptionedImage]], Reading]:
    if not images.is_dir():
        raise InputError(
            tr(
                "IMAGES_DIR: {images!r} is no folder; give a folder that holds a folder of images for each domain",
                images=str(images),
            )
        )
    found, problems, notices = {}, list[str](), list[Notice]()
    whole = list_folder(images, read_below=True)
    notices += [Notice(Kind.LOOSE, printable(path.name)) for path in whole.images]
    notices += whole.notices
    listings = [(place, list_folder(place, f"{printable(place.name)}/")) for place in whole.folders]
    check_count(sum(bool(listing.images) for _, listing in listings), "IMAGES_DIR", images)
    for place, listing in listings:
        domain = printable(place.name)
        notices += [*listing.notices, *other_endings(listing.others, f"{domain}/")]
        if listing.images and domain == PACKED_FOLDER:
            problems.append(
                tr("IMAGES_DIR: {place!r} has the name of the folder for packed latents; rename the domain", place=str(place))
            )
        stems: dict[str, Path] = {}
        for path in listing.images:
            stem = printable(path.stem)
            if stem in stems:
                other = printable(stems[stem].name)
                problems.append(
                    tr(
                        "IMAGES_DIR: {path!r} and {other} would give one latent; rename one of them",
                        path=str(path),
                        other=other,
                    )
                )
            stems[stem] = path
        items = [CaptionedImage(path, "", f"{domain}/{printable(path.name)}") for path in listing.images]
        if items:
            found[domain] = look_at_files(items, "IMAGES_DIR", problems)
        elif not listing.notices:
            notices.append(Notice(Kind.EMPTY_FOLDER, f"{domain}/"))
    if problems:
        raise InputError(problems)
    if not found:
        said = "; ".join(line_of(kind, some, DOMAINS) for kind, some in by_kind(notices).items())
        instead = f" ({said})" if said else ""
        raise InputError(
            tr(
                "IMAGES_DIR: {images!r} holds no folders of images{instead}; put each domain's images into a folder of its own",
                images=str(images),
                instead=instead,
            )
        )
    folders = [ClassFolder(domain, "", 1, len(items)) for domain, items in found.items()]
    return found, Reading(images, [item for items in found.values() for item in items], folders, notices, role=DOMAINS)


def _jobs(items: dict[str, list[CaptionedImage]], flips: bool) -> Iterator[tuple[str, dict[str, Any], Path, bool]]:
    for domain, pictures in items.items():
        for picture in pictures:
            for mirrored in (False, True) if flips else (False,):
                key = f"{domain}/{printable(picture.path.stem)}{MIRRORED if mirrored else ''}"
                yield key, {"source": picture.name, "sha256": picture.sha256, "mirrored": mirrored}, picture.path, mirrored


def _something_else(out: Path) -> InputError:
    return InputError(tr("OUT_DIR: {out!r} holds something else; give a new folder", out=str(out)))


def _earlier(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The files that an earlier encoding left. InputError when it was another VAE's or size's, or the folder holds something else."""
    note = out / MANIFEST
    if not note.is_file():
        if out.exists() and any(path.name != LOCK for path in out.iterdir()):
            raise _something_else(out)
        return {}
    try:
        tree = parsed_mapping(read_whole(note))
        files = dict(tree["files"])
        for key in files:
            below(out, key)
        differs = [key for key in ("vae_sha256", "size") if tree[key] != facts[key]]
        if tree.setdefault("device", "") not in ("", facts["device"]):  # folders from before this was noted go on
            differs.append(tr("device ({device}, this is {device_2})", device=tree["device"], device_2=facts["device"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(tr("OUT_DIR: {note!r} is damaged ({error}); give a new folder", note=str(note), error=error)) from None
    facts["device"] = tree["device"]
    if differs:
        raise InputError(
            tr(
                "OUT_DIR: {out!r} was encoded with another {names}; give a new folder",
                out=str(out),
                names=tr(" and ").join(differs),
            )
        )
    return files


def _note(out: Path, facts: dict[str, Any], files: dict[str, Any]) -> None:
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    tree = {**facts, "files_sha256": digest, "files": files}
    write_text(out / MANIFEST, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")
