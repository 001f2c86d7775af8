"""Folders for diffusers that do not depend on the versions which read them: the older names, the older tokenizer files, one rank.

transformers 5 leaves `text_model.` out of a text encoder's names and writes one tokenizer.json, and strips and reads the older form too;
transformers 4 reads the older form alone, and without a word draws at random what it does not find. diffusers before 0.34 takes every alpha
to be the most frequent rank, and later ones what the metadata say, so all modules have one rank here and an alpha equal to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fashion_ml.models.families.known import family_of, part_of
from fashion_ml.runtime.atomic_files import atomic_path

LORA_NAME = "pytorch_lora_weights.safetensors"
"""What `load_lora_weights` looks for in a folder."""
_TEXT = "text_model."


def diffusers_lora(
    modules: Mapping[str, Mapping[str, torch.Tensor]], names: Mapping[str, str], scales: Mapping[str, float]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of diffusers' form of a LoRA.

    `modules` are plain LoRA or DoRA by kohya's names: `down` [r, in, ...], `up` [out, r, ...] and perhaps `dora_scale`; `names` the base's
    own names of them; `scales` alpha / r, which go into `up`. Smaller ranks are filled up with zeros to the largest.
    """
    rank = max(parts["down"].shape[0] for parts in modules.values())
    tensors: dict[str, torch.Tensor] = {}
    targets: dict[str, list[str]] = {}
    for module, parts in modules.items():
        model = part_of(module)
        own = names[module] if model == "unet" else _TEXT + names[module].removeprefix(_TEXT)
        targets.setdefault(model, []).append(names[module].removeprefix(_TEXT))
        missing = rank - parts["down"].shape[0]
        up, down = _scaled(parts["up"], scales[module]), parts["down"]
        tensors[f"{model}.{own}.lora_A.weight"] = functional.pad(down, (0, 0) * (down.dim() - 1) + (0, missing))
        tensors[f"{model}.{own}.lora_B.weight"] = functional.pad(up, (0, 0) * (up.dim() - 2) + (0, missing))
        if "dora_scale" in parts:
            magnitude = parts["dora_scale"].flatten()
            shape = (-1,) if down.dim() == 2 else (1, -1, *[1] * (down.dim() - 2))
            tensors[f"{model}.{own}.lora_magnitude_vector"] = magnitude.reshape(shape)
    dora = any("dora_scale" in parts for parts in modules.values())
    settings = {
        f"{model}.{key}": value
        for model, names_of in targets.items()
        for key, value in {"r": rank, "lora_alpha": rank, "target_modules": sorted(names_of), "use_dora": dora}.items()
    }
    return tensors, {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}


def write_lora_folder(folder: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """`pytorch_lora_weights.safetensors` in a folder that is made if need be."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / LORA_NAME, field="--output") as target:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target, dict(metadata))


def write_pipeline_folder(folder: Path, pipeline: Any) -> None:
    """A pipeline as `save_pretrained` writes it, with the names and the tokenizer files that every version since diffusers 0.30 and
    transformers 4.46 reads."""
    from safetensors.torch import load_file, save_file

    pipeline.save_pretrained(folder)
    for part in family_of(pipeline).texts:
        weights = folder / part.model / "model.safetensors"
        tensors = load_file(weights)
        with atomic_path(weights) as target:
            save_file({_with_older_name(name): tensor for name, tensor in tensors.items()}, target, {"format": "pt"})
        write_tokenizer(folder / part.tokenizer, getattr(pipeline, part.tokenizer))


def _with_older_name(name: str) -> str:
    return name if name.startswith("text_projection.") else _TEXT + name.removeprefix(_TEXT)


def write_tokenizer(folder: Path, tokenizer: Any) -> None:
    """vocab.json, merges.txt and special_tokens_map.json beside the tokenizer.json that is there, from the same tokenizer."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = {**model["vocab"], **tokenizer.get_added_vocab()}
    ordered = dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))
    merges = ["#version: 0.2", *_lines(model["merges"]), ""]
    tokens = ("bos_token", "eos_token", "unk_token", "pad_token")
    special = {name: str(getattr(tokenizer, name)) for name in tokens if getattr(tokenizer, name)}
    for name, text in (
        ("vocab.json", json.dumps(ordered, ensure_ascii=False)),
        ("merges.txt", "\n".join(merges)),
        ("special_tokens_map.json", json.dumps(special, indent=2)),
    ):
        with atomic_path(folder / name) as target:
            target.write_text(text, encoding="utf-8", newline="\n")


def _lines(merges: Iterable[str | list[str]]) -> Iterable[str]:
    return (merge if isinstance(merge, str) else " ".join(merge) for merge in merges)


def _scaled(up: torch.Tensor, scale: float) -> torch.Tensor:
    """`up` times `scale` in its own precision where that holds it exactly, else in float32."""
    exact = up.float() * scale
    own = exact.to(up.dtype)
    return own if torch.equal(own.float(), exact) else exact
