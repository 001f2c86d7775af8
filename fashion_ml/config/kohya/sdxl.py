"""Whether options of sd-scripts are of a training of SDXL, where no script is named, and what SDXL's script does not heed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fashion_ml.config.kohya.values import is_nothing, is_true
from fashion_ml.runtime.language import tr

_SWITCHES = ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "disable_mmap_load_safetensors")
"""Of sdxl_train_network.py and not of train_network.py."""
_OF_OTHERS = ("ae", "apply_t5_attn_mask", "clip_l", "clip_g", "t5xxl", "gemma2", "qwen3", "flux1_checkbox", "sd3_checkbox")
"""Of the scripts of Flux, SD 3 and later models, which have those switches too."""
_NAME = re.compile(r"sd[-_ ]?xl|stable-diffusion-xl", re.IGNORECASE)


def tells_sdxl(options: Mapping[str, Any]) -> bool:
    """Whether options have what only a training of SDXL has: a switch, a rate for each of two text encoders, or a base or VAE of its name."""
    rates = options.get("text_encoder_lr")
    named = (str(options.get(name) or "") for name in ("pretrained_model_name_or_path", "vae"))
    return (
        any(is_true(options.get(name)) for name in _SWITCHES)
        or (isinstance(rates, (list, tuple)) and len(rates) > 1)
        or any(_NAME.search(name) for name in named)
    )


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
