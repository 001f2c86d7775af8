"""The optimiser of a LoRA experiment and its learning-rate schedule."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fashion_ml.config.base import Betas, ByComma, Names, NotNegative, Positive, Rate, Schedule, Section, Share, WarmUp
from fashion_ml.runtime.language import tr

OPTIMIZERS = ("adamw", "adamw8bit", "adafactor", "prodigy", "lion", "came", "adamwschedulefree")
"""Names for which training/optimizers.py has the class; a class of any library goes by its dotted name."""
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def _optimizer(value: str) -> str:
    if value.lower() in OPTIMIZERS:
        return value.lower()
    if _CLASS.fullmatch(value):
        return value
    raise ValueError(
        tr(
            "{value!r} is not known; use {names}, or a class such as torch.optim.RAdam",
            value=value,
            names=", ".join(OPTIMIZERS),
        )
    )


def _arguments(value: Any) -> Any:
    """`eps=1e-6 betas=0.9,0.99`, and kohya's list of `name=value`, as a mapping of plain values."""
    words = value.split() if isinstance(value, str) else value
    if isinstance(words, list | tuple):
        pairs = [str(word).partition("=") for word in words]
        if not all(equals and name.isidentifier() for name, equals, _ in pairs):
            raise ValueError(tr("arguments are name=value, such as eps=1e-6 betas=0.9,0.99"))
        words = {name: _plain(text) for name, _, text in pairs}
    if isinstance(words, Mapping):
        return {name: tuple(one) if isinstance(one, list) else one for name, one in words.items()}
    return words


def _plain(text: str) -> Any:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
    return found if isinstance(found, bool | int | float | str | tuple | None) else text


_Word = bool | int | float | str | None
Argument = _Word | tuple[_Word, ...]
Arguments = Annotated[dict[str, Argument], BeforeValidator(_arguments)]


class Optimizer(Section):
    """The optimiser and its learning-rate schedule."""

    optimizer_type: Annotated[str, AfterValidator(_optimizer)] = "adamw"
    """adamw, adamw8bit, adafactor, prodigy, lion, came, adamwschedulefree, or a class of a library by its dotted name, `torch.optim.RAdam`.
    adamw8bit and prodigy need the extra `gpu`, lion, came and schedule-free the extra `optimizers`."""
    optimizer_args: Annotated[Arguments, Names(own=False)] = Field(default_factory=dict)
    """What else the optimiser is made with, `eps=1e-6 d_coef=0.5`, by the names of its library; on the command line also as kohya's
    `--optimizer_args "eps=1e-6" "d_coef=0.5"`."""
    learning_rate: Annotated[Rate, Names("lr", "unet_lr")] = 5e-5
    """Peak learning rate, per optimiser step; 1 is usual for prodigy."""
    text_encoder_lr: Rate | None = None
    """Peak learning rate of the text encoder's LoRA; learning_rate when not given. kohya's list of two is this and text_encoder_2_lr."""
    text_encoder_2_lr: Rate | None = None
    """Peak learning rate of the LoRA of SDXL's second text encoder; that of the first when not given."""
    embedding_lr: Rate | None = None
    """Peak learning rate of the vectors of `embedding.token`, without weight decay; learning_rate when not given, 1e-3 to 5e-3 is usual."""
    loraplus_lr_ratio: Rate | None = None
    """LoRA+ (arXiv:2402.12354): lora_up's learning rate is this many times lora_down's; 16 is usual, with a smaller learning_rate. One rate for
    both when not given."""
    block_lr: Annotated[tuple[NotNegative, ...] | None, ByComma] = None
    """Factors of the rates of the UNet's blocks, 25 of SD 1.5: input, 11 down, middle, 12 up; a block of 0 does not train. kohya's
    down_lr_weight, mid_lr_weight and up_lr_weight in one."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay of the LoRA weights."""
    betas: Annotated[Betas | None, ByComma] = None
    """Decay of the means of gradients and of their squares, as many as the optimiser has (CAME three); its own, such as 0.9,0.999, when not
    given. Adafactor has none."""
    max_grad_norm: NotNegative = 1.0
    """Gradients are scaled down to this L2 norm; 0 turns clipping off."""
    lr_scheduler: Annotated[
        Literal["constant", "cosine", "linear", "polynomial", "cosine_with_restarts", "rex", "warmup_stable_decay"],
        Schedule,
    ] = "constant"
    """Shape after the warm-up; polynomial ends at 1e-7. rex falls late (arXiv:2107.04197); warmup_stable_decay stays
    at the peak until lr_decay_steps before the end. kohya's constant_with_warmup is constant."""
    lr_scheduler_num_cycles: Positive = 1
    """How often cosine_with_restarts goes down from the peak."""
    lr_scheduler_power: Rate = 1.0
    """Power of the polynomial schedule."""
    lr_scheduler_min_lr_ratio: Share = 0.0
    """cosine, linear, rex and warmup_stable_decay end at this share of the peak; kohya's cosine_with_min_lr is cosine with it."""
    lr_decay_steps: WarmUp = 0.1
    """Optimiser steps of warmup_stable_decay's decay, a half cosine; below 1, such as 0.1, that share of all steps."""
    lr_warmup_steps: WarmUp = 0
    """Optimiser steps of linear warm-up; below 1, such as 0.05, that share of all steps."""

    @model_validator(mode="after")
    def _betas_of_those_that_have_them(self) -> Optimizer:
        if self.betas is not None and self.optimizer_type == "adafactor":
            raise ValueError(tr("betas: adafactor has none; leave them out, or use adamw"))
        twice = [name for name in ("betas", "weight_decay", "lr") if name in self.optimizer_args]
        if twice:
            own = {"lr": "learning_rate"}.get(twice[0], twice[0])
            raise ValueError(
                tr("optimizer_args: {twice} is a setting of its own here; give optimizer.{own}", twice=twice[0], own=own)
            )
        return self
