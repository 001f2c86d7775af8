"""A training that is not begun: all that a real one checks is checked, and what it would do, keep, measure and need is said.

No run is opened and no file is kept: the output folder is tried, images and captions are encoded in memory, and what is embedded and
not drawn yet is drawn into a folder that goes away.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.embedded.collection import collection_folder, part_of, write_collection
from fashion_ml.runs.beginning import check_beginning
from fashion_ml.runs.dry_run_plan import (
    kept_files,
    kept_line,
    measured_lora,
    measured_lora_lines,
    measured_stargan,
    measured_stargan_line,
)
from fashion_ml.runs.dry_run_time import SECONDS, STEPS, Sizes, Timing, timed
from fashion_ml.runs.room import check_lora_room
from fashion_ml.runs.settled_precision import with_settled_precision
from fashion_ml.runs.training_run import in_experiment
from fashion_ml.runtime.gpu_memory import fits_into_memory
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.data.images import CaptionedImage
    from fashion_ml.data.lora_batches import StepInputs
    from fashion_ml.runs.inputs import Sources
    from fashion_ml.training.memory_estimate import MemoryEstimate


_PASSES = 4
"""Of a step that is timed, at most: with training.gradient_accumulation_steps it may have thousands."""


@dataclass(frozen=True)
class DryRun:
    """What a training would do."""

    facts: dict[str, Any]
    lines: list[str]
    timing: Timing
    memory: MemoryEstimate

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**self.facts, "time": dict(vars(self.timing)), "memory": self.memory.to_dict()}


def dry_run_lora(given: LoraExperiment, *, new: bool = False, chosen: Collection[str] = ()) -> DryRun:
    """Check all of a LoRA experiment, say its data, train a few steps that leave nothing, and return what a training would do. InputError."""
    from fashion_ml.evaluation.toy import check_base
    from fashion_ml.models.stable_diffusion import vae_factor
    from fashion_ml.runs.data_summary import facts_of, summed_up
    from fashion_ml.runs.inputs import read_sources
    from fashion_ml.runs.lora import accelerator_for, check_mixed_precision, checked_pipeline
    from fashion_ml.training.base_lines import base_lines
    from fashion_ml.training.first_lines import lora_lines, step_plan
    from fashion_ml.training.lora_inputs import split_items, with_steps
    from fashion_ml.training.new_word import check_captions

    with without_files(given) as config:
        check_beginning(config, new=new)
        config = with_settled_precision(config)
        check_mixed_precision(config)
        in_experiment(config, chosen, make=False)
        accelerator = accelerator_for(config.training.mixed_precision)
        sources = read_sources(config, tell=False)
        check_captions(config, sources.items)
        pipeline = checked_pipeline(config, accelerator)
        config = with_steps(config, pipeline, sources.items, accelerator.num_processes, sources.looks)
        sources = summed_up(config, sources, pipeline)
        check_base(config)
        check_lora_room(config, pipeline, sources.items, accelerator.device)
        kept, held = split_items(config, sources.items, sources.looks)
        factor, steps, processes = vae_factor(pipeline), config.training.max_train_steps, accelerator.num_processes
        per_epoch = step_plan(config, [sources.items[index] for index in kept], factor, processes).steps_per_epoch
        files = kept_files(config, steps, per_epoch, len(held))
        measured = measured_lora(config, len(sources.references), len(held), per_epoch)
        begins = [*lora_lines(config, sources.items, factor, processes), *base_lines(config, pipeline)]
        timing, memory, largest = _steps_and_memory(
            config, pipeline, sources, [sources.items[index] for index in kept], accelerator
        )
    facts = {
        "data": facts_of(sources.summary),
        "steps": steps,
        "steps_per_epoch": per_epoch,
        "epochs": steps / per_epoch,
        "kept": files,
        "measured": measured,
    }
    lines = [*begins, kept_line(files)]
    lines += [
        *measured_lora_lines(measured),
        timing.line(),
        _memory_line(memory, largest) + _float32_on_a_gpu(config),
    ]
    return DryRun(facts, lines, timing, memory)


@contextmanager
def without_files(config: LoraExperiment) -> Iterator[LoraExperiment]:
    """The experiment with nothing that is written: no caches, and the collection, if it is asked for and not there yet, in passing."""
    data = config.data.model_copy(update={"cache_dir": None})
    evaluation = config.evaluation.model_copy(update={"cache_dir": None})
    training, references = (None if one is None else part_of(one) for one in (data.train_data_dir, evaluation.references))
    with tempfile.TemporaryDirectory() as name:
        if not (training is None and references is None) and not collection_folder().exists():
            place = write_collection(Path(name) / "collection")
            if training is not None:
                data = data.model_copy(update={"train_data_dir": str(place / (training or "train"))})
            if references is not None:
                evaluation = evaluation.model_copy(update={"references": str(place / (references or "references"))})
        yield config.model_copy(update={"data": data, "evaluation": evaluation})


def _steps_and_memory(
    config: LoraExperiment, pipeline: Any, sources: Sources, items: Sequence[CaptionedImage], accelerator: Any
) -> tuple[Timing, MemoryEstimate, str]:
    """What a few steps take, on as many of the training's images as they need; what the largest batch needs, and that batch in words."""
    from fashion_ml.training.lora_inputs import needed_encoders, prepare_inputs
    from fashion_ml.training.lora_memory import lora_memory

    some = config.model_copy(update={"data": config.data.model_copy(update={"validation_split": 0.0})})

    def prepared(config: LoraExperiment) -> StepInputs:
        return prepare_inputs(config, pipeline, items, sources.prior, accelerator, masks=sources.masks, ahead=False)[0]

    inputs, short = prepared(some), _with_short_steps(some)
    sizes = Sizes.of(inputs, config.training.max_train_steps)
    text = next(inputs.batches(sizes.spread()[0])).text
    batch = config.training.train_batch_size
    fix = tr(
        "use 1 with training.gradient_accumulation_steps, training.gradient_checkpointing, or training.mixed_precision bf16"
    )
    with fits_into_memory("a step", "training.train_batch_size", batch, fix):
        timing = timed(short, pipeline, inputs if short is some else prepared(short), accelerator, sizes)
    rows, latents = sizes.largest[0], sizes.largest
    needed = needed_encoders(config, [*items, *sources.prior])
    memory = lora_memory(config, pipeline, latents, text, needed)
    beside = [name for name in needed if not (name == "text_encoder" and config.text_trains)]
    kept = (
        tr(" beside the {replace}", replace=tr(" and the ").join(sorted(beside)).replace("vae", "VAE").replace("_", " "))
        if beside
        else ""
    )
    return (
        timing,
        memory,
        tr(
            "largest batch, {rows} latents {by}{kept}; {optimizer_type}",
            rows=rows,
            by=_by(latents[1:]),
            kept=kept,
            optimizer_type=config.optimizer.optimizer_type,
        ),
    )


