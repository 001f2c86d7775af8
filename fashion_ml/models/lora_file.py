"""LoRA files of any program: to which module of a base each tensor belongs, and what of it (down, up, alpha, …) it is.

Read are the names of kohya's trainers (`lora_unet_…`, `lora_te_…`, LyCORIS' modules in them too), of LyCORIS alone (`lycoris_…`), of diffusers
(`unet.….lora.down.weight`, `unet.….processor.to_q_lora.down.weight`) and of PEFT (`base_model.model.….lora_A.weight`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from fashion_ml.errors import InputError

_PARTS: tuple[tuple[str, str], ...] = (
    (r"\.lora_(down|up|mid)\.weight", ""),
    (r"\.lora_A(?:\.\w+)?\.weight", "down"),
    (r"\.lora_B(?:\.\w+)?\.weight", "up"),
    (r"(?:\.lora|\.lora_linear_layer|_lora)\.(down|up)\.weight", ""),
    (r"\.lora_magnitude_vector(?:\.\w+)?", "dora_scale"),
    (r"\.(alpha|dora_scale|diff|diff_b|w_norm|b_norm)", ""),
    (r"\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)(?:\.(?!weight)\w+)?(?:\.weight)?", ""),
)
_PATTERNS = tuple((re.compile(f"^(?P<module>.+?){pattern}$"), part) for pattern, part in _PARTS)
_REFUSED = (
    (re.compile(r"\.(oft_\w+|boft_\w+)"), "OFT"),
    (re.compile(r"\.on_input$|ia3_l"), "(IA)^3"),
    (re.compile(r"\.[abc][12m]\.weight$"), "GLoRA"),
    (re.compile(r"\.lora_E"), "AdaLoRA"),
    (re.compile(r"\.vera_"), "VeRA"),
    (re.compile(r"lora_embedding_"), "a LoRA of token embeddings"),
    (re.compile(r"^bundle_emb|emb_params$"), "a textual inversion"),
    (re.compile(r"lora_(up|down|[AB](\.\w+)?)\.bias$"), "a LoRA with biases"),
    (re.compile(r"\.(scalar|rank_scale)$"), "LyCORIS' scalars"),
)
"""What other methods call their tensors; it is refused by its name."""
_OTHER_BASES = (
    (re.compile(r"lora_te[12]_|text_encoder_2\.|lora_unet_(input|output|middle)_block|add_embedding|label_emb"), "SDXL"),
    (re.compile(r"double_blocks|single_blocks|single_transformer_blocks"), "Flux"),
    (re.compile(r"joint_blocks|^transformer\.|lora_te3_"), "SD 3 or another transformer"),
    (re.compile(r"lora_prior_|lora_unet_down_blocks_\d+_attentions_\d+_attention_"), "Stable Cascade or another model"),
)
_NAMED_IN_METADATA = (
    ("sdxl", "SDXL"),
    ("stable-diffusion-xl", "SDXL"),
    ("flux", "Flux"),
    ("sd3", "SD 3"),
    ("stable-diffusion-3", "SD 3"),
)
_OF_WIDTH = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
"""Numbers of a token that cross-attention reads."""


@dataclass(frozen=True)
class LoraFile:
    """What a file holds, by the names of kohya's trainer for the modules."""

    form: str
    """kohya, LyCORIS, diffusers or PEFT."""
    modules: dict[str, dict[str, torch.Tensor]]
    """Module -> part (down, up, mid, alpha, dora_scale, hada_…, lokr_…, diff, diff_b, w_norm, b_norm) -> tensor."""
    names: dict[str, str]
    """Module -> one of the file's own names in it, for messages."""


def read_lora_file(tensors: Mapping[str, torch.Tensor], known: Iterable[str], what: str) -> LoraFile:
    """The modules of a LoRA. `known` are the base's modules by kohya's names; `what` begins the messages, such as `lora: 'x.safetensors'`.

    InputError that names the first, how many, and the likely cause, for what is no LoRA here (OFT, (IA)^3, …) and for modules that the base
    does not have.
    """
    wanted, modules, own = set(known), dict[str, dict[str, torch.Tensor]](), dict[str, str]()
    unread, unmatched = list[str](), dict[str, str]()
    for name, tensor in tensors.items():
        found = _split(name)
        if found is None:
            unread.append(name)
            continue
        module = next((one for one in _as_kohya(found[0]) if one in wanted), None)
        if module is None:
            unmatched.setdefault(found[0], name)
            continue
        if found[1] in modules.setdefault(module, {}):
            raise InputError(f"{what} holds one module twice, as {own[module]} and as {name}; save the LoRA once")
        modules[module][found[1]] = tensor
        own.setdefault(module, name)
    if unread:
        raise InputError(_cannot_apply(unread, what))
    if unmatched:
        raise InputError(_not_there(list(unmatched.values()), len(unmatched) + len(modules), what))
    return LoraFile(_form(tensors), modules, own)


