from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from fashion_ml.models.checkpointing import checkpoint_blocks
from tests.tiny_sdxl import WIDTHS, tiny_sdxl

PARTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.mark.parametrize("part", PARTS)
def test_blocks_compute_again_without_a_warning_and_with_the_same_gradients(part: str):
    model = getattr(tiny_sdxl(), part).train().requires_grad_(True)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad(set_to_none=True)
        if part == "unet":
            added = {"text_embeds": torch.ones(1, WIDTHS[1]), "time_ids": torch.ones(1, 6)}
            model(torch.ones(1, 4, 8, 8), 1, torch.ones(1, 3, sum(WIDTHS)), added_cond_kwargs=added).sample.sum().backward()
        else:
            model(torch.arange(77)[None]).last_hidden_state.square().sum().backward()
        return [one.grad for one in model.parameters() if one.grad is not None]

    plain, calls = gradients(), list[int]()

    def again() -> tuple[Any, Any]:
        calls.append(1)
        return nullcontext(), nullcontext()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint_blocks(model, use_reentrant=False, context_fn=again)
        checkpointed = gradients()
    assert calls
    assert all(torch.equal(one, other) for one, other in zip(plain, checkpointed, strict=True))


def test_without_options_the_libraries_own_are_taken():
    for part in PARTS:
        model = getattr(tiny_sdxl(), part)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            checkpoint_blocks(model)
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
