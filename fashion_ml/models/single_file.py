"""Single-file checkpoints in the original Stable Diffusion layout, read and written without the network.

Everything that is small lies in the package: the configurations in `configs/`, and the CLIP vocabulary, which open_clip ships.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.families.family import Family
from fashion_ml.models.families.known import FAMILIES, named
from fashion_ml.models.open_clip_names import from_open_clip, is_open_clip
from fashion_ml.models.original_names import OriginalNames, vae_name
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.loaded_weights import check_finite, fill, fitted, spelled, unwrapped
from fashion_ml.runtime.weight_files import read_header, read_tensors

CONFIGS = Path(__file__).parent / "configs"
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_PART_TITLES = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
_OTHERS = (
    (
        r"(model\.diffusion_model\.)?joint_blocks\.",
        marked("a Stable Diffusion 3 checkpoint; this trainer is for SD 1.x, 2.x and XL"),
    ),
    (r"(model\.diffusion_model\.)?double_blocks\.", marked("a Flux checkpoint; this trainer is for SD 1.x, 2.x and XL")),
    (r"(control_model|controlnet_\w+|input_hint_block)\.", marked("a ControlNet; give the base it belongs to")),
    (
        r"(.*\.)?(lora_(A|B|up|down)|hada_w1_a|lokr_w1)\b",
        marked("a LoRA, not a base model; give the checkpoint it was trained on"),
    ),
    (
        r"(emb_params|string_to_param|clip_l|clip_g)$",
        marked("a textual inversion, not a base model; give the checkpoint it was trained on"),
    ),
    (
        r"(unet\.)?(down_blocks|mid_block|conv_in|time_embedding)\.",
        marked("the UNet of a diffusers folder alone; give the folder"),
    ),
    (
        r"(vae\.|first_stage_model\.)?(encoder\.(down|mid|conv_in)|decoder\.|quant_conv\.)",
        marked("a VAE alone; give a complete checkpoint"),
    ),
    (r"(\w+\.)?(text_model|embeddings|encoder\.layers)\.", marked("a text encoder alone; give a complete checkpoint")),
)
"""What else is passed around as a single file, by the beginning of a name in it, and what to give instead."""
_NEVER_USED = re.compile(
    r"(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus\w+|posterior_\w+|logvar|v_pred|ztsnr|edm_\w+|model_ema\.(decay|num_updates)|"
    r"denoiser\..*|scale_factor|embedding_manager\..*)"
)
"""Tables of the noise schedule and markers, which every original checkpoint may have."""


def load_single_file(path: Path, prediction_type: str | None = None) -> Any:
    """The pipeline of a `.safetensors` checkpoint, on the CPU, in the file's precision.

    `prediction_type` None means: what the file says, else epsilon for SD 1.x and SDXL and v_prediction for SD 2.x. InputError for an
    inpainting model, SDXL's refiner, a file of another kind, or one that lacks a weight, holds one of another shape, or NaN.
    """
    from diffusers import DDIMScheduler

    header = read_header(path, "model.base")
    shapes = {unwrapped(name): shape for name, shape in header.shapes.items()}
    kind = checkpoint_kind(path, shapes)
    family, what = named(kind), f"model.base: {str(path)!r}"
    _say_what_is_left(path, shapes, family)
    parts: dict[str, Any] = {part: _read_part(path, part, family, header.shapes, what) for part in family.models}
    parts |= {part.tokenizer: clip_tokenizer("sd2" if part.open_clip else "sd1") for part in family.texts}
    scheduler = DDIMScheduler.from_config(json.loads((CONFIGS / kind / "scheduler" / "scheduler_config.json").read_bytes()))
    wanted = prediction_type or stated_prediction_type(shapes, header.metadata)
    if "ztsnr" in shapes:
        scheduler = DDIMScheduler.from_config(scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    if wanted:
        scheduler.register_to_config(prediction_type=wanted)
    facts = json.loads((CONFIGS / kind / "model_index.json").read_bytes())
    return family.made({**parts, "scheduler": scheduler}, facts)


def load_single_vae(path: Path, what: str, scale: float | None = None) -> Any:
    """The VAE of a `.safetensors` file: of a whole checkpoint, or alone, in the original or in diffusers' layout. `what` begins the messages.
    Alone it does not say its scale, which is `scale`, or else that of SD 1.x and 2.x, which is then said.

    InputError when it holds none, or not every weight of it.
    """
    field = what.partition(":")[0]
    shapes = read_header(path, field).shapes
    names = [unwrapped(name) for name in shapes]
    whole = dict(zip(names, shapes.values(), strict=True))
    if any(name.startswith(_UNET) for name in names) or any(family.in_file(whole) for family in FAMILIES):
        kind = checkpoint_kind(path, whole, field)
        return _read_part(path, "vae", named(kind), shapes, what)
    if not any(spelled(name).startswith(("encoder.", "decoder.")) for name in names):
        raise InputError(
            tr("{what} holds no VAE; give a VAE, or a complete checkpoint of Stable Diffusion 1.x, 2.x or XL", what=what)
        )
    vae = _read_part(path, "vae", FAMILIES[0], shapes, what, alone=True)
    if scale is None:
        say(
            tr(
                "{name} does not say its scaling_factor, taken as {scale}, that of Stable Diffusion 1.x and 2.x; for one of "
                "XL give a folder with its config.json",
                name=path.name,
                scale=vae.config.scaling_factor,
            )
        )
    else:
        vae.register_to_config(scaling_factor=scale)
    return vae


def _read_part(path: Path, part: str, family: Family, shapes: Mapping[str, Any], what: str, *, alone: bool = False) -> Any:
    """One model with every weight from the file, whose names are `shapes`; `alone` means without the prefix of a whole checkpoint."""
    prefix, is_text = _prefixes(family)[part], part.startswith("text_encoder")
    model = empty_model(part, json.loads((CONFIGS / family.name / part / "config.json").read_bytes()), what)
    # a name that begins as it should stays as it is, so that one weight under two names is noticed
    names = {
        name: (name if name.startswith(prefix) else unwrapped(name)).removeprefix(prefix)
        for name in shapes
        if alone or unwrapped(name).startswith(prefix)
    }
    tensors = {names[name]: tensor for name, tensor in read_tensors(path, what.partition(":")[0], list(names)).items()}
    if part == "vae":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("loss.", "model_ema."))}
    if is_text and is_open_clip(tensors):
        tensors = from_open_clip(tensors, model.config.num_hidden_layers, what, projects=hasattr(model, "text_projection"))
    if is_text or any(spelled(name).startswith("encoder.down_blocks.") for name in tensors):
        fill(model, tensors, what)
        return model
    last = len(model.config.block_out_channels) - 1 if part == "vae" else 0
    unet_names = OriginalNames(model.config) if part == "unet" else None
    original = {name: (unet_names.of(name) or name) if unet_names else vae_name(name, last) for name in model.state_dict()}
    wanted = {original[name]: tensor for name, tensor in model.state_dict().items()}
    found = fitted(wanted, tensors, what, lambda name: prefix * (not alone) + name)
    check_finite({prefix * (not alone) + name: tensor for name, tensor in found.items()}, what)
    model.load_state_dict({name: found[original[name]] for name in original}, strict=True, assign=True)
    return model


def _prefixes(family: Family) -> dict[str, str]:
    """What the names of each model's weights begin with in the file."""
    return {"unet": _UNET, "vae": _VAE, **{part.model: part.original for part in family.texts}}


