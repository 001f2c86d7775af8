"""From a checked experiment to a tracked, evaluated run: check everything, open the run, train, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, flat, validate
from fashion_ml.data.captioned_images import CaptionedImage, data_digest
from fashion_ml.errors import InputError
from fashion_ml.packages import installed_versions
from fashion_ml.progress import say
from fashion_ml.resuming import RunFolder, check_output_folder, find_run_to_resume, move_aside, write_run_folder
from fashion_ml.sources import Sources, read_sources, references_folder, training_folder

if TYPE_CHECKING:
    from fashion_ml.evaluation.evaluate import EvaluationResult
    from fashion_ml.tracking import TrackedRun
    from fashion_ml.training.lora import TrainedLora

_SAMPLES = 4


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
            "best_step": self.trained.best_step,
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


def run_lora(config: LoraExperiment, *, resume: str = "", new: bool = False) -> LoraOutcome | None:
    """Train, and evaluate if that is on. InputError for everything a user can mend, before a run exists where that is possible.

    `resume` (`latest`, or an output folder) goes on with an unfinished run, `new` moves what is in the output folder aside. Under
    `accelerate launch` only the main process opens a run and returns an outcome; the others train along and return None.
    """
    from accelerate import Accelerator

    from fashion_ml.models.stable_diffusion import check_resolution, load_pipeline
    from fashion_ml.tracking import open_run, store_uri
    from fashion_ml.training.lora import DTYPES

    _check_precision(config)
    accelerator = Accelerator(mixed_precision=config.training.mixed_precision)
    earlier = find_run_to_resume(resume, config) if resume else None
    if earlier is None and accelerator.is_main_process:
        check_output_folder(config, new)
    inputs = read_sources(config)
    precision = DTYPES[config.training.mixed_precision]
    pipeline = load_pipeline(config.model.base, accelerator.device, precision, config.model.prediction_type)
    check_resolution(config.data.resolution, pipeline)
    if not accelerator.is_main_process:
        _train_along(config, pipeline, inputs, accelerator, resume=earlier is not None)
        return None
    digest = data_digest([*inputs.items, *inputs.prior])
    if earlier and earlier.data_digest != digest:
        raise InputError("data.train_data_dir: images or captions have changed since the run began; restore them, or use --new")
    aside = move_aside(config) if new else None
    if aside:
        say(f"What was in {config.output.output_dir} is now in {aside}")
    tags = {"kind": "train_lora", "algorithm": "lora", "base_model": config.model.base, "data_digest": digest}
    going_on = earlier.run_id if earlier else ""
    with open_run(config.name, tags, experiment=config.tracking.experiment, resume=going_on) as run:
        folder = _shared(earlier.path if earlier else _run_folder(config, run.run_id), accelerator)
        say(f"Run {run.run_id}, files in {folder}" + (", going on" if earlier else ""))
        note = RunFolder(folder, run.run_id, store_uri(), digest, finished=False)
        write_run_folder(note, config)
        run.log_params({**flat(config), **{f"versions.{name}": found for name, found in installed_versions().items()}})
        run.log_file(folder / "config.yaml")
        run.log_dataset(training_folder(config), digest, "training", len(inputs.items))
        try:
            trained = _train(config, pipeline, inputs, folder, run, accelerator, resume=earlier is not None)
        finally:
            _log_training_files(run, folder, config.output.output_name)
        del pipeline
        evaluation = None
        if config.evaluation.enabled:
            try:
                evaluation = _evaluate(
                    config, trained.path, inputs, run, folder / "evaluation", config.training.max_train_steps
                )
            except Exception:
                say(f"The LoRA is trained and saved: {trained.path}. Measure it by: fashion-ml evaluate run {run.run_id}")
                raise
        write_run_folder(replace(note, finished=True))
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
        config = validate(tree)
        lora = download(client, run_id, f"lora/{config.output.output_name}.safetensors", Path(temporary))
        inputs = read_sources(config, training_images=config.evaluation.references is None)
        target = folder or Path("outputs") / "evaluations" / run_id
        step = config.training.max_train_steps
        return _evaluate(config, lora, inputs, attach(client, training), target, step, adopt=True)


def _train(
    config: LoraExperiment,
    pipeline: Any,
    inputs: Sources,
    folder: Path,
    run: TrackedRun,
    accelerator: Any,
    *,
    resume: bool,
) -> TrainedLora:
    import torch

    from fashion_ml.reports.training_report import Series, write_training_report
    from fashion_ml.training.inputs import prepare_inputs
    from fashion_ml.training.lora import Hooks, train_lora

    board = _tensorboard(config, folder)

    def on_rows(rows: list[dict[str, float]]) -> None:
        for row in rows:
            figures = {key: value for key, value in row.items() if key != "step"}
            run.log_metrics(figures, step=int(row["step"]))
            for key, value in figures.items() if board else ():
                board.add_scalar(key, value, int(row["step"]))
        run.flush()

    hooks = Hooks(
        rows=on_rows,
        check=lambda step, path: _check_performance(config, path, inputs, run, folder, step),
        sample=_sampler(config, pipeline, inputs, run, accelerator),
    )
    try:
        steps, validation = prepare_inputs(config, pipeline, inputs.items, inputs.prior, accelerator)
        trained = train_lora(config, pipeline, steps, validation, folder, hooks, accelerator, resume=resume)
    except torch.OutOfMemoryError as error:
        raise InputError(_out_of_memory(config)) from error
    finally:
        if board:
            board.close()
    measured = {"total_loss": trained.total_loss, **trained.image_losses}
    write_training_report(
        folder / "training_logs",
        {name: Series(series.steps, series.values) for name, series in measured.items()},
        total_steps=config.training.max_train_steps,
        description=f"LoRA rank {config.network.rank} on {config.model.base}, {len(inputs.items)} images of {config.data.train_data_dir}",
        now=datetime.now(),
    )
    tags = {"trained_parameters": str(trained.parameters), "training_seconds": f"{trained.seconds:.1f}"}
    run.set_tags(tags | ({"best_step": str(trained.best_step)} if trained.best_step else {}))
    return trained


def _train_along(config: LoraExperiment, pipeline: Any, inputs: Sources, accelerator: Any, *, resume: bool) -> None:
    """What a process beside the main one does: the same steps on its share of every batch."""
    from fashion_ml.training.inputs import prepare_inputs
    from fashion_ml.training.lora import Hooks, train_lora

    folder = _shared(None, accelerator)
    steps, validation = prepare_inputs(config, pipeline, inputs.items, inputs.prior, accelerator)
    train_lora(config, pipeline, steps, validation, folder, Hooks(rows=lambda rows: None), accelerator, resume=resume)


def _shared(folder: Path | None, accelerator: Any) -> Path:
    """The main process's output folder, known to all."""
    from accelerate.utils import broadcast_object_list

    (path,) = broadcast_object_list([str(folder)]) if accelerator.num_processes > 1 else [str(folder)]
    return Path(path)


