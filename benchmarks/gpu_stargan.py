"""StarGAN's step on a GPU: speed, memory, its share of the card's peak, and where the time goes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_parts import BF16_PEAK, Bench, Section
from benchmarks.gpu_profile import kernels, profiled
from fashion_ml.config import StarganExperiment, checked
from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.training.stargan_loop import _Gan, loss_weights


def stargan_steps(
    bench: Bench, precision: str, *, compiled: bool = False, tf32: bool = False, profile: bool = False
) -> dict[str, Any]:
    """A step with and without the diversity term, and with the gradient penalty, at the default size and batch 64 of 64 x 64 cells."""
    from torch.utils.flop_counter import FlopCounterMode

    batch, cells, times = (2, 16, 1) if bench.tiny else (64, 64, 6)
    tree = {
        "training": {
            "mixed_precision": "no" if precision == "fp16" and not bench.cuda else precision,
            "compile": "default" if compiled else "no",
            "tf32": tf32,
        },
        "network": {"base_dim": 16} if bench.tiny else {},
    }
    config = checked(tree, StarganExperiment)
    gan, weights, device = _Gan(config, 3, bench.accelerator("no")), loss_weights(config), bench.device

    def step(with_r1: bool, fading: float) -> None:
        x, y = torch.randn(2, batch, 4, cells, cells, device=device), torch.randint(0, 3, (2, batch), device=device)
        z = torch.randn(3, batch, config.network.latent_dim, device=device)
        gan.step(GanBatch(x[0], y[0], x[1], y[1], *z), weights, with_r1=with_r1, lambda_ds=fading)

    bench.fresh_memory()
    found: dict[str, Any] = {}
    with exact_float32(tf32=tf32):  # as a training does
        for name, with_r1, fading in (("with_ds", False, 1.0), ("without_ds", False, 0.0), ("with_penalty", True, 1.0)):
            started = time.perf_counter()
            for _ in range(2):
                step(with_r1, fading)
            bench.sync()
            found[f"{name}_first_two_s"] = round(time.perf_counter() - started, 2)
            started = time.perf_counter()
            for _ in range(times):
                step(with_r1, fading)
            bench.sync()
            found[f"{name}_ms"] = round(1000 * (time.perf_counter() - started) / times, 1)
        found["images_s"] = round(1000 * batch / found["with_ds_ms"], 1)
        found["finite"] = all(bool(p.isfinite().all()) for m in gan.networks.named().values() for p in m.parameters())
        found |= bench.peak()
        if not compiled:
            with FlopCounterMode(display=False) as counter:
                step(False, 1.0)
            found["tflop"] = round(counter.get_total_flops() / 1e12, 2)
            found["share_of_bf16_peak"] = round(1000 * counter.get_total_flops() / found["with_ds_ms"] / BF16_PEAK, 3)
        with profiled(profile and bench.cuda) as profiler:
            for _ in range(2):
                step(False, 1.0)
            bench.sync()
    return {**found, **(kernels(profiler, 2) if profiler else {})}


STARGAN: dict[str, tuple[float, Section]] = {
    "stargan_bf16": (12, partial(stargan_steps, precision="bf16", profile=True)),
    "stargan_no": (12, partial(stargan_steps, precision="no")),
    "stargan_no_tf32": (12, partial(stargan_steps, precision="no", tf32=True)),
    "stargan_fp16": (12, partial(stargan_steps, precision="fp16")),
}
"""Name -> seconds that it takes, and what it does."""
COMPILED: dict[str, tuple[float, Section]] = {
    "stargan_bf16_compiled": (110, partial(stargan_steps, precision="bf16", compiled=True, profile=True)),
}
"""What takes minutes before its first step; last, and not where it is tiny unless asked for."""
