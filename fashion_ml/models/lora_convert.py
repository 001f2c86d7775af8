"""A LoRA file in any names as one in kohya's, which every program reads: the same modules, with each alpha in a tensor."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import FittedLora, fit_lora
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.families.known import FAMILIES
from fashion_ml.models.lora_delta import rank_of
from fashion_ml.models.lora_forms import LoraForm
from fashion_ml.models.single_file import CONFIGS
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr

_KINDS = {family.short: family for family in FAMILIES} | {"unknown": FAMILIES[0]}


def fit_without_base(path: Path, form: LoraForm) -> FittedLora:
    """A file beside the base that its form names, of which no weights are needed. InputError when it fits none of SD 1.x, 2.x and XL."""
    what = f"file: {str(path)!r}"
    if form.base not in _KINDS or (form.width and form.base == "unknown"):
        reads = tr(" (cross-attention of {width} numbers)", width=form.width) if form.width else ""
        raise InputError(
            tr(
                "{what} is {title}{reads}; name its base with --base, of Stable Diffusion 1.x, 2.x or XL",
                what=what,
                title=form.title,
                reads=reads,
            )
        )
    family = _KINDS[form.base]
    folder, models = CONFIGS / family.name, ("unet", *(part.model for part in family.texts))
    parts = {part: json.loads(read_whole(folder / part / "config.json")) for part in models}
    pipeline: Any = SimpleNamespace(**{part: empty_model(part, config, what) for part, config in parts.items()})
    return fit_lora(pipeline, path)


def kohya_tensors(fitted: FittedLora) -> dict[str, torch.Tensor]:
    """The file's modules in kohya's names: `lora_down.weight` [r, in, …], `lora_up.weight` [out, r, …], `dora_scale` [out, 1, …], LyCORIS'
    parts by their own names, and `alpha`. A scale that has no rank to go by is in the first factor."""
    tensors: dict[str, torch.Tensor] = {}
    for module, parts in fitted.file.modules.items():
        shape, rank, alpha = fitted.targets[module].shape, rank_of(parts), fitted.alphas[module]
        parts = {name: tensor for name, tensor in parts.items() if name != "alpha"}
        if "down" in parts and "mid" not in parts:
            parts["down"] = parts["down"].reshape(-1, *shape[1:])
            parts["up"] = parts["up"].reshape(shape[0], -1, *[1] * (len(shape) - 2))
        if "dora_scale" in parts:
            parts["dora_scale"] = parts["dora_scale"].reshape(-1, *[1] * (len(shape) - 1))
        if rank is None and alpha != 1:
            first = next(iter(parts))
            parts[first] = parts[first].float() * alpha
        names = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"}
        tensors |= {f"{module}.{names.get(name, name)}": tensor for name, tensor in parts.items()}
        if rank is not None:
            tensors[f"{module}.alpha"] = torch.tensor(float(alpha))
        elif "oft_blocks" in parts:  # what Q is held to, 0 where it is free
            tensors[f"{module}.alpha"] = fitted.file.modules[module].get("alpha", torch.tensor(0.0)).float()
    return dict(sorted(tensors.items()))
