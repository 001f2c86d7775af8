"""Evaluation of a trained LoRA: generate with it and without it on the same prompts and seeds, measure both, say what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.data.pictures import fit, load_picture
from fashion_ml.evaluation.aggregate import (
    COMPARISON_HEADS,
    Comparison,
    compare,
    comparison_rows,
    ends,
    headline,
    intervals,
    shown,
    summary,
    to_dict,
)
from fashion_ml.evaluation.artifacts import FREE, Figure, Pairs, ReportContent
from fashion_ml.evaluation.controls import Controls, losses_of, others_of, parts_of_gain
from fashion_ml.evaluation.findings import of_lora
from fashion_ml.evaluation.fingerprint import fingerprint
from fashion_ml.evaluation.free_prompts import BASE, MAIN, FreePlan, FreePrompts, embed_batches, measure_free
from fashion_ml.evaluation.generate import ImageFolder, Job, generate, shared_images
from fashion_ml.evaluation.html_report import READERS
from fashion_ml.evaluation.leakage import Leakage
from fashion_ml.evaluation.lora_plan import Plan
from fashion_ml.evaluation.measure import Arm, measure_arm
from fashion_ml.evaluation.memorisation import Memorisation, draw_nearest, embed_training, measure_memorisation
from fashion_ml.evaluation.obedience import Asked, held_to_dict, measure_obedience
from fashion_ml.evaluation.ruler import RealPictures, Ruler, lay_ruler, stacked, with_sides
from fashion_ml.evaluation.sets import OF_SETS, measure_sets
from fashion_ml.evaluation.strengths import draw_strengths, means_of
from fashion_ml.evaluation.three_lines import in_every_language, over_the_grid
from fashion_ml.evaluation.toy import known_to_read
from fashion_ml.evaluation.verdicts import PARTS, PRIMARY, Verdict
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.registry import DIVERSITY_SEEDS, NEAREST, PROMPT_RETRIEVAL, PROMPT_SIMILARITY, better
from fashion_ml.models.families.known import family_of
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.models.lora_forms import readers_of
from fashion_ml.runtime.console import Bar, bar
from fashion_ml.runtime.gpu_memory import fits_into_memory, free_memory
from fashion_ml.runtime.language import Language, language, tr

_OBEYS = (PROMPT_SIMILARITY, PROMPT_RETRIEVAL, DIVERSITY_SEEDS)


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one evaluation of a LoRA and what identifies them."""

    title: str
    facts: Mapping[str, Any]
    """Everything but the model that the scores depend on."""
    pairs: Pairs
    scores: dict[str, Comparison]
    sets: dict[str, Interval]
    """Metrics of the whole sets of images: `kid`, `base_kid` and `gain_kid`; empty when not measured."""
    ruler: Ruler
    """What other real pictures, a flat colour and noise get, where the LoRA stands between base and real, and whether the encoder can read."""
    leakage: Leakage
    """Which references were trained on."""
    memorisation: Memorisation | None
    """What nearness to training images is measured by; None where it was not measured."""
    lines: Mapping[Language, str]
    """What came out, in three lines, by language."""
    references: int
    images: int
    """Generated images of the LoRA; the base made as many."""
    generated: Mapping[str, ImageFolder]
    """The images, by side: `LoRA` and `base`."""
    seen: str = ""
    """What the grid shows, in words; empty where there is no verdict."""
    free: FreePrompts | None = None
    """Of prompts that no reference is for; None where there were none (`evaluation.prompts`)."""
    held_against: Mapping[str, Interval] = field(default_factory=dict)
    """What real pictures and chance get, by name in MLflow: `reference_prompt_similarity`, `prompt_retrieval_chance`, …"""
    curve: Mapping[float, Mapping[str, float]] = field(default_factory=dict)
    """Means by LoRA strength; empty when no other strength was asked for."""
    figures: Sequence[Figure] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    """Rank, rate and steps of the file's training, as far as it says so."""
    run_id: str = ""
    """The MLflow run that it was logged to; empty when it was not."""
    folder: Path | None = None
    """Where its files are; None before they are written."""

    @property
    def sentence(self) -> str:
        """The lines in the language of this run."""
        return self.lines[language()]

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        return fingerprint(self.facts)

    @property
    def verdict(self) -> Verdict:
        """On the primary metric; without an encoder on the first of its parts that was measured."""
        return next((self.scores[name].verdict for name in (PRIMARY, *PARTS) if name in self.scores), "")

    @property
    def table(self) -> pd.DataFrame:
        """One row for each reference and seed: the LoRA's scores, the base's as `base_…`."""
        return self.pairs.columns()

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow, and the distances of the sets."""
        beside = (*self.sets.items(), *self.held_against.items())
        free = self.free.headline() if self.free else {}
        return {**headline(self.scores), **{name: interval.mean for name, interval in beside}, **free}

    def ends(self) -> dict[str, float]:
        """The ends of the intervals by their names in MLflow; empty below 6 references."""
        free = self.free.ends() if self.free else {}
        return {**intervals(self.scores), **ends([*self.sets.items(), *self.held_against.items()]), **free}

    def beside(self) -> dict[str, float]:
        """Numbers of this evaluation alone by their names in MLflow: the ruler, the encoder's check, what memorisation is measured by."""
        return {**self.ruler.named(), **(self.memorisation.named() if self.memorisation else {})}

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Of each loss the gain on its own references, on others, and what is specific: `parts_of_gain`."""
        return parts_of_gain(self.scores, self.facts["weights"] or {})

    def content(self) -> ReportContent:
        """What the reports say."""
        rows = comparison_rows(self.pairs.tables[MAIN], self.scores, self.pairs.references)
        rows += [
            (
                name,
                better(name),
                [shown(self.sets[f"base_{name}"]), shown(self.sets[name]), shown(self.sets[f"gain_{name}"], "+")],
            )
            for name in OF_SETS
            if name in self.sets
        ]
        rows += self.free.rows() if self.free else []
        tables = {FREE: self.free.table} if self.free else {}
        heads, images = COMPARISON_HEADS, len(self.pairs.references)
        told = summary(self.scores, self.fingerprint, self.sentence, self.references, images)
        told |= {"obeys": to_dict({name: self.scores[name] for name in _OBEYS if name in self.scores}), **self._obeys()}
        return ReportContent(
            self.title,
            self.sentence,
            self.fingerprint,
            self.facts,
            rows,
            heads,
            self.to_dict(),
            self.figures,
            told,
            self.about,
            tables,
            self.seen,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `run_id` where it was logged."""
        return {
            **({"run_id": self.run_id} if self.run_id else {}),
            "fingerprint": self.fingerprint,
            "sentence": self.sentence,
            "lines": dict(self.lines),
            "references": self.references,
            "images": self.images,
            "references_seen_in_training": self.leakage.seen,
            "leakage": self.leakage.to_dict(),
            "metrics": to_dict(self.scores),
            **{name: _of_set(self.sets, name) for name in OF_SETS},
            "parts": self.parts,
            "ruler": self.ruler.to_dict(),
            "memorisation": self.memorisation.to_dict() if self.memorisation else None,
            **self._obeys(),
        }

    def _obeys(self) -> dict[str, Any]:
        """What the prompts' and the seeds' numbers are held against, and free prompts."""
        free = self.free.to_dict() if self.free else None
        return {"held_against": held_to_dict(self.held_against), "free_prompts": free}


