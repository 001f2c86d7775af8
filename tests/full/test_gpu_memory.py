"""More steps at the real sizes, counted without a GPU; a few are in tests/unit/benchmarks/test_gpu_memory.py."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gpu_memory import SDXL, lora_step


@pytest.mark.parametrize(
    ("precision", "sections", "most"),
    [
        ("fp16", {}, 2.95),
        ("bf16", {"network": {"use_dora": True}}, 3.3),  # under autocast: its layers are peft's own
        ("bf16", {"network": {"train_text_encoder": True}}, 3.7),
        ("fp16", {"network": {"train_text_encoder": True}, "training": {"gradient_checkpointing": True}}, 2.7),
    ],
)
def test_a_lora_step_fits(precision: str, sections: dict[str, Any], most: float):
    """The UNet's weights take 1.6 GiB."""
    assert 1.6 < lora_step(512, 1, precision, **sections) < most


def test_a_step_of_stable_diffusion_xl_at_1024_px_fits_into_12_gb():
    """The UNet's 2.57 billion weights take 4.78 GiB in bf16."""
    assert 4.78 < lora_step(1024, 1, "bf16", SDXL, training={"gradient_checkpointing": True}) < 9
