"""Trainings on a GPU, by the project's own loops: speed, memory, host syncs, exactness of precisions, repetitions and resuming."""

from __future__ import annotations

import statistics
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu_parts import DTYPES, SD1, Bench, Section
from benchmarks.gpu_profile import kernels, profiled
from fashion_ml.config import validate
from fashion_ml.data.images import read_training_folder
from fashion_ml.models.families.family import Family
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.training.lora_inputs import prepare_inputs
from fashion_ml.training.lora_loop import Hooks, train_lora
from fashion_ml.training.lora_models import fuse

Tree = Mapping[str, Any]


def count_flops(bench: Bench) -> dict[str, Any]:
    """Operations of the UNet with its LoRA for one image, forward and backward, which later shares of the peak are of."""
    from torch.utils.flop_counter import FlopCounterMode

    unet, cells = bench.model("unet", torch.bfloat16), bench.side // 8
    add_lora(unet, None, LoraSpec(16, 16.0), 0)
    x, t = torch.randn(1, 4, cells, cells, device=bench.device), torch.tensor([10], device=bench.device)
    h = torch.randn(1, 77, 768, device=bench.device)
    with FlopCounterMode(display=False) as counter, torch.autocast(bench.device.type, torch.bfloat16):
        unet(x, t, h).sample.float().square().mean().backward()
    bench.flops[SD1.name] = counter.get_total_flops()
    return {"gflop_of_an_image": round(counter.get_total_flops() / 1e9, 1)}


def lora_steps(
    bench: Bench,
    batch: int,
    precision: str,
    *,
    profile: bool = False,
    training: Tree | None = None,
    network: Tree | None = None,
    family: Family = SD1,
    side: int = 0,
) -> dict[str, Any]:
    """The loop at a family's size: steps a second after the first ones, memory, host syncs, where the time goes; `side` 0 is the bench's."""
    side = side or bench.side
    photos = bench.photos(f"photos_{side}", 4 if bench.tiny else 16, side)
    warm, steps = (2, 2) if bench.tiny else (8, 8 if profile else bench.steps)
    tree = {
        "data": {"train_data_dir": str(photos), "resolution": side, "cache_dir": str(bench.work / "cache")},
        "network": {"rank": 16, **(network or {})},
        "training": {
            "max_train_steps": warm + steps,
            "train_batch_size": batch,
            "mixed_precision": precision,
            "log_every": warm,
            "save_state": False,
            **(training or {}),
        },
    }
    config, accelerator = validate(tree), bench.accelerator(precision)
    pipe = bench.pipeline(DTYPES[precision] if bench.cuda or precision == "bf16" else torch.float32, family)
    inputs, _ = prepare_inputs(config, pipe, read_training_folder(photos), [], accelerator)
    drawing = [_seconds(lambda step=step: list(inputs.batches(step))) for step in range(1, warm + 1)]
    bench.fresh_memory()
    clock = _Clock(bench, warm, warm + steps)
    folder = bench.work / f"lora_{time.monotonic_ns()}"
    folder.mkdir()
    with profiled(profile and bench.cuda) as profiler:
        clock.begin()
        train_lora(config, pipe, inputs, None, folder, Hooks(rows=clock.rows), accelerator)
    seconds = (clock.ended - clock.warm_at) / steps
    found = {
        **bench.speed(batch, seconds, family),
        "before_the_clock_s": round(clock.warm_at - clock.began, 1),
        "batch_on_cpu_ms": round(1000 * statistics.median(drawing), 2),
        "syncs_a_step": round(clock.syncs / steps, 2),
        "where": clock.places,
        "loss": clock.loss,
        **bench.peak(),
    }
    return {**found, **(kernels(profiler, warm + steps) if profiler else {})}


