"""How fast a training was, how much of a GPU's memory it took, and by which kernels attention was computed there: on its MLflow run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun

_GIB = 1 << 30
OF_THE_MACHINE = ("steps_per_second", "images_per_second", "gpu_memory_peak")
"""Metrics of a training that no other one has again, for they are the machine's."""


def begin_peak(device: Any) -> None:
    """Count the peak of a GPU's memory from here, whatever was there before."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def log_speed(
    run: TrackedRun | None, device: Any, *, steps: int, seconds: float, images: float, at: int, attention: str | None = None
) -> None:
    """On the run of a training of so many steps of so many images, at a point of its other metrics: `steps_per_second` and
    `images_per_second` of the loop's wall time, over all its parts, with validations, samples and checks in it, and without what compiles; on
    a GPU `gpu_memory_peak`, the most GiB that tensors took since `begin_peak`. Where there is attention the parameter `sdpa_backend` says
    which kernels computed it.
    """
    if run is None or seconds <= 0:
        return
    found = {"steps_per_second": steps / seconds, "images_per_second": steps * images / seconds}
    if device.type == "cuda":
        import torch

        found["gpu_memory_peak"] = torch.cuda.max_memory_allocated(device) / _GIB
    if attention is not None:
        run.log_params({"sdpa_backend": attention})
    run.log_metrics(found, step=at)
