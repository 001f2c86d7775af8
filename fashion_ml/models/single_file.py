"""Single-file checkpoints in the original Stable Diffusion layout, read and written without the network.

Everything that is small lies in the package: the configurations in `configs/`, and the CLIP vocabulary, which open_clip ships.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError

CONFIGS = Path(__file__).parent / "configs"
_CROSS_ATTENTION_KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_WIDTHS = {768: "sd1", 1024: "sd2"}


def load_single_file(path: Path, prediction_type: str | None = None) -> Any:
    """The `StableDiffusionPipeline` of a `.safetensors` checkpoint, on the CPU.

    `prediction_type` None means: what the file says, else epsilon for SD 1.x and v_prediction for SD 2.x. InputError for SDXL, an
    inpainting model, a file of another kind, or one that lacks VAE or text encoder.
    """
    from diffusers import StableDiffusionPipeline

    shapes, metadata = read_header(path)
    kind = checkpoint_kind(path, shapes)
    folder = CONFIGS / kind
    pipeline = StableDiffusionPipeline.from_single_file(
        str(path), config=str(folder), tokenizer=clip_tokenizer(kind), local_files_only=True
    )
    wanted = prediction_type or stated_prediction_type(shapes, metadata)
    if wanted:
        pipeline.scheduler.register_to_config(prediction_type=wanted)
    return pipeline


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes by tensor name, and the metadata, of a `.safetensors` file; the tensors are not read. InputError if it is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100 << 20:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            return {name: tuple(entry["shape"]) for name, entry in header.items()}, metadata
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise InputError(
            f"model.base: {str(path)!r} is no .safetensors file ({error}); give a checkpoint in that form"
        ) from None


def checkpoint_kind(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """`sd1` or `sd2`; InputError that says what the file is, or what it lacks, otherwise."""
    name = f"model.base: {str(path)!r}"
    if (
        any(key.startswith("conditioner.embedders.") for key in shapes)
        or "model.diffusion_model.label_emb.0.0.weight" in shapes
    ):
        raise InputError(f"{name} is a Stable Diffusion XL checkpoint; this trainer is for SD 1.x and 2.x, choose one of those")
    if any(".lora_down." in key or ".lora_A." in key for key in shapes):
        raise InputError(f"{name} is a LoRA, not a base model; give the checkpoint it was trained on")
    if _CROSS_ATTENTION_KEY not in shapes:
        raise InputError(f"{name} holds no Stable Diffusion UNet in the original layout; give an SD 1.x or 2.x checkpoint")
    if shapes.get("model.diffusion_model.input_blocks.0.0.weight", (0, 4))[1] != 4:
        raise InputError(f"{name} is an inpainting or image-conditioned model; choose a plain text-to-image one")
    kind = _WIDTHS.get(shapes[_CROSS_ATTENTION_KEY][1])
    if kind is None:
        width = shapes[_CROSS_ATTENTION_KEY][1]
        raise InputError(f"{name} has a text width of {width}, not 768 or 1024; choose an SD 1.x or 2.x checkpoint")
    for prefix, part in (("first_stage_model.", "VAE"), ("cond_stage_model.", "text encoder")):
        if not any(key.startswith(prefix) for key in shapes):
            raise InputError(f"{name} holds no {part} ({prefix}*); give a complete checkpoint, or a diffusers folder")
    return kind


def stated_prediction_type(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> str | None:
    """What the file itself says: the marker tensor `v_pred`, or `modelspec.prediction_type`; None when it says nothing."""
    if "v_pred" in shapes:
        return "v_prediction"
    return {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}.get(
        metadata.get("modelspec.prediction_type", "")
    )


def clip_tokenizer(kind: str) -> Any:
    """The tokenizer of SD 1.x (`sd1`) or 2.x (`sd2`, padded with `!`), 77 tokens, from the vocabulary that open_clip ships."""
    import open_clip
    from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPTokenizer

    with gzip.open(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token="!" if kind == "sd2" else "<|endoftext|>", model_max_length=77)


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_tensors(pipeline: Any) -> dict[str, torch.Tensor]:
    """A pipeline of SD 1.x as the tensors of a single-file checkpoint, with the marker `v_pred` if it predicts v; the inverse of reading one.

    ValueError for another architecture (four levels of two layers, a CLIP text encoder).
    """
    unet, vae = pipeline.unet, pipeline.vae
    if len(unet.config.block_out_channels) != 4 or unet.config.layers_per_block != 2 or unet.config.cross_attention_dim == 1024:
        raise ValueError("only the architecture of Stable Diffusion 1.x has a single-file form here")
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in unet.state_dict().items():
        tensors[f"model.diffusion_model.{_unet_name(name)}"] = tensor
    last = len(vae.config.block_out_channels) - 1
    for name, tensor in vae.state_dict().items():
        original = _vae_name(name, last)
        flat_attention = ".attn_1." in original and original.endswith("weight") and tensor.dim() == 2
        tensors[f"first_stage_model.{original}"] = tensor[:, :, None, None] if flat_attention else tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    if pipeline.scheduler.config.prediction_type == "v_prediction":
        tensors["v_pred"] = torch.tensor([])
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _unet_name(name: str) -> str:
    for ours, theirs in _unet_blocks():
        if name.startswith(f"{ours}."):
            rest = name.removeprefix(f"{ours}.")
            if ".resnets." in f"{ours}.":
                part, _, end = rest.partition(".")
                rest = f"{_RESNET[part]}.{end}"
            return f"{theirs}.{rest}"
    raise ValueError(f"{name} has no place in the original layout")


def _unet_blocks() -> Iterator[tuple[str, str]]:
    yield "time_embedding.linear_1", "time_embed.0"
    yield "time_embedding.linear_2", "time_embed.2"
    yield "conv_in", "input_blocks.0.0"
    yield "conv_norm_out", "out.0"
    yield "conv_out", "out.2"
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", "middle_block.2"
    for level in range(4):
        for layer in range(2):
            yield f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{3 * level + layer + 1}.0"
            yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{3 * level + layer + 1}.1"
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{3 * level + 3}.0.op"
        for layer in range(3):
            yield f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{3 * level + layer}.0"
            yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{3 * level + layer}.1"
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{3 * level + 2}.{2 if level else 1}.conv"


def _vae_name(name: str, last: int) -> str:
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"decoder.up.{last - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"decoder\.up_blocks\.(\d)\.upsamplers\.0", lambda m: f"decoder.up.{last - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, theirs in _VAE_ATTENTION.items():
        name = name.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
