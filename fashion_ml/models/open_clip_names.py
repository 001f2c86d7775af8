"""A text encoder in open_clip's names, of SD 2.x and of SDXL's second one, and under transformers': both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_WHOLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_PROJECTION = "text_projection"
_NEVER_USED = (_PROJECTION, "logit_scale", "attn_mask")


def is_open_clip(names: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are a text encoder's names there."""
    return any(name.startswith("model.transformer.resblocks.") for name in names)


def from_open_clip(
    tensors: Mapping[str, torch.Tensor], layers: int, what: str, *, projects: bool = False
) -> dict[str, torch.Tensor]:
    """The first `layers` layers under transformers' names, with the projection of the summary if `projects`: open_clip multiplies by it from
    the right, a linear layer has it transposed. InputError where three matrices in one are none."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        short = name.removeprefix("model.")
        if short in _WHOLE:
            renamed[_WHOLE[short]] = tensor
            continue
        if short == _PROJECTION and projects:
            renamed[f"{_PROJECTION}.weight"] = tensor.T.contiguous()
            continue
        match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", short)
        if match is None:
            if short not in _NEVER_USED:
                renamed[name] = tensor
            continue
        number, rest = match.groups()
        if int(number) >= layers:
            continue
        kind = rest.replace("in_proj_", "in_proj.").rpartition(".")[2]
        stem = f"encoder.layers.{number}."
        if rest.startswith("attn.in_proj_"):
            if tensor.shape[0] % 3:
                raise InputError(
                    tr(
                        "{what} holds {name} of {shape}, not three matrices in one; give another file",
                        what=what,
                        name=name,
                        shape=list(tensor.shape),
                    )
                )
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{stem}self_attn.{letter}_proj.{kind}"] = third
        else:
            renamed[f"{stem}{_LAYER.get(rest.rpartition('.')[0], rest.rpartition('.')[0])}.{kind}"] = tensor
    return renamed


def to_open_clip(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The whole of a text encoder with its projection, in open_clip's names; the inverse of reading one."""
    whole, layer = ({ours: theirs for theirs, ours in names.items()} for names in (_WHOLE, _LAYER))
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        short = name.removeprefix("text_model.")
        if short in whole:
            found[whole[short]] = tensor
        elif short == f"{_PROJECTION}.weight":
            found[_PROJECTION] = tensor.T
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", short):
            number, module, kind = match.groups()
            stem = f"transformer.resblocks.{number}"
            if module == "self_attn.q_proj":
                thirds = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                found[f"{stem}.attn.in_proj_{kind}"] = torch.cat(thirds)
            elif module in layer:
                found[f"{stem}.{layer[module]}.{kind}"] = tensor
    return found
