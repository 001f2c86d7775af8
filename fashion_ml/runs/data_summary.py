"""What a training is about to learn from: summed up, said before it begins, and kept with its run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.data.notices import DOMAINS, REFERENCES, TRAINING, Kind, by_kind, line_of, some_of
from fashion_ml.data.summary_lines import lines_of
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import printable

if TYPE_CHECKING:
    from fashion_ml.config import LoraExperiment
    from fashion_ml.data.images import CaptionedImage, Reading
    from fashion_ml.data.latent_domains import LatentSet
    from fashion_ml.data.summary import FolderSummary
    from fashion_ml.runs.inputs import Sources
    from fashion_ml.tracking.run import TrackedRun

_FOLDER, _ARTIFACTS = "data_summary", "data"
_FOLDERS = ("training", "prior", "references")
"""What is read by the settings of all data; a subset has its own."""


def summed_up(config: LoraExperiment, sources: Sources, pipeline: Any) -> Sources:
    """The sources with their summary, which is said: what the base's text encoder reads of captions is known from here on."""
    from fashion_ml.models.stable_diffusion import vae_factor

    summary = summarise_sources(config, sources, vae_factor(pipeline), pipeline.tokenizer)
    say_summary(summary)
    return replace(sources, summary=summary)


def summarise_sources(config: LoraExperiment, sources: Sources, factor: int, tokenizer: Any) -> tuple[FolderSummary, ...]:
    """The summary of each folder that was read, for a base whose VAE has that factor."""
    from fashion_ml.data.buckets import image_sizes
    from fashion_ml.data.masks import EncodedMasks
    from fashion_ml.data.split import alike
    from fashion_ml.data.summary import leaks, summarise, too_long
    from fashion_ml.models.text_encoding import token_counter, token_limit
    from fashion_ml.training.subset_images import as_prompts

    readings = [replace(_as_used(reading, sources.of(role), config), role=role) for role, reading in sources.readings.items()]
    images = [item for reading in readings for item in reading.items]
    groups = [[images[index] for index in group] for group in alike(images, sources.looks) if len(group) > 1]
    weighted, bucketing = config.data.weighted_captions, config.data.bucketing(factor)
    count, limit = token_counter(tokenizer, weighted_captions=weighted), token_limit(tokenizer, config.data.max_token_length)
    summaries = []
    for reading in readings:
        sizes = image_sizes([item.size for item in reading.items], **bucketing)
        summary = summarise(reading, sizes, groups)
        summary = summary.plus(too_long(as_prompts(reading.items, config.data), count, limit))
        if reading.role.startswith(TRAINING) and sources.masks is not None:
            encoded = EncodedMasks(sources.masks, reading.items, sizes, factor)
            summary = summary.with_masks(sources.masks.kind, encoded.prepare())
        if reading.role == REFERENCES:
            summary = summary.plus(leaks(sources.items, reading.items, groups))
        summaries.append(summary)
    return tuple(summaries)


def _as_used(reading: Reading, items: list[CaptionedImage], config: LoraExperiment) -> Reading:
    """With the images that are used, and without what is no surprise under the settings."""
    meant = {Kind.SYNTAX} if config.data.weighted_captions else set[Kind]()
    return replace(reading, items=items, notices=[one for one in reading.notices if one.kind not in meant])


def say_summary(summaries: Iterable[FolderSummary]) -> None:
    """Say it, a line for each kind of thing; those that are not as they were meant as warnings."""
    for line, important in lines_of(summaries):
        warn(line.strip()) if important else say(line)


def keep_summary(
    summaries: Sequence[FolderSummary], items: Sequence[CaptionedImage], folder: Path, run: TrackedRun | None
) -> None:
    """Write `summary.json` and `contact_sheet.png` below a run's folder, and log them to the run, if there is one, under `data/`."""
    from fashion_ml.data.contact_sheet import write_contact_sheet

    keep_facts(facts_of(summaries), folder, run)
    title = printable(str(summaries[0].folder)) if summaries else ""
    sheet = write_contact_sheet(folder / _FOLDER / "contact_sheet.png", items, title)
    if run:
        run.log_file(sheet, _ARTIFACTS)


