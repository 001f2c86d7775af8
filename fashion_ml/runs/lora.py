"""A LoRA experiment: what its run is about, how it trains and how it is measured; `training_run` does the rest."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, flat
from fashion_ml.data.images import data_digest
from fashion_ml.errors import InputError
from fashion_ml.evaluation.toy import check_base
from fashion_ml.evaluation.trigger import classes_of_folders
from fashion_ml.runs.beginning import begun
from fashion_ml.runs.data_summary import keep_summary, summed_up
from fashion_ml.runs.evaluate import complete_training_report, evaluate_trained, roll_up
from fashion_ml.runs.images_ahead import images_ahead
from fashion_ml.runs.inputs import Sources, read_sources, training_folder
from fashion_ml.runs.lora_samples import sampler
from fashion_ml.runs.room import check_lora_room
from fashion_ml.runs.run_folder import long_waits, shared_folder
from fashion_ml.runs.run_name import lora_name
from fashion_ml.runs.settled_precision import with_settled_precision
from fashion_ml.runs.training_run import About, Outcome, check_data, in_experiment, measurements, training_run
from fashion_ml.runs.training_speed import begin_peak, log_speed
from fashion_ml.runs.warm_start import is_there, make_ahead
from fashion_ml.runtime.console import say
from fashion_ml.runtime.gpu_memory import fits_into_memory, free_memory
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.parent_process import report

if TYPE_CHECKING:
    from fashion_ml.data.look_ahead import LookAhead
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.runs.run_folder import RunFolder
    from fashion_ml.tracking.run import TrackedRun
    from fashion_ml.training.lora_loop import TrainedLora

_OWN = ("ruler/", "position/", "encoder_check/", "strength/", "reference_nearest_training_similarity")
"""Begins what is an evaluation's alone and goes to no training run."""

LoraOutcome = Outcome["TrainedLora", "EvaluationResult"]
"""What a LoRA experiment left behind."""


def run_lora(
    config: LoraExperiment,
    *,
    resume: str = "",
    new: bool = False,
    expected_digest: str = "",
    track: bool = True,
    chosen: Collection[str] = (),
) -> LoraOutcome | None:
    """Train, and evaluate if that is on. InputError for everything a user can mend, before a run exists where that is possible.

    `resume` (`latest`, or an output folder) goes on with an unfinished run, `new` moves what is in the output folder aside. Under
    `accelerate launch` only the main process opens a run and returns an outcome; the others train along and return None. With
    `expected_digest` the data must be those of an earlier run. Without `track` all files are written, and MLflow is neither imported nor
    told anything. `chosen` are the paths of settings that were given to the command itself: `name` and `tracking.experiment` among them come
    before what MLflow's environment says.
    """
    with begun(config, resume=resume, new=new) as earlier, images_ahead(config) as ahead:
        return _run_lora(config, earlier, ahead, new=new, expected_digest=expected_digest, track=track, chosen=chosen)


def _run_lora(
    config: LoraExperiment,
    earlier: RunFolder | None,
    ahead: LookAhead | None,
    *,
    new: bool,
    expected_digest: str,
    track: bool,
    chosen: Collection[str],
) -> LoraOutcome | None:
    from fashion_ml.training.lora_inputs import with_steps
    from fashion_ml.training.new_word import check_captions

    config = with_settled_precision(config, earlier)
    check_mixed_precision(config)
    config = in_experiment(config, chosen, earlier) if track else config
    drawing = track and earlier is None and _make_ahead(config)
    if drawing or ahead:
        from diffusers import StableDiffusionPipeline  # noqa: F401 (the slowest import, while other processes work)
    accelerator = accelerator_for(config.training.mixed_precision)
    inputs = read_sources(config, tell=False, ahead=ahead)
    check_captions(config, inputs.items)
    pipeline = [checked_pipeline(config, accelerator)]
    config = with_steps(config, pipeline[0], inputs.items, accelerator.num_processes, inputs.looks)
    resumed = earlier is not None
    if not accelerator.is_main_process:
        _train_along(config, pipeline.pop(), inputs, accelerator, resume=resumed)
        return None
    inputs = summed_up(config, inputs, pipeline[0])
    digest = data_digest([*inputs.items, *inputs.prior])
    digest = inputs.masks.digest(digest) if inputs.masks else digest
    check_data(earlier, digest, expected_digest, "data.train_data_dir", tr("images or captions"))
    _say_what_begins(config, inputs, pipeline[0], accelerator)

    def train(run: TrackedRun | None, folder: Path) -> TrainedLora:
        # popped, so that it leaves memory before the evaluation loads its own
        trained = _train(config, pipeline.pop(), inputs, folder, run, accelerator, resume=resumed)
        free_memory(accelerator)
        return trained

    return training_run(
        config,
        _about(config, inputs, digest),
        earlier,
        accelerator,
        new=new,
        track=track,
        chosen=chosen,
        train=train,
        evaluate=partial(_evaluate, config, inputs) if config.evaluation.enabled else None,
    )


