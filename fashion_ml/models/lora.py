"""LoRA on the UNet through peft, and its file in kohya's key layout.

Hu et al. 2021, arXiv:2106.09685: the update of a weight is (alpha / r) * B @ A, with A = lora_down [r, in], B = lora_up [out, r].
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fashion_ml.checkpoint import atomic_path
from fashion_ml.seeding import derive_seed

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention projections, of self- and cross-attention."""


def add_lora(unet: Any, *, rank: int, alpha: float, seed: int) -> list[torch.nn.Parameter]:
    """Put a LoRA on every attention projection of the UNet; returns its parameters, float32, the only ones that train.

    A is Kaiming-uniform by `seed`, B is zero, so that the first output equals the base's. The global random state is untouched.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(ATTENTION), init_lora_weights=True))
    cast_training_params(unet, dtype=torch.float32)
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


def kohya_tensors(unet: Any, alpha: float) -> dict[str, torch.Tensor]:
    """The LoRA as `lora_unet_<module>.lora_down.weight` [r, in], `.lora_up.weight` [out, r] and `.alpha` 0-d; CPU, float32."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in unet.named_modules():
        if not hasattr(module, "lora_A") or "default" not in module.lora_A:
            continue
        key = "lora_unet_" + name.replace(".", "_")
        for part, adapters in (("lora_down", module.lora_A), ("lora_up", module.lora_B)):
            tensors[f"{key}.{part}.weight"] = adapters["default"].weight.detach().float().cpu().contiguous().clone()
        tensors[f"{key}.alpha"] = torch.tensor(float(alpha))
    return dict(sorted(tensors.items()))


def save_lora(path: Path, unet: Any, alpha: float, metadata: Mapping[str, str]) -> None:
    """Write the LoRA atomically as .safetensors in kohya's layout, with both of kohya's hashes in the metadata."""
    from safetensors.torch import save

    tensors = kohya_tensors(unet, alpha)
    hashed = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content = save(tensors, dict(hashed))
    hashes = {"sshs_model_hash": model_hash(content), "sshs_legacy_hash": legacy_hash(content)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {**metadata, **hashes}))


def model_hash(content: bytes) -> str:
    """Kohya's sshs_model_hash: SHA-256 of a .safetensors file after its header, so that metadata does not change it."""
    (header,) = struct.unpack("<Q", content[:8])
    return hashlib.sha256(content[8 + header :]).hexdigest()


def legacy_hash(content: bytes) -> str:
    """Kohya's sshs_legacy_hash: the first 8 digits of SHA-256 over 64 KiB at offset 1 MiB."""
    return hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)).get("__metadata__", {})
