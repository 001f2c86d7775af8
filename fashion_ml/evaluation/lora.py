"""Evaluation of a trained LoRA: generate with it and without it on the same prompts and seeds, measure both, say what came out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from PIL import Image

from fashion_ml.config import LoraExperiment
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.images import CaptionedImage, fit, load_picture
from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import (
    Comparison,
    compare,
    headline,
    intervals,
    metrics_of,
    sentence,
    to_dict,
)
from fashion_ml.evaluation.artifacts import Pairs, ReportContent, log_files, log_metric_runs
from fashion_ml.evaluation.figures import comparison_grid, save_curves, save_picture
from fashion_ml.evaluation.fingerprint import evaluation_facts, fingerprint
from fashion_ml.evaluation.generate import ImageFolder, Job, generate, generation_key, jobs_of
from fashion_ml.evaluation.measure import Arm, MetricSuite, measure_arm
from fashion_ml.metrics.nearest import nearest
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import LOSSES, METRICS, NEAREST, better
from fashion_ml.models.kohya_format import load_lora, model_hash, spec_of
from fashion_ml.models.lora import add_lora
from fashion_ml.models.stable_diffusion import SAMPLER, find_base, load_pipeline, quiet_libraries, vae_factor
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.redact import first_line
from fashion_ml.tracking.run import TrackedRun

MAIN, BASE = "LoRA", "base"
_MEMORISED = 4
_OF_SETS = tuple(metric.name for metric in METRICS if metric.of_sets is not None)


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one evaluation and what identifies them."""

    run_id: str
    fingerprint: str
    scores: dict[str, Comparison]
    sets: dict[str, float]
    """Metrics of the whole sets of images: `kid`, `base_kid` and `gain_kid`; empty when not measured."""
    sentence: str
    references: int
    images: int
    """Generated images of the LoRA; the base made as many."""
    seen_in_training: bool
    """The references were the training images."""

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow, and the distances of the sets."""
        return {**headline(self.scores), **self.sets}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run_id": self.run_id,
            "fingerprint": self.fingerprint,
            "sentence": self.sentence,
            "references": self.references,
            "images": self.images,
            "references_seen_in_training": self.seen_in_training,
            "metrics": to_dict(self.scores),
            **{name: _three(self.sets, name) for name in _OF_SETS},
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
    jobs: list[Job]
    sizes: list[tuple[int, int]]
    facts: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of the facts."""
        return fingerprint(self.facts)

    @property
    def key(self) -> str:
        """What decides the LoRA's images; the file's dates and ids do not."""
        return generation_key(self.jobs, self.config.evaluation, f"{self._base} + {model_hash(self.lora.read_bytes())}")

    @property
    def base_key(self) -> str:
        """What decides the base's images."""
        return generation_key(self.jobs, self.config.evaluation, self._base)

    @property
    def _base(self) -> str:
        return f"{base_identity(self.config.model.base)} {self.config.model.prediction_type}"


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
    sizes = image_sizes([reference.size for reference in references], **config.data.bucketing(vae_factor(pipeline)))
    _load_lora(pipeline, lora)
    facts = evaluation_facts(settings, references, suite, sizes, SAMPLER, pipeline.scheduler.config)
    kept = training if suite.measures(NEAREST) else ()
    return Plan(config, lora, references, kept, suite, pipeline, jobs_of(references, settings, sizes), sizes, facts)