@dataclass(frozen=True)
class _Arms:
    """Both sides, measured, and what they are compared with."""

    targets: list[Image.Image]
    real: RealPictures
    of_side: dict[str, Arm]
    kept: dict[str, ImageFolder]
    of_strength: dict[float, Arm]
    free: FreePrompts | None

    @property
    def all(self) -> list[Arm]:
        """Every arm once; those of strength 0 and 1 are the sides."""
        return [*self.of_side.values(), *(arm for value, arm in self.of_strength.items() if value not in (0, 1))]


def measure_lora(plan: Plan, folder: Path, base_folder: Path) -> EvaluationResult:
    """Measure the LoRA against the base; the LoRA's images go to `folder`, the base's to `base_folder`.

    Images that an evaluation with the same weights, prompts and seeds left in these folders are used again. With `evaluation.cache_dir` the
    base's lie there, and of several processes one makes them. The GPU's memory is free afterwards; InputError where one image does not fit.
    """
    try:
        with fits_into_memory(
            tr("measuring images"), "evaluation.encoder", plan.config.evaluation.encoder, tr("use a smaller one")
        ):
            return _measured(plan, _generate_and_measure(plan, folder, base_folder))
    finally:
        plan.suite.leave_gpu()
        for part in family_of(plan.pipeline).models:  # the result's pictures know the plan
            model = getattr(plan.pipeline, part)
            model.to(
                "meta" if plan.shared else "cpu"
            )  # where a training goes on with the weights they are not brought anywhere
        free_memory()


