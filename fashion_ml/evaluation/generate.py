"""Images for every reference caption: the same prompts and seeds with the LoRA and without it, kept on disk as they are made."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import PictureError, load_picture
from fashion_ml.errors import InputError
from fashion_ml.evaluation.decoding_room import decoding_fits
from fashion_ml.evaluation.read_prompts import Prompts
from fashion_ml.models.finite import refuse_nan
from fashion_ml.models.samplers import sampled_by, timesteps_in
from fashion_ml.models.text_encoding import USUAL, TextSettings
from fashion_ml.runtime.atomic_files import atomic_path, write_text
from fashion_ml.runtime.beside import beside
from fashion_ml.runtime.console import Bar, warn
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.gpu_memory import full_memory
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.links import refuse_links_out
from fashion_ml.runtime.printable import storable
from fashion_ml.runtime.seeding import derive_seed

_KEY = "generation.json"


@dataclass(frozen=True)
class Job:
    """One image to make."""

    reference: int
    """Index of the reference."""
    name: str
    """File name without an ending, as MLflow's stores take it; different for every job."""
    prompt: str
    seed: int
    size: tuple[int, int]
    """Width and height, pixels."""


def image_seed(seed: int, name: str, index: int) -> int:
    """Seed of the initial noise of image `index` for the reference of that name; other references do not change it."""
    return derive_seed(seed, f"evaluation/{name}", index)


def jobs_of(references: Sequence[CaptionedImage], settings: Evaluation, sizes: Sequence[tuple[int, int]]) -> list[Job]:
    """`images_per_reference` jobs for each reference in turn, at the reference's size."""
    stems = [str(Path(reference.name).with_suffix("")) for reference in references]
    names = [stem if stems.count(stem) == 1 else reference.name for stem, reference in zip(stems, references, strict=True)]
    return [
        Job(
            number,
            storable(f"{names[number]}_{index}"),
            reference.caption,
            image_seed(settings.seed, reference.name, index),
            sizes[number],
        )
        for number, reference in enumerate(references)
        for index in range(settings.images_per_reference)
    ]


def batches_of(jobs: Sequence[Job], batch_size: int) -> list[list[int]]:
    """Indices of jobs of one size each, at most `batch_size` together; always the same, whatever was made before."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, job in enumerate(jobs):
        by_size.setdefault(job.size, []).append(index)
    return [part[first : first + batch_size] for part in by_size.values() for first in range(0, len(part), batch_size)]


class Keeps(Protocol):
    """Where images are read that were made before, and put when they are made."""

    def load(self, job: Job) -> Image.Image | None:
        """The image of a job, or None when it was not made yet."""

    def save(self, job: Job, picture: Image.Image) -> None:
        """Keep an image."""


class ImageFolder:
    """Generated images as PNG files, each whole or not at all; what was made in the folder for something else is cleared first.

    An evaluation that was killed finds the images it had made, and a second one with the same base, prompts and seeds does too.
    """

    def __init__(self, folder: Path, key: str):
        self.folder = folder
        note = json.dumps({"key": key}) + "\n"
        before = _note_in(folder)
        if before is None and folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                tr(
                    "output_dir: {folder!r} holds files that no evaluation made; move them, or give another folder",
                    folder=str(folder),
                )
            )
        refuse_links_out(folder, "output_dir")
        if before != note:
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _KEY:  # the note goes last, so that a folder cut off here is still known as one of these
                    path.unlink()
            write_text(folder / _KEY, note)

    def path(self, job: Job) -> Path:
        """Where the image of a job is."""
        return self.folder / f"{job.name}.png"

    def load(self, job: Job) -> Image.Image | None:
        """The image of a job, or None when it was not made yet."""
        try:
            return load_picture(self.path(job))
        except (OSError, PictureError):
            return None

    def save(self, job: Job, picture: Image.Image) -> None:
        """Keep an image."""
        with atomic_path(self.path(job)) as temporary:
            picture.save(temporary, format="png")

    def files(self) -> list[Path]:
        """The images there are, sorted."""
        return sorted(path for path in self.folder.rglob("*.png") if not path.name.startswith("."))


def _note_in(folder: Path) -> str | None:
    """The note of an evaluation's folder; None where there is none, or what is there is no such note, but someone's file of that name."""
    try:
        note = read_whole(folder / _KEY, 1 << 16).decode()
        return note if set(parsed_mapping(note)) == {"key"} else None
    except (OSError, ValueError):
        return None


@contextmanager
def shared_images(cache_dir: str | None, own: Path, key: str, what: str = "base") -> Iterator[ImageFolder]:
    """The folder of the base's images: `own`, or with `evaluation.cache_dir` one that runs share, for this process alone while it fills it."""
    if cache_dir is None:
        yield ImageFolder(own, key)
        return
    folder = Path(cache_dir).expanduser() / f"{what}_{key[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        yield ImageFolder(folder, key)


