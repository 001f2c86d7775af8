"""From a checked experiment to a tracked, evaluated run: check everything, open the run, train, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, flat
from fashion_ml.data.images import CaptionedImage, data_digest
from fashion_ml.errors import InputError
from fashion_ml.runs.evaluate import complete_training_report, evaluate_trained, roll_up
from fashion_ml.runs.inputs import Sources, read_sources, training_folder
from fashion_ml.runs.run_folder import (
    FACTS,
    RunFolder,
    check_output_folder,
    check_tensorboard,
    find_run_to_resume,
    long_waits,
    move_aside,
    run_folder,
    shared_folder,
    tensorboard,
    write_run_folder,
)
from fashion_ml.runs.warm_start import is_main, is_there, make_ahead
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.parent_process import report
from fashion_ml.runtime.provenance import installed_versions

if TYPE_CHECKING:
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.tracking.run import TrackedRun
    from fashion_ml.training.lora_loop import TrainedLora

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

    def to_dict(self) -> dict[str, Any]:
        """The same facts as printed, for `--json`; not measured is null."""
        return {
            "run_id": self.run_id,
            "experiment_id": self.experiment_id,
            "output_dir": str(self.folder),
            "lora": str(self.trained.path),
            "steps": self.trained.total_loss.steps[-1],
            "final_total_loss": self.trained.total_loss.values[-1],
            "best_step": self.trained.best_step,
            "val_loss": self.trained.val_loss,
            "training_seconds": self.trained.seconds,
            "trained_parameters": self.trained.parameters,
            "evaluation": self.evaluation.to_dict() if self.evaluation else None,
        }


def run_lora(config: LoraExperiment, *, resume: str = "", new: bool = False, expected_digest: str = "") -> LoraOutcome | None:
    """Train, and evaluate if that is on. InputError for everything a user can mend, before a run exists where that is possible.

    `resume` (`latest`, or an output folder) goes on with an unfinished run, `new` moves what is in the output folder aside. Under
    `accelerate launch` only the main process opens a run and returns an outcome; the others train along and return None. With
    `expected_digest` the data must be those of an earlier run.
    """
    _check_precision(config)
    check_tensorboard(config.tracking.log_with)
    if is_main() and not resume:
        check_output_folder(config, new)
        embedded = config.data.train_data_dir == "embedded"
        known = (config.model.base == "embedded" or is_there(config.model.base)) and (
            embedded or is_there(config.data.train_data_dir)
        )
        if known and make_ahead(collection=embedded):  # what is not known may be an error, which needs no store
            from diffusers import StableDiffusionPipeline  # noqa: F401 (the slowest import, while the collection is drawn)
    from accelerate import Accelerator

    from fashion_ml.models.kohya_format import check_lora
    from fashion_ml.models.stable_diffusion import check_resolution, load_pipeline
    from fashion_ml.tracking.run import open_run
    from fashion_ml.tracking.store import shown_uri, store_uri
    from fashion_ml.training.lora_loop import lora_spec
    from fashion_ml.training.optimizers import check_optimizer
    from fashion_ml.training.precision import DTYPES

    accelerator = Accelerator(mixed_precision=config.training.mixed_precision, kwargs_handlers=[long_waits()])
    earlier = find_run_to_resume(resume, config) if resume else None
    inputs = read_sources(config)
    precision = DTYPES[config.training.mixed_precision]
    pipeline = load_pipeline(config.model.base, accelerator.device, precision, config.model.prediction_type)
    check_resolution(config.data.resolution, pipeline)
    check_optimizer(config.optimizer, accelerator.device)
    if config.network.network_weights:
        check_lora(Path(config.network.network_weights).expanduser(), pipeline.unet, pipeline.text_encoder, lora_spec(config))
    if not accelerator.is_main_process:
        _train_along(config, pipeline, inputs, accelerator, resume=earlier is not None)
        return None
    digest = data_digest([*inputs.items, *inputs.prior])
    if earlier and earlier.data_digest != digest:
        raise InputError("data.train_data_dir: images or captions have changed since the run began; restore them, or use --new")
    if expected_digest and expected_digest != digest:
        raise InputError("data.train_data_dir: images or captions are not those of the run; restore them")
    aside = move_aside(config) if new else None
    if aside:
        say(f"What was in {config.output.output_dir} is now in {aside}")
    tags = {"kind": "train_lora", "algorithm": "lora", "base_model": config.model.base, "data_digest": digest}
    going_on = earlier.run_id if earlier else ""
    with open_run(
        config.name, tags, experiment=config.tracking.experiment, resume=going_on, spool=earlier.path if earlier else None
    ) as run:
        folder = shared_folder(earlier.path if earlier else run_folder(config, run.run_id), accelerator)
        say(f"Run {run.run_id}, files in {folder}" + (", going on" if earlier else ""))
        note = RunFolder(folder, run.run_id, shown_uri(store_uri()), digest, finished=False)
        write_run_folder(note, config)
        if not earlier:
            run.spool_to(folder)
        run.log_params({**flat(config), **{f"versions.{name}": found for name, found in installed_versions().items()}})
        run.log_file(folder / "config.yaml")
        run.log_dataset(training_folder(config), digest, "training", len(inputs.items))
        run.log_source()
        run.describe(_what(config, len(inputs.items)))
        try:
            trained = _train(config, pipeline, inputs, folder, run, accelerator, resume=earlier is not None)
        finally:
            _log_training_files(run, folder, config.output.output_name)
        del pipeline
        evaluation = None
        if config.evaluation.enabled:
            try:
                evaluation = evaluate_trained(
                    config, trained.path, inputs, run, folder / "evaluation", config.training.max_train_steps
                )
                complete_training_report(run, folder / "training_logs", {config.training.max_train_steps: evaluation})
            except Exception:
                say(f"The LoRA is trained and saved: {trained.path}. Measure it by: fashion-ml evaluate run {run.run_id}")
                raise
        outcome = LoraOutcome(run.run_id, run.experiment_id, folder, trained, evaluation)
        write_text(folder / FACTS, json.dumps(outcome.to_dict(), indent=2, allow_nan=False) + "\n")
        write_run_folder(replace(note, finished=True))
    return outcome


def _what(config: LoraExperiment, images: int) -> str:
    network, training = config.network, config.training
    return (
        f"LoRA of {config.model.base}: rank {network.rank}, alpha {float(network.alpha or network.rank):g}, "
        f"{training.max_train_steps} steps of batch {training.train_batch_size} at learning rate {config.optimizer.learning_rate:g}, "
        f"on {images} images of {training_folder(config).name}."
    )


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
    from fashion_ml.training.lora_inputs import prepare_inputs
    from fashion_ml.training.lora_loop import Hooks, train_lora
    from fashion_ml.training.train_state import STATE, state_step

    board = tensorboard(config.tracking.log_with, folder, state_step(folder / STATE) if resume else 0)

    def on_rows(rows: list[dict[str, float]]) -> None:
        for row in rows:
            if "val_loss" in row:
                report("val_loss", int(row["step"]), row["val_loss"])
            figures = {key: value for key, value in row.items() if key not in ("step", "time")}
            run.log_metrics(figures, step=int(row["step"]), time=row["time"])
            for key, value in figures.items() if board else ():
                board.add_scalar(key, value, int(row["step"]), row["time"])
        if board:
            board.flush()  # a process that is killed writes nothing more
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
    logs = folder / "training_logs"
    if trained.steps_now or not any(logs.glob("lora_detailed_training_report_*.json")):  # else it was written before the stop
        write_training_report(
            logs,
            {name: Series(*series.as_lists()) for name, series in measured.items()},
            total_steps=config.training.max_train_steps,
            description=f"LoRA rank {config.network.rank} on {config.model.base}, {len(inputs.items)} images of {config.data.train_data_dir}",
            now=datetime.now(),
        )
    tags = {"trained_parameters": str(trained.parameters), "training_seconds": f"{trained.seconds:.1f}"}
    run.set_tags(tags | ({"best_step": str(trained.best_step)} if trained.best_step else {}))
    return trained


def _train_along(config: LoraExperiment, pipeline: Any, inputs: Sources, accelerator: Any, *, resume: bool) -> None:
    """What a process beside the main one does: the same steps on its share of every batch."""
    from fashion_ml.training.lora_inputs import prepare_inputs
    from fashion_ml.training.lora_loop import Hooks, train_lora

    folder = shared_folder(None, accelerator)
    steps, validation = prepare_inputs(config, pipeline, inputs.items, inputs.prior, accelerator)
    train_lora(config, pipeline, steps, validation, folder, Hooks(rows=lambda rows: None), accelerator, resume=resume)


def _check_performance(
    config: LoraExperiment, lora: Path, inputs: Sources, run: TrackedRun, folder: Path, step: int
) -> dict[str, float]:
    """A real evaluation of the weights of a step; of a step that was evaluated before the training was stopped, its values."""
    from fashion_ml.reports.loss_log import IMAGE_LOSSES
    from fashion_ml.tracking.queries import finished_child
    from fashion_ml.tracking.run import note_of

    done = finished_child(run, "evaluation", step)
    same = {key: str(value) for key, value in flat(config).items() if key.startswith("evaluation.")}
    if done and same.items() <= done.data.params.items():
        fingerprint, said = done.data.tags["eval_fingerprint"], note_of(done)
        means = {key: value for key, value in done.data.metrics.items() if not key.endswith(("_low", "_high"))}
        roll_up(run, done.info.run_id, fingerprint, means, step, said)  # the kill may have come before it
        return {name: done.data.metrics[name] for name in IMAGE_LOSSES if name in done.data.metrics}
    result = evaluate_trained(config, lora, inputs, run, folder / f"evaluation-step{step:08d}", step)
    return {name: result.scores[name].lora.mean for name in IMAGE_LOSSES if name in result.scores}


def _sampler(
    config: LoraExperiment, pipeline: Any, inputs: Sources, run: TrackedRun, accelerator: Any
) -> Callable[[int], None] | None:
    """Makes a few images with the weights as they are, always from the same prompts and seeds; None without sample_every."""
    if not config.training.sample_every:
        return None
    from fashion_ml.evaluation.generate import generate, jobs_of

    prompts = config.training.sample_prompts or tuple(item.caption for item in (inputs.references or inputs.items)[:_SAMPLES])
    wanted = [CaptionedImage(Path(f"sample_{index}"), prompt, f"sample_{index}") for index, prompt in enumerate(prompts)]
    settings = config.evaluation.model_copy(update={"images_per_reference": 1})
    jobs = jobs_of(wanted, settings, [(config.data.resolution, config.data.resolution)] * len(wanted))

    def sample(step: int) -> None:
        if all(
            run.has_image(f"sample_{index}", step) for index in range(len(jobs))
        ):  # the steps behind the last state come again
            return
        places = pipeline.vae.device, pipeline.text_encoder.device
        pipeline.to(accelerator.device)
        with accelerator.autocast():
            made = [item for batch in generate(pipeline, jobs, settings) for item in zip(*batch, strict=True)]
        pipeline.vae.to(places[0]), pipeline.text_encoder.to(places[1])
        for index, picture in made:
            run.log_image(picture, f"sample_{index}", step)

    return sample


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


def _check_precision(config: LoraExperiment) -> None:
    from fashion_ml.evaluation.instruments import device_of_evaluation

    if config.training.mixed_precision == "fp16" and device_of_evaluation() == "cpu":
        raise InputError("training.mixed_precision: fp16 needs a CUDA GPU and there is none; use no or bf16")
