"""Single-file checkpoints in the original Stable Diffusion layout, read and written without the network.

Everything that is small lies in the package: the configurations in `configs/`, and the CLIP vocabulary, which open_clip ships.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.base_folder import empty_model
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import check_finite, fill, fitted, spelled, unwrapped
from fashion_ml.runtime.weight_files import read_header, read_tensors

CONFIGS = Path(__file__).parent / "configs"
_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
_CROSS_ATTENTION_KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_WIDTHS = {768: "sd1", 1024: "sd2"}
_XL = re.compile(r"conditioner\.embedders\.|model\.diffusion_model\.label_emb\.0\.0\.weight$")
_FAMILIES = (
    (r"(model\.diffusion_model\.)?joint_blocks\.", "a Stable Diffusion 3 checkpoint; this trainer is for SD 1.x and 2.x"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "a Flux checkpoint; this trainer is for SD 1.x and 2.x"),
    (r"(control_model|controlnet_\w+|input_hint_block)\.", "a ControlNet; give the base it belongs to"),
    (r"(.*\.)?(lora_(A|B|up|down)|hada_w1_a|lokr_w1)\b", "a LoRA, not a base model; give the checkpoint it was trained on"),
    (
        r"(emb_params|string_to_param|clip_l|clip_g)$",
        "a textual inversion, not a base model; give the checkpoint it was trained on",
    ),
    (r"(unet\.)?(down_blocks|mid_block|conv_in|time_embedding)\.", "the UNet of a diffusers folder alone; give the folder"),
    (
        r"(vae\.|first_stage_model\.)?(encoder\.(down|mid|conv_in)|decoder\.|quant_conv\.)",
        "a VAE alone; give a complete checkpoint",
    ),
    (r"(\w+\.)?(text_model|embeddings|encoder\.layers)\.", "a text encoder alone; give a complete checkpoint"),
)
"""What else is passed around as a single file, by the beginning of a name in it, and what to give instead."""
_NEVER_USED = re.compile(
    r"(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus\w+|posterior_\w+|logvar|v_pred|ztsnr|edm_\w+|model_ema\.(decay|num_updates)|"
    r"denoiser\..*|scale_factor|embedding_manager\..*)"
)
"""Tables of the noise schedule and markers, which every original checkpoint may have."""


def load_single_file(path: Path, prediction_type: str | None = None) -> Any:
    """The `StableDiffusionPipeline` of a `.safetensors` checkpoint, on the CPU, in the file's precision.

    `prediction_type` None means: what the file says, else epsilon for SD 1.x and v_prediction for SD 2.x. InputError for SDXL, an
    inpainting model, a file of another kind, or one that lacks a weight, holds one of another shape, or NaN.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    header = read_header(path, "model.base")
    shapes = {unwrapped(name): shape for name, shape in header.shapes.items()}
    kind = checkpoint_kind(path, shapes)
    what = f"model.base: {str(path)!r}"
    _say_what_is_left(path, shapes)
    parts = {part: _read_part(path, part, CONFIGS / kind, header.shapes, what) for part in ("unet", "vae", "text_encoder")}
    scheduler = DDIMScheduler.from_config(json.loads((CONFIGS / kind / "scheduler" / "scheduler_config.json").read_bytes()))
    wanted = prediction_type or stated_prediction_type(shapes, header.metadata)
    if "ztsnr" in shapes:
        scheduler = DDIMScheduler.from_config(scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    if wanted:
        scheduler.register_to_config(prediction_type=wanted)
    return StableDiffusionPipeline(
        **parts,
        tokenizer=clip_tokenizer(kind),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def load_single_vae(path: Path, what: str) -> Any:
    """The VAE of a `.safetensors` file: of a whole checkpoint, or alone, in the original or in diffusers' layout. `what` begins the messages.

    InputError when it holds none, or not every weight of it.
    """
    field = what.partition(":")[0]
    shapes = read_header(path, field).shapes
    names = [unwrapped(name) for name in shapes]
    if any(name.startswith(_UNET) or _XL.match(name) for name in names):
        checkpoint_kind(path, dict(zip(names, shapes.values(), strict=True)), field)
        return _read_part(path, "vae", CONFIGS / "sd1", shapes, what)
    if not any(spelled(name).startswith(("encoder.", "decoder.")) for name in names):
        raise InputError(
            tr("{what} holds no VAE; give a VAE, or a complete checkpoint of Stable Diffusion 1.x or 2.x", what=what)
        )
    return _read_part(path, "vae", CONFIGS / "sd1", shapes, what, alone=True)


def _read_part(path: Path, part: str, configs: Path, shapes: Mapping[str, Any], what: str, *, alone: bool = False) -> Any:
    """One model with every weight from the file, whose names are `shapes`; `alone` means without the prefix of a whole checkpoint."""
    prefix = {"unet": _UNET, "vae": _VAE, "text_encoder": _TEXT}[part]
    model = empty_model(part, json.loads((configs / part / "config.json").read_bytes()), what)
    # a name that begins as it should stays as it is, so that one weight under two names is noticed
    names = {
        name: (name if name.startswith(prefix) else unwrapped(name)).removeprefix(prefix)
        for name in shapes
        if alone or unwrapped(name).startswith(prefix)
    }
    tensors = {names[name]: tensor for name, tensor in read_tensors(path, what.partition(":")[0], list(names)).items()}
    if part == "vae":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("loss.", "model_ema."))}
    if part == "text_encoder" and any(name.startswith("model.transformer.resblocks.") for name in tensors):
        tensors = _from_open_clip(tensors, model.config.num_hidden_layers, what)
    if part == "text_encoder" or any(spelled(name).startswith("encoder.down_blocks.") for name in tensors):
        fill(model, tensors, what)
        return model
    last = len(model.config.block_out_channels) - 1 if part == "vae" else 0
    original = {name: _vae_name(name, last) if part == "vae" else _unet_name(name) for name in model.state_dict()}
    wanted = {original[name]: tensor for name, tensor in model.state_dict().items()}
    found = fitted(wanted, tensors, what, lambda name: prefix * (not alone) + name)
    check_finite({prefix * (not alone) + name: tensor for name, tensor in found.items()}, what)
    model.load_state_dict({name: found[original[name]] for name in original}, strict=True, assign=True)
    return model


