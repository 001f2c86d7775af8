"""Blocks of a model that compute their activations again in the backward pass instead of keeping them."""

from __future__ import annotations

from typing import Any


def checkpoint_blocks(model: Any, **options: Any) -> None:
    """Let the blocks of a diffusers or transformers model do so; `options` are those of `torch.utils.checkpoint.checkpoint`, which are the
    libraries' own where none is given."""
    if hasattr(model, "enable_gradient_checkpointing"):  # of diffusers
        from functools import partial

        from torch.utils.checkpoint import checkpoint

        model.enable_gradient_checkpointing(*([partial(checkpoint, **options)] if options else []))
    elif hasattr(model, "activation_checkpointing_enable"):  # of transformers 5, which warns of its older name
        model.activation_checkpointing_enable(options or None)
    else:
        model.gradient_checkpointing_enable(options or None)
