"""LoRA files in kohya's key layout: written, read, checked against a base."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.lora import TEXT_ENCODER, LoraSpec, is_convolution, modules_ending_in, unet_targets
from fashion_ml.models.lora_forms import dora_axis, recognise
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.loaded_weights import check_finite
from fashion_ml.runtime.weight_files import is_safetensors, not_there, read_header, read_tensors

_PARTS = ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")
"""What a module may have in a file; the first two it must have."""
_OF_LORA = re.compile(r"lora|^(unet|text_encoder):\d+:|\.(hada|lokr|oft|boft)_\w+|\.diff(_b)?$|\.(up|down)\.weight$")
_OF_BASE = re.compile(
    r"(model\.diffusion_model|first_stage_model|cond_stage_model|(unet\.)?(down_blocks|conv_in)|(\w+\.)?text_model|encoder)\."
)


def lora_tensors(unet: Any, text_encoder: Any, spec: LoraSpec) -> dict[str, torch.Tensor]:
    """The LoRA in kohya's names: `<module>.lora_down.weight` [r, in, ...], `.lora_up.weight` [out, r, ...], `.alpha` 0-d, and for DoRA
    `.dora_scale` [out, 1, ...]; CPU, float32."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in _lora_modules(unet, text_encoder if spec.train_text_encoder else None):
        tensors[f"{name}.lora_down.weight"] = _plain(module.lora_A["default"].weight)
        tensors[f"{name}.lora_up.weight"] = _plain(module.lora_B["default"].weight)
        tensors[f"{name}.alpha"] = torch.tensor(float(spec.file_alpha(is_convolution(module))))
        if spec.use_dora:
            magnitude = _plain(module.lora_magnitude_vector["default"].weight)
            tensors[f"{name}.dora_scale"] = magnitude.reshape(-1, *[1] * (module.get_base_layer().weight.dim() - 1))
    return dict(sorted(tensors.items()))


@torch.no_grad()
def load_lora(path: Path, unet: Any, text_encoder: Any, spec: LoraSpec) -> None:
    """Continue from a LoRA file in kohya's layout: the model with the fresh LoRA on it then computes what the file says.

    Another alpha in the file is folded into lora_up. InputError as check_lora.
    """
    check_lora(path, unet, text_encoder, spec)
    tensors = read_tensors(path, "network.network_weights")
    for key, module in _lora_modules(unet, text_encoder if spec.train_text_encoder else None):
        down, up = tensors[f"{key}.lora_down.weight"].float(), tensors[f"{key}.lora_up.weight"].float()
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        alpha = tensors.get(f"{key}.alpha", torch.tensor(float(down.shape[0]))).item()
        a.copy_(down.view_as(a))
        b.copy_(up.view_as(b) * (alpha / spec.file_alpha(is_convolution(module))))
        if spec.use_dora:
            magnitude = module.lora_magnitude_vector["default"].weight
            magnitude.copy_(tensors[f"{key}.dora_scale"].view_as(magnitude))


def read_lora(path: Path, field: str) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA's .safetensors file. InputError, naming `field`, when it is not there, no LoRA but a base, or holds NaN or Inf."""
    if not path.is_file():
        raise not_there(str(path), field)
    what = f"{field}: {str(path)!r}"
    if not is_safetensors(path):
        raise InputError(f"{what} is no .safetensors file; such files can run code, convert it to .safetensors first")
    shapes = read_header(path, field).shapes
    if not any(_OF_LORA.search(name) for name in shapes):
        base = next((name for name in shapes if _OF_BASE.match(name)), None)
        raise InputError(
            f"{what} is no LoRA" + (f" but a base model (it holds {base})" if base else "") + "; give a LoRA's file"
        )
    tensors = read_tensors(path, field)
    check_finite(tensors, what)
    return tensors


