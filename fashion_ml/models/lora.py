"""LoRA on UNet and text encoder through peft, and its file in kohya's key layout.

Hu et al. 2021, arXiv:2106.09685: the update of a weight is (alpha / r) * B @ A, with A = lora_down [r, in], B = lora_up [out, r].
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from fashion_ml.models.lora_dropout import add_dropout, lora_layers
from fashion_ml.runtime.seeding import derive_seed

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention projections, of self- and cross-attention."""
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv")
TEXT_ENCODER = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True)
class LoraSpec:
    """What is trained, by the names of the experiment's settings.

    kohya's modules are attention, feed-forward and projections, and the text encoder.
    """

    rank: int
    alpha: float
    feed_forward: bool = False
    projections: bool = False
    convolutions: bool = False
    """The 3 x 3 convolutions of residual blocks and of down- and upsampling."""
    conv_rank: int | None = None
    """Of these convolutions; `rank` when None."""
    conv_alpha: float | None = None
    """Of these convolutions; their rank when None and conv_rank is given, else `alpha`."""
    train_text_encoder: bool = False
    dropout: float = 0.0
    """Share of inputs dropped before lora_down while training."""
    rank_dropout: float = 0.0
    """Share of ranks that training leaves out of each image."""
    module_dropout: float = 0.0
    """Share of modules that training leaves out of each forward pass."""
    use_dora: bool = False
    """Weight-decomposed update: a magnitude for each output beside the direction. Liu et al. 2024, arXiv:2402.09353."""
    use_rslora: bool = False
    """Scale alpha / sqrt(r) instead of alpha / r. Kalajdzievski 2023, arXiv:2312.03732."""

    def rank_of(self, convolution: bool) -> int:
        """The rank of a 3 x 3 convolution, or of another module."""
        return self.conv_rank if convolution and self.conv_rank is not None else self.rank

    def alpha_of(self, convolution: bool) -> float:
        """The alpha of a 3 x 3 convolution, or of another module."""
        if not convolution or (self.conv_alpha is None and self.conv_rank is None):
            return self.alpha
        return float(self.rank_of(True)) if self.conv_alpha is None else self.conv_alpha

    def file_alpha(self, convolution: bool) -> float:
        """The alpha that a file carries, so that readers, who divide by r, get the scale that was trained with."""
        alpha = self.alpha_of(convolution)
        return alpha * math.sqrt(self.rank_of(convolution)) if self.use_rslora else alpha

    def with_alpha_of_rank(self) -> LoraSpec:
        """The same with every alpha equal to its rank."""
        return replace(self, alpha=float(self.rank), conv_alpha=None if self.conv_rank is None else float(self.conv_rank))


@dataclass(frozen=True)
class LoraParameters:
    """The trained parameters, float32, by learning rate."""

    unet: list[torch.nn.Parameter]
    text_encoder: list[torch.nn.Parameter]
    ups: frozenset[int] = frozenset()
    """`id` of those that are lora_up, B."""

    @property
    def all(self) -> list[torch.nn.Parameter]:
        """All of them; a list, for clipping iterates it at every step."""
        return [*self.unet, *self.text_encoder]


def add_lora(unet: Any, text_encoder: Any, spec: LoraSpec, seed: int, clip_skip: int | None = None) -> LoraParameters:
    """Put a LoRA on the UNet, and on the text encoder if the spec says so; only its parameters train afterwards.

    A is Kaiming-uniform by `seed`, B is zero, so that the first output equals the base's. The global random state is untouched. Layers of the
    text encoder that `clip_skip` leaves out have a LoRA too, as in kohya's files, which stays as it is: nothing comes of it.
    """
    from diffusers.training_utils import cast_training_params

    models = [(unet, unet_targets(unet, spec), "lora")]
    if spec.train_text_encoder:
        models.append((text_encoder, modules_ending_in(text_encoder, TEXT_ENCODER), "lora of the text encoder"))
    trained: list[list[torch.nn.Parameter]] = [[], []]
    for index, (model, targets, purpose) in enumerate(models):
        model.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, purpose))
            model.add_adapter(
                _peft_config(spec, targets, [name for name in targets if is_convolution(model.get_submodule(name))])
            )
        cast_training_params(model, dtype=torch.float32)
        if model is text_encoder and clip_skip is not None and clip_skip > 1:
            layers = getattr(text_encoder, "text_model", text_encoder).encoder.layers
            layers[1 - clip_skip :].requires_grad_(False)
        add_dropout(model, spec.rank_dropout, spec.module_dropout)
        trained[index] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ups = frozenset(id(layer.lora_B["default"].weight) for model, *_ in models for layer in lora_layers(model))
    return LoraParameters(trained[0], trained[1], ups)


def is_convolution(module: Any) -> bool:
    """Whether a module, with a LoRA or without, is a 3 x 3 convolution."""
    return getattr(getattr(module, "base_layer", module), "kernel_size", None) == (3, 3)


def _peft_config(spec: LoraSpec, targets: list[str], convolutions: list[str]) -> Any:
    from peft import LoraConfig

    differs = spec.conv_rank is not None or spec.conv_alpha is not None
    own = [f"^{re.escape(name)}$" for name in convolutions] if differs else []
    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules=targets,
        lora_dropout=spec.dropout,
        use_dora=spec.use_dora,
        use_rslora=spec.use_rslora,
        init_lora_weights=True,
        rank_pattern=dict.fromkeys(own, spec.rank_of(True)),
        alpha_pattern=dict.fromkeys(own, spec.alpha_of(True)),
    )


def unet_targets(unet: Any, spec: LoraSpec) -> list[str]:
    """Names of the UNet's modules that a spec trains, as `named_modules` gives them."""
    targets = [name for name in modules_ending_in(unet, ATTENTION) if ".transformer_blocks." in name]
    if spec.feed_forward:
        targets += modules_ending_in(unet, FEED_FORWARD)
    if spec.projections:
        targets += [name for name in modules_ending_in(unet, PROJECTIONS) if ".attentions." in name]
    if spec.convolutions:
        modules = dict(unet.named_modules())
        targets += [name for name in modules_ending_in(unet, CONVOLUTIONS) if is_convolution(modules[name])]
    return targets


def modules_ending_in(model: Any, endings: tuple[str, ...]) -> list[str]:
    """Names of the modules whose last parts are one of the endings."""
    return [name for name, _ in model.named_modules() if name.endswith(tuple(f".{ending}" for ending in endings))]
