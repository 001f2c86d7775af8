"""Which experiment a training without --config is: the embedded world's, or its base's family's where base or data are the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.config import SHORT_NAMES, STARGAN_SHORT_NAMES, LoraExperiment, StarganExperiment
from fashion_ml.config.shipped_files import default_experiment
from fashion_ml.embedded.collection import is_collection
from fashion_ml.errors import InputError
from fashion_ml.runs.warm_start import is_there
from fashion_ml.runtime.console import say
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr

_EMBEDDED = "embedded"
_LORA, _LORA_SD15 = "experiments/lora/embedded.yaml", "experiments/lora/sd15_fashion.yaml"
_STARGAN, _STARGAN_SD15 = "experiments/stargan/embedded.yaml", "experiments/stargan/sd15_latent.yaml"


def lora_experiment(given: Mapping[str, Any]) -> Path:
    """The file for the settings that were given, by path or short name; which it is, is said unless all is embedded.

    Its base decides: one on disk by its family, a hub id is taken for Stable Diffusion 1.5's, for nothing is fetched yet. Where none is given,
    images of one's own are none for the toy.
    """
    settings = _by_path(given, SHORT_NAMES)
    base, data = settings.get("model.base"), settings.get("data.train_data_dir", _EMBEDDED)
    if base == _EMBEDDED or (base is None and is_collection(data)):
        return _taken(_LORA, told=not is_collection(data))
    return _taken(_of_family(str(base)) if base is not None and is_there(str(base)) else _LORA_SD15, told=True)


def stargan_experiment(given: Mapping[str, Any]) -> Path:
    """As `lora_experiment`; latents that say which VAE made them are of that one where none is given."""
    settings = _by_path(given, STARGAN_SHORT_NAMES)
    latents = settings.get("data.latents_dir", _EMBEDDED)
    vae = settings.get("model.vae") or _vae_of(latents)
    return _taken(_STARGAN, told=latents != _EMBEDDED) if vae == _EMBEDDED else _taken(_STARGAN_SD15, told=True)


def check_named(experiment: LoraExperiment | StarganExperiment, given: Mapping[str, Any]) -> None:
    """InputError for a base, a VAE or an encoder of an experiment taken without --config that would be fetched though nobody named it.

    `given` are the settings of the command, by path or short name. Data that are not there are left to what reads them, which is before
    anything is fetched.
    """
    evaluation = experiment.evaluation
    if isinstance(experiment, LoraExperiment):
        names, path, value, data = SHORT_NAMES, "model.base", experiment.model.base, experiment.data.train_data_dir
        measured = evaluation.enabled or experiment.training.performance_check_interval is not None
    else:
        names, path, value, data = STARGAN_SHORT_NAMES, "model.vae", experiment.model.vae, experiment.data.latents_dir
        measured = evaluation.enabled
    if data not in (None, _EMBEDDED) and not (is_there(data) and Path(data).expanduser().is_dir()):
        return
    settings, why = _by_path(given, names), tr("is not given, and nothing is fetched that nobody named")
    problems = []
    if value != _EMBEDDED and path not in settings:
        problems.append(
            tr(
                "{path}: {why}; give --{partition} with a folder, a .safetensors file, or a hub id ({value})",
                path=path,
                why=why,
                partition=path.partition(".")[2],
                value=value,
            )
        )
    if measured and evaluation.encoder != _EMBEDDED and not {"evaluation.encoder", "evaluation.without"} & settings.keys():
        problems.append(
            tr(
                "evaluation.encoder: {why}; give --encoder with local-dir:FOLDER or a hub id ({encoder}), or "
                "--without fashion_clip",
                why=why,
                encoder=evaluation.encoder,
            )
        )
    if problems:
        raise InputError(problems)


def _by_path(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name.replace("-", "_"), name): value for name, value in given.items() if value not in ("", None)}


def _vae_of(latents: str) -> str:
    """`embedded` for the embedded latents and those that say so; empty where nothing is known."""
    if latents == _EMBEDDED:
        return _EMBEDDED
    try:
        return str(parsed(read_whole(Path(latents).expanduser() / "manifest.json"))["vae"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # reading the latents says what is wrong
        return ""


def _of_family(base: str) -> str:
    """The experiment for a base on disk; Stable Diffusion 1.5's for what is none, which loading it says."""
    from fashion_ml.models.stable_diffusion import family_on_disk

    try:
        return family_on_disk(base).experiment
    except InputError:
        return _LORA_SD15


def _taken(name: str, *, told: bool) -> Path:
    if told:
        say(
            tr(
                "No --config, so the experiment is {name}, which came with fashion_ml; every setting of it can be given",
                name=name,
            )
        )
    return default_experiment(name)
