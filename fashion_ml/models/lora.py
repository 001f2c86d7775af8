"""LoRA on UNet and text encoder through peft, and its file in kohya's key layout.

Hu et al. 2021, arXiv:2106.09685: the update of a weight is (alpha / r) * B @ A, with A = lora_down [r, in], B = lora_up [out, r].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.families.known import family_of_unet
from fashion_ml.models.lora_dropout import add_dropout, lora_layers
from fashion_ml.models.lora_sizes import Target, is_convolution, text_sizes, unet_sizes
from fashion_ml.models.lora_starts import add_starts
from fashion_ml.models.lora_variants import add_variant, check_variant, exactly
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.seeding import derive_seed

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Attention projections, of self- and cross-attention."""
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
PROJECTIONS = ("proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv")
TIME_EMBEDDINGS = ("time_emb_proj",)
SHORTCUTS = ("conv_shortcut",)
TEXT_ENCODER = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_PURPOSES = ("lora", "lora of the text encoder", "lora of the second text encoder")
"""What numbers are drawn for, by model."""


@dataclass(frozen=True)
class LoraSpec:
    """What is trained, by the names of the experiment's settings.

    kohya's modules are attention, feed-forward and projections, and the text encoder; those of its LoCon all others too.
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
    init: str = "default"
    """Where a plain LoRA starts: at nothing, or pissa or olora, in the base's own weights: `lora_starts`."""
    algo: str = "lora"
    """lora, loha, lokr, oft or ia3: `lora_variants`."""
    lokr_factor: int = -1
    """Of LoKr: the smaller factor of each side of a weight; the nearest to its square root when -1."""
    time_embeddings: bool = False
    """The projections of the time step in residual blocks."""
    shortcuts: bool = False
    """The 1 x 1 convolutions beside residual blocks."""
    block_ranks: tuple[int, ...] | None = None
    """By block of the UNet, as kohya numbers them, of all but the 3 x 3 convolutions; 0 leaves a block out."""
    block_alphas: tuple[float, ...] | None = None
    """Likewise; `alpha` when None."""
    conv_block_ranks: tuple[int, ...] | None = None
    """Of the 3 x 3 convolutions."""
    conv_block_alphas: tuple[float, ...] | None = None
    """Likewise; conv_alpha, or else the ranks, when None."""
    block_lr: tuple[float, ...] | None = None
    """Factors of the learning rates of the blocks; 0 leaves a block out."""
    modules: Mapping[str, tuple[int, float]] | None = None
    """Rank and alpha by kohya's name, of a file with many; then all others train nothing."""

    def rank_of(self, convolution: bool) -> int:
        """The rank of a 3 x 3 convolution, or of another module."""
        return self.conv_rank if convolution and self.conv_rank is not None else self.rank

    def alpha_of(self, convolution: bool) -> float:
        """The alpha of a 3 x 3 convolution, or of another module."""
        if not convolution or (self.conv_alpha is None and self.conv_rank is None):
            return self.alpha
        return float(self.rank_of(True)) if self.conv_alpha is None else self.conv_alpha

    def size_in_block(self, block: int | None, convolution: bool) -> tuple[int, float]:
        """Rank and alpha of a 3 x 3 convolution, or of another module, in a block of the UNet; outside of them all when None."""
        rank, alpha = self.rank_of(convolution), self.alpha_of(convolution)
        if block is None:
            return rank, alpha
        ranks = self.conv_block_ranks if convolution else self.block_ranks
        alphas = self.conv_block_alphas if convolution else self.block_alphas
        rank = ranks[block] if ranks is not None else rank
        if alphas is not None:
            return rank, alphas[block]
        return rank, float(rank) if convolution and ranks is not None and self.conv_alpha is None else alpha

    def in_file(self, rank: int, alpha: float) -> tuple[int, float]:
        """Rank and alpha in a file of a module that trains with these: such that alpha / rank is the scale of what the file holds.

        PiSSA's and OLoRA's is a plain LoRA of twice the rank, rsLoRA's alpha holds its square root; LoHa and LoKr have the scale in a factor,
        and what OFT has as an alpha, 0, is the norm that it is held to: none.
        """
        if self.algo in ("loha", "lokr"):
            return rank, float(rank)
        if self.algo == "oft":
            return rank, 0.0
        factors = 2 if self.init != "default" else 1
        return rank * factors, alpha * factors * (math.sqrt(rank) if self.use_rslora else 1.0)

    def with_alpha_of_rank(self) -> LoraSpec:
        """The same with every alpha equal to its rank."""
        return replace(
            self,
            alpha=float(self.rank),
            conv_alpha=None if self.conv_rank is None else float(self.conv_rank),
            modules=None if self.modules is None else {name: (rank, float(rank)) for name, (rank, _) in self.modules.items()},
        )


@dataclass(frozen=True)
class LoraParameters:
    """The trained parameters, float32, by learning rate."""

    unet: list[torch.nn.Parameter]
    text_encoder: list[torch.nn.Parameter]
    ups: frozenset[int] = frozenset()
    """`id` of those that are lora_up, B."""
    second: frozenset[int] = frozenset()
    """`id` of those of a second text encoder."""
    blocks: Mapping[int, int] = field(default_factory=dict)
    """By `id` the block of the UNet, as kohya numbers them."""
    starts: list[torch.Tensor] = field(default_factory=list)
    """What they are less by in a file, of PiSSA and OLoRA; a state keeps them, for no two machines need to compute the same."""

    word: list[torch.nn.Parameter] = field(default_factory=list)
    """The vectors of a new word, where one trains."""

    @property
    def all(self) -> list[torch.nn.Parameter]:
        """All of them; a list, for clipping iterates it at every step."""
        return [*self.unet, *self.text_encoder, *self.word]


