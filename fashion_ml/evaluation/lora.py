"""Evaluation of a trained LoRA: generate with it and without it on the same prompts and seeds, measure both, say what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.config import LoraExperiment
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import fit, load_picture
from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import (
    COMPARISON_HEADS,
    Comparison,
    compare,
    comparison_rows,
    ends,
    headline,
    intervals,
    sentence,
    summary,
    to_dict,
)
from fashion_ml.evaluation.artifacts import Figure, Pairs, ReportContent
from fashion_ml.evaluation.figures import comparison_grid, save_picture
from fashion_ml.evaluation.fingerprint import evaluation_facts, fingerprint
from fashion_ml.evaluation.generate import ImageFolder, Job, generate, generation_key, jobs_of, shared_images
from fashion_ml.evaluation.lora_pipeline import base_identity
from fashion_ml.evaluation.measure import Arm, MetricSuite, measure_arm
from fashion_ml.evaluation.obedience import Asked, held_to_dict, measure_obedience
from fashion_ml.evaluation.strengths import draw_strengths, means_of
from fashion_ml.evaluation.toy import own_of_lora, toy_facts, toy_sentence
from fashion_ml.evaluation.trigger import Wording, wording_of
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.nearest import nearest
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import METRICS, NEAREST, PROMPT_SIMILARITY, better
from fashion_ml.models.applied_lora import AppliedLora, apply_lora
from fashion_ml.models.kohya_format import model_hash
from fashion_ml.models.samplers import scheduler_of
from fashion_ml.models.stable_diffusion import load_pipeline, vae_factor
from fashion_ml.models.text_encoding import TextSettings, check_clip_skip
from fashion_ml.models.vae import load_other_vae
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.weights_hash import weights_sha256

MAIN, BASE = "LoRA", "base"
_MEMORISED = 4
_OF_SETS = tuple(metric.name for metric in METRICS if metric.of_sets is not None)


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one evaluation of a LoRA and what identifies them."""

    title: str
    facts: Mapping[str, Any]
    """Everything but the model that the scores depend on."""
    pairs: Pairs
    scores: dict[str, Comparison]
    sets: dict[str, float]
    """Metrics of the whole sets of images: `kid`, `base_kid` and `gain_kid`; empty when not measured."""
    sentence: str
    references: int
    images: int
    """Generated images of the LoRA; the base made as many."""
    seen_in_training: bool
    """The references were the training images."""
    generated: Mapping[str, ImageFolder]
    """The images, by side: `LoRA` and `base`."""
    held_against: Mapping[str, Interval] = field(default_factory=dict)
    """What real pictures and chance get, by name in MLflow: `reference_prompt_similarity`, `prompt_retrieval_chance`, …"""
    curve: Mapping[float, Mapping[str, float]] = field(default_factory=dict)
    """Means by LoRA strength; empty when no other strength was asked for."""
    figures: Sequence[Figure] = ()
    run_id: str = ""
    """The MLflow run that it was logged to; empty when it was not."""

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        return fingerprint(self.facts)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each reference and seed: the LoRA's scores, the base's as `base_…`."""
        return self.pairs.columns()

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow, and the distances of the sets."""
        return {**headline(self.scores), **self.sets, **{name: one.mean for name, one in self.held_against.items()}}

    def ends(self) -> dict[str, float]:
        """The ends of the intervals by their names in MLflow; empty below 6 references."""
        return {**intervals(self.scores), **ends(self.held_against.items())}

    def content(self) -> ReportContent:
        """What the reports say."""
        rows = comparison_rows(self.pairs.tables[MAIN], self.scores, self.pairs.references)
        rows += [
            (name, better(name), [f"{self.sets[key]:.4f}" for key in (f"base_{name}", name, f"gain_{name}")])
            for name in _OF_SETS
            if name in self.sets
        ]
        heads, images = COMPARISON_HEADS, len(self.pairs.references)
        told = summary(self.scores, self.fingerprint, self.sentence, self.references, images)
        return ReportContent(
            self.title, self.sentence, self.fingerprint, self.facts, rows, heads, self.to_dict(), self.figures, told
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `run_id` where it was logged."""
        return {
            **({"run_id": self.run_id} if self.run_id else {}),
            "fingerprint": self.fingerprint,
            "sentence": self.sentence,
            "references": self.references,
            "images": self.images,
            "references_seen_in_training": self.seen_in_training,
            "metrics": to_dict(self.scores),
            **{name: _three(self.sets, name) for name in _OF_SETS},
            "held_against": held_to_dict(self.held_against),
        }


@dataclass(frozen=True)
class Plan:
    """Everything an evaluation needs, looked at before its run exists."""

    config: LoraExperiment
    lora: Path
    references: Sequence[CaptionedImage]
    training: Sequence[CaptionedImage]
    """For memorisation; empty when they are not to be looked at."""
    suite: MetricSuite
    pipeline: Any
    applied: AppliedLora
    """The LoRA on the pipeline."""
    jobs: list[Job]
    sizes: list[tuple[int, int]]
    wording: Wording
    facts: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        return fingerprint(self.facts)

    @property
    def base_jobs(self) -> list[Job]:
        """What the base is given, the same seeds."""
        return [replace(job, prompt=self.wording.of_base(job.prompt)) for job in self.jobs]

    @property
    def key(self) -> str:
        """What decides the LoRA's images; the file's dates and ids do not."""
        return self._key(self.jobs, f"{self._base} + {model_hash(self.lora.read_bytes())}")

    @property
    def base_key(self) -> str:
        """What decides the base's images."""
        return self._key(self.base_jobs, self._base)

    @property
    def text(self) -> TextSettings:
        """How prompts are read."""
        return TextSettings(**self.config.text_encoding())

    def _key(self, jobs: Sequence[Job], model: str) -> str:
        return generation_key(jobs, self.config.evaluation, model, self.text)

    @property
    def _base(self) -> str:
        other, vae = self.config.model, self.facts["vae_sha256"]
        return f"{base_identity(other.base)} {other.prediction_type}{f' vae {vae}' if vae else ''}"


def plan_evaluation(
    config: LoraExperiment,
    lora: Path,
    references: Sequence[CaptionedImage],
    training: Sequence[CaptionedImage],
    suite: MetricSuite,
    device: str,
) -> Plan:
    """Load the base and the LoRA file, and settle sizes, seeds and fingerprint. InputError when the LoRA does not fit the base."""
    settings = config.evaluation
    pipeline = load_pipeline(config.model.base, device, prediction_type=config.model.prediction_type)
    check_clip_skip(config.model.clip_skip, pipeline.text_encoder)
    vae_sha256 = None
    if settings.vae:
        pipeline.vae = load_other_vae(settings.vae, pipeline.vae, device)
        vae_sha256 = weights_sha256(pipeline.vae)
    sizes = image_sizes([reference.size for reference in references], **config.data.bucketing(vae_factor(pipeline)))
    applied = apply_lora(pipeline, lora)
    text = TextSettings(**config.text_encoding())
    sampled = scheduler_of(pipeline.scheduler, settings.sampler)
    facts = evaluation_facts(settings, references, suite, sizes, type(sampled).__name__, sampled.config, text, vae_sha256)
    facts |= toy_facts(settings, own_of_lora(config))
    read, captions = suite.measures(PROMPT_SIMILARITY), [reference.caption for reference in references]
    wording = wording_of(settings, captions, lora, weighted=text.weighted_captions, read=read)
    facts |= wording.facts(read=read)
    kept = training if suite.measures(NEAREST) else ()
    jobs = jobs_of(references, settings, sizes)
    return Plan(config, lora, references, kept, suite, pipeline, applied, jobs, sizes, wording, facts)


@dataclass(frozen=True)
class _Arms:
    """Both sides, measured, and what they are compared with."""

    targets: list[Image.Image]
    references: list[Picture]
    of_side: dict[str, Arm]
    kept: dict[str, ImageFolder]
    of_strength: dict[float, Arm]

    @property
    def all(self) -> list[Arm]:
        """Every arm once; those of strength 0 and 1 are the sides."""
        return [*self.of_side.values(), *(arm for value, arm in self.of_strength.items() if value not in (0, 1))]


def measure_lora(plan: Plan, folder: Path, base_folder: Path) -> EvaluationResult:
    """Measure the LoRA against the base; the LoRA's images go to `folder`, the base's to `base_folder`.

    Images that an evaluation with the same weights, prompts and seeds left in these folders are used again. With `evaluation.cache_dir` the
    base's lie there, and of several processes one makes them. InputError when a batch does not fit into the GPU's memory.
    """
    settings, jobs = plan.config.evaluation, plan.jobs
    try:
        arms = _generate_and_measure(plan, folder, base_folder)
    except torch.OutOfMemoryError as error:
        size = settings.batch_size
        raise InputError(
            f"evaluation.batch_size: {size} does not fit into the GPU's memory; use {max(size // 2, 1)} or a smaller data.resolution"
        ) from error
    names = [plan.references[job.reference].name for job in jobs]
    extra: dict[str, list[Any]] = {"seed": [str(job.seed) for job in jobs]}
    figures: list[Figure] = []
    asked = Asked(names, [job.reference for job in jobs], plan.wording.plain)
    held = measure_obedience(arms.all, asked, _stacked(arms.references), plan.suite, settings.resamples)
    if plan.training:
        extra["nearest_training_image"], figure = _memorisation(plan, arms)
        figures.append(figure)
    curve = {value: means_of(arms.of_strength[value].table, names) for value in sorted(settings.strengths)}
    if curve:
        figures.append(Figure("LoRA strength", "strength_curve.png", partial(draw_strengths, curve)))
    scores = compare(arms.of_side[BASE].table, arms.of_side[MAIN].table, names, resamples=settings.resamples)
    seen = settings.references is None
    text = sentence(scores) + (" The references were the training images, so this is optimistic." if seen else "")
    text += toy_sentence(plan.facts)
    pairs = Pairs(
        tables={who: side.table for who, side in arms.of_side.items()},
        references=names,
        captions=[job.prompt for job in jobs],
        reference_of=lambda index: arms.targets[jobs[index].reference],
        picture_of=lambda who, index: _made(arms.kept[who], jobs[index]),
        extra=extra,
    )
    return EvaluationResult(
        title=f"Evaluation of {plan.config.output.output_name} on {plan.config.model.base}",
        facts=plan.facts,
        pairs=pairs,
        scores=scores,
        sets=_sets(plan.suite, arms.of_side, arms.references),
        sentence=text,
        references=len(arms.targets),
        images=len(jobs),
        seen_in_training=seen,
        generated=arms.kept,
        held_against=held,
        curve=curve,
        figures=figures,
    )


def _generate_and_measure(plan: Plan, folder: Path, base_folder: Path) -> _Arms:
    """Every image of the LoRA, of the base and of the other strengths, measured as they come."""
    suite, jobs, settings = plan.suite, plan.jobs, plan.config.evaluation
    targets = [fit(load_picture(item.path), size) for item, size in zip(plan.references, plan.sizes, strict=True)]
    references = suite.look_at(targets, keep=True)
    of_job = [job.reference for job in jobs]
    kept, sides = {MAIN: ImageFolder(folder / "images" / "lora", plan.key)}, dict[str, Arm]()
    strengths = [value for value in settings.strengths if value not in (0, 1)]
    with bar("generate images", (2 + len(strengths)) * len(jobs)) as progress:
        made = generate(plan.pipeline, jobs, settings, kept[MAIN], progress, text=plan.text)
        sides[MAIN] = measure_arm(made, references, of_job, suite, watched=True)
        plan.applied.set_strength(0)
        with shared_images(settings.cache_dir, base_folder, plan.base_key) as kept[BASE]:
            made = generate(plan.pipeline, plan.base_jobs, settings, kept[BASE], progress, text=plan.text)
            sides[BASE] = measure_arm(made, references, of_job, suite)
        curve = {0.0: sides[BASE], 1.0: sides[MAIN]}
        for value in strengths:
            plan.applied.set_strength(value)
            strong = ImageFolder(folder / "images" / f"strength_{value:g}", f"{plan.key} at {value:g}")
            made = generate(plan.pipeline, jobs, settings, strong, progress, text=plan.text)
            curve[value] = measure_arm(made, references, of_job, suite)
        plan.applied.set_strength(1.0)
    return _Arms(targets, references, sides, kept, curve)


def _sets(suite: MetricSuite, sides: dict[str, Arm], references: Sequence[Picture]) -> dict[str, float]:
    """The metrics of whole sets, of the LoRA, of the base, and what is gained; where one of both could not be measured nothing."""
    targets = _stacked(references)
    lora, base = (suite.measure_sets(sides[who].embeddings, targets) for who in (MAIN, BASE))
    found: dict[str, float] = {}
    for name in (name for name in lora if name in base):
        gain = base[name] - lora[name] if better(name) == "lower" else lora[name] - base[name]
        found |= {name: lora[name], f"base_{name}": base[name], f"gain_{name}": gain}
    return found


def _three(sets: dict[str, float], name: str) -> dict[str, float] | None:
    return {key: sets[key] for key in (name, f"base_{name}", f"gain_{name}")} if name in sets else None


def _stacked(pictures: Sequence[Picture]) -> torch.Tensor | None:
    found = [picture.embedding for picture in pictures if picture.embedding is not None]
    return torch.stack(found) if found else None


def _memorisation(plan: Plan, arms: _Arms) -> tuple[list[str], Figure]:
    """Add the nearness to training images to both tables; each LoRA image's nearest training image, and a picture of the nearest pairs."""
    embeddings = []
    with bar("embed training images", len(plan.training)) as progress:
        for item in plan.training:
            embeddings.append(plan.suite.embed([load_picture(item.path)])[0])
            progress.advance()
    found: dict[str, tuple[list[float], list[int]]] = {}
    for who, side in arms.of_side.items():
        assert side.embeddings is not None
        found[who] = nearest(side.embeddings, torch.stack(embeddings))
        side.table[NEAREST] = found[who][0]
    values, places = found[MAIN]

    def draw(path: Path) -> None:
        order = sorted(range(len(values)), key=lambda index: -values[index])[:_MEMORISED]
        rows = [
            (
                f"{values[i]:.3f}: {plan.training[places[i]].name}",
                [load_picture(plan.training[places[i]].path), _made(arms.kept[MAIN], plan.jobs[i])],
            )
            for i in order
        ]
        save_picture(path, comparison_grid(rows, ["training image", MAIN]))

    names = [plan.training[place].name for place in places]
    return names, Figure("Nearest to a training image", "memorisation.png", draw)


def _made(kept: ImageFolder, job: Job) -> Image.Image:
    picture = kept.load(job)
    assert picture is not None
    return picture
