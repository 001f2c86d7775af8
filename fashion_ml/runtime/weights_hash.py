"""The hash that says which weights were used: of VAEs, text encoders and FashionCLIPs, in caches, manifests and fingerprints."""

from __future__ import annotations

import hashlib

import torch


def weights_sha256(module: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(memoryview(plain.view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
