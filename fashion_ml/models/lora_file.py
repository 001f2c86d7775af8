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
from fashion_ml.models.lora_delta import rank_of
from fashion_ml.models.lora_forms import BASE_KEYS, SMALL_BASES, WIDTHS, base_of, recognise
from fashion_ml.runtime.language import marked, tr, translated

_PARTS: tuple[tuple[str, str], ...] = (
    (r"\.lora_(down|up|mid)\.weight", ""),
    (r"\.lora_A(?:\.\w+)?\.weight", "down"),
    (r"\.lora_B(?:\.\w+)?\.weight", "up"),
    (r"(?:\.lora|\.lora_linear_layer|_lora)\.(down|up)\.weight", ""),
    (r"\.lora_magnitude_vector(?:\.\w+)?", "dora_scale"),
    (r"\.(alpha|dora_scale|diff|diff_b|w_norm|b_norm|on_input|oft_blocks)", ""),
    (r"\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)(?:\.(?!weight)\w+)?(?:\.weight)?", ""),
)
_PATTERNS = tuple((re.compile(f"^(?P<module>.+?){pattern}$"), part) for pattern, part in _PARTS)
_REFUSED = (
    (re.compile(r"\.(oft_\w+|boft_\w+)"), marked("OFT of another kind (diagonal, butterfly, or on inputs)")),
    (re.compile(r"ia3_l"), marked("(IA)^3 of PEFT")),
    (re.compile(r"\.[abc][12m]\.weight$"), "GLoRA"),
    (re.compile(r"\.lora_E"), "AdaLoRA"),
    (re.compile(r"\.vera_"), "VeRA"),
    (re.compile(r"lora_embedding_"), marked("a LoRA of token embeddings")),
    (re.compile(r"^bundle_emb|emb_params$"), marked("a textual inversion")),
    (re.compile(r"^(unet|text_encoder):\d+:"), marked("a LoRA of cloneofsimo's, whose modules have numbers instead of names")),
    (re.compile(r"lora_(up|down|[AB](\.\w+)?)\.bias$"), marked("a LoRA with biases")),
    (re.compile(r"\.(scalar|rank_scale)$"), marked("LyCORIS' scalars")),
)
"""What other methods call their tensors; it is refused by its name."""
_LYCORIS_TEXT = re.compile(r"(?:te|text_encoder_?)([12])?_")


@dataclass(frozen=True)
class LoraFile:
    """What a file holds, by the names of kohya's trainer for the modules."""

    form: str
    """kohya, LyCORIS, diffusers or PEFT."""
    modules: dict[str, dict[str, torch.Tensor]]
    """Module -> part (down, up, mid, alpha, dora_scale, hada_…, lokr_…, diff, diff_b, w_norm, b_norm) -> tensor."""
    names: dict[str, str]
    """Module -> one of the file's own names in it, for messages."""


def read_lora_file(
    tensors: Mapping[str, torch.Tensor], known: Iterable[str], what: str, others: Mapping[str, str] | None = None
) -> LoraFile:
    """The modules of a LoRA. `known` are the base's modules by kohya's names, `others` what they are called in kohya's of another layout;
    `what` begins the messages, such as `lora: 'x.safetensors'`.

    InputError that names the first, how many, and the likely cause, for what is no LoRA here (OFT, (IA)^3, …) and for modules that the base
    does not have.
    """
    wanted, modules, own = set(known), dict[str, dict[str, torch.Tensor]](), dict[str, str]()
    unread, unmatched = list[str](), dict[str, str]()
    for name, tensor in tensors.items():
        found = _split(name) or _factor(name, tensors)
        if found is None:
            unread.append(name)
            continue
        module = next((one for name in _as_kohya(found[0]) if (one := (others or {}).get(name, name)) in wanted), None)
        if module is None:
            unmatched.setdefault(found[0], name)
            continue
        if found[1] in modules.setdefault(module, {}):
            raise InputError(
                tr(
                    "{what} holds one module twice, as {own} and as {name}; save the LoRA once",
                    what=what,
                    own=own[module],
                    name=name,
                )
            )
        modules[module][found[1]] = tensor
        own.setdefault(module, name)
    if unread:
        raise InputError(_cannot_apply(unread, what))
    if unmatched:
        raise InputError(_not_there(list(unmatched.values()), len(unmatched) + len(modules), what))
    return LoraFile(_form(tensors), modules, own)


def other_base(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], width: int, family: str = SMALL_BASES[0]
) -> str | None:
    """Which base a LoRA was trained on and how that is seen, where it is another one than that whose cross-attention reads `width` numbers
    of a token, of `family` by the words of `lora_forms`; None where nothing says so."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    form = recognise(shapes, metadata)
    if form is None:
        return None
    if form.witness is not None and form.base != family:
        return tr("{base} (it holds {witness})", base=form.base, witness=form.witness)
    if form.width is not None and form.width != width:
        return tr(
            "{get} (cross-attention of {width} numbers, this base has {width_2})",
            get=WIDTHS.get(form.width, tr("another base")),
            width=form.width,
            width_2=width,
        )
    key = next((key for key in BASE_KEYS if base_of(metadata.get(key, "")) is not None), None)
    told = base_of(metadata[key]) if key is not None else None
    if (
        form.width is None
        and form.witness is None
        and told not in (None, *(SMALL_BASES if family in SMALL_BASES else (family,)))
    ):
        return tr("{told} (its metadata says {key} {metadata})", told=told, key=key, metadata=metadata[key or ""])
    return None


def parts_by_module(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """The parts of each module by the file's own names of the modules; what is no part of a LoRA known here is left out."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        found = _split(name)
        if found is not None:
            modules.setdefault(found[0], {})[found[1]] = tensor
    return modules