def other_base(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], width: int) -> str | None:
    """Which base a LoRA was trained on and how that is seen, where it is another one than that whose cross-attention reads `width` numbers
    of a token; None where nothing says so."""
    for pattern, base in _OTHER_BASES:
        name = next((name for name in tensors if pattern.search(name)), None)
        if name is not None:
            return f"{base} (it holds {name})"
    for key in ("ss_base_model_version", "modelspec.architecture"):
        told = metadata.get(key, "").lower()
        base = next((base for start, base in _NAMED_IN_METADATA if told.startswith(start)), "")
        if base:
            return f"{base} (its metadata says {key} {metadata[key]})"
    for name, tensor in tensors.items():
        if re.search(r"attn2[._](processor\.)?to_[kv](\.lora_A|\.lora_down|\.lora\.down|_lora\.down)", name):
            reads = tensor.shape[1]
            if reads != width:
                return f"{_OF_WIDTH.get(reads, 'another base')} (cross-attention of {reads} numbers, this base has {width})"
            return None
    return None


def _split(name: str) -> tuple[str, str] | None:
    """Module and part of a tensor's name; None for names of another kind."""
    for pattern, part in _PATTERNS:
        match = pattern.match(name)
        if match:
            return match["module"], part or match[2]
    return None


def _as_kohya(module: str) -> Iterable[str]:
    """What kohya's trainer may call a module that a file calls so."""
    if module.startswith(("lora_unet_", "lora_te_")):
        yield module
        return
    if module.startswith("lycoris_"):
        name = module.removeprefix("lycoris_")
        yield from (
            f"lora_unet_{name.removeprefix('unet_')}",
            _text(name.removeprefix("te_")),
            _text(name.removeprefix("text_encoder_")),
        )
        return
    name = module.removeprefix("base_model.model.")
    if name.startswith("text_encoder.") or re.match(r"(text_model|encoder)\.", name):
        name = re.sub(r"\.to_(q|k|v|out)$", r".\1_proj", name.removeprefix("text_encoder."))  # diffusers' before 0.22
        yield _text(name.replace(".", "_"))
        return
    name = re.sub(r"\.processor\.(to_\w+)$", r".\1", name.removeprefix("unet."))
    yield f"lora_unet_{re.sub(r'to_out$', 'to_out.0', name).replace('.', '_')}"


def _text(name: str) -> str:
    return f"lora_te_text_model_{name.removeprefix('text_model_')}"


def _form(names: Iterable[str]) -> str:
    listed = list(names)
    if any(".lora_A" in name or name.startswith("base_model.model.") for name in listed):
        return "PEFT"
    if any(re.search(r"\.(hada|lokr)_|^lycoris_|\.(diff|w_norm)$|lora_mid", name) for name in listed):
        return "LyCORIS"
    return "kohya" if any(name.startswith("lora_") for name in listed) else "diffusers"


def _cannot_apply(names: list[str], what: str) -> str:
    method = next((method for pattern, method in _REFUSED if pattern.search(names[0])), None)
    count = f"{len(names)} tensors, first {names[0]}" if len(names) > 1 else names[0]
    if method is None:
        return (
            f"{what} holds what is of no LoRA known here ({count}): another method, another program's names, or damaged; give a LoRA of "
            "kohya's trainers, diffusers, PEFT or LyCORIS (LoRA, LoCon, LoHa, LoKr)"
        )
    return (
        f"{what} holds {method} ({count}), which is not applied here; merge it into its base with the program that made it, and measure "
        "the images (fashion-ml evaluate images), or give a LoRA, LoCon, LoHa or LoKr"
    )


def _not_there(names: list[str], total: int, what: str) -> str:
    if len(names) == total:
        return (
            f"{what} does not fit this base (which has none of its modules, first {names[0]}): it is of another base, or its names are "
            "another program's; use a LoRA trained on this base"
        )
    return (
        f"{what} holds {total} modules, of which this base lacks {len(names)} (first {names[0]}): it was trained on another base, or two "
        "files were mixed; use a LoRA trained on this base"
    )