def say_latents(latents: LatentSet, held: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Say the domains, how many latents each has, and what lies beside them unread; returns it for `keep_facts`."""
    from fashion_ml.data.latents import left_out

    counts = {domain.name: len(domain) for domain in latents.domains}
    shape = " x ".join(str(side) for side in latents.shape)
    kept_back = {domain.name: len(some) for domain, some in zip(latents.domains, held, strict=True)}
    named = [f"{name} {count:,}" for name, count in counts.items()]
    of_held = (
        tr(", {count:,} of them held out (data.validation_split)", count=sum(kept_back.values()))
        if any(kept_back.values())
        else ""
    )
    say(
        tr(
            "Data: {folder}: {count:,} latents of {shape} in {count_2} domains: {some_of}{of_held}",
            folder=latents.folder,
            count=sum(counts.values()),
            shape=shape,
            count_2=len(counts),
            some_of=some_of(named, 8),
            of_held=of_held,
        )
    )
    noticed = by_kind(left_out(latents.folder))
    for kind, some in noticed.items():
        warn(line_of(kind, some, DOMAINS))
    return {
        "folder": printable(str(latents.folder)),
        "latents": counts,
        "held_out": kept_back,
        "shape": list(latents.shape),
        "noticed": {kind.key: [str(one) for one in some] for kind, some in noticed.items()},
    }


def keep_facts(facts: Mapping[str, Any], folder: Path, run: TrackedRun | None) -> None:
    """Write `summary.json` below a run's folder, and log it to the run, if there is one, under `data/`."""
    path = folder / _FOLDER / "summary.json"
    write_text(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if run:
        run.log_file(path, _ARTIFACTS)


def facts_of(summaries: Iterable[FolderSummary]) -> dict[str, Any]:
    """The facts of each folder, by what it is for."""
    return {one.role: one.to_dict() for one in summaries}


@dataclass(frozen=True)
class LookedAt:
    """What `fashion-ml data` shows."""

    folder: Path
    summaries: tuple[FolderSummary, ...]
    items: list[CaptionedImage]
    """The images of the first of them."""


def look_at_data(directory: str, settings: Mapping[str, Any], config: str, *, references: bool) -> LookedAt:
    """The summary of a folder, or of those that an experiment reads. Broken images are left out and named. InputError for a wrong folder."""
    from fashion_ml.config import load_config
    from fashion_ml.config.shipped_files import given_or_shipped
    from fashion_ml.data.masks import find_masks
    from fashion_ml.runs.inputs import Sources
    from fashion_ml.runs.without_config import lora_experiment
    from fashion_ml.training.lora_inputs import small_cache

    if not directory and not config:
        raise InputError(tr("DIR: is not given; give a folder of N_class folders, or an experiment by --config"))
    given = {**settings, **({"data.train_data_dir": directory} if directory else {})}
    experiment = load_config(given_or_shipped(config) if config else lora_experiment(given), given)
    data = experiment.data
    folder, readings = _readings(experiment, "DIR" if directory else "", references=references)
    training, prior, held = (
        [item for role, reading in readings.items() if role.startswith(start) for item in reading.items] for start in _FOLDERS
    )
    looks = small_cache(experiment)
    masks = find_masks(data.masks, data.masks_dir, training, looks)
    sources = Sources(training, prior, held, None, readings, masks, looks)
    if masks is not None:
        masks.say_unused()
    ours = experiment.model.base == "embedded"
    summaries = summarise_sources(experiment, sources, 4 if ours else 8, _tokenizer(ours))
    return LookedAt(folder, summaries, next(iter(readings.values())).items)


def _readings(config: LoraExperiment, field: str, *, references: bool) -> tuple[Path, dict[str, Reading]]:
    """The folder that is looked at, and what was read by what it is for: all that the experiment reads, with a `field` that folder alone."""
    from fashion_ml.data.images import scan_references, scan_training_folder
    from fashion_ml.embedded.collection import folder_of
    from fashion_ml.runs.inputs import known_images, references_folder, training_folder
    from fashion_ml.training.subset_images import as_meant, scan_subsets

    data, known = config.data, known_images(config)
    readings: dict[str, Reading] = {}
    given, extension, named = data.train_data_dir, data.caption_extension, field or "data.train_data_dir"
    folder = folder_of(given, "references" if references else "train") if given else training_folder(config)
    if references:
        readings["references"] = scan_references(folder, extension, field=named, skip=True, known=known)
    elif given:
        readings["training"] = scan_training_folder(folder, extension, field=named, skip=True, known=known)
    if not field:
        readings |= {f"training {name}": reading for name, reading in scan_subsets(data, prior=False, known=known).items()}
    if not field and data.reg_data_dir:
        prior = Path(data.reg_data_dir).expanduser()
        readings["prior"] = scan_training_folder(prior, extension, field="data.reg_data_dir", skip=True, known=known)
    held = references_folder(config) if not field else None
    if held is not None:
        readings["references"] = scan_references(held, extension, config.evaluation.max_references, skip=True)
    return folder, {role: reading if role not in _FOLDERS else as_meant(reading, data) for role, reading in readings.items()}


def _tokenizer(ours: bool) -> Any:
    """That of the embedded base, or that of CLIP, which all of Stable Diffusion 1.x and 2.x have."""
    from fashion_ml.embedded import EMBEDDED_DIR
    from fashion_ml.models.single_file import clip_tokenizer

    if not ours:
        return clip_tokenizer("sd1")
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(EMBEDDED_DIR / "stable_diffusion" / "tokenizer")
