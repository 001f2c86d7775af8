"""What `training.mixed_precision: auto` is on this machine, or was when the run began; and what else may say auto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.runs.resume import config_of
from fashion_ml.runs.run_folder import RunFolder
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

E = TypeVar("E", LoraExperiment, StarganExperiment)

AUTO = "auto"
TRAINED_IN, MEASURED_IN = "training.mixed_precision", "evaluation.precision"
PATHS = (TRAINED_IN, MEASURED_IN)
"""Settings that may say auto, which is no precision of its own: what it is on a machine has the same recipe and fingerprint."""


def with_settled_precision(config: E, earlier: RunFolder | None = None, *, tell: bool = True) -> E:
    """The experiment with no, fp16 or bf16 where it says auto: that of the run that it goes on with, else what suits this machine; it is said.

    All that comes after, the run's own config among it, knows the precision that was trained in and never auto.
    """
    if config.training.mixed_precision != "auto":
        return config
    found: str
    if earlier is not None:
        found, why = config_of(earlier.path, type(config)).training.mixed_precision, tr("as the run began")
    else:
        found = precision_here(TRAINED_IN, AUTO, type(config))
        why = tr("for training is on the CPU") if found == "no" else tr("for this GPU")
    config = config.model_copy(update={"training": config.training.model_copy(update={"mixed_precision": found})})
    if tell and is_main():
        say(
            tr(
                "training.mixed_precision: auto is {mixed_precision} here, {why}",
                mixed_precision=config.training.mixed_precision,
                why=why,
            )
        )
    return config


def precision_here(path: str, value: str, kind: type[LoraExperiment] | type[StarganExperiment]) -> str:
    """What a setting of PATHS means on this machine: its value, or what `auto` is."""
    if value != AUTO:
        return value
    from fashion_ml.evaluation.instruments import device_of_evaluation
    from fashion_ml.training.precision import settled

    found = settled(AUTO, device_of_evaluation())
    # a GPU without bf16: a VAE alone, which is what a StarGAN's evaluation lowers, overflows in fp16
    return "no" if path == MEASURED_IN and found == "fp16" and issubclass(kind, StarganExperiment) else found


def settled_among(experiments: Mapping[str, E]) -> dict[str, E]:
    """Experiments of which one says auto where another names a precision, with what auto is on this machine, so that they can be compared."""
    found = dict(experiments)
    for path in PATHS:
        section, _, key = path.partition(".")
        values = {name: getattr(getattr(one, section), key) for name, one in found.items()}
        if AUTO in values.values() and len(set(values.values())) > 1:
            for name, one in found.items():
                here = getattr(one, section).model_copy(update={key: precision_here(path, values[name], type(one))})
                found[name] = one.model_copy(update={section: here})
    return found