def _about(config: LoraExperiment, inputs: Sources, digest: str) -> About:
    folder, count = training_folder(config), len(inputs.items)
    name = lora_name(config, classes_of_folders(inputs.items), folder)
    return About(config.model.base, _what(config, count), folder, digest, count, name)


def _say_what_begins(config: LoraExperiment, inputs: Sources, pipeline: Any, accelerator: Any) -> None:
    from fashion_ml.models.stable_diffusion import vae_factor
    from fashion_ml.training.base_lines import base_lines
    from fashion_ml.training.first_lines import lora_lines

    check_base(config)
    check_lora_room(config, pipeline, inputs.items, accelerator.device)
    lines = lora_lines(config, inputs.items, vae_factor(pipeline), accelerator.num_processes)
    for line in [*lines, *base_lines(config, pipeline)]:
        say(line)


def check_mixed_precision(config: LoraExperiment) -> None:
    """InputError when the precision needs a GPU and there is none."""
    if config.training.mixed_precision in ("fp16", "bf16") or config.training.tf32:  # accelerate's own error is a traceback
        from fashion_ml.evaluation.instruments import device_of_evaluation
        from fashion_ml.training.precision import check_precision

        check_precision(config.training.mixed_precision, device_of_evaluation(), tf32=config.training.tf32)


def _make_ahead(config: LoraExperiment) -> bool:
    """Start what a first training needs in a process of its own; returns whether that draws the collection, which takes seconds."""
    folder = config.data.train_data_dir
    embedded = folder == "embedded"
    known = (config.model.base == "embedded" or is_there(config.model.base)) and (embedded or not folder or is_there(folder))
    # what is not known may be an error, which needs no store
    return known and make_ahead(collection=embedded, store=not config.tracking.offline)


def checked_pipeline(config: LoraExperiment, accelerator: Any) -> Any:
    """The base in the precision of training, with everything checked that depends on it."""
    from fashion_ml.models.half_precision import decode_one_by_one
    from fashion_ml.models.stable_diffusion import load_pipeline
    from fashion_ml.training.new_word import put_word
    from fashion_ml.training.precision import DTYPES

    precision = DTYPES[config.training.mixed_precision]
    with fits_into_memory(tr("loading the base"), "training.mixed_precision", config.training.mixed_precision, tr("use bf16")):
        pipeline = load_pipeline(config.model.base, accelerator.device, precision, **config.model.schedule())
    decode_one_by_one(pipeline.vae)
    check_on_base(config, pipeline, accelerator.device, accelerator.num_processes)
    put_word(config, pipeline)
    return pipeline


def check_on_base(config: LoraExperiment, pipeline: Any, device: Any, processes: int) -> None:
    """InputError where a setting does not fit the base, or a device or number of processes that would train it."""
    from fashion_ml.models.families.known import family_of
    from fashion_ml.models.kohya_format import check_lora
    from fashion_ml.models.lora import check_network
    from fashion_ml.models.stable_diffusion import check_resolution
    from fashion_ml.training.lora_models import lora_spec, optimizer_settings
    from fashion_ml.training.lora_objective import check_objective
    from fashion_ml.training.optimizers import check_optimizer
    from fashion_ml.training.step_graphs import check_graphs

    check_resolution(config.data.resolution, pipeline)
    family = family_of(pipeline)
    texts = family.encoders(pipeline)
    family.check_clip_skip(config.model.clip_skip, pipeline)
    check_objective(config.loss, pipeline.scheduler.config.prediction_type)
    spec = lora_spec(config)
    if config.network.network_weights:  # what the file is comes before what would train of it
        check_lora(Path(config.network.network_weights).expanduser(), pipeline.unet, texts, spec)
    check_network(pipeline.unet, texts, spec)
    if config.optimizer.text_encoder_2_lr is not None and len(texts) == 1:
        raise InputError(tr("optimizer.text_encoder_2_lr: {title} has one text encoder; leave it out", title=family.title))
    check_optimizer(
        optimizer_settings(config),
        device,
        resumable=config.training.save_state,
        text_encoder=config.network.train_text_encoder,
        word=config.embedding.token is not None,
    )
    check_graphs(config, device.type, processes)