class _Clock:
    """Wall time and host syncs between two steps whose losses have come to the host, so that the GPU has done them."""

    def __init__(self, bench: Bench, first: int, last: int):
        self._bench, self._first, self._last = bench, first, last
        self.began = self.warm_at = self.ended = self.loss = 0.0
        self.syncs = 0
        self.places: dict[str, int] = {}
        self._catching: Any = None

    def begin(self) -> None:
        """The training begins."""
        self.began = time.perf_counter()

    def rows(self, rows: list[dict[str, float]]) -> None:
        """Gets the loop's rows."""
        step, self.loss = rows[-1]["step"], round(rows[-1]["total_loss"], 5)
        if step >= self._last:
            self.ended = time.perf_counter()
            self._stop_counting()
        elif step == self._first:
            self._start_counting()
            self.warm_at = time.perf_counter()

    def _start_counting(self) -> None:
        if self._bench.cuda:
            self._catching = warnings.catch_warnings(record=True)
            self._caught = self._catching.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def _stop_counting(self) -> None:
        if self._catching:
            torch.cuda.set_sync_debug_mode("default")
            self._catching.__exit__(None, None, None)
            waits = [one for one in self._caught if "synchronizing CUDA" in str(one.message)]
            self.syncs, places = len(waits), (f"{Path(one.filename).name}:{one.lineno}" for one in waits)
            self.places = dict(Counter(places).most_common(8))


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_steps(bench: Bench, batch: int, *, autocast: bool, graph: bool = False, channels_last: bool = False) -> dict[str, Any]:
    """The UNet with its LoRA alone, forward, backward, clipping and AdamW on tensors that are there: what the loop could reach."""
    unet = bench.model("unet", torch.bfloat16)
    parameters = add_lora(unet, None, LoraSpec(16, 16.0), 0).all
    unet.train()
    if channels_last:
        unet.to(memory_format=torch.channels_last)
    fuse(unet, "no")
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True, capturable=graph)
    cells, low = bench.side // 8, torch.float32 if autocast else torch.bfloat16
    x = torch.randn(batch, 4, cells, cells, device=bench.device, dtype=low)
    h = torch.randn(batch, 77, 768, device=bench.device, dtype=low)
    t = torch.randint(0, 1000, (batch,), device=bench.device)

    def step() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=autocast, cache_enabled=not graph):
            y = unet(x, t, h).sample
        (y.float() - x.float()).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=not graph)

    bench.fresh_memory()
    run = _captured(step) if graph else step
    for _ in range(2 if bench.tiny else 4):
        run()
    bench.sync()
    started = time.perf_counter()
    for _ in range(bench.steps):
        run()
    bench.sync()
    return {**bench.speed(batch, (time.perf_counter() - started) / bench.steps), **bench.peak()}


def _captured(step: Any) -> Any:
    """The step as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    return captured.replay


def train_embedded(
    bench: Bench, name: str, precision: str, steps: int, *, resume: bool = False, training: Tree | None = None, **network: Any
) -> tuple[Any, list[dict[str, float]], dict[str, torch.Tensor], bool, Any]:
    """A training on the embedded base: the result, rows, LoRA tensors, whether the base's weights stayed, and the accelerator."""
    data = bench.photos("embedded", 8, 64)
    settings = {"max_train_steps": steps, "train_batch_size": 2, "mixed_precision": precision, "log_every": 5}
    tree = {
        "data": {"train_data_dir": str(data), "resolution": 64, "validation_split": 0.25},
        "network": {"rank": 8, **network},
        "training": {**settings, **(training or {})},
    }
    config, accelerator = validate(tree), bench.accelerator(precision)
    pipeline = load_pipeline("embedded", accelerator.device, DTYPES[precision] if bench.cuda else torch.float32)
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    inputs, validation = prepare_inputs(config, pipeline, read_training_folder(data), [], accelerator)
    rows: list[dict[str, float]] = []
    folder: Path = bench.work / name
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_lora(config, pipeline, inputs, validation, folder, Hooks(rows=rows.extend), accelerator, resume=resume)
    state = {key.replace(".base_layer", ""): value for key, value in pipeline.unet.state_dict().items()}
    same = all(torch.equal(value, state[key]) for key, value in before.items())
    return trained, rows, load_file(trained.path), same, accelerator


def embedded(bench: Bench) -> dict[str, Any]:
    """The same training in each precision: does it learn, does anything overflow, do the base's weights stay."""
    found: dict[str, Any] = {}
    steps = 2 if bench.tiny else 24
    for precision in ("no", "fp16", "bf16"):
        trained, rows, tensors, same, accelerator = train_embedded(bench, f"in_{precision}", precision, steps)
        losses = [row["total_loss"] for row in rows]
        found[precision] = {
            "it_s": round(steps / trained.seconds, 1),
            "base_unchanged": same,
            "loss_first_last": [round(statistics.mean(part), 4) for part in (losses[:5], losses[-5:])],
            "val_loss": trained.val_loss,
            "steps_without_grad_norm": sum("grad_norm" not in row for row in rows),
            "moved": _moved(tensors, "lora"),
            "finite": all(bool(value.isfinite().all()) for value in tensors.values()),
            "scale": accelerator.scaler.get_scale() if accelerator.scaler else None,
        }
        bench.fresh_memory()
    return found


def graphs_exact(bench: Bench) -> dict[str, Any]:
    """Recorded steps beside plain ones, in float32 and bf16: the greatest difference of a weight and of a loss, and of a run in two parts."""
    found: dict[str, Any] = {}
    recorded = {**RECORDED, "gradient_accumulation_steps": 2}
    for precision in ("no", "bf16"):
        plain = train_embedded(bench, f"plain_{precision}", precision, 20, training={"gradient_accumulation_steps": 2})
        graphed = train_embedded(bench, f"graphed_{precision}", precision, 20, training=recorded)
        train_embedded(bench, f"graphed_parts_{precision}", precision, 10, training=recorded)
        parts = train_embedded(bench, f"graphed_parts_{precision}", precision, 20, resume=True, training=recorded)
        losses = [abs(a["total_loss"] - b["total_loss"]) for a, b in zip(plain[1], graphed[1], strict=True)]
        found[precision] = {
            "weights": _farthest(plain[2], graphed[2]),
            "resumed": _farthest(graphed[2], parts[2]),
            "losses": max(losses),
            "loss": round(graphed[1][-1]["total_loss"], 5),
            "base_unchanged": graphed[3],
        }
        bench.fresh_memory()
    return found