def _measured(plan: Plan, arms: _Arms) -> EvaluationResult:
    """What all images together say."""
    settings, jobs = plan.config.evaluation, plan.jobs
    names = [plan.references[job.reference].name for job in jobs]
    extra: dict[str, list[Any]] = {"seed": [str(job.seed) for job in jobs]}
    figures: list[Figure] = []
    embedded, memorisation = stacked(arms.real.references), None
    asked = Asked(names, [job.reference for job in jobs], plan.wording.plain)
    held = measure_obedience(arms.all, asked, embedded, plan.suite, settings.resamples)
    if plan.training and plan.suite.measures(NEAREST):
        memorisation, extra["nearest_training_image"], figure = _memorised(plan, arms, embedded)
        figures.append(figure)
    if arms.free:
        figures.append(Figure(tr("Free prompts, base and LoRA"), "free_prompts.png", arms.free.draw))
    of_sides = {who.lower(): means_of(side.table, names) for who, side in arms.of_side.items()}
    curve = {value: means_of(arms.of_strength[value].table, names) for value in sorted(settings.strengths)}
    if curve:
        figures.append(Figure(tr("LoRA strength"), "strength_curve.png", partial(draw_strengths, curve, of_sides[BASE])))
    ruler = with_sides(lay_ruler(arms.real, plan.suite, known=known_to_read(settings, plan.facts)), of_sides)
    base, lora = (arms.of_side[who].table for who in (BASE, MAIN))
    scores = compare(base, lora, names, resamples=settings.resamples, no_verdict=ruler.no_verdict())
    told = of_lora(scores, held, plan.facts, ruler=ruler, leakage=plan.leakage, references=len(arms.targets), free=arms.free)
    return EvaluationResult(
        title=tr(
            "Evaluation of {output_name} on {base}", output_name=plan.config.output.output_name, base=plan.config.model.base
        ),
        facts=plan.facts,
        pairs=Pairs(
            tables={who: side.table for who, side in arms.of_side.items()},
            references=names,
            captions=[job.prompt for job in jobs],
            reference_of=lambda index: arms.targets[jobs[index].reference],
            picture_of=lambda who, index: _made(arms.kept[who], jobs[index]),
            extra=extra,
        ),
        scores=scores,
        sets=_sets(plan, arms, embedded),
        lines=in_every_language(told),
        seen=over_the_grid(told, language()),
        references=len(arms.targets),
        images=len(jobs),
        ruler=ruler,
        leakage=plan.leakage,
        memorisation=memorisation,
        generated=arms.kept,
        free=arms.free,
        held_against=held,
        curve=curve,
        figures=figures,
        about=_about(plan),
    )


def _generate_and_measure(plan: Plan, folder: Path, base_folder: Path) -> _Arms:
    """Every image of the LoRA, of the base and of the other strengths, measured as they come."""
    suite, jobs, settings = plan.suite, plan.jobs, plan.config.evaluation
    targets = [fit(load_picture(item.path), size) for item, size in zip(plan.references, plan.sizes, strict=True)]
    references = suite.look_at(targets, keep=True)
    of_job = [job.reference for job in jobs]
    real = RealPictures(references, plan.training, plan.leakage.groups)
    controls = None
    if settings.rotations:
        others = others_of(len(references), settings.rotations, real.of_references)
        controls = Controls(references, others, losses_of(suite))
    kept, sides = {MAIN: ImageFolder(folder / "images" / "lora", plan.key)}, dict[str, Arm]()
    strengths = [value for value in settings.strengths if value not in (0, 1)]
    count = (2 + len(strengths)) * len(jobs) + (2 * len(plan.free.jobs) if plan.free else 0)
    with bar(tr("generate images"), count) as progress:
        made = generate(plan.pipeline, jobs, settings, kept[MAIN], progress, text=plan.text)
        sides[MAIN] = measure_arm(made, references, of_job, suite, watched=True, controls=controls)
        plan.applied.set_strength(0)
        with shared_images(settings.cache_dir, base_folder, plan.base_key) as kept[BASE]:
            made = generate(plan.pipeline, plan.base_jobs, settings, kept[BASE], progress, text=plan.text)
            sides[BASE] = measure_arm(made, references, of_job, suite, controls=controls)
        curve = {0.0: sides[BASE], 1.0: sides[MAIN]}
        for value in strengths:
            plan.applied.set_strength(value)
            strong = ImageFolder(folder / "images" / f"strength_{value:g}", f"{plan.key} at {value:g}")
            made = generate(plan.pipeline, jobs, settings, strong, progress, text=plan.text)
            curve[value] = measure_arm(made, references, of_job, suite)
        plan.applied.set_strength(1.0)
        embedded = stacked(references)
        free = _free(plan, plan.free, embedded, folder, base_folder, progress) if plan.free and embedded is not None else None
    return _Arms(targets, real, sides, kept, curve, free)