def evaluate_lora(plan: Plan, run: TrackedRun, folder: Path, base_folder: Path) -> EvaluationResult:
    """Measure the LoRA against the base; files go to `folder`, the base's images to `base_folder`, everything to `run`.

    Images that an evaluation with the same weights, prompts and seeds left in these folders are used again. With `evaluation.cache_dir` the
    base's lie there, and of several processes one makes them.
    """
    config, suite, jobs, settings = plan.config, plan.suite, plan.jobs, plan.config.evaluation
    run.set_tags(_encoder_tags(plan))
    run.log_params({f"eval_settings.{key}": _shown(value) for key, value in plan.facts.items() if key != "weights"})

    targets = [fit(load_picture(item.path), size) for item, size in zip(plan.references, plan.sizes, strict=True)]
    references = suite.look_at(targets, keep=True)
    of_job = [job.reference for job in jobs]
    kept, sides = {MAIN: ImageFolder(folder / "images" / "lora", plan.key)}, {}
    strengths = [value for value in settings.strengths if value not in (0, 1)]
    with bar("generate images", (2 + len(strengths)) * len(jobs)) as progress:
        made = generate(plan.pipeline, jobs, settings, kept[MAIN], progress)
        sides[MAIN] = measure_arm(made, references, of_job, suite, watched=True)
        plan.pipeline.disable_lora()
        with _base_images(plan, base_folder) as kept[BASE]:
            made = generate(plan.pipeline, jobs, settings, kept[BASE], progress)
            sides[BASE] = measure_arm(made, references, of_job, suite)
        plan.pipeline.enable_lora()
        curve = {0.0: sides[BASE], 1.0: sides[MAIN]}
        for value in strengths:
            set_strength(plan.pipeline, value)
            strong = ImageFolder(folder / "images" / f"strength_{value:g}", f"{plan.key} at {value:g}")
            curve[value] = measure_arm(generate(plan.pipeline, jobs, settings, strong, progress), references, of_job, suite)
        set_strength(plan.pipeline, 1.0)

    names = [plan.references[index].name for index in of_job]
    extra: dict[str, list[Any]] = {"seed": [str(job.seed) for job in jobs]}
    pictures: dict[str, Path] = {}
    if plan.training:
        extra["nearest_training_image"] = _memorisation(plan, sides, kept[MAIN], folder, pictures)
    scores = compare(sides[BASE].table, sides[MAIN].table, names, resamples=settings.resamples)
    seen = settings.references is None
    text = sentence(scores) + (" The references were the training images, so this is optimistic." if seen else "")
    result = EvaluationResult(
        run.run_id, plan.fingerprint, scores, _sets(suite, sides, references), text, len(targets), len(jobs), seen
    )
    if settings.strengths:
        _strengths(run, {value: curve[value] for value in sorted(settings.strengths)}, names, folder, pictures)

    pairs = Pairs(
        tables={who: side.table for who, side in sides.items()},
        references=names,
        captions=[job.prompt for job in jobs],
        reference_of=lambda index: targets[of_job[index]],
        picture_of=lambda who, index: _made(kept[who], jobs[index]),
        extra=extra,
    )
    histograms = log_metric_runs(run, pairs, folder)
    run.log_metrics({**result.headline(), **intervals(scores)})
    title = f"Evaluation of {config.output.output_name} on {config.model.base}"
    rows = [(name, better(name), _cells(score)) for name, score in scores.items()]
    rows += [
        (name, better(name), [f"{result.sets[key]:.4f}" for key in (f"base_{name}", name, f"gain_{name}")])
        for name in _OF_SETS
        if name in result.sets
    ]
    verdict = ReportContent(
        title, text, result.fingerprint, plan.facts, rows, (BASE, MAIN, "gain"), result.to_dict(), pictures=pictures
    )
    log_files(run, pairs, verdict, histograms, folder)
    for who, name in ((MAIN, "images/lora"), (BASE, "images/base")):
        log_images(run, kept[who], name)
    run.set_tags({"mlflow.note.content": text})
    return result


@contextmanager
def _base_images(plan: Plan, own: Path) -> Iterator[ImageFolder]:
    """The folder of the base's images: the run's own, or the shared one, for this process alone while it fills it."""
    shared = plan.config.evaluation.cache_dir
    if shared is None:
        yield ImageFolder(own, plan.base_key)
        return
    folder = Path(shared).expanduser() / f"base_{plan.base_key[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        yield ImageFolder(folder, plan.base_key)


def device_of_evaluation() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def log_images(run: TrackedRun, kept: ImageFolder, name: str) -> None:
    """The images of a folder as artifacts below `name`."""
    for path in kept.files():
        below = path.parent.relative_to(kept.folder)
        run.log_file(path, name if below == Path() else f"{name}/{below.as_posix()}")