def _say_what_is_left(path: Path, shapes: Mapping[str, Any], family: Family) -> None:
    """Tensors outside of the three models: a second, averaged UNet, or what a training left there."""
    left = [
        name for name in shapes if not name.startswith(tuple(_prefixes(family).values())) and not _NEVER_USED.fullmatch(name)
    ]
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


def checkpoint_kind(path: Path, shapes: Mapping[str, tuple[int, ...]], field: str = "model.base") -> str:
    """The name of its family; InputError that says what the file is, or what it lacks, otherwise."""
    name = f"{field}: {str(path)!r}"
    family = next((one for one in FAMILIES if one.in_file(shapes)), None)
    width = shapes.get(FAMILIES[0].file_key)
    if width is None if family is None else family.file_key not in shapes:
        for pattern, other in _OTHERS:
            if any(re.match(pattern, key) for key in shapes):
                raise InputError(tr("{name} is {family}", name=name, family=translated(other)))
        raise InputError(
            tr("{name} holds no Stable Diffusion UNet in the original layout; give an SD 1.x, 2.x or XL checkpoint", name=name)
        )
    if shapes.get("model.diffusion_model.input_blocks.0.0.weight", (0, 4))[1] != 4:
        raise InputError(tr("{name} is an inpainting or image-conditioned model; choose a plain text-to-image one", name=name))
    if family is None:
        raise InputError(
            tr(
                "{name} has a text width of {width}, not 768 or 1024; choose an SD 1.x, 2.x or XL checkpoint",
                name=name,
                width=(width or (0, 0))[1],
            )
        )
    family.check_file(name, shapes)
    for part, prefix in _prefixes(family).items():
        if not any(key.startswith(prefix) for key in shapes):
            raise InputError(
                tr(
                    "{name} holds no {part} ({prefix}*); give a complete checkpoint, or a diffusers folder",
                    name=name,
                    part=_PART_TITLES[part],
                    prefix=prefix,
                )
            )
    return family.name


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
