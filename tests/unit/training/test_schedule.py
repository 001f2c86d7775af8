from __future__ import annotations

import pytest
import torch
from diffusers.optimization import get_scheduler

from fashion_ml.training.schedule import lr_factor


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("shape", ["constant", "cosine", "linear"])
def test_equal_to_diffusers_at_every_step(shape: str, warmup: int):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if shape == "constant" else shape
    reference = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=10)
    for step in range(1, 11):
        assert lr_factor(step, shape=shape, warmup_steps=warmup, total_steps=10) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