def generation_key(
    jobs: Sequence[Job], settings: Evaluation, model: str, text: TextSettings = USUAL, device: str = "cpu"
) -> str:
    """What decides the images: `model` (base, VAE and LoRA), prompts and how they are read, seeds, sizes, sampler, and the kind of device,
    whose kernels round in their own way."""
    facts = {
        **text.unusual(),  # nothing at the usual settings: images from before there were others are found again
        **({"negative": settings.negative_prompt} if settings.negative_prompt else {}),
        **({"sampler": settings.sampler} if settings.sampler != "ddim" else {}),
        **(
            {"precision": settings.precision} if settings.precision not in ("auto", "no") else {}
        ),  # auto: a plan has settled it
        **({"timesteps": timesteps} if (timesteps := timesteps_in(settings.sampler, settings.precision)) else {}),
        **({"device": device} if device != "cpu" else {}),
        "model": model,
        "jobs": [asdict(job) for job in jobs],
        "steps": settings.num_inference_steps,
        "guidance": settings.guidance_scale,
        "batch": settings.batch_size,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@torch.no_grad()
def generate(
    pipeline: Any,
    jobs: Sequence[Job],
    settings: Evaluation,
    kept: Keeps | None = None,
    progress: Bar | None = None,
    *,
    text: TextSettings = USUAL,
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Batches of job indices with their RGB pictures; what `kept` holds is read instead of made, and what is made is put there
    while the next batch is made; all of it is there when the last one has been taken, or when no more are asked for.

    How prompts are read is `read_prompts`'. Where a batch does not fit into the GPU's memory, or by count into a CPU's, it is made half by
    half, and so are those behind it; InputError where one image does not fit, and where what a model gives is not finite: such an image
    would be black.
    """
    most, batches = settings.batch_size, batches_of(jobs, settings.batch_size)
    prompts = Prompts(pipeline, [[jobs[index].prompt for index in batch] for batch in batches], settings, text)
    with beside(tr("keep images"), most=max(2, most), finishes=True) as keeping:
        for number, batch in enumerate(batches):
            part = [jobs[index] for index in batch]
            found = [kept.load(job) if kept else None for job in part]
            pictures = [picture for picture in found if picture is not None]
            if len(pictures) < len(part):
                pictures = []
                while len(pictures) < len(part):
                    some = slice(len(pictures), len(pictures) + most)
                    made = _made(pipeline, part[some], prompts.of(number, some), settings)
                    if isinstance(made, str):
                        most = _half_of(len(part[some]), part[0].size, made)
                    else:
                        pictures += made
                for job, picture, before in zip(part, pictures, found, strict=True):
                    if kept and before is None:
                        keeping(kept.save, job, picture)
            if progress is not None:
                progress.advance(len(part))
            yield batch, pictures


def _made(
    pipeline: Any, jobs: Sequence[Job], prompts: tuple[list[str] | None, Mapping[str, Any]], settings: Evaluation
) -> list[Image.Image] | str:
    """The pictures of jobs of one size; where they do not fit into memory, whose it is."""
    (width, height), (asked, read) = jobs[0].size, prompts
    if not decoding_fits(pipeline, len(jobs), (width, height)):
        return tr("this machine's memory")
    try:
        with sampled_by(pipeline, settings.sampler), exact_float32(), refuse_nan(pipeline, [job.name for job in jobs]):
            return list(
                pipeline(
                    asked,
                    **read,
                    height=height,
                    width=width,
                    num_inference_steps=settings.num_inference_steps,
                    guidance_scale=settings.guidance_scale,
                    generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
                ).images
            )
    except (RuntimeError, MemoryError) as error:
        where = full_memory(error)
        if where is None:
            raise
        return where


def _half_of(count: int, size: tuple[int, int], where: str) -> int:
    """How many images to make at once where so many did not fit. InputError where it was one."""
    gc.collect()  # the failed call's tensors, before others are asked for
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if count == 1:
        raise InputError(
            tr(
                "data.resolution: one image of {size} x {size_2} does not fit into {where}; use less, or "
                "evaluation.precision bf16",
                size=size[0],
                size_2=size[1],
                where=where,
            )
        )
    warn(
        tr(
            "evaluation.batch_size: {count} images at once do not fit into {where}; {count_2} are made at once from here",
            count=count,
            where=where,
            count_2=count // 2,
        )
    )
    return count // 2
