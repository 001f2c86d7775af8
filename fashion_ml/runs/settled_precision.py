"""What `training.mixed_precision: auto` is on this machine, or was when the run began."""

from __future__ import annotations

from typing import TypeVar

from fashion_ml.config import LoraExperiment, StarganExperiment
from fashion_ml.runs.resume import config_of
from fashion_ml.runs.run_folder import RunFolder
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.console import say

E = TypeVar("E", LoraExperiment, StarganExperiment)


def with_settled_precision(config: E, earlier: RunFolder | None = None, *, tell: bool = True) -> E:
    """The experiment with no, fp16 or bf16 where it says auto: that of the run that it goes on with, else what suits this machine; it is said.

    All that comes after, the run's own config among it, knows the precision that was trained in and never auto.
    """
    if config.training.mixed_precision != "auto":
        return config
    found: str
    if earlier is not None:
        found, why = config_of(earlier.path, type(config)).training.mixed_precision, "as the run began"
    else:
        from fashion_ml.evaluation.instruments import device_of_evaluation
        from fashion_ml.training.precision import settled

        device = device_of_evaluation()
        found, why = settled("auto", device), "for this GPU" if device == "cuda" else "for there is no GPU"
    config = config.model_copy(update={"training": config.training.model_copy(update={"mixed_precision": found})})
    if tell and is_main():
        say(f"training.mixed_precision: auto is {config.training.mixed_precision} here, {why}")
    return config