def note_of_zero_alphas(modules: Mapping[str, Mapping[str, torch.Tensor]], name: str) -> str | None:
    """Where a file called `name` has alphas of 0, what is made of them here and elsewhere; None where it has none."""
    zeros = sum(rank_of(parts) is not None and "alpha" in parts and not parts["alpha"].any() for parts in modules.values())
    if not zeros:
        return None
    return tr(
        "{name} says alpha 0 ({zeros} modules), which is read as the rank, scale 1, as kohya's trainer and "
        "LyCORIS do; A1111, Forge, ComfyUI and diffusers take it as a LoRA that does nothing. fashion-ml "
        "export FILE OUT --format kohya writes the rank into it",
        name=name,
        zeros=zeros,
    )


def _split(name: str) -> tuple[str, str] | None:
    """Module and part of a tensor's name; None for names of another kind."""
    for pattern, part in _PATTERNS:
        match = pattern.match(name)
        if match:
            return match["module"], part or match[2]
    return None


def _factor(name: str, tensors: Mapping[str, torch.Tensor]) -> tuple[str, str] | None:
    """Of (IA)^3, whose factor is called as a base's weight is, beside it `on_input`."""
    module, _, part = name.rpartition(".")
    return (module, part) if part == "weight" and f"{module}.on_input" in tensors else None


def _as_kohya(module: str) -> Iterable[str]:
    """What kohya's trainer may call a module that a file calls so."""
    if module.startswith(("lora_unet_", "lora_te")):
        yield module
        return
    if module.startswith("lycoris_"):
        name = module.removeprefix("lycoris_")
        yield f"lora_unet_{name.removeprefix('unet_')}"
        start = _LYCORIS_TEXT.match(name)
        numbers = ("",) if start is None else (start[1],) if start[1] else ("", "1")
        yield from (_text(name[start.end() if start else 0 :], number) for number in numbers)
        return
    name = module.removeprefix("base_model.model.")
    text = re.match(r"text_encoder(_2)?\.|(?=(?:text_model|encoder)\.)", name)
    if text:
        own = re.sub(r"\.to_(q|k|v|out)$", r".\1_proj", name[text.end() :]).replace(".", "_")  # diffusers' before 0.22
        if text[1] is None:
            yield _text(own)
        if text[0]:  # of two encoders a name must say which
            yield _text(own, "2" if text[1] else "1")
        return
    name = re.sub(r"\.processor\.(to_\w+)$", r".\1", re.sub(r"^(unet|diffusion_model)\.", "", name))
    yield f"lora_unet_{re.sub(r'to_out$', 'to_out.0', name).replace('.', '_')}"


def _text(name: str, number: str = "") -> str:
    return f"lora_te{number}_text_model_{name.removeprefix('text_model_')}"


def _form(names: Iterable[str]) -> str:
    listed = list(names)
    if any(".lora_A" in name or name.startswith("base_model.model.") for name in listed):
        return "PEFT"
    if any(re.search(r"\.(hada|lokr|oft)_|^lycoris_|\.(diff|w_norm|on_input)$|lora_mid", name) for name in listed):
        return "LyCORIS"
    return "kohya" if any(name.startswith("lora_") for name in listed) else "diffusers"


def _cannot_apply(names: list[str], what: str) -> str:
    method = next((translated(method) for pattern, method in _REFUSED if pattern.search(names[0])), None)
    count = tr("{count} tensors, first {names}", count=len(names), names=names[0]) if len(names) > 1 else names[0]
    if method is None:
        return tr(
            "{what} holds what is of no LoRA known here ({count}): another method, another program's names, or "
            "damaged; give a LoRA of kohya's trainers, diffusers, PEFT or LyCORIS (LoRA, LoCon, LoHa, LoKr, OFT, "
            "(IA)^3)",
            what=what,
            count=count,
        )
    return tr(
        "{what} holds {method} ({count}), which is not applied here; merge it into its base with the program "
        "that made it, and measure the images (fashion-ml evaluate images), or give a LoRA, LoCon, LoHa, "
        "LoKr, OFT or (IA)^3",
        what=what,
        method=method,
        count=count,
    )


def _not_there(names: list[str], total: int, what: str) -> str:
    if len(names) == total:
        return tr(
            "{what} has names of which this base has none (first {names}): another program's, or another base's "
            "(fashion-ml inspect says what it is); use a LoRA trained on this base, in kohya's names",
            what=what,
            names=names[0],
        )
    return tr(
        "{what} holds {total} modules, of which this base lacks {count} (first {names}): it was trained on "
        "another base, by a method that names others, or two files mixed (fashion-ml inspect says what it "
        "is); use a LoRA trained on this base",
        what=what,
        total=total,
        count=len(names),
        names=names[0],
    )
