"""Stable Diffusion XL: two text encoders, a caption as a whole beside its tokens, and the sizes of pictures (Podell et al. 2023,
arXiv:2307.01952, sections 2.1 and 2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.families.family import UNET, Family, Shapes, Sizes, TextPart
from fashion_ml.models.original_names import OriginalNames
from fashion_ml.models.text_encoding import Embedded, Text, TextSettings, Tokens, one_caption_each, tokenize
from fashion_ml.models.unet_blocks import OriginalBlocks
from fashion_ml.runtime.language import tr

_OF_FILE = re.compile(r"conditioner\.embedders\.|model\.diffusion_model\.label_emb\.0\.0\.weight$")
_OF_REFINER = "conditioner.embedders.0.model."
"""Where SDXL's refiner has the second text encoder of the base, and no other one."""


class StableDiffusionXL(Family):
    """Captions are read from the second to last layer of both text encoders, without a norm behind it, beside one another."""

    name = "sdxl"
    title = "Stable Diffusion XL"
    short = "SDXL"
    pipeline = "StableDiffusionXLPipeline"
    texts = (
        TextPart("text_encoder", "tokenizer", "lora_te1_text_model_", "conditioner.embedders.0."),
        TextPart("text_encoder_2", "tokenizer_2", "lora_te2_text_model_", "conditioner.embedders.1.", open_clip=True),
    )
    clip_skip = 2
    new_words = False
    experiment = "experiments/lora/sdxl_fashion.yaml"
    resolution = 1024
    width = 2048
    file_key = "model.diffusion_model.label_emb.0.0.weight"
    kohya_script = "sdxl_train_network.py"

    def has(self, unet: Mapping[str, Any]) -> bool:
        """Whether a UNet of this configuration is one of the family's."""
        return unet.get("addition_embed_type") == "text_time"

    def in_file(self, shapes: Shapes) -> bool:
        """Whether a single file in the original layout with these names and shapes is one of the family's, the refiner among them."""
        return any(_OF_FILE.match(name) for name in shapes)

    def check_file(self, name: str, shapes: Shapes) -> None:
        """InputError, beginning with `name`, where a single file is the refiner."""
        if any(key.startswith(_OF_REFINER) for key in shapes):
            raise InputError(
                tr("{name} is the refiner of Stable Diffusion XL, which begins no image; choose a base", name=name)
            )

    def fits(self, pipeline: Any) -> bool:
        """Whether a pipeline's parts are those of text to image in this family; the refiner's are not."""
        unet, width = pipeline.unet.config, pipeline.text_encoder_2.config.projection_dim
        told = width + 6 * (unet.addition_time_embed_dim or 0)
        return super().fits(pipeline) and unet.projection_class_embeddings_input_dim == told

    def made(self, parts: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Any:
        """A pipeline of these parts, which draws no watermark; `facts` say whether an empty negative prompt is zeros."""
        import diffusers

        zeros = bool((facts or {}).get("force_zeros_for_empty_prompt", True))
        return diffusers.StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False)

    def layers_unread(self, clip_skip: int | None) -> tuple[int, ...]:
        """How many last layers of each text encoder nothing comes of: of the second all count, for the caption as a whole."""
        return ((clip_skip or self.clip_skip) - 1, 0)

    def tokenize(self, pipeline: Any, captions: Sequence[str], settings: TextSettings) -> Tokens:
        """Captions as both text encoders take them, which differ in what they pad with."""
        first, second = (tokenize(one, captions, settings) for one in (pipeline.tokenizer, pipeline.tokenizer_2))
        return replace(first, second=second.ids)

    def encode(self, encoders: Sequence[Any], tokens: Tokens, clip_skip: int | None) -> Text:
        """Hidden states of both, (B, L, D1 + D2), and the projected summary (B, P) of the second, of a long caption's first chunk.

        A summary is the last layer's state at EOS, whatever clip_skip is (sd-scripts' `get_hidden_states_sdxl`).
        """
        assert tokens.second is not None
        chunks, width = tokens.ids.shape[1:]
        found = [
            encoder(ids.reshape(-1, width), output_hidden_states=True)
            for encoder, ids in zip(encoders, (tokens.ids, tokens.second), strict=True)
        ]
        hidden = [one_caption_each(one.hidden_states[-(clip_skip or self.clip_skip)], tokens) for one in found]
        return Embedded(torch.cat(hidden, dim=-1), found[1].text_embeds[::chunks], tokens.sizes)

    def with_sizes(self, text: Text | Tokens, sizes: Sequence[Sizes]) -> Text | Tokens:
        """The captions of pictures with `time_ids` of these."""
        assert not isinstance(text, torch.Tensor)
        return replace(text, sizes=torch.tensor([time_ids(one) for one in sizes], dtype=torch.float32))

    def predict(self, unet: Any, noisy: torch.Tensor, timesteps: torch.Tensor, text: Text) -> torch.Tensor:
        """The UNet's prediction (B, 4, h, w) for noisy latents of the same shape and timesteps (B,)."""
        assert isinstance(text, Embedded)
        added = {"text_embeds": text.pooled, "time_ids": text.sizes}
        return unet(noisy, timesteps, text.hidden, added_cond_kwargs=added).sample

    def arguments(self, prompt: Text, negative: Text, negatives: Sequence[str], pipeline: Any) -> dict[str, torch.Tensor]:
        """What a pipeline is called with; an empty negative prompt is zeros where the base was made so, as in diffusers."""
        assert isinstance(prompt, Embedded)
        assert isinstance(negative, Embedded)
        zeros = pipeline.config.force_zeros_for_empty_prompt
        kept = torch.tensor([not zeros or bool(text) for text in negatives], dtype=negative.pooled.dtype)
        kept = kept.to(negative.pooled.device)
        return {
            "prompt_embeds": prompt.hidden,
            "pooled_prompt_embeds": prompt.pooled,
            "negative_prompt_embeds": negative.hidden * kept[:, None, None],
            "negative_pooled_prompt_embeds": negative.pooled * kept[:, None],
        }

    def unet_key(self, unet: Any) -> Callable[[str], str]:
        """Kohya's names are those of the original layout, which the UNet's configuration makes of diffusers'."""
        names = OriginalNames(unet.config)
        return lambda name: UNET + (names.of(name) or name).replace(".", "_")

    def blocks(self, unet: Any) -> OriginalBlocks:
        """23 of SDXL."""
        return OriginalBlocks.of(unet)

    def metadata(self, prediction_type: str) -> dict[str, Any]:
        """Family and prediction in a LoRA's file, as sd-scripts names them."""
        return super().metadata(prediction_type) | {
            "ss_base_model_version": "sdxl_base_v1-0",
            "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
            "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        }


def time_ids(sizes: Sizes) -> tuple[int, int, int, int, int, int]:
    """Height and width of a picture as it was, top and left of what is seen, and its height and width, in pixels.

    Top and left are sd-scripts' (`BucketManager.get_crop_ltrb`): the margins of the picture fitted into what is seen.
    """
    (width, height), (seen_width, seen_height) = sizes.original, sizes.seen
    shape = width / height
    wider = seen_width / seen_height > shape
    fitted = (seen_height * shape, float(seen_height)) if wider else (float(seen_width), seen_width / shape)
    left, top = (seen_width - fitted[0]) // 2, (seen_height - fitted[1]) // 2
    if sizes.mirrored:
        left = seen_width - (left + fitted[0])
    return height, width, int(top), int(left), seen_height, seen_width
