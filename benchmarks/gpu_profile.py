"""Which kernels a GPU runs in a step, and how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def profiled(wanted: bool) -> Iterator[Any]:
    """Torch's profiler over the block where it is wanted, else None."""
    if not wanted:
        yield None
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        yield profiler


def kernels(profiler: Any, steps: int) -> dict[str, Any]:
    """Kernels of a step, how long the GPU is busy with them, and those that take longest."""
    ran = [event for event in profiler.events() if str(event.device_type).endswith("CUDA")]
    table: dict[str, float] = {}
    for one in ran:
        table[one.name[:60]] = table.get(one.name[:60], 0.0) + one.time_range.elapsed_us() / 1e3 / steps
    longest = sorted(table.items(), key=lambda item: -item[1])[:14]
    return {
        "kernels_a_step": round(len(ran) / steps),
        "gpu_busy_ms_a_step": round(sum(table.values()), 1),
        "longest_ms": {name: round(ms, 2) for name, ms in longest},
    }
