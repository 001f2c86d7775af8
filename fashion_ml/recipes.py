"""From a checked experiment to a tracked, evaluated run: check everything, open the run, train, evaluate."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.checkpoint import write_text
from fashion_ml.config import LoraExperiment, flat, to_yaml, validate
from fashion_ml.data.captioned_images import CaptionedImage, data_digest, read_references, read_training_folder
from fashion_ml.embedded.collection import VERSION, write_collection
from fashion_ml.errors import InputError
from fashion_ml.progress import say

if TYPE_CHECKING:
    from fashion_ml.evaluation.evaluate import EvaluationResult
    from fashion_ml.metrics.fashion_clip import FashionClip
    from fashion_ml.tracking import TrackedRun
    from fashion_ml.training.lora import TrainedLora

PACKAGES = ("torch", "diffusers", "peft", "accelerate", "transformers", "mlflow", "open_clip_torch", "scikit-image", "numpy")


@dataclass(frozen=True)
class LoraOutcome:
    """What a LoRA experiment left behind."""

    run_id: str
    experiment_id: str
    folder: Path
    trained: TrainedLora
    evaluation: EvaluationResult | None
    """None when evaluation was switched off: then there are no image metrics anywhere."""

    def facts(self) -> dict[str, Any]:
        """The same facts as printed, for `--json`; not measured is null."""
        return {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "output_dir": str(self.folder),
            "lora": str(self.trained.path),
            "steps": self.trained.total_loss.steps[-1],
            "final_total_loss": self.trained.total_loss.values[-1],
            "training_seconds": self.trained.seconds,
            "trained_parameters": self.trained.parameters,
            "evaluation": evaluation_facts_of(self.evaluation) if self.evaluation else None,
        }


def evaluation_facts_of(result: EvaluationResult) -> dict[str, Any]:
    """An evaluation as plain values."""
    from fashion_ml.evaluation.scores import as_dict

    return {
        "run_id": result.run_id,
        "fingerprint": result.fingerprint,
        "sentence": result.sentence,
        "references": result.references,
        "images": result.images,
        "references_seen_in_training": result.seen_in_training,
        "metrics": as_dict(result.scores),
    }


@dataclass(frozen=True)
class _Inputs:
    items: list[CaptionedImage]
    references: list[CaptionedImage]
    encoder: FashionClip | None


def run_lora(config: LoraExperiment) -> LoraOutcome:
    """Train, and evaluate if that is on. InputError for everything a user can mend, before a run exists where that is possible."""
    from fashion_ml.models.stable_diffusion import check_resolution, load_pipeline
    from fashion_ml.tracking import open_run
    from fashion_ml.training.lora import DTYPES

    config = _with_embedded_data(config)
    device = _training_device(config)
    _check_output(config)
    inputs = _check_inputs(config)
    pipeline = load_pipeline(config.model.base, device, DTYPES[config.training.mixed_precision])
    check_resolution(config.data.resolution, pipeline)
    digest = data_digest(inputs.items)
    tags = {"kind": "train_lora", "algorithm": "lora", "base_model": config.model.base, "data_digest": digest}
    with open_run(config.name, tags, experiment=config.tracking.experiment) as run:
        folder = _run_folder(config, run.run_id)
        say(f"Run {run.run_id}, files in {folder}")
        write_text(folder / "config.yaml", to_yaml(config))
        run.log_params(flat(config))
        run.log_params(_versions())
        run.log_file(folder / "config.yaml")
        run.log_dataset(Path(config.data.train_data_dir), digest, "training", len(inputs.items))
        try:
            trained = _train(config, pipeline, inputs.items, folder, run)
        finally:
            _log_training_files(run, folder)
        del pipeline
        evaluation = None
        if inputs.encoder is not None:
            evaluation = _evaluate(config, trained.path, inputs, inputs.encoder, run, folder)
    return LoraOutcome(run.run_id, run.experiment_id, folder, trained, evaluation)


def run_evaluation(run_id: str, overrides: dict[str, Any], folder: Path | None) -> EvaluationResult:
    """Evaluate the LoRA of a finished training run again, as a new child of it; `overrides` change its evaluation settings."""
    import tempfile

    import yaml

    from fashion_ml.tracking import attach, download, find_run, open_tracking

    client = open_tracking()
    training = find_run(client, run_id)
    if training.data.tags.get("kind") != "train_lora":
        kind = training.data.tags.get("kind", "none")
        raise InputError(f"run_id: run {run_id} is no LoRA training (its tag kind is {kind}); give the id of a training run")
    with tempfile.TemporaryDirectory() as temporary:
        tree = yaml.safe_load(download(client, run_id, "config.yaml", Path(temporary)).read_text(encoding="utf-8"))
        tree["evaluation"] = {**tree["evaluation"], **overrides, "enabled": True}
        config = _with_embedded_data(validate(tree))
        lora = download(client, run_id, f"lora/{config.output.output_name}.safetensors", Path(temporary))
        inputs = _check_inputs(config, training_images=config.evaluation.references is None)
        assert inputs.encoder is not None
        target = folder or Path("outputs") / "evaluations" / run_id
        return _evaluate(config, lora, inputs, inputs.encoder, attach(client, training), target, adopt=True)


def _train(config: LoraExperiment, pipeline: Any, items: list[CaptionedImage], folder: Path, run: TrackedRun) -> TrainedLora:
    import torch

    from fashion_ml.reports.training_report import Series, write_training_report
    from fashion_ml.training.lora import cache_images, train_lora

    def on_log(rows: list[dict[str, float]]) -> None:
        for row in rows:
            run.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))
        run.flush()

    try:
        data = cache_images(pipeline, items, config.data.resolution, config.training.train_batch_size)
        trained = train_lora(config, pipeline, items, data, folder, on_log)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"training.train_batch_size: {config.training.train_batch_size} does not fit into the GPU's memory; lower it and "
            "raise gradient_accumulation_steps, or turn on gradient_checkpointing or mixed_precision bf16"
        ) from error
    series = Series(trained.total_loss.steps, trained.total_loss.values)
    write_training_report(
        folder / "training_logs",
        {"total_loss": series},
        total_steps=config.training.max_train_steps,
        description=f"LoRA rank {config.network.rank} on {config.model.base}, {len(items)} images of {config.data.train_data_dir}",
        now=datetime.now(),
    )
    run.set_tags({"trained_parameters": str(trained.parameters), "training_seconds": f"{trained.seconds:.1f}"})
    return trained


def _log_training_files(run: TrackedRun, folder: Path) -> None:
    """Log and weights as they are, also when training was interrupted."""
    for path in sorted((folder / "training_logs").glob("*")):
        run.log_file(path, "training_logs")
    for path in sorted(folder.glob("*.safetensors")):
        run.log_file(path, "lora")


def _evaluate(
    config: LoraExperiment,
    lora: Path,
    inputs: _Inputs,
    encoder: FashionClip,
    training: TrackedRun,
    folder: Path,
    *,
    adopt: bool = False,
) -> EvaluationResult:
    """The evaluation run below a training run; only once it has succeeded do its means appear on the training run as `eval/…`."""
    from fashion_ml.evaluation.evaluate import device_of_evaluation, evaluate_lora
    from fashion_ml.evaluation.scores import headline
    from fashion_ml.tracking import open_run

    digest = data_digest(inputs.references)
    tags = {"kind": "evaluation", "algorithm": "lora", "base_model": config.model.base, "data_digest": digest}
    seen = config.evaluation.references is None
    source = Path(config.evaluation.references or config.data.train_data_dir)
    with open_run("evaluation", tags, parent=training, adopt=adopt) as run:
        run.log_params(flat(config))
        run.set_tags({"references_seen_in_training": str(seen).lower()})
        run.log_dataset(source, digest, "evaluation", len(inputs.references))
        target = folder / "evaluation" if not adopt else folder / run.run_id
        result = evaluate_lora(config, lora, inputs.references, encoder, run, target, device_of_evaluation())
    training.log_metrics({f"eval/{key}": value for key, value in headline(result.scores).items()})
    training.set_tags(
        {"eval.run_id": run.run_id, "eval.fingerprint": result.fingerprint, "mlflow.note.content": result.sentence}
    )
    training.flush()
    return result


def _with_embedded_data(config: LoraExperiment) -> LoraExperiment:
    """`embedded` data paths made real: the collection is written below `outputs/` where it is not there yet."""
    wants = config.data.train_data_dir == "embedded", config.evaluation.references == "embedded"
    if not any(wants):
        return config
    folder = write_collection(Path("outputs") / f"embedded_collection_v{VERSION}").absolute()
    tree = config.model_dump()
    if wants[0]:
        tree["data"]["train_data_dir"] = str(folder / "train")
    if wants[1]:
        tree["evaluation"]["references"] = str(folder / "references")
    return validate(tree)


def _check_inputs(config: LoraExperiment, *, training_images: bool = True) -> _Inputs:
    """Read and check every folder and the encoder; all problems in one error."""
    from fashion_ml.models.stable_diffusion import find_base

    settings = config.evaluation
    problems: list[str] = []

    def attempt(work: Callable[[], Any], default: Any) -> Any:
        try:
            return work()
        except InputError as error:
            problems.extend(error.problems)
            return default

    attempt(lambda: find_base(config.model.base), None)
    extension = config.data.caption_extension
    items = attempt(lambda: read_training_folder(Path(config.data.train_data_dir), extension), []) if training_images else []
    references: list[CaptionedImage] = []
    if settings.enabled:
        given = settings.references
        references = (
            attempt(lambda: read_references(Path(given), extension, settings.max_references), [])
            if given is not None
            else items[: settings.max_references]
        )
    encoder = attempt(lambda: _encoder(settings.encoder), None) if settings.enabled else None
    if problems:
        raise InputError(problems)
    return _Inputs(items, references, encoder)


def _encoder(name: str) -> FashionClip:
    from fashion_ml.evaluation.evaluate import device_of_evaluation
    from fashion_ml.metrics.fashion_clip import embedded_source, load_fashion_clip
    from fashion_ml.models.stable_diffusion import EMBEDDED_DIR

    source = embedded_source(EMBEDDED_DIR) if name == "embedded" else name
    return load_fashion_clip(name, source, device_of_evaluation())


def _training_device(config: LoraExperiment) -> str:
    from fashion_ml.evaluation.evaluate import device_of_evaluation

    device = device_of_evaluation()
    if config.training.mixed_precision == "fp16" and device == "cpu":
        raise InputError("training.mixed_precision: fp16 needs a CUDA GPU and there is none; use no or bf16")
    return device


def _check_output(config: LoraExperiment) -> None:
    """An earlier run's files are never overwritten."""
    folder = Path(config.output.output_dir or "outputs").expanduser()
    earlier = folder / f"{config.output.output_name}.safetensors"
    if earlier.exists():
        raise InputError(
            f"output.output_dir: {str(folder)!r} already holds {earlier.name}; choose another folder or output_name"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output.output_dir: {str(folder)!r} is a file; give the path of a folder")


def _run_folder(config: LoraExperiment, run_id: str) -> Path:
    given = config.output.output_dir
    return (Path(given).expanduser() if given else Path("outputs") / config.output.output_name / run_id).absolute()


def _versions() -> dict[str, str]:
    found = {"versions.python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[f"versions.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    return found


def summary_rows(result: EvaluationResult) -> list[dict[str, Any]]:
    """Base, LoRA and gain with intervals of the three losses and the weighted total, for the closing table."""
    from fashion_ml.evaluation.scores import LOSSES

    return [{"metric": metric, **asdict(result.scores[metric])} for metric in LOSSES]
