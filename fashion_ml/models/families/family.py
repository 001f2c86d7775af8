"""What a family of bases is asked: the object of Stable Diffusion 1.x and 2.x, of which others are variants.

A pipeline is diffusers' of the family. Shapes: B images, h and w latent cells, L and D of embeddings as in `text_encoding`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.open_clip_names import to_open_clip
from fashion_ml.models.text_encoding import Text, TextSettings, Tokens, encode_tokens, tokenize
from fashion_ml.models.unet_blocks import OriginalBlocks, UnetBlocks
from fashion_ml.runtime.language import tr

Shapes = Mapping[str, tuple[int, ...]]
UNET = "lora_unet_"
"""What kohya's names of the UNet's modules begin with."""


@dataclass(frozen=True)
class TextPart:
    """One text encoder of a family."""

    model: str
    """Its attribute of a pipeline, and its folder."""
    tokenizer: str
    """Likewise its tokenizer's."""
    prefix: str
    """What kohya's names of its modules begin with."""
    original: str = "cond_stage_model."
    """What its weights' names in a single-file checkpoint begin with."""
    open_clip: bool = False
    """Whether they are open_clip's there."""

    def key(self, name: str) -> str:
        """Kohya's name of a module as `named_modules` gives it."""
        return self.prefix + name.removeprefix("text_model.").replace(".", "_")

    def to_original(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Its weights as a single-file checkpoint has them."""
        if self.open_clip:
            return {f"{self.original}model.{name}": tensor for name, tensor in to_open_clip(state).items()}
        return {f"{self.original}transformer.text_model.{name.removeprefix('text_model.')}": one for name, one in state.items()}


class Family:
    """Stable Diffusion 1.x and what is as it is there."""

    name = "sd1"
    """Of its folder in `models/configs`, too."""
    title = "Stable Diffusion 1.x"
    short = "SD 1.x"
    """What `lora_forms` call it."""
    pipeline = "StableDiffusionPipeline"
    """Diffusers' class, for those who write a line of code."""
    texts: tuple[TextPart, ...] = (TextPart("text_encoder", "tokenizer", "lora_te_text_model_"),)
    clip_skip = 1
    """The layer of the text encoder that is read where no setting says another, from the end; no later one can be."""
    single_file = True
    """Whether a pipeline can be written as one file: not where its text encoder lacks a layer of the original's."""
    new_words = True
    """Whether a word of `embedding.token` can train on it."""
    experiment = "experiments/lora/sd15_fashion.yaml"
    """What a training takes that is given none."""
    resolution = 512
    """Of that experiment, the pixels a side that most bases of the family were made for."""

    width = 768
    """Numbers of a token that cross-attention reads of most of its bases."""
    file_key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    """A weight of the UNet that every single file of the family has, and by which it is known."""
    kohya_script = "train_network.py"
    """Which of sd-scripts' programs trains a LoRA of it."""

    def has(self, unet: Mapping[str, Any]) -> bool:
        """Whether a UNet of this configuration is one of the family's."""
        return not unet.get("addition_embed_type") and unet["cross_attention_dim"] != 1024

    def in_file(self, shapes: Shapes) -> bool:
        """Whether a single file in the original layout with these names and shapes is one of the family's."""
        return self.file_key in shapes and shapes[self.file_key][1] == self.width

    def check_file(self, name: str, shapes: Shapes) -> None:
        """InputError, beginning with `name`, where a single file of the family begins no image."""

    def fits(self, pipeline: Any) -> bool:
        """Whether a pipeline's parts are those of text to image in this family."""
        unet, width = pipeline.unet.config, sum(encoder.config.hidden_size for encoder in self.encoders(pipeline))
        return self.has(unet) and unet.cross_attention_dim == width and unet.in_channels == 4

    @property
    def models(self) -> tuple[str, ...]:
        """The parts of a pipeline that have weights."""
        return ("unet", "vae", *(part.model for part in self.texts))

    @property
    def folders(self) -> tuple[str, ...]:
        """All parts that are used of a pipeline; others, such as a safety checker, need not be there."""
        beside = [name for part in self.texts for name in (part.model, part.tokenizer)]
        return ("unet", "vae", *beside, "scheduler")

    def made(self, parts: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> Any:
        """A pipeline of these parts; `facts` is what its model_index.json or its configuration says."""
        import diffusers

        options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return diffusers.StableDiffusionPipeline(**{**options, **parts})

    def encoders(self, pipeline: Any) -> tuple[Any, ...]:
        """The text encoders of a pipeline."""
        return tuple(getattr(pipeline, part.model) for part in self.texts)

    def reading(self, settings: Mapping[str, Any]) -> TextSettings:
        """How captions are read, by the experiment's settings."""
        return TextSettings(**settings, usual_clip_skip=self.clip_skip)

    def check_clip_skip(self, clip_skip: int | None, pipeline: Any) -> None:
        """InputError when a text encoder has fewer layers, or its last ones are never read."""
        layers = min(encoder.config.num_hidden_layers for encoder in self.encoders(pipeline))
        if clip_skip is not None and not self.clip_skip <= clip_skip <= layers:
            raise InputError(
                tr(
                    "model.clip_skip: {clip_skip} is no layer that captions of this base are read from, counted from the last; "
                    "use {least} to {layers}",
                    clip_skip=clip_skip,
                    layers=layers,
                    least=self.clip_skip,
                )
            )

    def layers_unread(self, clip_skip: int | None) -> tuple[int, ...]:
        """How many last layers of each text encoder nothing comes of."""
        return ((clip_skip or 1) - 1,)

    def tokenize(self, pipeline: Any, captions: Sequence[str], settings: TextSettings) -> Tokens:
        """Captions as the text encoders take them."""
        return tokenize(pipeline.tokenizer, captions, settings)

    def encode(self, encoders: Sequence[Any], tokens: Tokens, clip_skip: int | None) -> Text:
        """What the UNet reads of captions, with gradients where a text encoder trains."""
        return encode_tokens(encoders[0], tokens, clip_skip)

    def with_sizes(self, text: Text | Tokens, sizes: Sequence[Sizes]) -> Text | Tokens:
        """The captions of pictures with what else the UNet is told: nothing here."""
        return text

    def predict(self, unet: Any, noisy: torch.Tensor, timesteps: torch.Tensor, text: Text) -> torch.Tensor:
        """The UNet's prediction (B, 4, h, w) for noisy latents of the same shape and timesteps (B,)."""
        return unet(noisy, timesteps, text).sample

    def arguments(self, prompt: Text, negative: Text, negatives: Sequence[str], pipeline: Any) -> dict[str, torch.Tensor]:
        """What a pipeline is called with instead of prompts and negative prompts, which are `negatives` in words."""
        assert isinstance(prompt, torch.Tensor)
        assert isinstance(negative, torch.Tensor)
        return {"prompt_embeds": prompt, "negative_prompt_embeds": negative}

    def unet_key(self, unet: Any) -> Callable[[str], str]:
        """What makes kohya's names of a UNet's modules from those of `named_modules`."""
        return lambda name: UNET + name.replace(".", "_")

    def blocks(self, unet: Any) -> UnetBlocks | OriginalBlocks:
        """How kohya numbers the blocks of a UNet."""
        return UnetBlocks.of(unet)

    def keyed(self, unet: Any, text_encoders: Any) -> list[tuple[Any, Callable[[str], str]]]:
        """The models that can have a LoRA, each with what makes kohya's names of its modules; `text_encoders` as for `each`."""
        texts = zip(each(text_encoders), self.texts, strict=False)
        return [(unet, self.unet_key(unet)), *((model, part.key) for model, part in texts)]

    def metadata(self, prediction_type: str) -> dict[str, Any]:
        """Family and prediction in a LoRA's file (sd-scripts' `get_model_version_str_for_sd1_sd2` and its `sai_model_spec`)."""
        by_v = prediction_type == "v_prediction"
        return {
            "ss_base_model_version": f"sd_v1{'_v' if by_v else ''}",
            "ss_v2": False,
            "modelspec.architecture": "stable-diffusion-v1/lora",
            "modelspec.implementation": "diffusers",
            "modelspec.prediction_type": "v" if by_v else "epsilon",
        }


@dataclass(frozen=True)
class Sizes:
    """Of a picture and of what is seen of it, width and height in pixels."""

    original: tuple[int, int]
    seen: tuple[int, int]
    mirrored: bool = False


def each(text_encoders: Any) -> tuple[Any, ...]:
    """Text encoders as a tuple: none of None, one of a model."""
    if text_encoders is None:
        return ()
    return tuple(text_encoders) if isinstance(text_encoders, (tuple, list)) else (text_encoders,)
