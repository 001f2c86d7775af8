"""Memory of the machine that is full is told as a GPU's is; other errors stay what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.gpu_memory import fits_into_memory, full_memory

HUGE = 1 << 48


@pytest.mark.parametrize(
    "take", [lambda: torch.empty(HUGE), lambda: np.empty(HUGE), lambda: bytearray(1 << 50)], ids=["torch", "numpy", "python"]
)
def test_an_allocation_that_fails_names_the_phase_the_setting_and_the_fix(take):
    with pytest.raises(InputError) as caught, fits_into_memory("encoding", "data.resolution", 8192, "use less"):
        take()
    assert caught.value.problems == ["data.resolution: with 8192 encoding does not fit into this machine's memory; use less"]


def test_a_gpus_memory_is_a_gpus_and_other_errors_are_none():
    assert full_memory(torch.OutOfMemoryError("CUDA out of memory")) == "the GPU's memory"
    for text in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"):
        assert full_memory(RuntimeError(text)) == full_memory(torch.AcceleratorError(text)) == "the GPU's memory"
    assert full_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    with pytest.raises(RuntimeError, match="shapes"), fits_into_memory("encoding", "data.resolution", 8192, "use less"):
        raise RuntimeError("shapes")
