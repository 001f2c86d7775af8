"""Stable Diffusion 2.x: a text encoder of OpenCLIP, 1,024 wide, and often v-prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fashion_ml.models.families.family import Family, TextPart


class StableDiffusion2(Family):
    """As Stable Diffusion 1.x but for its width and its names in metadata."""

    name = "sd2"
    title = "Stable Diffusion 2.x"
    short = "SD 2.x"
    texts = (TextPart("text_encoder", "tokenizer", "lora_te_text_model_", open_clip=True),)
    single_file = False
    width = 1024

    def has(self, unet: Mapping[str, Any]) -> bool:
        """Whether a UNet of this configuration is one of the family's."""
        return not unet.get("addition_embed_type") and unet["cross_attention_dim"] == 1024

    def metadata(self, prediction_type: str) -> dict[str, Any]:
        """Family and prediction in a LoRA's file, as sd-scripts names them."""
        by_v = prediction_type == "v_prediction"
        return super().metadata(prediction_type) | {
            "ss_base_model_version": f"sd_v2{'_v' if by_v else ''}",
            "ss_v2": True,
            "modelspec.architecture": f"stable-diffusion-v2-{'768-v' if by_v else '512'}/lora",
        }