def accelerator_for(precision: str) -> Any:
    """Accelerate for a precision, whatever this process trained in before."""
    from accelerate import Accelerator

    from fashion_ml.training.accelerate_private import forget_precision

    try:
        return Accelerator(mixed_precision=precision, kwargs_handlers=[long_waits()])
    except ValueError:  # accelerate keeps a process's first precision for good, and a program may train in several
        forget_precision()
        return Accelerator(mixed_precision=precision, kwargs_handlers=[long_waits()])


def _what(config: LoraExperiment, images: int) -> str:
    network, training = config.network, config.training
    return tr(
        "LoRA of {base}: rank {rank}, alpha {value:g}, {max_train_steps} steps of batch {train_batch_size} "
        "at learning rate {learning_rate:g}, on {images} images of {name}.",
        base=config.model.base,
        rank=network.rank,
        value=float(network.alpha or network.rank),
        max_train_steps=training.max_train_steps,
        train_batch_size=training.train_batch_size,
        learning_rate=config.optimizer.learning_rate,
        images=images,
        name=training_folder(config).name,
    )


def _train(
    config: LoraExperiment,
    pipeline: Any,
    inputs: Sources,
    folder: Path,
    run: TrackedRun | None,
    accelerator: Any,
    *,
    resume: bool,
) -> TrainedLora:
    from fashion_ml.training.lora_loop import Hooks, train_lora
    from fashion_ml.training.lora_models import attention_of
    from fashion_ml.training.resume_point import STATE, state_step

    keep_summary(inputs.summary, inputs.items, folder, run)
    after = state_step(folder / STATE) if resume else 0
    with measurements(run, config, folder, after=after, too_large=_out_of_memory(config)) as write:

        def on_rows(rows: list[dict[str, float]]) -> None:
            for row in rows:
                if "val_loss" in row:
                    report("val_loss", int(row["step"]), row["val_loss"])
            plain = ("step", "time")
            write(
                (int(row["step"]), row["time"], {key: value for key, value in row.items() if key not in plain}) for row in rows
            )

        hooks = Hooks(
            rows=on_rows,
            check=lambda step, path: _check_performance(config, path, inputs, run, folder, step, pipeline),
            sample=sampler(config, pipeline, inputs, run, folder, accelerator),
        )
        steps, validation = _prepared(config, pipeline, inputs, accelerator)
        begin_peak(accelerator.device)
        trained = train_lora(config, pipeline, steps, validation, folder, hooks, accelerator, resume=resume)
    log_speed(
        run,
        accelerator.device,
        steps=config.training.max_train_steps,
        seconds=trained.seconds,
        images=steps.plan.images_per_epoch / steps.plan.steps_per_epoch,
        at=config.training.max_train_steps,
        attention=attention_of(config, pipeline.unet, steps.shapes(1)[0], accelerator.device),
    )
    _write_report(config, trained, folder / "training_logs", len(inputs.items))
    if run:
        tags = {"trained_parameters": str(trained.parameters), "training_seconds": f"{trained.seconds:.1f}"}
        run.set_tags(tags | ({"best_step": str(trained.best_step)} if trained.best_step else {}))
    return trained


def _prepared(config: LoraExperiment, pipeline: Any, inputs: Sources, accelerator: Any) -> Any:
    """The inputs of every step, and the validation."""
    from fashion_ml.training.lora_inputs import prepare_inputs

    with fits_into_memory(
        tr("encoding the images"), "data.resolution", config.data.resolution, tr("use less, or a GPU that is free")
    ):
        return prepare_inputs(config, pipeline, inputs.items, inputs.prior, accelerator, masks=inputs.masks, looks=inputs.looks)