def _check_performance(
    config: LoraExperiment, lora: Path, inputs: Sources, run: TrackedRun, folder: Path, step: int
) -> dict[str, float]:
    """A real evaluation of the weights of a step; of a step that was evaluated before the training was stopped, its values."""
    from fashion_ml.reports.loss_log import IMAGE_LOSSES
    from fashion_ml.tracking import finished_child

    done = finished_child(run, "evaluation", step)
    if done:
        return {name: done.data.metrics[name] for name in IMAGE_LOSSES}
    result = _evaluate(config, lora, inputs, run, folder / f"evaluation-step{step:08d}", step)
    return {name: result.scores[name].lora.mean for name in IMAGE_LOSSES}


def _sampler(
    config: LoraExperiment, pipeline: Any, inputs: Sources, run: TrackedRun, accelerator: Any
) -> Callable[[int], None] | None:
    """Makes a few images with the weights as they are, always from the same prompts and seeds; None without sample_every."""
    if not config.training.sample_every:
        return None
    from fashion_ml.evaluation.generate import generate

    prompts = config.training.sample_prompts or tuple(item.caption for item in (inputs.references or inputs.items)[:_SAMPLES])
    wanted = [CaptionedImage(Path(f"sample_{index}"), prompt, f"sample_{index}") for index, prompt in enumerate(prompts)]
    settings = config.evaluation.model_copy(update={"images_per_reference": 1})

    def sample(step: int) -> None:
        places = pipeline.vae.device, pipeline.text_encoder.device
        pipeline.to(accelerator.device)
        with accelerator.autocast():
            pictures = generate(pipeline, wanted, settings, config.data.resolution, None)
        pipeline.vae.to(places[0]), pipeline.text_encoder.to(places[1])
        for index, picture in enumerate(pictures):
            run.log_image(picture, f"sample_{index}", step)

    return sample


