"""LoRA files in kohya's key layout: written, read, checked against a base."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.families.family import each
from fashion_ml.models.families.known import family_of_unet
from fashion_ml.models.kohya_faults import check_family, check_targets, check_whole, other_form
from fashion_ml.models.lora import LoraSpec, add_lora, sized_targets
from fashion_ml.models.lora_delta import alpha_in, method_of
from fashion_ml.models.lora_file import parts_by_module
from fashion_ml.models.lora_forms import dora_axis
from fashion_ml.models.lora_keys import setting_of
from fashion_ml.models.lora_sizes import Target
from fashion_ml.models.lora_starts import difference
from fashion_ml.models.lora_variants import LAYERS, METHODS, parts_of, put_parts
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import check_finite
from fashion_ml.runtime.weight_files import is_safetensors, not_there, read_header, read_tensors

_PARTS = ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")
"""What a module may have in a file; the first two it must have."""
_OF_LORA = re.compile(r"lora|^(unet|text_encoder):\d+:|\.(hada|lokr|oft|boft)_\w+|\.(on_input|diff(_b)?)$|\.(up|down)\.weight$")
_OF_BASE = re.compile(
    r"(model\.diffusion_model|first_stage_model|cond_stage_model|(unet\.)?(down_blocks|conv_in)|(\w+\.)?text_model|encoder)\."
)


def lora_tensors(unet: Any, text_encoder: Any, spec: LoraSpec) -> dict[str, torch.Tensor]:
    """The LoRA in kohya's names: `<module>.lora_down.weight` [r, in, ...], `.lora_up.weight` [out, r, ...], `.alpha` 0-d, and for DoRA
    `.dora_scale` [out, 1, ...]; PiSSA and OLoRA as the plain LoRA of twice the rank that they are; LoHa, LoKr, OFT and (IA)^3 as LyCORIS has
    them; CPU, float32."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in _adapted(unet, text_encoder if spec.train_text_encoder else None):
        if spec.algo != "lora":
            tensors |= {f"{name}.{part}": _plain(value) for part, value in parts_of(module).items()}
            continue
        down, up = (
            difference(module) if spec.init != "default" else (module.lora_A["default"].weight, module.lora_B["default"].weight)
        )
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = _plain(down), _plain(up)
        tensors[f"{name}.alpha"] = torch.tensor(_file_alpha(module, spec))
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
    for key, module in _adapted(unet, text_encoder if spec.train_text_encoder else None):
        if spec.algo != "lora":
            parts = {name.partition(".")[2]: one for name, one in tensors.items() if name.partition(".")[0] == key}
            put_parts(module, parts, tr("network.network_weights: {path!r}", path=str(path)))
            continue
        down, up = tensors[f"{key}.lora_down.weight"].float(), tensors[f"{key}.lora_up.weight"].float()
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        alpha = alpha_in(tensors.get(f"{key}.alpha"), down.shape[0])
        a.copy_(down.view_as(a))
        b.copy_(up.view_as(b) * (alpha / _file_alpha(module, spec)))
        if spec.use_dora:
            magnitude = module.lora_magnitude_vector["default"].weight
            magnitude.copy_(tensors[f"{key}.dora_scale"].view_as(magnitude))


def read_lora(path: Path, field: str) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA's .safetensors file. InputError, naming `field`, when it is not there, no LoRA but a base, or holds NaN or Inf."""
    if not path.is_file():
        raise not_there(str(path), field)
    what = f"{field}: {str(path)!r}"
    if not is_safetensors(path):
        raise InputError(
            tr("{what} is no .safetensors file; such files can run code, convert it to .safetensors first", what=what)
        )
    shapes = read_header(path, field).shapes
    if not any(_OF_LORA.search(name) for name in shapes):
        base = next((name for name in shapes if _OF_BASE.match(name)), None)
        raise InputError(
            tr("{what} is no LoRA", what=what)
            + (tr(" but a base model (it holds {base})", base=base) if base else "")
            + tr("; give a LoRA's file")
        )
    tensors = read_tensors(path, field)
    check_whole(tensors, what)
    check_finite(tensors, what)
    return tensors


