"""The losses that choosing asks for: images of kept files at strengths, made as an evaluation makes them, so that either finds the other's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import LoraExperiment
from fashion_ml.data.pictures import fit, load_picture
from fashion_ml.evaluation.choose import Candidate
from fashion_ml.evaluation.generate import ImageFolder, Job, generate
from fashion_ml.evaluation.lora_plan import Plan, put_on
from fashion_ml.evaluation.measure import measure_arm
from fashion_ml.evaluation.ruler import RealPictures, look_with_encoder
from fashion_ml.evaluation.toy import known_to_read
from fashion_ml.metrics.registry import LOSSES, TOTAL
from fashion_ml.models.applied_lora import AppliedLora, restore_added
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runtime.console import Bar
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed


def batch_of_choosing(batch_size: int, per_reference: int, references: int) -> int:
    """Images generated at once, at most `batch_size`: of whole references, and of at most a twelfth of them, so that rounds can be small."""
    if batch_size < per_reference:
        return max(size for size in range(1, batch_size + 1) if per_reference % size == 0)
    return per_reference * max(1, min(batch_size // per_reference, references // 12))


def with_small_batches(config: LoraExperiment, references: int) -> LoraExperiment:
    """An experiment whose evaluation generates as many images at once as choosing does."""
    settings = config.evaluation
    size = batch_of_choosing(settings.batch_size, settings.images_per_reference, references)
    return config.model_copy(update={"evaluation": settings.model_copy(update={"batch_size": size})})


@dataclass
class Losses:
    """Measures candidates on references, and keeps their images."""

    plan: Plan
    """Of one of the files, at the batch size of choosing."""
    files: Mapping[str, Path]
    root: Path
    """Where `evaluate run` puts its files: `<name>/images/lora` and others below."""
    earlier: Sequence[Path] = ()
    """Folders of images that evaluations left, which are read where they are the same."""
    made: int = 0
    """Images that were not there yet."""
    progress: Bar | None = None
    _references: list[Any] = field(default_factory=list)

    @property
    def metric(self) -> str:
        """What is decided by: weighted_total_loss, visual_loss without an encoder."""
        return TOTAL if self.plan.suite.encoder is not None else LOSSES[0]

    @property
    def units(self) -> list[list[int]]:
        """References that are generated together: of one size, as many as an evaluation of all would put into one batch."""
        settings, by_size = self.plan.config.evaluation, dict[tuple[int, int], list[int]]()
        together = max(settings.batch_size // settings.images_per_reference, 1)
        for index, size in enumerate(self.plan.sizes):
            by_size.setdefault(size, []).append(index)
        return [part[first : first + together] for part in by_size.values() for first in range(0, len(part), together)]

    def unread(self) -> str:
        """That the encoder cannot read the references, and why; empty where it can, and where it was not asked."""
        if self.metric != TOTAL:
            return ""
        plan = self.plan
        real = RealPictures(self._looked_at(), (), plan.leakage.groups[: len(plan.references)])
        check = look_with_encoder(real, plan.suite, known=known_to_read(plan.config.evaluation, plan.facts))
        return check.line if check else ""

    def score(self, candidate: Candidate, references: Sequence[int]) -> dict[int, float]:
        """The mean loss over the seeds of each reference."""
        self._put(candidate)
        stem, key, strength = self.plan.lora.stem, self.plan.key, candidate.strength
        whole = strength == 1
        kept = self._folder(stem, "lora" if whole else f"strength_{strength:g}", key if whole else f"{key} at {strength:g}")
        return self._measure(references, self.plan.jobs, kept)

    def score_base(self, references: Sequence[int]) -> dict[int, float]:
        """The same without a LoRA."""
        self.plan.applied.set_strength(0)
        return self._measure(references, self.plan.base_jobs, self._folder(".", ".base_images", self.plan.base_key))

    def _put(self, candidate: Candidate) -> None:
        """The candidate's file on the pipeline, at its strength."""
        path = self.files[candidate.file]
        if path != self.plan.lora:
            self.plan.applied.remove()
            self.plan = replace(self.plan, lora=path, applied=self._put_on(path))
        self.plan.applied.set_strength(candidate.strength)

    def _put_on(self, path: Path) -> AppliedLora:
        pipeline, precision, model = self.plan.pipeline, self.plan.config.evaluation.precision, self.plan.config.model
        if pipeline.unet.dtype != torch.float32:
            restore_added(pipeline, path, lambda: load_pipeline(model.base, **model.schedule()))
        return put_on(pipeline, path, pipeline.device, precision)

    def _folder(self, stem: str, name: str, key: str) -> ImageFolder:
        """The folder of images of that key that is there, else a new one beside those of other keys."""
        own = self.root / stem / "images" / name if stem != "." else self.root / name
        for folder in (*self.earlier, own):
            if _key_of(folder) == key:
                return ImageFolder(folder, key)
        return ImageFolder(own if _key_of(own) is None else self.root / "choose" / stem / name, key)

    def _looked_at(self) -> list[Any]:
        """The references, fitted and embedded."""
        if not self._references:
            plan = self.plan
            targets = [fit(load_picture(item.path), size) for item, size in zip(plan.references, plan.sizes, strict=True)]
            self._references = plan.suite.look_at(targets, keep=True)
        return self._references

    def _measure(self, references: Sequence[int], all_jobs: Sequence[Job], kept: ImageFolder) -> dict[int, float]:
        plan, settings = self.plan, self.plan.config.evaluation
        references_ = self._looked_at()
        found: dict[int, float] = {}
        for unit in self.units:
            if not set(unit) & set(references):
                continue
            jobs = [job for job in all_jobs if job.reference in unit]
            self.made += sum(not kept.path(job).is_file() for job in jobs)
            images = generate(plan.pipeline, jobs, settings, kept, self.progress, text=plan.text)
            arm = measure_arm(images, references_, [job.reference for job in jobs], plan.suite)
            means = arm.table[self.metric].groupby([job.reference for job in jobs]).mean()
            found |= {int(index): float(value) for index, value in means.items()}
        return {index: found[index] for index in references}


def _key_of(folder: Path) -> str | None:
    """The key of the images in a folder; None where there are none."""
    try:
        return str(parsed(read_whole(folder / "generation.json"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
