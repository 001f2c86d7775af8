"""A training that is not begun: all that a real one checks is checked, and what it would do, keep, measure and need is said.

No run is opened and no file is written: images and captions are encoded in memory, and what is embedded and not drawn yet is drawn into a
folder that goes away.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.embedded.collection import collection_folder, write_collection
from fashion_ml.runs.dry_run_plan import (
    kept_files,
    kept_line,
    measured_lora,
    measured_lora_lines,
    measured_stargan,
    measured_stargan_line,
)
from fashion_ml.runs.training_run import begin

if TYPE_CHECKING:
    from fashion_ml.data.images import CaptionedImage
    from fashion_ml.runs.inputs import Sources
    from fashion_ml.training.memory_estimate import MemoryEstimate

_STEPS, _SECONDS, _WARM_UP = 8, 20.0, 1
"""Steps that are really trained at most, the seconds after which no other is begun, and how many of the first do not count."""


@dataclass(frozen=True)
class Timing:
    """What a few real steps took."""

    step_seconds: float
    """Median of the steps that count; of a StarGAN with its share of the gradient penalty, which few steps compute."""
    steps: int
    """How many count; those before them, in which memory is taken and kernels are chosen, do not."""
    training_seconds: float
    """Of all steps of the training, and of nothing else."""
    device: str

    @classmethod
    def of(cls, seconds: Sequence[float], total: int, device: str, more: float = 0.0) -> Timing:
        """For a training of `total` steps, which take `more` seconds each, in the mean, than those that were measured."""
        counted = seconds[_WARM_UP:]
        each = median(counted) + more
        return cls(each, len(counted), each * total, device)

    def line(self) -> str:
        """The estimate, and from what."""
        return (
            f"Time: about {_duration(self.training_seconds)} for the steps alone on {self.device}, {self.step_seconds:.3g} s each (median of "
            f"{self.steps} real steps after {_WARM_UP} that does not count); encoding, saving, samples and evaluation come on top"
        )


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


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def dry_run_lora(given: LoraExperiment, *, new: bool = False) -> DryRun:
    """Check all of a LoRA experiment, say its data, train a few steps that leave nothing, and return what a training would do. InputError."""
    from fashion_ml.evaluation.toy import check_base
    from fashion_ml.models.stable_diffusion import vae_factor
    from fashion_ml.runs.data_summary import facts_of, summed_up
    from fashion_ml.runs.inputs import read_sources
    from fashion_ml.runs.lora import accelerator_for, check_mixed_precision, checked_pipeline
    from fashion_ml.training.first_lines import lora_lines, step_plan
    from fashion_ml.training.lora_inputs import split_items, with_steps
    from fashion_ml.training.lora_memory import lora_memory

    with _without_files(given) as config:
        check_mixed_precision(config)
        begin(config, resume="", new=new)
        accelerator = accelerator_for(config.training.mixed_precision)
        sources = read_sources(config, tell=False)
        pipeline = checked_pipeline(config, accelerator)
        config = with_steps(config, pipeline, sources.items, accelerator.num_processes, sources.looks)
        sources = summed_up(config, sources, pipeline)
        check_base(config)
        kept, held = split_items(config, sources.items, sources.looks)
        factor, steps, processes = vae_factor(pipeline), config.training.max_train_steps, accelerator.num_processes
        per_epoch = step_plan(config, [sources.items[index] for index in kept], factor, processes).steps_per_epoch
        files = kept_files(config, steps, per_epoch, len(held))
        measured = measured_lora(config, len(sources.references), len(held), per_epoch)
        begins = lora_lines(config, sources.items, factor, processes)
        timing, latents, text = _lora_steps(config, pipeline, sources, [sources.items[index] for index in kept], accelerator)
        memory = lora_memory(config, pipeline, latents, text)
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
        _memory_line(memory, f"batch of {latents[0]} latents {_by(latents[1:])}"),
    ]
    return DryRun(facts, lines, timing, memory)


@contextmanager
def _without_files(config: LoraExperiment) -> Iterator[LoraExperiment]:
    """The experiment with nothing that is written: no caches, and the collection, if it is asked for and not there yet, in passing."""
    data = config.data.model_copy(update={"cache_dir": None})
    evaluation = config.evaluation.model_copy(update={"cache_dir": None})
    wanted = "embedded" in (data.train_data_dir, evaluation.references)
    with tempfile.TemporaryDirectory() as name:
        if wanted and not collection_folder().exists():
            place = write_collection(Path(name) / "collection")
            if data.train_data_dir == "embedded":
                data = data.model_copy(update={"train_data_dir": str(place / "train")})
            if evaluation.references == "embedded":
                evaluation = evaluation.model_copy(update={"references": str(place / "references")})
        yield config.model_copy(update={"data": data, "evaluation": evaluation})


def _lora_steps(
    config: LoraExperiment, pipeline: Any, sources: Sources, items: Sequence[CaptionedImage], accelerator: Any
) -> tuple[Timing, tuple[int, ...], tuple[int, ...]]:
    """Train a few steps on as many images as they need; also the shapes of a whole batch's latents and text."""
    from fashion_ml.models.text_encoding import Tokens
    from fashion_ml.training.lora_inputs import prepare_inputs
    from fashion_ml.training.lora_loop import timed_steps

    training = config.training
    enough = training.train_batch_size * training.gradient_accumulation_steps * _STEPS
    some = config.model_copy(update={"data": config.data.model_copy(update={"validation_split": 0.0})})
    inputs, _ = prepare_inputs(some, pipeline, items[:enough], sources.prior[:enough], accelerator, masks=sources.masks)
    batches = list(inputs.batches(1))
    largest = max(batches, key=lambda batch: batch.latents.numel())
    text = largest.text.ids if isinstance(largest.text, Tokens) else largest.text
    seconds = list(timed_steps(some, pipeline, inputs, accelerator, most=_STEPS, seconds=_SECONDS))
    timing = Timing.of(seconds, training.max_train_steps, str(accelerator.device.type))
    size = training.train_batch_size
    return timing, (size, *largest.latents.shape[1:]), (size, *text.shape[1:])


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _memory_line(memory: MemoryEstimate, batch: str) -> str:
    gib = memory.to_dict()
    return (
        f"GPU memory: about {gib['peak_gib']:.2f} GiB at the peak of a training step ({batch}; weights {gib['weights_gib']:.2f}, optimiser's "
        f"states {gib['states_gib']:.2f}), an estimate from one step without numbers; CUDA itself takes some 0.5 GiB more"
    )


