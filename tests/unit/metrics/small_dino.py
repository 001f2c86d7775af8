"""A folder of a random DINOv2 of two layers, as transformers writes one."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 42, "patch_size": 14}


def small_dino(path: Path, **prepared: object) -> Path:
    """Prepared for pictures of 42 pixels unless told otherwise."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SMALL)).save_pretrained(path)
    form = {"image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 48}, "resample": 3}
    form |= {"do_center_crop": True, "crop_size": {"height": 42, "width": 42}, "do_rescale": True, "do_normalize": True}
    form |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_convert_rgb": True} | prepared
    (path / "preprocessor_config.json").write_text(json.dumps(form), encoding="utf-8")
    return path