def _farthest(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return max(float((one[key] - other[key]).abs().max()) for key in one)


def _moved(tensors: Mapping[str, torch.Tensor], prefix: str) -> bool:
    return any(value.abs().max() > 0 for key, value in tensors.items() if key.startswith(prefix) and "lora_up" in key)


def resuming(bench: Bench) -> dict[str, Any]:
    """The greatest difference of a weight between the same run twice, and between one in two parts and one in one."""
    found: dict[str, Any] = {}
    half = 1 if bench.tiny else 10
    for precision in ("bf16", "no"):
        one, two = (train_embedded(bench, f"run_{number}_{precision}", precision, 2 * half)[2] for number in (1, 2))
        train_embedded(bench, f"parts_{precision}", precision, half)
        three = train_embedded(bench, f"parts_{precision}", precision, 2 * half, resume=True)[2]
        pairs = {"repeated": two, "resumed": three}
        found[precision] = {name: _farthest(one, other) for name, other in pairs.items()}
    return found


RECORDED, CHECKPOINTED = {"compile": "cudagraphs"}, {"gradient_checkpointing": True}
OPTIONS: dict[str, tuple[Tree, Tree]] = {
    "checkpointing": ({"gradient_checkpointing": True}, {}),
    "text_encoder": ({}, {"train_text_encoder": True}),
    "text_encoder+checkpointing": ({"gradient_checkpointing": True}, {"train_text_encoder": True}),
    "all_targets": ({}, {"feed_forward": True, "projections": True, "convolutions": True}),
    "dora": ({}, {"use_dora": True}),
    "dropout": ({}, {"dropout": 0.1}),
    "channels_last": ({"channels_last": True}, {}),
    "accumulation": ({"gradient_accumulation_steps": 2}, {}),
}
"""Settings of training and network that have their own way through the code."""


def options(bench: Bench) -> dict[str, Any]:
    """Each a few steps in bf16."""
    found: dict[str, Any] = {}
    for name, (training, network) in OPTIONS.items():
        _, rows, tensors, same, _ = train_embedded(bench, f"with_{name}", "bf16", 4, training=training, **network)
        moved = {prefix: _moved(tensors, prefix) for prefix in ("lora_unet", "lora_te")}
        found[name] = {"base_unchanged": same, "moved": moved, "loss": round(rows[-1]["total_loss"], 4)}
        bench.fresh_memory()
    return found


LORA: dict[str, tuple[float, Section]] = {
    "flops": (8, count_flops),
    "lora_bf16_b1": (12, partial(lora_steps, batch=1, precision="bf16")),
    "lora_bf16_b8": (12, partial(lora_steps, batch=8, precision="bf16")),
    "lora_bf16_b8_checkpointing": (15, partial(lora_steps, batch=8, precision="bf16", training=CHECKPOINTED)),
    "lora_bf16_b8_channels_last": (12, partial(lora_steps, batch=8, precision="bf16", training={"channels_last": True})),
    "lora_fp16_b1": (12, partial(lora_steps, batch=1, precision="fp16")),
    "lora_no_b1": (12, partial(lora_steps, batch=1, precision="no")),
    "embedded": (18, embedded),
    "resuming": (15, resuming),
    "options": (15, options),
}
"""Name -> seconds that it takes, and what it does."""
MORE: dict[str, tuple[float, Section]] = {
    "bare_b1_autocast": (8, partial(bare_steps, batch=1, autocast=True)),
    "bare_b1_bf16": (8, partial(bare_steps, batch=1, autocast=False)),
    "bare_b8_bf16": (8, partial(bare_steps, batch=8, autocast=False)),
    "lora_bf16_b1_profile": (40, partial(lora_steps, batch=1, precision="bf16", profile=True)),
}
"""The same, less urgent."""
GRAPHS: dict[str, tuple[float, Section]] = {
    "lora_bf16_b1_cudagraphs": (20, partial(lora_steps, batch=1, precision="bf16", training=RECORDED)),
    "lora_bf16_b8_cudagraphs": (
        20,
        partial(lora_steps, batch=8, precision="bf16", training={**RECORDED, "channels_last": True}),
    ),
    "cudagraphs_exact": (20, graphs_exact),
    "bare_b1_graph": (8, partial(bare_steps, batch=1, autocast=False, graph=True)),
    "bare_b8_graph_channels_last": (8, partial(bare_steps, batch=8, autocast=False, graph=True, channels_last=True)),
}
"""What a GPU alone can do."""