def dry_run_stargan(config: StarganExperiment, *, new: bool = False) -> DryRun:
    """Check all of a StarGAN experiment, say its data, train a few steps that leave nothing; return what a training would do. InputError."""
    from accelerate import Accelerator

    from fashion_ml.runs.data_summary import say_latents
    from fashion_ml.runs.stargan import check_measuring
    from fashion_ml.runs.stargan_inputs import checked_vae, embedded_latents_are_there, read_latent_set, stargan_inputs
    from fashion_ml.training.first_lines import stargan_lines
    from fashion_ml.training.precision import check_precision
    from fashion_ml.training.stargan_loop import stargan_memory, timed_gan_steps

    begin(config, resume="", new=new)
    accelerator = Accelerator()
    check_precision(config.training.mixed_precision, accelerator.device.type)
    with tempfile.TemporaryDirectory() as name:
        outputs = Path("outputs") if embedded_latents_are_there() else Path(name)
        latents = read_latent_set(config, str(accelerator.device), outputs)
        inputs = stargan_inputs(config, latents, accelerator)
        checked_vae(config, latents, accelerator.device)
        check_measuring(config, inputs)
        data = say_latents(latents, inputs.held)
        per_epoch, epochs = inputs.steps_per_epoch, config.training.epochs
        files = kept_files(config, epochs * per_epoch, per_epoch)
        held = {domain.name: len(some) for domain, some in zip(latents.domains, inputs.held, strict=True)}
        measured = measured_stargan(config, held)
        timed = timed_gan_steps(config, inputs, accelerator, most=_STEPS, seconds=_SECONDS)
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
    batch = f"batch of {config.training.batch_size} latents {_by(latents.shape)}, with the gradient penalty"
    lines += [kept_line(files), measured_stargan_line(measured), timing.line(), _memory_line(memory, batch)]
    return DryRun(facts, lines, timing, memory)