def check_lora(path: Path, unet: Any, text_encoder: Any, spec: LoraSpec) -> None:
    """InputError, naming the setting to change, when a LoRA file cannot be continued from by `spec`: it is none in kohya's layout, or its
    rank, targets, shapes or magnitudes differ, or it holds NaN or Inf. The models may or may not have their LoRA yet."""
    name = f"network.network_weights: {str(path)!r}"
    tensors = read_lora(path, "network.network_weights")
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    ranks = {shape[0] for key, shape in shapes.items() if key.endswith(".lora_down.weight")}
    if not ranks:
        raise InputError(_other_form(name, shapes, read_metadata(path)))
    names = {key.partition(".")[0] for key in shapes}
    for key in sorted(shapes):
        module, _, part = key.partition(".")
        if part not in _PARTS or any(f"{module}.{needed}" not in shapes for needed in _PARTS[:2]):
            raise InputError(
                f"{name} holds {key}, which is no plain LoRA (LyCORIS, or damaged); give one of lora_down and lora_up"
            )
    weights = {module: tuple(weight.shape) for module, weight in target_weights(unet, text_encoder, spec)}
    _check_targets(name, names, set(weights))
    for module, weight in weights.items():
        down, up = shapes[f"{module}.lora_down.weight"], shapes[f"{module}.lora_up.weight"]
        if (math.prod(down[1:]), up[0]) != (math.prod(weight[1:]), weight[0]):
            raise InputError(f"{name} was made for another base ({module} has other shapes); choose the base it was trained on")
    _check_ranks(path, spec, shapes, {module for module, weight in weights.items() if weight[2:] == (3, 3)})
    inputs = next((key for key, shape in shapes.items() if key.endswith(".dora_scale") and dora_axis(shape) == "inputs"), None)
    if inputs is not None:
        raise InputError(
            f"{name} holds a magnitude for each input ({inputs}), LyCORIS' DoRA without wd_on_output, and here each output has one; give a "
            "file of the other kind, or merge it into its base with LyCORIS"
        )
    magnitudes = {key.partition(".")[0] for key in shapes if key.endswith(".dora_scale")}
    if spec.use_dora and magnitudes != names:
        raise InputError(f"network.use_dora: true, but {str(path)!r} has no magnitudes; set it to false")
    if magnitudes and not spec.use_dora:
        raise InputError(f"network.use_dora: false, but {str(path)!r} has magnitudes; set it to true")


def _check_ranks(path: Path, spec: LoraSpec, shapes: Mapping[str, tuple[int, ...]], convolutions: set[str]) -> None:
    for setting, is_conv, asked in (("network.rank", False, spec.rank), ("network.conv_rank", True, spec.rank_of(True))):
        ranks = sorted({
            shape[0]
            for key, shape in shapes.items()
            if key.endswith(".lora_down.weight") and (key.partition(".")[0] in convolutions) == is_conv
        })  # fmt: skip
        if len(ranks) > 1:
            kind = "convolutions" if is_conv else "modules"
            listed = ", ".join(map(str, ranks))
            raise InputError(
                f"network.network_weights: {str(path)!r} has {kind} of ranks {listed}, and here all have one; give a file of one rank"
            )
        if ranks and ranks != [asked]:
            raise InputError(f"{setting}: {asked}, but {str(path)!r} has rank {ranks[0]}; set it to {ranks[0]}")


def spec_of(tensors: Mapping[str, torch.Tensor]) -> LoraSpec:
    """The LoRA that a file in kohya's layout holds, from its names and shapes. ValueError when it is none, or ranks are mixed."""
    downs = {name.split(".")[0]: tensor for name, tensor in tensors.items() if name.endswith(".lora_down.weight")}
    if not downs:
        raise ValueError("holds no LoRA in kohya's layout")
    convolutions = {name for name, tensor in downs.items() if tuple(tensor.shape[2:]) == (3, 3)}
    sizes = []
    for part in (downs.keys() - convolutions, convolutions):
        ranks = {downs[name].shape[0] for name in part}
        alphas = {tensors[f"{name}.alpha"].item() for name in part if f"{name}.alpha" in tensors}
        if len(ranks) > 1 or len(alphas) > 1:
            raise ValueError(f"holds modules of different rank or alpha (ranks {sorted(ranks)}, alphas {sorted(alphas)})")
        rank = next(iter(ranks), None)
        sizes.append((rank, alphas.pop() if alphas else rank))
    (rank, alpha), of_convolutions = sizes[0] if sizes[0][0] is not None else sizes[1], sizes[1]
    assert rank is not None
    assert alpha is not None
    own = convolutions and of_convolutions != (rank, alpha)
    names = {name.split(".")[0] for name in tensors}

    def has(part: str) -> bool:
        return any(part in name for name in names if name.startswith("lora_unet_"))

    return LoraSpec(
        rank=rank,
        alpha=float(alpha),
        conv_rank=of_convolutions[0] if own else None,
        conv_alpha=of_convolutions[1] if own else None,
        feed_forward=has("_ff_net_"),
        projections=has("_proj_in"),
        convolutions=has("_conv"),
        train_text_encoder=any(name.startswith("lora_te_") for name in names),
        use_dora=any(name.endswith(".dora_scale") for name in tensors),
    )