def _write_report(config: LoraExperiment, trained: TrainedLora, logs: Path, images: int) -> None:
    from fashion_ml.reports.training_report import Series, draw_missing_curves, write_training_report

    there = sorted(logs.glob("lora_detailed_training_report_*.json"))
    if not trained.steps_now and there:  # it was written before the stop
        draw_missing_curves(there[-1])
        return
    measured = {"total_loss": trained.total_loss, **trained.image_losses}
    folder = config.data.train_data_dir or training_folder(config)
    write_training_report(
        logs,
        {name: Series(*series.as_lists()) for name, series in measured.items()},
        total_steps=config.training.max_train_steps,
        description=tr(
            "LoRA rank {rank} on {base}, {images} images of {folder}",
            rank=config.network.rank,
            base=config.model.base,
            images=images,
            folder=folder,
        ),
        now=datetime.now(),
    )


def _train_along(config: LoraExperiment, pipeline: Any, inputs: Sources, accelerator: Any, *, resume: bool) -> None:
    """What a process beside the main one does: the same steps on its share of every batch."""
    from fashion_ml.training.lora_loop import Hooks, train_lora

    folder = shared_folder(None, accelerator)
    steps, validation = _prepared(config, pipeline, inputs, accelerator)
    train_lora(config, pipeline, steps, validation, folder, Hooks(rows=lambda rows: None), accelerator, resume=resume)


def _evaluate(
    config: LoraExperiment, inputs: Sources, run: TrackedRun | None, folder: Path, trained: TrainedLora
) -> EvaluationResult:
    last = config.training.max_train_steps
    result = evaluate_trained(config, trained.path, inputs, run, folder / "evaluation", last, only=True)
    complete_training_report(run, folder / "training_logs", {last: result})
    return result


def _check_performance(
    config: LoraExperiment, lora: Path, inputs: Sources, run: TrackedRun | None, folder: Path, step: int, pipeline: Any
) -> dict[str, float]:
    """A real evaluation of the weights of a step; of a step that was evaluated before the training was stopped, its values.

    By the base of the training's pipeline where that makes the same images, so that the GPU holds one base and not two. Without images of free
    prompts: two thirds more, at every check.
    """
    from fashion_ml.reports.loss_log import IMAGE_LOSSES

    known = _known_performance(config, run, step) if run else None
    if known is not None:
        return {name: known[name] for name in IMAGE_LOSSES if name in known}
    place = folder / f"evaluation-step{step:08d}"
    result = evaluate_trained(config, lora, inputs, run, place, step, free=False, trained=pipeline)
    return {name: result.scores[name].lora.mean for name in IMAGE_LOSSES if name in result.scores}


def _known_performance(config: LoraExperiment, run: TrackedRun, step: int) -> dict[str, float] | None:
    """The values of a finished evaluation of that step by the same settings; None without one."""
    from fashion_ml.tracking.queries import finished_child
    from fashion_ml.tracking.run import note_of
    from fashion_ml.tracking.ui_views import VERDICT

    done = finished_child(run, "evaluation", step)
    same = {key: str(value) for key, value in flat(config).items() if key.startswith("evaluation.")}
    if not done or not same.items() <= done.data.params.items():
        return None
    fingerprint, said = done.data.tags["eval_fingerprint"], note_of(done)
    numbers = {key: value for key, value in done.data.metrics.items() if not key.startswith(_OWN)}
    roll_up(
        run, done.info.run_id, fingerprint, numbers, step, said, done.data.tags.get(VERDICT, "")
    )  # a kill may have come before
    return dict(done.data.metrics)


def _out_of_memory(config: LoraExperiment) -> str:
    training, hints = config.training, []
    if training.mixed_precision == "no":
        hints.append(tr("mixed_precision bf16"))
    if not training.gradient_checkpointing:
        hints.append("gradient_checkpointing")
    if training.train_batch_size > 1:
        hints.append(
            tr(
                "train_batch_size 1 with gradient_accumulation_steps {train_batch_size}",
                train_batch_size=training.train_batch_size,
            )
        )
    hints.append(
        tr(
            "a resolution below {resolution} or a rank below {rank}",
            resolution=config.data.resolution,
            rank=config.network.rank,
        )
    )
    return tr(
        "training.train_batch_size: {train_batch_size} does not fit into the GPU's memory; use {names}",
        train_batch_size=training.train_batch_size,
        names=tr(", or ").join(hints),
    )
