"""Evaluation of a trained LoRA: generate with and without it, measure, and log the tree evaluation -> ssim, fashion_clip, color."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from fashion_ml.checkpoint import atomic_path, write_text
from fashion_ml.config import LoraExperiment
from fashion_ml.data.captioned_images import CaptionedImage, fit_square, load_picture
from fashion_ml.errors import InputError
from fashion_ml.evaluation.fingerprint import evaluation_facts, fingerprint
from fashion_ml.evaluation.generate import generate, image_seed
from fashion_ml.evaluation.pictures import comparison_grid, save_histogram
from fashion_ml.evaluation.scores import Comparison, as_dict, compare, headline, intervals, score_pairs, sentence
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.models.lora import add_lora, load_lora, spec_of
from fashion_ml.models.stable_diffusion import load_pipeline, quiet_libraries
from fashion_ml.progress import bar
from fashion_ml.tracking import TrackedRun, open_run

METRIC_RUNS = {
    "ssim": ("ssim", "visual_loss"),
    "fashion_clip": ("fashion_similarity", "fashion_clip_loss"),
    "color": ("color_correlation", "color_loss"),
}
"""The metric runs and what each holds per image."""
_GRID_ROWS = 8


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one evaluation and what identifies them."""

    run_id: str
    fingerprint: str
    scores: dict[str, Comparison]
    sentence: str
    references: int
    images: int
    """Generated images of the LoRA; the base made as many."""
    seen_in_training: bool
    """The references were the training images."""


def evaluate_lora(
    config: LoraExperiment,
    lora: Path,
    references: Sequence[CaptionedImage],
    encoder: FashionClip,
    run: TrackedRun,
    folder: Path,
    device: str,
) -> EvaluationResult:
    """Measure the LoRA file against the base on the same prompts and seeds; files go to `folder`, everything else to `run`."""
    settings, resolution = config.evaluation, config.data.resolution
    pipeline = load_pipeline(config.model.base, device, prediction_type=config.model.prediction_type)
    facts = evaluation_facts(settings, references, encoder, resolution, type(pipeline.scheduler).__name__)
    mark = fingerprint(facts)
    run.set_tags({"eval_fingerprint": mark, "encoder": encoder.name, "encoder_sha256": encoder.weights_sha256})
    run.log_params({f"eval_settings.{key}": _shown(value) for key, value in facts.items() if key != "weights"})

    _load_lora(pipeline, lora)
    with bar("generate images", 2 * len(references) * settings.images_per_reference) as progress:
        painted = {"lora": generate(pipeline, references, settings, resolution, progress)}
        pipeline.disable_lora()
        painted["base"] = generate(pipeline, references, settings, resolution, progress)
    targets = [fit_square(load_picture(item.path), resolution) for item in references]

    repeated = [target for target in targets for _ in range(settings.images_per_reference)]
    names = [item.name for item in references for _ in range(settings.images_per_reference)]
    weights = settings.weights.model_dump()
    tables = {who: score_pairs(pictures, repeated, encoder, weights) for who, pictures in painted.items()}
    scores = compare(tables["base"], tables["lora"], names, resamples=settings.resamples)
    seen = settings.references is None
    text = sentence(scores) + (" The references were the training images, so this is optimistic." if seen else "")
    result = EvaluationResult(run.run_id, mark, scores, text, len(references), len(names), seen)

    _log_metric_runs(run, tables, names, folder)
    run.log_metrics({**headline(scores), **intervals(scores)})
    _log_files(run, result, facts, references, targets, painted, tables, names, settings.seed, folder)
    run.set_tags({"mlflow.note.content": text})
    return result


def device_of_evaluation() -> str:
    """`cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"lora: {str(path)!r} does not fit this base ({reason}); use a LoRA trained on it") from error


def _log_metric_runs(run: TrackedRun, tables: dict[str, pd.DataFrame], names: Sequence[str], folder: Path) -> None:
    """One child for each metric, with the value of every image (step = image index), a table and a histogram."""
    for name, metrics in METRIC_RUNS.items():
        with open_run(name, {"kind": "metric", "metric": name}, parent=run) as child:
            table = pd.DataFrame({"image": range(len(names)), "reference": names})
            for metric in metrics:
                table[metric], table[f"base_{metric}"] = tables["lora"][metric], tables["base"][metric]
            for index, row in enumerate(table.drop(columns=["image", "reference"]).to_dict("records")):
                child.log_metrics(row, step=index)
            child.log_table(table, "per_image.json")
            histogram = folder / f"histogram_{name}.png"
            save_histogram(histogram, metrics[0], tables["base"][metrics[0]], tables["lora"][metrics[0]])
            child.log_file(histogram)


def _log_files(
    run: TrackedRun,
    result: EvaluationResult,
    facts: dict[str, Any],
    references: Sequence[CaptionedImage],
    targets: Sequence[Image.Image],
    painted: dict[str, list[Image.Image]],
    tables: dict[str, pd.DataFrame],
    names: Sequence[str],
    seed: int,
    folder: Path,
) -> None:
    """Grid, images, table, fingerprint and report, under the same names in every run."""
    step = result.images // len(references)
    chosen = range(0, min(len(references), _GRID_ROWS))
    grid = comparison_grid(
        [(references[i].caption, targets[i], painted["base"][i * step], painted["lora"][i * step]) for i in chosen]
    )
    with atomic_path(folder / "grid.png") as temporary:
        grid.save(temporary, format="png")
    file_names = _file_names(names)
    for who, pictures in painted.items():
        for index, picture in enumerate(pictures):
            with atomic_path(folder / "images" / who / f"{file_names[names[index]]}_{index % step}.png") as temporary:
                picture.save(temporary, format="png")
    seeds = [image_seed(seed, name, index % step) for index, name in enumerate(names)]
    captions = [reference.caption for reference in references for _ in range(step)]
    table = pd.DataFrame({"reference": names, "caption": captions, "seed": [str(value) for value in seeds]})
    for who, prefix in (("lora", ""), ("base", "base_")):
        table = table.join(tables[who].add_prefix(prefix))
    write_text(folder / "per_image.csv", table.to_csv(index=False))
    write_text(folder / "fingerprint.json", json.dumps({"fingerprint": result.fingerprint, **facts}, indent=2) + "\n")
    report = {
        "sentence": result.sentence,
        "fingerprint": result.fingerprint,
        "references": result.references,
        "images": result.images,
        "references_seen_in_training": result.seen_in_training,
        "metrics": as_dict(result.scores),
    }
    write_text(folder / "evaluation_report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    for name in ("grid.png", "per_image.csv", "fingerprint.json", "evaluation_report.json", "images"):
        run.log_file(folder / name)
    run.log_table(table, "per_image.json")


def _file_names(references: Sequence[str]) -> dict[str, str]:
    """Each reference's name without its ending, or with it where another reference differs by nothing else."""
    short = {name: str(Path(name).with_suffix("")) for name in references}
    shared = Counter(short.values())
    return {name: stem if shared[stem] == 1 else name for name, stem in short.items()}


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