def _with_short_steps(config: LoraExperiment) -> LoraExperiment:
    """The same with a few forward passes in a step at most, by which longer ones are told."""
    training = config.training
    if training.gradient_accumulation_steps <= _PASSES:
        return config
    return config.model_copy(update={"training": training.model_copy(update={"gradient_accumulation_steps": _PASSES})})


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _memory_line(memory: MemoryEstimate, batch: str) -> str:
    gib = memory.to_dict()
    return tr(
        "GPU memory: about {peak_gib:.2f} GiB at the peak of a training step ({batch}; weights "
        "{weights_gib:.2f}, optimiser's states {states_gib:.2f}), an estimate from a step without numbers. "
        "Not in it: CUDA itself (some 0.5 GiB); encoding ahead, samples and evaluation, which take turns "
        "with training",
        peak_gib=gib["peak_gib"],
        batch=batch,
        weights_gib=gib["weights_gib"],
        states_gib=gib["states_gib"],
    )


def _float32_on_a_gpu(config: LoraExperiment | StarganExperiment) -> str:
    """What the estimate lacks where cuDNN computes in float32: 19 GiB beside 4.9 for Stable Diffusion 1.5 on an H200 (docs/gpu.md)."""
    training = config.training
    if training.mixed_precision != "no" or training.tf32:
        return ""
    return tr(
        "; cuDNN's workspaces in float32, which may be several times as much: use mixed_precision bf16, or training.tf32 true"
    )


def dry_run_stargan(config: StarganExperiment, *, new: bool = False, chosen: Collection[str] = ()) -> DryRun:
    """Check all of a StarGAN experiment, say its data, train a few steps that leave nothing; return what a training would do. InputError."""
    from accelerate import Accelerator

    from fashion_ml.runs.data_summary import say_latents
    from fashion_ml.runs.stargan import check_measuring
    from fashion_ml.runs.stargan_inputs import checked_vae, embedded_latents_are_there, read_latent_set, training_inputs
    from fashion_ml.training.first_lines import stargan_lines
    from fashion_ml.training.precision import check_precision
    from fashion_ml.training.stargan_loop import stargan_memory, timed_gan_steps

    check_beginning(config, new=new)
    config = with_settled_precision(config)
    in_experiment(config, chosen, make=False)
    accelerator = Accelerator()
    check_precision(config.training.mixed_precision, accelerator.device.type, tf32=config.training.tf32)
    with tempfile.TemporaryDirectory() as name:
        outputs = Path("outputs") if embedded_latents_are_there() else Path(name)
        latents = read_latent_set(config, str(accelerator.device), outputs)
        inputs = training_inputs(config, latents, accelerator)
        checked_vae(config, latents, accelerator.device)
        check_measuring(config, inputs)
        data = say_latents(latents, inputs.held)
        per_epoch, epochs = inputs.steps_per_epoch, config.training.epochs
        files = kept_files(config, epochs * per_epoch, per_epoch)
        held = {domain.name: len(some) for domain, some in zip(latents.domains, inputs.held, strict=True)}
        measured = measured_stargan(config, held)
        less = tr("use less, or training.mixed_precision bf16")
        with fits_into_memory("a step", "training.batch_size", config.training.batch_size, less):
            timed = timed_gan_steps(config, inputs, accelerator, most=STEPS, seconds=SECONDS)
        memory = stargan_memory(config, inputs)
        lines = stargan_lines(config, inputs, accelerator.num_processes)
    timing = Timing.of(timed.plain, epochs * per_epoch, str(accelerator.device.type), timed.penalty_share)
    facts = {
        "data": data,
        "steps": epochs * per_epoch,
        "steps_per_epoch": per_epoch,
        "epochs": epochs,
        "kept": files,
        "measured": measured,
    }
    batch = tr(
        "batch of {batch_size} latents {by}, with the gradient penalty",
        batch_size=config.training.batch_size,
        by=_by(latents.shape),
    )
    lines += [kept_line(files), measured_stargan_line(measured), timing.line()]
    lines += [_memory_line(memory, batch) + _float32_on_a_gpu(config)]
    return DryRun(facts, lines, timing, memory)
