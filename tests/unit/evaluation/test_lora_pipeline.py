"""What a LoRA file says of its training counts where the file is measured alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fashion_ml.evaluation.lora_pipeline import trained_with


@pytest.mark.parametrize(
    ("metadata", "settings"),
    [
        ({}, {}),
        ({"ss_clip_skip": "None", "ss_max_token_length": "None"}, {}),
        ({"ss_clip_skip": "2", "ss_max_token_length": "225"}, {"model.clip_skip": 2, "data.max_token_length": 225}),
        ({"ss_clip_skip": "1", "ss_base_model_version": "sdxl_base_v1-0"}, {}),
        ({"ss_clip_skip": "3", "ss_base_model_version": "sdxl_base_v1-0"}, {"model.clip_skip": 3}),
        ({"ss_clip_skip": "1", "ss_base_model_version": "sd_v1"}, {"model.clip_skip": 1}),
        ({"ss_clip_skip": "two", "ss_max_token_length": "1e9"}, {}),
        (
            {"ss_weighted_captions": "True", "ss_resolution": "(512, 512)"},
            {"data.weighted_captions": True, "data.resolution": 512},
        ),
    ],
)
def test_lengths_and_clip_skip_are_those_of_the_files_metadata(
    metadata: dict[str, str], settings: dict[str, object], tmp_path: Path
):
    save_file({"x": torch.zeros(1)}, tmp_path / "lora.safetensors", metadata)
    assert trained_with(tmp_path / "lora.safetensors") == settings