def check_lora(path: Path, unet: Any, text_encoder: Any, spec: LoraSpec) -> None:
    """InputError, naming the setting to change, when a LoRA file cannot be continued from by `spec`: it is of another kind of base, none in
    kohya's layout, or its rank, targets, shapes or magnitudes differ, or it holds NaN or Inf. The models may or may not have their LoRA yet."""
    name = tr("network.network_weights: {path!r}", path=str(path))
    tensors = read_lora(path, "network.network_weights")
    check_family(name, tensors, read_metadata(path), unet)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if spec.algo != "lora":
        _check_variant_file(name, tensors, unet, text_encoder, spec)
        return
    ranks = {shape[0] for key, shape in shapes.items() if key.endswith(".lora_down.weight")}
    if not ranks:
        raise InputError(other_form(name, shapes, read_metadata(path)))
    names = {key.partition(".")[0] for key in shapes}
    for key in sorted(shapes):
        module, _, part = key.partition(".")
        if part not in _PARTS or any(f"{module}.{needed}" not in shapes for needed in _PARTS[:2]):
            raise InputError(
                tr(
                    "{name} holds {key}, which is no plain LoRA (LyCORIS, or damaged); give one of lora_down and lora_up",
                    name=name,
                    key=key,
                )
            )
    targets = [one for _, found in sized_targets(unet, text_encoder, spec) for one in found]
    weights = {module: tuple(weight.shape) for module, weight in target_weights(unet, text_encoder, spec)}
    check_targets(name, names, set(weights))
    for module, weight in weights.items():
        down, up = shapes[f"{module}.lora_down.weight"], shapes[f"{module}.lora_up.weight"]
        if (math.prod(down[1:]), up[0]) != (math.prod(weight[1:]), weight[0]):
            raise InputError(
                tr(
                    "{name} was made for another base ({module} has other shapes); choose the base it was trained on",
                    name=name,
                    module=module,
                )
            )
    _check_ranks(path, spec, shapes, targets)
    inputs = next((key for key, shape in shapes.items() if key.endswith(".dora_scale") and dora_axis(shape) == "inputs"), None)
    if inputs is not None:
        raise InputError(
            tr(
                "{name} holds a magnitude for each input ({inputs}), LyCORIS' DoRA without wd_on_output, and here "
                "each output has one; give a file of the other kind, or merge it into its base with LyCORIS",
                name=name,
                inputs=inputs,
            )
        )
    magnitudes = {key.partition(".")[0] for key in shapes if key.endswith(".dora_scale")}
    if spec.use_dora and magnitudes != names:
        raise InputError(tr("network.use_dora: true, but {path!r} has no magnitudes; set it to false", path=str(path)))
    if magnitudes and not spec.use_dora:
        raise InputError(tr("network.use_dora: false, but {path!r} has magnitudes; set it to true", path=str(path)))


def _check_ranks(path: Path, spec: LoraSpec, shapes: Mapping[str, tuple[int, ...]], targets: Sequence[Target]) -> None:
    for one in targets:
        rank = shapes[f"{one.key}.lora_down.weight"][0]
        if rank == one.rank:
            continue
        blocks = spec.conv_block_ranks if one.convolution else spec.block_ranks
        setting = "conv_" if one.convolution else ""
        if blocks is not None and one.block is not None:
            raise InputError(
                tr(
                    "network.{setting}block_ranks: {rank} for block {block}, but {path!r} has rank {rank_2} in {key}; "
                    "give that",
                    setting=setting,
                    rank=one.rank,
                    block=one.block,
                    path=str(path),
                    rank_2=rank,
                    key=one.key,
                )
            )
        raise InputError(
            tr(
                "network.{setting}rank: {rank}, but {path!r} has rank {rank_2}; set it to {rank_2}",
                setting=setting,
                rank=one.rank,
                path=str(path),
                rank_2=rank,
            )
        )


def mixed_ranks(path: Path) -> dict[str, tuple[int, float]] | None:
    """Rank and alpha of each module of a plain LoRA's file, where they are not the same in all modules of a kind; None where they are, or it is
    no such file. InputError when it is not there."""
    if not path.is_file():
        raise not_there(str(path), "network.network_weights")
    if not is_safetensors(path):
        return None
    shapes = read_header(path, "network.network_weights").shapes
    downs = {name.partition(".")[0]: tuple(shape) for name, shape in shapes.items() if name.endswith(".lora_down.weight")}
    kinds = {(shape[2:] == (3, 3), shape[0]) for shape in downs.values()}
    if len(kinds) == len({convolution for convolution, _ in kinds}):
        return None
    tensors = read_tensors(path, "network.network_weights")
    return {name: (shape[0], alpha_in(tensors.get(f"{name}.alpha"), shape[0])) for name, shape in downs.items()}


