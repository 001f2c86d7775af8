"""Stable Diffusion XL on a GPU at its own size, 1024 px: a LoRA's step, images, memory."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu_parts import SDXL, Bench, Section
from benchmarks.gpu_training import CHECKPOINTED, RECORDED, lora_steps
from fashion_ml.config import validate
from fashion_ml.evaluation.generate import Job, generate
from fashion_ml.models.half_precision import decode_one_by_one, lower_pipeline


def side_of(bench: Bench) -> int:
    """Of SDXL's images, pixels."""
    return 64 if bench.tiny else 1024


def sdxl_steps(bench: Bench, batch: int, **settings: Any) -> dict[str, Any]:
    """The loop in bf16."""
    return lora_steps(bench, batch, "bf16", family=SDXL, side=side_of(bench), **settings)


def sdxl_flops(bench: Bench) -> dict[str, Any]:
    """Operations of the UNet for one image, forward and backward to what enters it: a LoRA's own are about a hundredth more."""
    from torch.utils.flop_counter import FlopCounterMode

    unet, cells = bench.model("unet", torch.bfloat16, SDXL), side_of(bench) // 8
    low = {"device": bench.device, "dtype": torch.bfloat16}
    x, h = torch.randn(1, 4, cells, cells, **low, requires_grad=True), torch.randn(1, 77, 2048, **low)
    added = {"text_embeds": torch.randn(1, 1280, **low), "time_ids": torch.zeros(1, 6, **low)}
    with FlopCounterMode(display=False) as counter:
        unet(x, torch.tensor([10], device=bench.device), h, added_cond_kwargs=added).sample.float().square().mean().backward()
    bench.flops[SDXL.name] = counter.get_total_flops()
    return {"gflop_of_an_image": round(counter.get_total_flops() / 1e9, 1)}


def sdxl_generation(bench: Bench) -> dict[str, Any]:
    """Images of an evaluation in bf16 a second, 25 steps with guidance, decoded one by one, and the most memory from prompts to pixels."""
    steps, side, found = 2 if bench.tiny else 25, side_of(bench), dict[str, Any]()
    pipeline = bench.pipeline(torch.bfloat16, SDXL)
    decode_one_by_one(pipeline.vae)
    for part in SDXL.models:
        getattr(pipeline, part).to("cpu")  # where an evaluation loads them
    bench.fresh_memory()
    lower_pipeline(pipeline, bench.device, torch.bfloat16)
    for batch in (1, 4):
        tree = {"data": {"train_data_dir": "x"}, "evaluation": {"batch_size": batch, "num_inference_steps": steps}}
        settings = validate(tree).evaluation
        jobs = [Job(index, f"xl{index}", "a red striped dress", 100 + index, (side, side)) for index in range(batch)]
        list(generate(pipeline, jobs, settings.model_copy(update={"num_inference_steps": 2})))
        bench.sync()
        started = time.perf_counter()
        made = [one for _, pictures in generate(pipeline, jobs, settings) for one in pictures]
        bench.sync()
        found[f"batch_{batch}"] = {"images_s": round(len(made) / (time.perf_counter() - started), 2), **bench.peak()}
        bench.fresh_memory()
    return found


XL: dict[str, tuple[float, Section]] = {
    "sdxl_flops": (10, sdxl_flops),
    "sdxl_bf16_b1": (20, partial(sdxl_steps, batch=1)),
    "sdxl_bf16_b1_checkpointing": (25, partial(sdxl_steps, batch=1, training=CHECKPOINTED)),
    "sdxl_bf16_b4_checkpointing": (40, partial(sdxl_steps, batch=4, training=CHECKPOINTED)),
    "sdxl_generation": (25, sdxl_generation),
}
"""Name -> seconds that it takes, and what it does."""
XL_GRAPHS: dict[str, tuple[float, Section]] = {"sdxl_bf16_b1_cudagraphs": (25, partial(sdxl_steps, batch=1, training=RECORDED))}
"""What a GPU alone can do."""
