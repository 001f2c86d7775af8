"""A base with a LoRA file on it: loading, the LoRA's strength, what tells one base from another, and how the file was trained."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.models.kohya_format import load_lora, read_lora, read_metadata, spec_of
from fashion_ml.models.lora import add_lora
from fashion_ml.models.stable_diffusion import find_base, quiet_libraries
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import WEIGHTS

_LORA = (".lora_down.weight", ".lora.down.weight", "_lora.down.weight", ".lora_A.weight", ".lora_A.default.weight")
"""How the first matrix of a module is called by kohya, diffusers and PEFT."""


def put_lora(pipeline: Any, path: Path) -> None:
    """The LoRA file on the pipeline: through diffusers, as users load it, but for DoRA, whose magnitudes diffusers leaves out.

    InputError when the file is none, holds NaN, or has a module that the base does not have.
    """
    tensors = read_lora(path, "lora")
    try:
        if any(name.endswith(".dora_scale") for name in tensors):
            spec = spec_of(tensors)
            add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=0)
            load_lora(path, pipeline.unet, pipeline.text_encoder, spec)
            return
        with quiet_libraries():
            if path.suffix == ".safetensors":
                pipeline.load_lora_weights(str(path.parent), weight_name=path.name)
            else:  # diffusers takes another case of the ending for a pickled file
                pipeline.load_lora_weights(tensors)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(
            f"lora: {str(path)!r} does not fit this base ({first_line(error)}); use a LoRA trained on it"
        ) from error
    held = sum(name.endswith(_LORA) for name in tensors)
    on = sum(hasattr(module, "lora_A") for model in (pipeline.unet, pipeline.text_encoder) for module in model.modules())
    if on != held:
        raise InputError(f"lora: {str(path)!r} has {held} modules, of which this base has {on}; use a LoRA trained on it")


def set_strength(pipeline: Any, strength: float) -> None:
    """Scale the update of every LoRA layer; 0 is the base, 1 the LoRA as it was trained."""
    for model in (pipeline.unet, pipeline.text_encoder):
        for module in model.modules():
            if hasattr(module, "set_scale") and hasattr(module, "lora_A"):
                for adapter in module.lora_A:
                    module.set_scale(adapter, strength)


@lru_cache(maxsize=8)
def base_identity(base: str) -> str:
    """What tells one base from another without reading gigabytes: its name, and sizes and times of its weight files."""
    path = Path(find_base(base))
    if not path.exists():
        return base
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.suffix.lower() in WEIGHTS)
    found = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return f"{base} {hashlib.sha256(' '.join(found).encode()).hexdigest()}"


def trained_with(lora: Path) -> dict[str, Any]:
    """How a LoRA was trained as its file says it (kohya's metadata): the images' sizes, how captions were read; empty where it says nothing."""
    told = read_metadata(lora)
    side = re.match(r"\((\d+), \1\)", told.get("ss_resolution", ""))
    found: dict[str, Any] = {"data.resolution": int(side[1])} if side else {}
    if told.get("ss_enable_bucket", "").lower() == "true":
        sides = {
            f"data.{name}": int(told[f"ss_{name}"])
            for name in ("min_bucket_reso", "max_bucket_reso")
            if told.get(f"ss_{name}", "").isdecimal()  # kohya writes None where buckets have no bound
        }
        no_upscale = told.get("ss_bucket_no_upscale", "").lower() == "true"
        found |= {"data.enable_bucket": True, "data.bucket_no_upscale": no_upscale, **sides}
    if told.get("ss_max_token_length", "") in ("150", "225"):
        found["data.max_token_length"] = int(told["ss_max_token_length"])
    if told.get("ss_clip_skip", "").isdecimal():
        found["model.clip_skip"] = int(told["ss_clip_skip"])
    if told.get("ss_weighted_captions") == "True":
        found["data.weighted_captions"] = True
    return found
