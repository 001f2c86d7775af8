"""CLIP in transformers' form (`CLIPModel`, such as patrickjohncyh/fashion-clip) converted to open_clip: the same embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.clip_tokenizer import read_tokenizer
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed, read_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import check_names, fill
from fashion_ml.runtime.weight_files import find_weights

_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
"""open_clip's `quick_gelu` for each activation; a wrong one loads without complaint and gives other embeddings."""
_OPENAI_MEAN, _OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_STEMS = ("model", "pytorch_model")
_LEGACY_EOS = 2
"""In old configurations: the end is the largest token id."""

Tokenize = Callable[[Sequence[str]], torch.Tensor]


def is_transformers_clip(folder: Path) -> bool:
    """Whether the folder holds the config.json of a transformers `CLIPModel`."""
    try:
        return parsed(read_whole(folder / "config.json")).get("model_type") == "clip"
    except (OSError, ValueError, AttributeError):
        return False


def load_transformers_clip(folder: Path, what: str = "evaluation.encoder") -> tuple[Any, Any, Tokenize]:
    """open_clip model (float32, CPU), image transform and tokenizer of a transformers folder; `what` begins messages.

    Width, depth, activation and layer-norm epsilon come from config.json, as transformers reads it. InputError, naming what is wrong, when
    weights or the tokenizer are missing or another model's; ValueError for a kind that open_clip cannot express.
    """
    import open_clip
    from transformers import CLIPConfig

    config = CLIPConfig.from_pretrained(str(folder), local_files_only=True)
    text, vision = config.text_config, config.vision_config
    model = open_clip.CLIP(
        embed_dim=config.projection_dim,
        vision_cfg={
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        text_cfg={
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
            **_pooling(text),
        },
        quick_gelu=_quick_gelu(text.hidden_act, vision.hidden_act),
    )
    for tower, settings in ((model.visual, vision), (model.transformer, text), (model.ln_final, text)):
        for module in tower.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = settings.layer_norm_eps
    tensors = find_weights(folder, _STEMS, "evaluation.encoder").read("evaluation.encoder")
    found = check_names(_names(text.num_hidden_layers, vision.num_hidden_layers), tensors, what)
    fill(model, open_clip_tensors({name: tensors[given] for name, given in found.items()}), what)
    return model.float(), _preprocess(folder, vision.image_size), _tokenizer(folder, text, what)


def _names(text_layers: int, vision_layers: int) -> list[str]:
    """Transformers' names of all weights of a CLIP."""
    parts = [*_LAYER, *(f"self_attn.{letter}_proj" for letter in "qkv")]
    layers = {"text_model": text_layers, "vision_model": vision_layers}
    return list(_WHOLE) + [
        f"{tower}.encoder.layers.{number}.{part}.{kind}"
        for tower, count in layers.items()
        for number in range(count)
        for part in parts
        for kind in ("weight", "bias")
    ]


def open_clip_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state of a transformers `CLIPModel` under open_clip's names: q, k, v joined, projections transposed."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("position_ids"):
            continue
        if name in _WHOLE:
            new, transpose = _WHOLE[name]
            renamed[new] = tensor.T.contiguous() if transpose else tensor
            continue
        tower, separator, rest = name.partition(".encoder.layers.")
        if not separator or tower not in _TOWERS:
            raise ValueError(tr("holds {name}, which CLIP does not have", name=name))
        number, _, part = rest.partition(".")
        if part.startswith(("self_attn.k_proj", "self_attn.v_proj")):
            continue  # joined with q below
        new = f"{_TOWERS[tower]}.{number}."
        if part.startswith("self_attn.q_proj."):
            kind = part.rpartition(".")[2]
            parts = [tensors[f"{tower}.encoder.layers.{number}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            renamed[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            continue
        stem, _, kind = part.rpartition(".")
        if stem not in _LAYER:
            raise ValueError(tr("holds {name}, which CLIP does not have", name=name))
        renamed[f"{new}{_LAYER[stem]}.{kind}"] = tensor
    return renamed


_TOWERS = {"text_model": "transformer.resblocks", "vision_model": "visual.transformer.resblocks"}
_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_WHOLE = {
    "logit_scale": ("logit_scale", False),
    "text_projection.weight": ("text_projection", True),
    "visual_projection.weight": ("visual.proj", True),
    "text_model.embeddings.token_embedding.weight": ("token_embedding.weight", False),
    "text_model.embeddings.position_embedding.weight": ("positional_embedding", False),
    "text_model.final_layer_norm.weight": ("ln_final.weight", False),
    "text_model.final_layer_norm.bias": ("ln_final.bias", False),
    "vision_model.embeddings.class_embedding": ("visual.class_embedding", False),
    "vision_model.embeddings.patch_embedding.weight": ("visual.conv1.weight", False),
    "vision_model.embeddings.position_embedding.weight": ("visual.positional_embedding", False),
    "vision_model.pre_layrnorm.weight": ("visual.ln_pre.weight", False),
    "vision_model.pre_layrnorm.bias": ("visual.ln_pre.bias", False),
    "vision_model.post_layernorm.weight": ("visual.ln_post.weight", False),
    "vision_model.post_layernorm.bias": ("visual.ln_post.bias", False),
}
"""transformers' name to open_clip's, and whether the matrix is transposed."""


def _quick_gelu(text: str, vision: str) -> bool:
    if text != vision or text not in _ACTIVATIONS:
        known = tr(" or ").join(_ACTIVATIONS)
        raise ValueError(
            tr(
                "its config.json asks for the activations {text} (text) and {vision} (vision), not both {known}",
                text=text,
                vision=vision,
                known=known,
            )
        )
    return _ACTIVATIONS[text]


def _pooling(text: Any) -> dict[str, Any]:
    """open_clip takes the largest token id for the end of the text, as old configurations do; newer ones name the id."""
    if text.eos_token_id in (_LEGACY_EOS, text.vocab_size - 1):
        return {}
    return {"pool_type": "eos", "eos_id": text.eos_token_id}


def _preprocess(folder: Path, image_size: int) -> Any:
    import open_clip

    path = folder / "preprocessor_config.json"
    given = read_mapping(path, "evaluation.encoder", tr("bring back a whole copy of it")) if path.is_file() else {}
    mean, std = given.get("image_mean", _OPENAI_MEAN), given.get("image_std", _OPENAI_STD)
    return open_clip.image_transform(image_size, is_train=False, mean=tuple(mean), std=tuple(std), resize_mode="shortest")


def _tokenizer(folder: Path, text: Any, what: str) -> Tokenize:
    import open_clip

    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "merges.txt")):
        own = read_tokenizer(folder, text, what)
    elif text.vocab_size == open_clip.SimpleTokenizer().vocab_size:
        return open_clip.SimpleTokenizer(context_length=text.max_position_embeddings)
    else:
        raise InputError(
            tr("{what} holds no tokenizer (tokenizer.json, or vocab.json and merges.txt); download it again", what=what)
        )

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        limit = text.max_position_embeddings
        return own(list(texts), padding="max_length", truncation=True, max_length=limit, return_tensors="pt").input_ids

    return tokenize
