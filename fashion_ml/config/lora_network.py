"""The network of a LoRA experiment: what is trained, of which kind and size."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fashion_ml.config.base import ByComma, Names, Rate, Section, Share, Text
from fashion_ml.runtime.language import tr

MOST_RANK = 4096
Rank = Annotated[int, Field(ge=1, le=MOST_RANK)]
BlockRank = Annotated[int, Field(ge=0, le=MOST_RANK)]


class Network(Section):
    """The LoRA: on the UNet's attention (q, k, v and out projections), and where the switches say."""

    algo: Literal["lora", "loha", "lokr", "oft", "ia3"] = "lora"
    """LoRA, or LyCORIS' LoHa, LoKr, OFT (turns outputs) or (IA)^3 (scales outputs, or inputs where a layer has a bias), on the same modules."""
    rank: Annotated[Rank, Names("network_dim")] = 32
    """Rank r of the update; kohya's network_dim. Of OFT the largest block of outputs that turns together; (IA)^3 has none."""
    alpha: Annotated[Rate | None, Names("network_alpha")] = None
    """The update is (alpha / r) * B @ A; kohya's network_alpha. Follows the rank when not given, so that its scale is 1."""
    feed_forward: bool = False
    """Also the feed-forward layers of the transformer blocks."""
    projections: bool = False
    """Also proj_in and proj_out around the transformer blocks; with feed_forward these are kohya's 192 modules of SD 1.5."""
    convolutions: bool = False
    """Also the 3 x 3 convolutions."""
    time_embeddings: bool = False
    """Also the time projections of residual blocks; with convolutions and shortcuts these are kohya's 278 modules of a LoCon of SD 1.5."""
    shortcuts: bool = False
    """Also the 1 x 1 convolutions beside residual blocks."""
    conv_rank: Annotated[Rank | None, Names("conv_dim")] = None
    """Rank of these convolutions; that of the other modules when not given. kohya's conv_dim."""
    conv_alpha: Rate | None = None
    """Alpha of these convolutions; their rank when conv_rank is given, else alpha."""
    block_ranks: Annotated[tuple[BlockRank, ...] | None, ByComma, Names("block_dims")] = None
    """Ranks of the UNet's blocks but for 3 x 3 convolutions: of SD 1.5 input, 11 down, middle, 12 up; 0 trains none. kohya's block_dims."""
    block_alphas: Annotated[tuple[Rate, ...] | None, ByComma] = None
    """Alphas of the blocks; alpha where that is given, else their ranks."""
    conv_block_ranks: Annotated[tuple[BlockRank, ...] | None, ByComma, Names("conv_block_dims")] = None
    """Ranks of the blocks' 3 x 3 convolutions; conv_rank or rank in all when not given. kohya's conv_block_dims."""
    conv_block_alphas: Annotated[tuple[Rate, ...] | None, ByComma] = None
    """Alphas of the blocks' 3 x 3 convolutions; conv_alpha where that is given, else their ranks."""
    lokr_factor: Annotated[int, Field(ge=-1)] = -1
    """The smaller factor of a weight's sides in LoKr, LyCORIS' factor: the smaller, the more numbers train; -1 is the nearest to the root."""
    train_text_encoder: bool = False
    """Also attention and feed-forward of the text encoder; then caption embeddings are not cached."""
    dropout: Annotated[Share, Names("network_dropout", own=False)] = 0.0
    """Share of the inputs of lora_down that training drops; kohya's network_dropout."""
    rank_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the ranks of each module that training leaves out of each image; the others count the more. kohya's rank_dropout."""
    module_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the modules that training leaves out of each forward pass; kohya's module_dropout."""
    scale_weight_norms: Rate | None = None
    """A module whose update's Frobenius norm grows beyond this is scaled down to it after each step; 1 is usual. kohya's scale_weight_norms."""
    use_dora: bool = False
    """Weight-decomposed LoRA (arXiv:2402.09353)."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) (arXiv:2312.03732)."""
    init: Literal["default", "pissa", "olora"] = "default"
    """Start in the base's weights: their largest part by singular values (PiSSA, arXiv:2404.02948) or QR (OLoRA, arXiv:2406.01775). The file
    has twice the rank and is of the base as it is."""
    network_weights: Text | None = None
    """Continue from this LoRA file in kohya's layout."""

    @property
    def alpha_is_given(self) -> bool:
        """Whether alpha stands for itself and does not follow the rank."""
        return "alpha" in self.model_fields_set

    @model_validator(mode="after")
    def _convolutions_that_train(self) -> Network:
        if not self.convolutions and (self.conv_rank is not None or self.conv_alpha is not None):
            raise ValueError(tr("conv_rank and conv_alpha are of convolutions, which do not train; add convolutions true"))
        blocks = ("conv_block_ranks", "conv_block_alphas")
        if given := [name for name in blocks if not self.convolutions and getattr(self, name) is not None]:
            raise ValueError(tr("{given} is of convolutions, which do not train; add convolutions true", given=given[0]))
        return self

    @model_validator(mode="after")
    def _what_the_algorithm_has(self) -> Network:
        if self.lokr_factor == 0:
            raise ValueError(tr("lokr_factor: 0 is no factor; use -1, or one of 1 and more"))
        of_lora = ("use_dora", "use_rslora", "dropout", "rank_dropout", "module_dropout", "scale_weight_norms")
        of_ranks = ("block_ranks", "block_alphas", "conv_block_ranks", "conv_block_alphas") if self.algo == "ia3" else ()
        if self.algo != "lora" and (given := [name for name in (*of_lora, *of_ranks) if getattr(self, name)]):
            raise ValueError(
                tr("{given} is not of algo {algo}; leave it out, or use algo lora", given=given[0], algo=self.algo)
            )
        return self

    @model_validator(mode="after")
    def _starts_of_a_plain_lora(self) -> Network:
        others = ("use_dora", "dropout", "rank_dropout", "module_dropout", "scale_weight_norms", "network_weights")
        given = ["algo"] if self.algo != "lora" else [name for name in others if getattr(self, name)]
        if self.init != "default" and given:
            raise ValueError(
                tr(
                    "init: {init} is of a plain LoRA that starts in the base's weights; leave it out, or {given}",
                    init=self.init,
                    given=given[0],
                )
            )
        return self

    @model_validator(mode="after")
    def _plain_lora_for_these(self) -> Network:
        given = [name for name in ("rank_dropout", "module_dropout", "scale_weight_norms") if getattr(self, name)]
        if self.use_dora and given:
            raise ValueError(
                tr("{given} is for a plain LoRA, whose update it changes; leave it out, or use_dora", given=given[0])
            )
        return self