def _free(plan: Plan, free: FreePlan, references: torch.Tensor, folder: Path, base_folder: Path, progress: Bar) -> FreePrompts:
    """The images of the free prompts by the LoRA and by the base, kept as the others are, and what came out."""
    settings, count = plan.config.evaluation, len(free.jobs)
    kept = {MAIN: ImageFolder(folder / "images" / "free_lora", plan.key_of(free.jobs, MAIN))}
    made = generate(plan.pipeline, free.jobs, settings, kept[MAIN], progress, text=plan.text)
    embeddings = {MAIN: embed_batches(made, plan.suite, count)}
    plan.applied.set_strength(0)
    own, key = base_folder.with_name(f"{base_folder.name}_free"), plan.key_of(free.base_jobs, BASE)
    with shared_images(settings.cache_dir, own, key, "free") as kept[BASE]:
        made = generate(plan.pipeline, free.base_jobs, settings, kept[BASE], progress, text=plan.text)
        embeddings[BASE] = embed_batches(made, plan.suite, count)
    plan.applied.set_strength(1.0)
    return measure_free(free, embeddings, references, plan.suite, kept, settings.resamples)


def _sets(plan: Plan, arms: _Arms, references: torch.Tensor | None) -> dict[str, Interval]:
    sides = {who: arms.of_side[who].embeddings for who in (MAIN, BASE)}
    made_of, captions = [job.reference for job in plan.jobs], [reference.caption for reference in plan.references]
    return measure_sets(plan.suite, sides, references, made_of, captions, plan.config.evaluation.resamples)


def _memorised(plan: Plan, arms: _Arms, references: torch.Tensor | None) -> tuple[Memorisation, list[str], Figure]:
    """Add the nearness to training images to both tables; each LoRA image's nearest training image, and a picture of the nearest pairs."""
    embeddings = {who: side.embeddings for who, side in arms.of_side.items() if side.embeddings is not None}
    assert references is not None
    tables = {who: side.table for who, side in arms.of_side.items()}
    held_out = plan.leakage.held_out(len(plan.references))
    found, places = measure_memorisation(tables, embeddings, embed_training(plan.training, plan.suite), references, held_out)
    nearest_ = [plan.training[place] for place in places]
    draw = partial(
        draw_nearest, tables[MAIN][NEAREST].tolist(), nearest_, lambda index: _made(arms.kept[MAIN], plan.jobs[index]), MAIN
    )
    return found, [item.name for item in nearest_], Figure(tr("Nearest to a training image"), "memorisation.png", draw)


def _of_set(sets: Mapping[str, Interval], name: str) -> dict[str, Any] | None:
    return {key: vars(sets[key]) for key in (name, f"base_{name}", f"gain_{name}")} if name in sets else None


def _made(kept: ImageFolder, job: Job) -> Image.Image:
    picture = kept.load(job)
    assert picture is not None
    return picture


def _about(plan: Plan) -> dict[str, str]:
    """The base, what a LoRA file says of its training, by kohya's names, and who reads it as it was measured, where not every program does."""
    said = read_metadata(plan.lora) if plan.lora.suffix == ".safetensors" else {}
    names = {"rank": "ss_network_dim", "rate": "ss_learning_rate", "steps": "ss_steps"}
    readers = {READERS: " ".join(lines)} if (lines := readers_of(plan.applied.methods)) else {}
    told = {name: said[key] for name, key in names.items() if said.get(key, "None") != "None"}
    return {"base": plan.config.model.base, **told, **readers}
