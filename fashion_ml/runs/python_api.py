"""The trainings as functions of a notebook: settings in any form that `load_config` takes, a folder, and no MLflow unless it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fashion_ml.config import LoraExperiment, StarganExperiment, load_experiment, paths_given
from fashion_ml.errors import in_pythons_words

if TYPE_CHECKING:
    from fashion_ml.runs.lora import LoraOutcome
    from fashion_ml.runs.stargan import StarganOutcome

Experiment = TypeVar("Experiment", LoraExperiment, StarganExperiment)


def train_lora(
    experiment: LoraExperiment | str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    new: bool = False,
    track: bool = False,
) -> LoraOutcome:
    """Train a LoRA and, unless `evaluation.enabled` is false, measure it against the base.

    `experiment` is a config, the path of a YAML file, or a mapping of settings; `overrides` are laid over it. Files go to `folder`, else to the
    experiment's `output.output_dir`, else below `outputs/`. With `resume` the unfinished run there goes on, with `new` what is there is moved
    aside. With `track` everything is logged to an MLflow run too, as the command line does.

    Returns where the files are (`folder`), what was trained (`trained`: path, losses, seconds) and what was measured (`evaluation`, None when
    that is off). InputError, with every problem at once, for what is wrong with settings or data.
    """
    from fashion_ml.runs.lora import run_lora

    with in_pythons_words(_words(folder)):
        config = _config(experiment, overrides, folder, LoraExperiment)
        chosen = paths_given(overrides or {}, LoraExperiment)
        outcome = run_lora(config, resume="latest" if resume else "", new=new, track=track, chosen=chosen)
    assert outcome is not None  # None is for the processes beside the main one, which only the command line has
    return outcome


def train_stargan(
    experiment: StarganExperiment | str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    new: bool = False,
    track: bool = False,
) -> StarganOutcome:
    """As `train_lora`, for a StarGAN."""
    from fashion_ml.runs.stargan import run_stargan

    with in_pythons_words(_words(folder)):
        config = _config(experiment, overrides, folder, StarganExperiment)
        chosen = paths_given(overrides or {}, StarganExperiment)
        outcome = run_stargan(config, resume="latest" if resume else "", new=new, track=track, chosen=chosen)
    assert outcome is not None
    return outcome


def _words(folder: str | Path | None) -> dict[str, str]:
    """What options of the command line are called here; a folder that was given is not called by its setting."""
    place = {} if folder is None else {"output.output_dir": "folder"}
    return {"--new": "new=True", "--resume": "resume=True", "--no-evaluate": '"evaluation.enabled": False', **place}


def _config(
    experiment: Experiment | str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    folder: str | Path | None,
    kind: type[Experiment],
) -> Experiment:
    given = {**(overrides or {}), **({"output_dir": str(folder)} if folder is not None else {})}
    return load_experiment(experiment, given, kind)
