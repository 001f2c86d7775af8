"""Whether options of sd-scripts are of a training of SDXL, and by what that is seen; and what SDXL's script does not heed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from fashion_ml.config.kohya.blocks import sdxl_by_blocks
from fashion_ml.config.kohya.values import assignments_of, is_nothing, is_true
from fashion_ml.runtime.language import tr

_SWITCHES = ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "disable_mmap_load_safetensors")
"""Of sdxl_train_network.py and not of train_network.py."""
_OF_OTHERS = ("ae", "apply_t5_attn_mask", "clip_l", "clip_g", "t5xxl", "gemma2", "qwen3", "flux1_checkbox", "sd3_checkbox")
"""Of the scripts of Flux, SD 3 and later models, which have those switches too."""
_PLACE = re.compile(r"sd[-_ ]?xl|stable-diffusion-xl", re.IGNORECASE)
"""Anywhere in the path of a base or VAE of SDXL: `sd_xl_base`, `models/SDXL/illustrious.safetensors`."""
_NAME = re.compile(r"XL(?![a-z])|(?<![a-zA-Z])xl(?![a-zA-Z])")
"""Of a file or folder that is called one of SDXL: `animagine-xl-3.1`, `ponyDiffusionV6XL`."""
OfBase = Callable[[str], tuple[str, bool] | None]
"""Of the base that options name (empty where they name none): the base that is trained, and whether it is one of SDXL by what is in it; None
of one that is not here."""


@dataclass(frozen=True)
class Kind:
    """Which of sd-scripts' two programs a training is for."""

    sdxl: bool
    why: str
    """In words; empty where a script, a form or the user says it."""

    def line(self) -> str:
        """What is said of it."""
        kind = "Stable Diffusion XL" if self.sdxl else tr("Stable Diffusion 1.x or 2.x")
        return tr("read as a training of {kind}: {why}", kind=kind, why=self.why) if self.why else ""


def kind_of(options: Mapping[str, Any], told: bool | None, of_base: OfBase | None) -> Kind:
    """By what is `told`, what is in the base, what only one of the two has among the options, and what base and VAE are called; else 1.x or
    2.x."""
    if told is not None:
        return Kind(told, "")
    found = of_base(str(options.get("pretrained_model_name_or_path") or "")) if of_base else None
    if found is not None:
        return Kind(found[1], tr("its base {base} is one", base=found[0]))
    witness = _witness(options)
    if witness is not None:
        return witness
    return Kind(
        False,
        tr(
            "no script, option or base here says which; `import --sdxl`, sdxl = true in the file, or `train lora --base` with one "
            "that is here does"
        ),
    )


def _witness(options: Mapping[str, Any]) -> Kind | None:
    """What only a training of one of them has: a switch, a rate for each of two text encoders, numbers of blocks, or a base or VAE of its
    name."""
    switch = next((name for name in _SWITCHES if is_true(options.get(name))), None)
    if switch is not None:
        return Kind(True, tr("{option} is for it alone", option=switch))
    rates = options.get("text_encoder_lr")
    if isinstance(rates, (list, tuple)) and len(rates) > 1:
        return Kind(True, tr("{option} is for it alone", option=tr("text_encoder_lr of two text encoders")))
    try:
        blocks = sdxl_by_blocks(assignments_of("network_args", options.get("network_args", [])))
    except ValueError:  # which the settings of the network say
        blocks = None
    names = (str(options.get(name) or "") for name in ("pretrained_model_name_or_path", "vae"))
    called = next(filter(None, map(_called, names)), None)
    if blocks is not None and (blocks.exact or called is None):
        return Kind(blocks.sdxl, tr("{option} is for it alone", option=blocks.option))
    return Kind(True, tr("{name} is called so", name=called)) if called is not None else None


def _called(path: str) -> str | None:
    """What of a base's or VAE's path is called one of SDXL: the file's name, else all of it."""
    name = PureWindowsPath(path).name
    if _PLACE.search(name) or _NAME.search(name):
        return name
    return path if _PLACE.search(path) else None


def tells_another(options: Mapping[str, Any]) -> bool:
    """Whether options have what only trainings of other models have."""
    return any(not is_nothing(options.get(name)) for name in _OF_OTHERS) or is_true(options.get("v2"))


def drop_what_sdxl_has_not(options: dict[str, Any], notes: list[str]) -> None:
    """Leave out what sdxl_train_network.py takes and does not heed, with a note."""
    skip = options.pop("clip_skip", None)
    if not is_nothing(skip) and skip != 2:
        notes.append(
            tr(
                "clip_skip {skip}: sd-scripts reads SDXL's captions from the second to last layer whatever it is, and so does this",
                skip=skip,
            )
        )