def spec_of(tensors: Mapping[str, torch.Tensor]) -> LoraSpec:
    """The LoRA that a file in kohya's layout holds, from its names and shapes. ValueError when it is none."""
    downs = {name.split(".")[0]: tensor for name, tensor in tensors.items() if name.endswith(".lora_down.weight")}
    if not downs:
        raise ValueError(tr("holds no LoRA in kohya's layout"))
    convolutions = {name for name, tensor in downs.items() if tuple(tensor.shape[2:]) == (3, 3)}
    sizes: list[tuple[int, float] | None] = []
    mixed = False
    for part in (downs.keys() - convolutions, convolutions):
        own_sizes = {(downs[name].shape[0], alpha_in(tensors.get(f"{name}.alpha"), downs[name].shape[0])) for name in part}
        mixed = mixed or len(own_sizes) > 1
        sizes.append(max(own_sizes, default=None))
    (rank, alpha), of_convolutions = sizes[0] or sizes[1] or (0, 0.0), sizes[1] or (0, 0.0)
    own = convolutions and of_convolutions != (rank, alpha)
    settings = {setting_of(name.split(".")[0]) for name in tensors}
    return LoraSpec(
        rank=rank,
        alpha=float(alpha),
        conv_rank=of_convolutions[0] if own else None,
        conv_alpha=of_convolutions[1] if own else None,
        feed_forward="network.feed_forward" in settings,
        projections="network.projections" in settings,
        convolutions=bool(convolutions),
        time_embeddings="network.time_embeddings" in settings,
        shortcuts="network.shortcuts" in settings,
        modules={name: (one.shape[0], alpha_in(tensors.get(f"{name}.alpha"), one.shape[0])) for name, one in downs.items()}
        if mixed
        else None,
        train_text_encoder="network.train_text_encoder" in settings,
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
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(
            tr("lora: {path!r} cannot be read ({error}); give a LoRA .safetensors file", path=str(path), error=error)
        ) from None


def target_weights(unet: Any, text_encoder: Any, spec: LoraSpec) -> Iterator[tuple[str, torch.Tensor]]:
    """Kohya's name and the base's weight of each module that a spec trains, whether its LoRA is on already or not."""
    for model, found in sized_targets(unet, text_encoder, spec):
        for one in found:
            module = model.get_submodule(one.name)
            yield one.key, getattr(module, "base_layer", module).weight


def _file_alpha(module: Any, spec: LoraSpec) -> float:
    """The alpha that a file carries, so that readers, who divide by r, get the scale that was trained with."""
    return spec.in_file(module.r["default"], float(module.lora_alpha["default"]))[1]


def _adapted(unet: Any, text_encoder: Any) -> Iterator[tuple[str, Any]]:
    """Kohya's name and the layer of every module that has a LoRA or a variant of it."""
    for model, key in family_of_unet(unet).keyed(unet, text_encoder):
        for name, module in model.named_modules():
            if any("default" in getattr(module, kept, {}) for kept in LAYERS):
                yield key(name), module


def _check_variant_file(name: str, tensors: Mapping[str, torch.Tensor], unet: Any, text_encoder: Any, spec: LoraSpec) -> None:
    """InputError when a file is not what the network of `spec`, which is no plain LoRA, has in its own; `name` begins the message."""
    modules: dict[str, set[str]] = {}
    for key in tensors:
        modules.setdefault(key.partition(".")[0], set()).add(key.partition(".")[2])
    known = parts_by_module(tensors)
    for module, parts in modules.items():
        method = method_of({part: tensors[f"{module}.{part}"] for part in parts}) or method_of(known.get(module, {}))
        if method != METHODS[spec.algo]:
            algo = next((algo for algo, own in METHODS.items() if own == method), None)
            fix = tr("set it to {algo}", algo=algo) if algo else tr("give a file of {methods}", methods=METHODS[spec.algo])
            raise InputError(
                tr(
                    "{name} holds {value} ({module}), but network.algo is {algo}; {fix}",
                    name=name,
                    value=method or tr("something else"),
                    module=module,
                    algo=spec.algo,
                    fix=fix,
                )
            )
    ours = _without_numbers(unet, text_encoder, spec)
    check_targets(name, set(modules), {key.partition(".")[0] for key in ours})
    for key, wanted in ours.items():
        if key.endswith(".alpha"):  # which may be lacking, or of one dimension
            continue
        if key not in tensors or tensors[key].shape != wanted.shape:
            has = list(tensors[key].shape) if key in tensors else "none"
            raise InputError(
                tr(
                    "{name} was trained with other settings: {key} is {has}, and here {shape}; give the same "
                    "network.rank{part}, or the base it was trained on",
                    name=name,
                    key=key,
                    has=has,
                    shape=list(wanted.shape),
                    part=tr(" and lokr_factor") if spec.algo == "lokr" else "",
                )
            )
        if key.endswith(".on_input") and bool(tensors[key].item()) != bool(wanted.item()):
            raise InputError(
                tr(
                    "{name} scales the other side of {partition} than is trained here; give a file of this trainer",
                    name=name,
                    partition=key.partition(".")[0],
                )
            )


def _without_numbers(unet: Any, text_encoder: Any, spec: LoraSpec) -> dict[str, torch.Tensor]:
    """What a file of `spec` holds, with shapes and without numbers but for switches."""
    own = empty_model("unet", unet.config, "model.base")
    texts = tuple(
        empty_model(part.model, one.config.to_dict(), "model.base")
        for part, one in zip(family_of_unet(unet).texts, each(text_encoder), strict=False)
    )
    add_lora(own, texts, spec, seed=0)
    layers = _adapted(own, texts if spec.train_text_encoder else None)
    return {f"{name}.{part}": value for name, layer in layers for part, value in parts_of(layer).items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().cpu().contiguous().clone()
