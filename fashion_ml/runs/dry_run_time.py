"""How long a training would take, from a few of its real steps: of sizes between which those of the others lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.config import LoraExperiment
    from fashion_ml.data.lora_batches import StepInputs

STEPS, SECONDS = 8, 20.0
"""Steps that are really trained at most, and the seconds after which no other is begun."""
_WARM_UP = 1


@dataclass(frozen=True)
class Timing:
    """What a few real steps took."""

    step_seconds: float
    """Of a step in the mean over the training; of a StarGAN with its share of the gradient penalty, which few steps compute."""
    steps: int
    """How many count; those before them, in which memory is taken and kernels are chosen, do not."""
    training_seconds: float
    """Of all steps of the training, and of nothing else."""
    device: str
    sizes: int = 1
    """Of how many different sizes the steps are that count."""

    @classmethod
    def of(cls, seconds: Sequence[float], total: int, device: str, more: float = 0.0) -> Timing:
        """For a training of `total` steps of one size, which take `more` seconds each, in the mean, than those that were measured."""
        counted = seconds[_WARM_UP:]
        each = median(counted) + more
        return cls(each, len(counted), each * total, device)

    @classmethod
    def over(cls, seconds: Mapping[int, Sequence[float]], sizes: Sequence[int], total: int, device: str) -> Timing:
        """For a training whose steps have these `sizes`, in latent cells, over and over; `seconds` are those of the sizes that were measured.

        Sizes between two that were measured take what lies between, others in proportion to the nearest.
        """
        counted = {size: each[_WARM_UP:] or each for size, each in sorted(seconds.items())}
        known, times = np.array(list(counted)), np.array([median(each) for each in counted.values()])
        given = np.clip(sizes, known[0], known[-1])
        step = float(mean(np.interp(given, known, times) * np.asarray(sizes) / given))
        return cls(step, sum(map(len, counted.values())), step * total, device, len(counted))

    def line(self) -> str:
        """The estimate, and from what."""
        sizes = "" if self.sizes == 1 else tr(" of {sizes} sizes, weighted by how often each comes", sizes=self.sizes)
        return tr(
            "Time: about {duration} for the steps alone on {device}, {step_seconds:.3g} s each (from {steps} "
            "real steps{sizes}; the first of a size does not count); encoding, saving, samples and evaluation "
            "come on top",
            duration=duration(self.training_seconds),
            device=self.device,
            step_seconds=self.step_seconds,
            steps=self.steps,
            sizes=sizes,
        )


@dataclass(frozen=True)
class Sizes:
    """The batches of a training, as far as their sizes go."""

    of_steps: Sequence[int]
    """Latent cells of each step of an epoch, or of all steps where those are fewer."""
    largest: tuple[int, int, int, int]
    """The shape of the latents of the batch that needs most memory."""

    @classmethod
    def of(cls, inputs: StepInputs, steps: int) -> Sizes:
        """Of a training of so many steps."""
        shapes = [inputs.shapes(step) for step in range(1, min(steps, inputs.plan.steps_per_epoch) + 1)]
        largest = max((one for of_step in shapes for one in of_step), key=math.prod)
        return cls([sum(rows * h * w for rows, _, h, w in of_step) for of_step in shapes], largest)

    def spread(self) -> list[int]:
        """A step of the size nearest to the mean, one of the largest and one of the smallest size, as far as they differ; counted from 1."""
        middle = mean(self.of_steps)
        wanted = (min(self.of_steps, key=lambda size: abs(size - middle)), max(self.of_steps), min(self.of_steps))
        return [self.of_steps.index(size) + 1 for size in dict.fromkeys(wanted)]


def timed(config: LoraExperiment, pipeline: Any, inputs: StepInputs, accelerator: Any, whole: Sizes) -> Timing:
    """Train a few steps, and what a training with steps of the sizes `whole` takes by that; those of `inputs` may be shorter."""
    from fashion_ml.training.lora_timing import timed_steps

    sizes = Sizes.of(inputs, config.training.max_train_steps)
    chosen, began, found = sizes.spread(), monotonic(), dict[int, list[float]]()
    for step in chosen:  # what a training encodes ahead
        for _ in inputs.batches(step):
            pass

    def order() -> Iterator[int]:
        """Each twice, for the first of a size does not count, then over again."""
        twice = [step for step in chosen for _ in range(2)]
        for number in range(STEPS):
            if number > 1 and monotonic() - began > SECONDS:
                return
            yield twice[number % len(twice)]

    for step, seconds in timed_steps(config, pipeline, inputs, accelerator, order()):
        found.setdefault(sizes.of_steps[step - 1], []).append(seconds)
    return Timing.over(found, whole.of_steps, config.training.max_train_steps, str(accelerator.device.type))