def _say_what_is_left(path: Path, shapes: Mapping[str, Any]) -> None:
    """Tensors outside of the three models: a second, averaged UNet, or what a training left there."""
    left = [name for name in shapes if not name.startswith((_UNET, _VAE, _TEXT)) and not _NEVER_USED.fullmatch(name)]
    averaged = [name for name in left if name.startswith("model_ema.")]
    if averaged:
        say(
            tr(
                "{name}: the averaged UNet in it (model_ema, {count} tensors) is not read, the plain one is",
                name=path.name,
                count=len(averaged),
            )
        )
    if len(left) > len(averaged):
        other = [name for name in left if name not in set(averaged)]
        say(
            tr(
                "{name}: {count} tensors in it belong to no part of Stable Diffusion and are not read (first {other})",
                name=path.name,
                count=len(other),
                other=other[0],
            )
        )


def _from_open_clip(tensors: Mapping[str, torch.Tensor], layers: int, what: str) -> dict[str, torch.Tensor]:
    """The text encoder of SD 2.x, in open_clip's names, under transformers'; its last layer is not used and not read."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        short = name.removeprefix("model.")
        if short in _OPEN_CLIP_WHOLE:
            renamed[_OPEN_CLIP_WHOLE[short]] = tensor
            continue
        match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", short)
        if match is None:
            if short not in ("logit_scale", "text_projection", "attn_mask"):
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
            renamed[f"{stem}{_OPEN_CLIP_LAYER.get(rest.rpartition('.')[0], rest.rpartition('.')[0])}.{kind}"] = tensor
    return renamed


_OPEN_CLIP_WHOLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def checkpoint_kind(path: Path, shapes: Mapping[str, tuple[int, ...]], field: str = "model.base") -> str:
    """`sd1` or `sd2`; InputError that says what the file is, or what it lacks, otherwise."""
    name = f"{field}: {str(path)!r}"
    if any(_XL.match(key) for key in shapes):
        raise InputError(
            tr("{name} is a Stable Diffusion XL checkpoint; this trainer is for SD 1.x and 2.x, choose one of those", name=name)
        )
    if _CROSS_ATTENTION_KEY not in shapes:
        for pattern, family in _FAMILIES:
            if any(re.match(pattern, key) for key in shapes):
                raise InputError(tr("{name} is {family}", name=name, family=family))
        raise InputError(
            tr("{name} holds no Stable Diffusion UNet in the original layout; give an SD 1.x or 2.x checkpoint", name=name)
        )
    if shapes.get("model.diffusion_model.input_blocks.0.0.weight", (0, 4))[1] != 4:
        raise InputError(tr("{name} is an inpainting or image-conditioned model; choose a plain text-to-image one", name=name))
    kind = _WIDTHS.get(shapes[_CROSS_ATTENTION_KEY][1])
    if kind is None:
        width = shapes[_CROSS_ATTENTION_KEY][1]
        raise InputError(
            tr(
                "{name} has a text width of {width}, not 768 or 1024; choose an SD 1.x or 2.x checkpoint",
                name=name,
                width=width,
            )
        )
    for prefix, part in ((_VAE, "VAE"), (_TEXT, "text encoder")):
        if not any(key.startswith(prefix) for key in shapes):
            raise InputError(
                tr(
                    "{name} holds no {part} ({prefix}*); give a complete checkpoint, or a diffusers folder",
                    name=name,
                    part=part,
                    prefix=prefix,
                )
            )
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
    """A pipeline of SD 1.x as the tensors of a single-file checkpoint, with the markers `v_pred` if it predicts v and `ztsnr` if its
    schedule ends in pure noise; the inverse of reading one.

    ValueError for another architecture (four levels of two layers, a CLIP text encoder).
    """
    unet, vae = pipeline.unet, pipeline.vae
    if len(unet.config.block_out_channels) != 4 or unet.config.layers_per_block != 2 or unet.config.cross_attention_dim == 1024:
        raise ValueError(tr("only the architecture of Stable Diffusion 1.x has a single-file form here"))
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
    if pipeline.scheduler.config.get("rescale_betas_zero_snr"):
        tensors["ztsnr"] = torch.tensor([])
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _unet_name(name: str) -> str:
    for ours, theirs in _unet_blocks():
        if name.startswith(f"{ours}."):
            rest = name.removeprefix(f"{ours}.")
            if ".resnets." in f"{ours}.":
                part, _, end = rest.partition(".")
                rest = f"{_RESNET[part]}.{end}"
            return f"{theirs}.{rest}"
    raise ValueError(tr("{name} has no place in the original layout", name=name))


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