def add_lora(unet: Any, text_encoder: Any, spec: LoraSpec, seed: int, clip_skip: int | None = None) -> LoraParameters:
    """Put a LoRA on the UNet, and on the text encoder, or a tuple of several, if the spec says so; only its parameters train afterwards.

    A is Kaiming-uniform by `seed`, B is zero, unless the spec has them start elsewhere; the first output equals the base's. The global random
    state is untouched. Layers of the text encoder that `clip_skip` leaves out have a LoRA too, as in kohya's files, which stays as it is:
    nothing comes of it.
    """
    from diffusers.training_utils import cast_training_params

    models = sized_targets(unet, text_encoder, spec)
    unread = (0, *family_of_unet(unet).layers_unread(clip_skip))
    trained: list[list[torch.nn.Parameter]] = [[] for _ in models]
    starts: list[torch.Tensor] = []
    for index, (model, targets) in enumerate(models):
        model.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, _PURPOSES[index]))
            if spec.algo == "lora":
                model.add_adapter(_peft_config(spec, targets))
                starts += add_starts(model, spec.init) if spec.init != "default" else []
            else:
                add_variant(model, spec, targets)
        cast_training_params(model, dtype=torch.float32)
        if unread[index]:
            getattr(model, "text_model", model).encoder.layers[-unread[index] :].requires_grad_(False)
        add_dropout(model, spec.rank_dropout, spec.module_dropout)
        trained[index] += [parameter for parameter in model.parameters() if parameter.requires_grad]
    ups = frozenset(id(layer.lora_B["default"].weight) for model, *_ in models for layer in lora_layers(model))
    texts = [one for part in trained[1:] for one in part]
    second = frozenset(id(one) for part in trained[2:] for one in part)
    return LoraParameters(trained[0], texts, ups, second, _blocks(*models[0]), starts)


def _blocks(unet: Any, targets: Sequence[Target]) -> dict[int, int]:
    return {
        id(one): target.block
        for target in targets
        if target.block is not None
        for one in unet.get_submodule(target.name).parameters()
        if one.requires_grad
    }


def sized_targets(unet: Any, text_encoder: Any, spec: LoraSpec) -> list[tuple[Any, list[Target]]]:
    """The models that train, each with its modules; whether their LoRA is on already or not. InputError where blocks do not fit the UNet."""
    found = [(unet, unet_sizes(unet, unet_targets(unet, spec), spec))]
    if spec.train_text_encoder:
        texts = family_of_unet(unet).keyed(unet, text_encoder)[1:]
        found += [(model, text_sizes(model, modules_ending_in(model, TEXT_ENCODER), spec, key)) for model, key in texts]
    return found


def weight_count(unet: Any, text_encoder: Any, spec: LoraSpec) -> int:
    """Numbers that train in a LoRA or LoHa that is not made yet; 0 for other kinds, whose size does not grow with the rank."""
    per_module = {"lora": 1, "loha": 2}.get(spec.algo, 0)
    count = 0
    for model, targets in sized_targets(unet, text_encoder, spec):
        for one in targets:
            weight = model.get_submodule(one.name).weight
            count += per_module * one.rank * (len(weight) + weight[0].numel())
    return count


def check_network(unet: Any, text_encoder: Any, spec: LoraSpec) -> None:
    """InputError where a setting of the network does not fit the base."""
    models = sized_targets(unet, text_encoder, spec)
    check_variant(spec, models)
    for model, targets in models if spec.init != "default" else ():
        for one in targets:
            weight = model.get_submodule(one.name).weight
            if one.rank > min(weight.flatten(1).shape):
                raise InputError(
                    tr(
                        "network.init: {init} of rank {rank} is more than the {shape} that the weight of {key} has; use a "
                        "lower network.rank, or default",
                        init=spec.init,
                        rank=one.rank,
                        shape=min(weight.flatten(1).shape),
                        key=one.key,
                    )
                )


def _peft_config(spec: LoraSpec, targets: Sequence[Target]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules=[one.name for one in targets],
        lora_dropout=spec.dropout,
        use_dora=spec.use_dora,
        use_rslora=spec.use_rslora,
        init_lora_weights=True,
        rank_pattern={exactly(one.name): one.rank for one in targets if one.rank != spec.rank},
        alpha_pattern={exactly(one.name): one.alpha for one in targets if one.alpha != spec.alpha},
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
    for chosen, endings in ((spec.time_embeddings, TIME_EMBEDDINGS), (spec.shortcuts, SHORTCUTS)):
        targets += [name for name in modules_ending_in(unet, endings) if ".resnets." in name] if chosen else []
    return targets


def modules_ending_in(model: Any, endings: tuple[str, ...]) -> list[str]:
    """Names of the modules whose last parts are one of the endings."""
    return [name for name, _ in model.named_modules() if name.endswith(tuple(f".{ending}" for ending in endings))]
