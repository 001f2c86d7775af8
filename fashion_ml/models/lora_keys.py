"""What kohya's names of modules say: which setting has one train, in both layouts of a UNet's names."""

from __future__ import annotations

_SETTINGS = (
    ("lora_te", "network.train_text_encoder"),
    ("_ff_net_", "network.feed_forward"),
    ("_proj_in", "network.projections"),
    ("_proj_out", "network.projections"),
    ("_time_emb_proj", "network.time_embeddings"),
    ("_emb_layers_1", "network.time_embeddings"),
    ("_conv_shortcut", "network.shortcuts"),
    ("_skip_connection", "network.shortcuts"),
    ("_in_layers_2", "network.convolutions"),
    ("_out_layers_3", "network.convolutions"),
    ("_0_op", "network.convolutions"),
    ("_conv", "network.convolutions"),
)
"""By the first part that is in a name."""


def setting_of(key: str) -> str | None:
    """The setting that has a module of this name train; None of attention, which always does, and of what nothing here trains."""
    return next((setting for part, setting in _SETTINGS if part in key), None)