def _tensorboard(config: LoraExperiment, folder: Path) -> Any:
    if config.tracking.log_with != "tensorboard":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "tracking.log_with: tensorboard is not installed; pip install 'fashion-ml[tensorboard]', or leave it at mlflow"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))


def _out_of_memory(config: LoraExperiment) -> str:
    training, hints = config.training, []
    if training.mixed_precision == "no":
        hints.append("mixed_precision bf16")
    if not training.gradient_checkpointing:
        hints.append("gradient_checkpointing")
    if training.train_batch_size > 1:
        hints.append(f"train_batch_size 1 with gradient_accumulation_steps {training.train_batch_size}")
    hints.append(f"a resolution below {config.data.resolution} or a rank below {config.network.rank}")
    return (
        f"training.train_batch_size: {training.train_batch_size} does not fit into the GPU's memory; use {', or '.join(hints)}"
    )


def _log_training_files(run: TrackedRun, folder: Path, name: str) -> None:
    """Log and weights of this training as they are, also when it was interrupted; other files of the folder stay out."""
    for path in sorted((folder / "training_logs").glob("*")):
        run.log_file(path, "training_logs")
    for path in sorted(folder.glob("*.safetensors")):
        if path.stem in (name, "best") or path.stem.startswith(f"{name}-"):
            run.log_file(path, "lora")


def _evaluate(
    config: LoraExperiment, lora: Path, inputs: Sources, training: TrackedRun, folder: Path, step: int, *, adopt: bool = False
) -> EvaluationResult:
    """The evaluation run below a training run; only once it has succeeded do its means appear on the training run as `eval/…`."""
    import torch

    from fashion_ml.evaluation.evaluate import device_of_evaluation, evaluate_lora
    from fashion_ml.evaluation.scores import headline
    from fashion_ml.tracking import open_run

    assert inputs.encoder is not None
    digest = data_digest(inputs.references)
    tags = {
        "kind": "evaluation",
        "algorithm": "lora",
        "base_model": config.model.base,
        "data_digest": digest,
        "step": str(step),
    }
    seen = config.evaluation.references is None
    source = references_folder(config) or training_folder(config)
    with open_run("evaluation", tags, parent=training, adopt=adopt) as run:
        run.log_params(flat(config))
        run.set_tags({"references_seen_in_training": str(seen).lower()})
        run.log_dataset(source, digest, "evaluation", len(inputs.references))
        target = folder / run.run_id if adopt else folder
        try:
            result = evaluate_lora(config, lora, inputs.references, inputs.encoder, run, target, device_of_evaluation())
        except torch.OutOfMemoryError as error:
            size = config.evaluation.batch_size
            raise InputError(
                f"evaluation.batch_size: {size} does not fit into the GPU's memory; use {max(size // 2, 1)} or a smaller data.resolution"
            ) from error
    training.log_metrics({f"eval/{key}": value for key, value in headline(result.scores).items()}, step=step)
    training.set_tags(
        {"eval.run_id": run.run_id, "eval.fingerprint": result.fingerprint, "mlflow.note.content": result.sentence}
    )
    training.flush()
    return result


def _check_precision(config: LoraExperiment) -> None:
    from fashion_ml.evaluation.evaluate import device_of_evaluation

    if config.training.mixed_precision == "fp16" and device_of_evaluation() == "cpu":
        raise InputError("training.mixed_precision: fp16 needs a CUDA GPU and there is none; use no or bf16")


def _run_folder(config: LoraExperiment, run_id: str) -> Path:
    given = config.output.output_dir
    return (Path(given).expanduser() if given else Path("outputs") / config.output.output_name / run_id).absolute()


def summary_rows(result: EvaluationResult) -> list[dict[str, Any]]:
    """Base, LoRA and gain with intervals of the three losses and the weighted total, for the closing table."""
    from fashion_ml.evaluation.scores import LOSSES

    return [{"metric": metric, **asdict(result.scores[metric])} for metric in LOSSES]
