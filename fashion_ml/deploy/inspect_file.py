"""What a LoRA file holds: whose names, which methods, of which base, how large, where, and what can be done with it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.figure_style import fit_text
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    import torch

    from fashion_ml.models.lora_weights import Update

_GROUPS = (
    ("lora_te2_", "second text encoder"),
    ("text_encoder_2", "second text encoder"),
    ("lora_te", "text encoder"),
    ("text_encoder", "text encoder"),
    ("text_model", "text encoder"),
    ("_attn1_", "self-attention"),
    ("_attn2_", "cross-attention"),
    ("_ff_net_", "feed-forward"),
    ("_proj_", "projections"),
    ("_time_emb_proj", "time embeddings"),
    ("_emb_layers_1", "time embeddings"),
    ("_conv_shortcut", "shortcuts"),
    ("_skip_connection", "shortcuts"),
    ("_conv", "convolutions"),
    ("_in_layers_2", "convolutions"),
    ("_out_layers_3", "convolutions"),
    ("_0_op", "convolutions"),
)


def inspect_lora(path: Path, picture: Path | None = None) -> dict[str, Any]:
    """Form, methods, base, what can be done with it; ranks, alphas, scales, notes, what is trained, precision, numbers, NaN, norms and
    effective ranks by block, words that were trained along, hashes and metadata of a LoRA file. `picture` is a PNG that is written: norms by
    block and kind of module.

    InputError when it is no LoRA.
    """
    from fashion_ml.models.kohya_faults import check_whole
    from fashion_ml.models.kohya_format import legacy_hash, model_hash
    from fashion_ml.models.lora_delta import rank_of
    from fashion_ml.models.lora_file import note_of_zero_alphas, parts_by_module
    from fashion_ml.models.lora_forms import recognise
    from fashion_ml.models.lora_weights import measure_updates
    from fashion_ml.models.new_words import WORDS, words_in

    tensors, metadata = read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    form = recognise(shapes, metadata)
    if form is None:
        first = next(iter(shapes), tr("none"))
        raise InputError(
            tr("file: {path!r} holds no LoRA (first tensor {next}); give a LoRA's file", path=str(path), next=first)
        )
    check_whole(tensors, f"file: {str(path)!r}")
    content, modules = path.read_bytes(), parts_by_module(tensors)
    numbers = {name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")}
    updates = measure_updates(modules)
    if picture is not None:
        _draw(picture, updates, f"{path.name}: {form.title}")
    scales = sorted({update.scale for update in updates.values()})
    words = words_in(metadata, f"file: {str(path)!r}")
    return {
        "file": str(path),
        "bytes": len(content),
        "names": form.names,
        "methods": list(form.methods),
        "base": form.base,
        "use": form.use,
        "rank": sorted({rank for parts in modules.values() if (rank := rank_of(parts))}),
        "alpha": sorted({float(parts["alpha"]) for parts in modules.values() if "alpha" in parts}),
        "scale": scales,
        "notes": [note for note in (note_of_zero_alphas(modules, path.name), _note_of_missing_parts(modules)) if note],
        "modules": len(modules),
        "targets": dict(Counter(_group(module) for module in modules)),
        "dora": any(method.startswith("DoRA") for method in form.methods),
        "dtype": sorted({precision(tensor) for tensor in numbers.values()}),
        "parameters": sum(math.prod(shapes[name]) for name in numbers),
        "not_finite": sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())),
        "words": [
            {"word": word.token, "init_text": word.init_text, "norms": word.vectors.double().norm(dim=1).tolist()}
            for word in words
        ],
        "norms": _by_block(updates, lambda update: update.norm),
        "effective_ranks": _by_block(updates, lambda update: update.effective_rank),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sshs_model_hash": model_hash(content),
        "sshs_legacy_hash": legacy_hash(content),
        "metadata": {key: value for key, value in metadata.items() if key != WORDS},
    }


def _note_of_missing_parts(modules: Mapping[str, Mapping[str, torch.Tensor]]) -> str | None:
    """What to say of modules that are no whole method; those of which nothing but an alpha is known here are of another one."""
    from fashion_ml.models.lora_delta import method_of

    broken = {
        module: sorted(parts)
        for module, parts in modules.items()
        if set(parts) - {"alpha", "dora_scale"} and method_of(parts) is None
    }
    if not broken:
        return None
    first, parts = next(iter(broken.items()))
    return tr(
        "{count} modules are not whole (first {first}, which has {names} alone): damaged, and used by nobody",
        count=len(broken),
        first=first,
        names=", ".join(parts),
    )


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file; InputError for a folder and for what is none."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    from fashion_ml.runtime.weight_files import not_there

    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.suffix.lower() == ".safetensors")
        hint = f"{str(path / inside[0])!r}" if inside else tr("a LoRA's .safetensors file")
        raise InputError(tr("file: {path!r} is a folder; give {hint}", path=str(path), hint=hint))
    if not path.is_file():
        raise not_there(str(path), "file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except (OSError, SafetensorError) as error:
        raise InputError(
            tr("file: {path!r} is no .safetensors file ({error}); give a LoRA in that form", path=str(path), error=error)
        ) from None


def _group(module: str) -> str:
    flat = module.replace(".", "_")
    return next((group for part, group in _GROUPS if part in flat), "other")


def precision(tensor: torch.Tensor) -> str:
    """As safetensors calls it."""
    name = str(tensor.dtype).removeprefix("torch.")
    return {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}.get(name, name)


def _by_block(updates: Mapping[str, Update], of: Any) -> dict[str, float]:
    """The mean over a block's modules; blocks in the order of the model."""
    return {
        block: sum(values) / len(values)
        for block in _blocks(updates.values())
        if (values := [value for update in updates.values() if update.block == block and (value := of(update)) is not None])
    }


def _blocks(updates: Iterable[Update]) -> list[str]:
    order = ("text", "text2", "input", "down", "mid", "up", "output", "other")

    def place(block: str) -> tuple[int, int]:
        name, _, number = block.partition(" ")
        return order.index(name), int(number or 0)

    return sorted({update.block for update in updates}, key=place)


def _draw(path: Path, updates: Mapping[str, Update], title: str) -> None:
    """A PNG: a row for each block, a column for each kind of module, the mean norm of their updates in both number and colour."""
    from matplotlib.figure import Figure

    from fashion_ml.models.lora_weights import KINDS

    blocks = _blocks(updates.values())
    kinds = [kind for kind in KINDS if any(update.kind == kind for update in updates.values())]
    figure = Figure(figsize=(2.2 + 1.4 * len(kinds), 1.6 + 0.36 * len(blocks)), dpi=120, layout="constrained")
    axes = figure.subplots()
    table = [[_mean(updates.values(), block, kind) for kind in kinds] for block in blocks]
    shown = axes.imshow(table, aspect="auto", cmap="viridis") if blocks else None
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_yticks(range(len(blocks)), blocks)
    axes.set_title(title, fontsize=9, wrap=True)
    for y, row in enumerate(table):
        for x, value in enumerate(row):
            if math.isfinite(value):
                axes.text(
                    x, y, f"{value:.3g}", ha="center", va="center", color="white", fontsize=8, bbox={"color": "#0006", "pad": 1}
                )
    if shown is not None:
        figure.colorbar(shown, label=tr("mean norm of a module's update"))
    fit_text(figure)
    with atomic_path(path, field="--picture") as target:
        figure.savefig(target, format="png")


def _mean(updates: Iterable[Update], block: str, kind: str) -> float:
    values = [update.norm for update in updates if (update.block, update.kind) == (block, kind)]
    return sum(values) / len(values) if values else math.nan
