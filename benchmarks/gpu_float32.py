"""Where the memory of float32 without TF32 goes: one UNet, forward and backward, in the ways that cuDNN may be asked for its convolutions.

On an H200 a step in float32 took 23.6 GiB at batch 1, where an H100 with TF32 took 4.9. What lives is the same, so it is workspaces.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.gpu_parts import Bench, Section
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.runtime.float32 import exact_float32

_WAYS: dict[str, dict[str, Any]] = {
    "as_it_is": {},
    "tf32": {"tf32": True},
    "benchmark": {"benchmark": True},
    "channels_last": {"channels_last": True},
    "channels_last_benchmark": {"channels_last": True, "benchmark": True},
    "without_cudnn": {"enabled": False},
    "deterministic": {"deterministic": True},
}


def float32_memory(bench: Bench) -> dict[str, Any]:
    """Peak and milliseconds of a step of each way, of its forward pass alone too, and what it holds afterwards."""
    unet, cells = bench.model("unet"), bench.side // 8
    add_lora(unet, None, LoraSpec(16, 16.0), 0)
    unet.train()
    x, h = torch.randn(1, 4, cells, cells, device=bench.device), torch.randn(1, 77, 768, device=bench.device)
    t = torch.tensor([10], device=bench.device)
    found: dict[str, Any] = {}
    for name, way in _WAYS.items():
        unet.to(memory_format=torch.channels_last if way.get("channels_last") else torch.contiguous_format)
        bench.fresh_memory()
        flags = torch.backends.cudnn.flags(
            enabled=way.get("enabled", True),
            benchmark=way.get("benchmark", False),
            deterministic=way.get("deterministic", False),
            allow_tf32=way.get("tf32", False),
        )
        with flags, nullcontext() if way.get("tf32") else exact_float32():
            with torch.no_grad():
                unet(x, t, h)
            forward = bench.peak()
            for _ in range(2):
                unet(x, t, h).sample.square().mean().backward()
            bench.sync()
            started = time.perf_counter()
            for _ in range(bench.steps):
                unet(x, t, h).sample.square().mean().backward()
            bench.sync()
        ms = round(1000 * (time.perf_counter() - started) / bench.steps, 1)
        found[name] = {"ms": ms, **bench.peak(), **{f"forward_{key}": value for key, value in forward.items()}}
    return found


FLOAT32: dict[str, tuple[float, Section]] = {"float32_memory": (40, float32_memory)}
"""Name -> seconds that it takes, and what it does."""
