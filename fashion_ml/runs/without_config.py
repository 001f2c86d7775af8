"""Which experiment a training without --config is: the embedded world's, or Stable Diffusion 1.5's where base or data are the user's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.config import SHORT_NAMES, STARGAN_SHORT_NAMES
from fashion_ml.config.shipped_files import default_experiment
from fashion_ml.embedded.collection import is_collection
from fashion_ml.runtime.console import say

_EMBEDDED = "embedded"
_LORA, _LORA_SD15 = "experiments/lora/embedded.yaml", "experiments/lora/sd15_fashion.yaml"
_STARGAN, _STARGAN_SD15 = "experiments/stargan/embedded.yaml", "experiments/stargan/sd15_latent.yaml"


def lora_experiment(given: Mapping[str, Any]) -> Path:
    """The file for the settings that were given, by path or short name; which of the two it is, is said unless all is embedded.

    Its base decides; where none is given, images of one's own are none for the toy.
    """
    settings = _by_path(given, SHORT_NAMES)
    base, data = settings.get("model.base"), settings.get("data.train_data_dir", _EMBEDDED)
    if base == _EMBEDDED or (base is None and is_collection(data)):
        return _taken(_LORA, told=not is_collection(data))
    return _taken(_LORA_SD15, told=True)


def stargan_experiment(given: Mapping[str, Any]) -> Path:
    """As `lora_experiment`; latents that say which VAE made them are of that one where none is given."""
    settings = _by_path(given, STARGAN_SHORT_NAMES)
    latents = settings.get("data.latents_dir", _EMBEDDED)
    vae = settings.get("model.vae") or _vae_of(latents)
    return _taken(_STARGAN, told=latents != _EMBEDDED) if vae == _EMBEDDED else _taken(_STARGAN_SD15, told=True)


def _by_path(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name.replace("-", "_"), name): value for name, value in given.items() if value not in ("", None)}


def _vae_of(latents: str) -> str:
    """`embedded` for the embedded latents and those that say so; empty where nothing is known."""
    if latents == _EMBEDDED:
        return _EMBEDDED
    try:
        return str(json.loads((Path(latents).expanduser() / "manifest.json").read_text(encoding="utf-8"))["vae"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # reading the latents says what is wrong
        return ""


def _taken(name: str, *, told: bool) -> Path:
    if told:
        say(f"No --config, so the experiment is {name}, which came with fashion_ml; every setting of it can be given")
    return default_experiment(name)