def set_strength(pipeline: Any, strength: float) -> None:
    """Scale the update of every LoRA layer; 0 is the base, 1 the LoRA as it was trained."""
    for model in (pipeline.unet, pipeline.text_encoder):
        for module in model.modules():
            if hasattr(module, "set_scale") and hasattr(module, "lora_A"):
                for adapter in module.lora_A:
                    module.set_scale(adapter, strength)


@lru_cache(maxsize=8)
def base_identity(base: str) -> str:
    """What tells one base from another without reading gigabytes: its name, and sizes and times of its weight files."""
    path = Path(find_base(base))
    if not path.exists():
        return base
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    found = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return f"{base} {hashlib.sha256(' '.join(found).encode()).hexdigest()}"


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


def _memorisation(plan: Plan, sides: dict[str, Arm], kept: ImageFolder, folder: Path, pictures: dict[str, Path]) -> list[str]:
    """Add the nearness to training images to both tables, draw the nearest pairs, return each LoRA image's nearest training image."""
    embeddings = []
    with bar("embed training images", len(plan.training)) as progress:
        for item in plan.training:
            embeddings.append(plan.suite.embed([load_picture(item.path)])[0])
            progress.advance()
    names: list[str] = []
    for who, side in sides.items():
        assert side.embeddings is not None
        values, places = nearest(side.embeddings, torch.stack(embeddings))
        side.table[NEAREST] = values
        if who == MAIN:
            names = [plan.training[place].name for place in places]
            order = sorted(range(len(values)), key=lambda index: -values[index])[:_MEMORISED]
            rows = [
                (
                    f"{values[i]:.3f}: {plan.training[places[i]].name}",
                    [load_picture(plan.training[places[i]].path), _made(kept, plan.jobs[i])],
                )
                for i in order
            ]
            pictures["Nearest to a training image"] = folder / "memorisation.png"
            save_picture(folder / "memorisation.png", comparison_grid(rows, ["training image", MAIN]))
    return names


def _strengths(run: TrackedRun, curve: dict[float, Arm], names: Sequence[str], folder: Path, pictures: dict[str, Path]) -> None:
    """Means by LoRA strength: `strength/<metric>` with step = 100 x strength, and a picture."""
    lines: dict[str, list[float]] = {}
    for value, side in curve.items():
        means = {metric: side.table[metric].groupby(list(names)).mean().mean() for metric in metrics_of(side.table)}
        run.log_metrics({f"strength/{metric}": float(mean) for metric, mean in means.items()}, step=round(100 * value))
        for metric in LOSSES:
            if metric in means:
                lines.setdefault(metric, []).append(float(means[metric]))
    pictures["LoRA strength"] = folder / "strength_curve.png"
    save_curves(folder / "strength_curve.png", list(curve), "LoRA strength", lines)


def _load_lora(pipeline: Any, path: Path) -> None:
    """The LoRA file on the pipeline: through diffusers, as users load it, but for DoRA, whose magnitudes diffusers leaves out."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        if any(name.endswith(".dora_scale") for name in tensors):
            spec = spec_of(tensors)
            add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=0)
            load_lora(path, pipeline.unet, pipeline.text_encoder, spec)
            return
        with quiet_libraries():
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"lora: {str(path)!r} does not fit this base ({first_line(error)}); use a LoRA trained on it"
        ) from error


def _made(kept: ImageFolder, job: Job) -> Image.Image:
    picture = kept.load(job)
    assert picture is not None
    return picture


def _cells(score: Comparison) -> list[str]:
    return [
        "" if side is None else shown(asdict(side), "+" if side is score.gain else "")
        for side in (score.base, score.lora, score.gain)
    ]


def shown(interval: dict[str, float | None], sign: str = "") -> str:
    """A mean with its interval, N/A where one reference gives none."""
    ends = "N/A" if interval["low"] is None else f"{interval['low']:{sign}.4f}, {interval['high']:{sign}.4f}"
    return f"{interval['mean']:{sign}.4f} [{ends}]"


def _encoder_tags(plan: Plan) -> dict[str, str]:
    encoder = plan.suite.encoder
    tags = {"encoder": encoder.name, "encoder_sha256": encoder.weights_sha256} if encoder else {"encoder": "left out"}
    return {"eval_fingerprint": plan.fingerprint, **tags}


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