def save_lora(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Write a LoRA atomically as .safetensors, with both of kohya's hashes in the metadata; the alphas stay float32."""
    from safetensors.torch import save

    kept = {name: tensor if name.endswith(".alpha") else tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    hashed = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content = save(kept, dict(hashed))
    hashes = {"sshs_model_hash": model_hash(content), "sshs_legacy_hash": legacy_hash(content)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(kept, {**metadata, **hashes}))


def model_hash(content: bytes) -> str:
    """Kohya's sshs_model_hash: SHA-256 of a .safetensors file after its header, so that metadata does not change it."""
    (header,) = struct.unpack("<Q", content[:8])
    return hashlib.sha256(content[8 + header :]).hexdigest()


def legacy_hash(content: bytes) -> str:
    """Kohya's sshs_legacy_hash: the first 8 digits of SHA-256 over 64 KiB at offset 1 MiB."""
    return hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file. InputError when it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"lora: {str(path)!r} cannot be read ({error}); give a LoRA .safetensors file") from None


def target_weights(unet: Any, text_encoder: Any, spec: LoraSpec) -> Iterator[tuple[str, torch.Tensor]]:
    """Kohya's name and the base's weight of each module that a spec trains, whether its LoRA is on already or not."""
    found = [("lora_unet_", unet, unet_targets(unet, spec))]
    if spec.train_text_encoder:
        found.append(("lora_te_text_model_", text_encoder, modules_ending_in(text_encoder, TEXT_ENCODER)))
    for prefix, model, names in found:
        for name in names:
            module = model.get_submodule(name)
            yield _kohya_name(prefix, name), getattr(module, "base_layer", module).weight


def _kohya_name(prefix: str, name: str) -> str:
    return prefix + name.removeprefix("text_model.").replace(".", "_")


def _lora_modules(unet: Any, text_encoder: Any) -> Iterator[tuple[str, Any]]:
    """Kohya's name and peft's layer of every module that has a LoRA."""
    for prefix, model in (("lora_unet_", unet), ("lora_te_text_model_", text_encoder)):
        for name, module in model.named_modules() if model is not None else ():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                yield _kohya_name(prefix, name), module


_SWITCHES = (
    ("lora_te_", "network.train_text_encoder"),
    ("_ff_net_", "network.feed_forward"),
    ("_proj_in", "network.projections"),
    ("_proj_out", "network.projections"),
    ("_conv", "network.convolutions"),
)


def _check_targets(name: str, in_file: set[str], ours: set[str]) -> None:
    for difference, state in ((in_file - ours, "true"), (ours - in_file, "false")):
        for key in sorted(difference):
            switch = next((setting for part, setting in _SWITCHES if part in key), None)
            held, why = (
                ("holds", "which nothing here trains on this base") if state == "true" else ("lacks", "which trains here")
            )
            fix = f"{key}; set {switch} to {state}" if switch else f"{key}, {why}; fashion-ml inspect says what the file is"
            raise InputError(f"{name} {held} {fix}")


def _other_form(name: str, shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> str:
    """What a file without kohya's lora_down is, and what to do with it."""
    form = recognise(shapes, metadata)
    if form is None:
        return f"{name} is no LoRA in kohya's layout; give one written by this trainer or by kohya's"
    return f"{name} is {form.title}, not LoRA in kohya's names; what can be done: {form.use}"


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().cpu().contiguous().clone()
