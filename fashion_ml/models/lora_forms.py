"""What a LoRA file is, by its names and shapes alone: whose names, which methods, of which base, and what can be done with it here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fashion_ml.models.families.known import FAMILIES
from fashion_ml.runtime.language import marked, tr, translated

Shapes = Mapping[str, tuple[int, ...]]

_MERGED = marked("For all of them: fashion-ml export RUN OUT --format merged, which is exact")
_READERS = {
    "DoRA": marked(
        "DoRA is read as it was trained by LyCORIS and by this program, whose scores are of that, and its UNet by diffusers (--format "
        "diffusers); Forge and ComfyUI come near, A1111 scales by inputs and makes other pictures, kohya's scripts drop the magnitudes"
    ),
    "LoHa": marked(
        "LoHa is read as it was trained by LyCORIS, A1111, Forge and ComfyUI; kohya's networks.lora makes other pictures and diffusers "
        "refuses it"
    ),
    "LoKr": marked(
        "LoKr is read as it was trained by LyCORIS, A1111, Forge and ComfyUI; kohya's networks.lora makes other pictures and diffusers "
        "refuses it"
    ),
    "OFT": marked(
        "OFT is read as it was trained by LyCORIS and A1111; Forge leaves it out, kohya's networks.lora makes other pictures and "
        "diffusers refuses it"
    ),
    "(IA)^3": marked(
        "(IA)^3 is read as it was trained by A1111; Forge leaves it out, kohya's networks.lora makes other pictures and diffusers refuses "
        "it, and so does LyCORIS' own loader"
    ),
}
"""Who makes the pictures that were measured; docs/readers.md has the figures. A method that is not here is read by all."""


def readers_of(methods: Iterable[str]) -> list[str]:
    """A line for each of a file's methods that not every program reads as it was trained."""
    known, sentence = set(methods), marked("{line}. {merged}")
    return [
        translated(sentence, line=translated(line), merged=translated(_MERGED))
        for method, line in _READERS.items()
        if method in known
    ]


_NAMES: tuple[tuple[str, str], ...] = (
    (r"^(unet|text_encoder):\d+:(up|down)$", "cloneofsimo"),
    (r"^base_model\.model\.", "PEFT"),
    (r"^lycoris_", "LyCORIS"),
    (r"^lora_(unet|te\d?|prior)_", "kohya"),
    (r"\.processor\.\w+_lora\.(down|up)\.weight$", "diffusers before 0.22"),
    (r"\.lora(_linear_layer)?\.(down|up)\.weight$", "diffusers before 0.26"),
    (r"^(unet|text_encoder(_2)?|transformer)\..*\.lora_[AB]\.", "diffusers"),
    (r"^diffusion_model\.", "ComfyUI"),
    (r"\.lora_[AB](\.\w+)?\.weight$", "PEFT"),
)
"""The first whose pattern is in a file says whose names it has."""
_METHODS: tuple[tuple[str, str], ...] = (
    (r"\.lora_mid\.", "LoCon with a core"),
    (r"(\.lora_down|\.lora_A(\.\w+)?|\.lora\.down|_lora\.down|\.lora_linear_layer\.down)\.weight$|:\d+:down$", "LoRA"),
    (r"\.hada_", "LoHa"),
    (r"\.lokr_", "LoKr"),
    (r"\.oft_blocks$", "OFT"),
    (r"\.oft_(?!blocks$)\w+|\.boft_", "OFT of another kind"),
    (r"\.on_input$", "(IA)^3"),
    (r"ia3_l", "(IA)^3 of PEFT"),
    (r"\.[abc][12m]\.weight$", "GLoRA"),
    (r"\.lora_E", "AdaLoRA"),
    (r"\.vera_", "VeRA"),
    (r"\.diff(_b)?$", "full difference"),
    (r"\.[wb]_norm$", "norm difference"),
    (r"^bundle_emb|emb_params$|string_to_param", "textual inversion"),
)
TRANSFORMER = "a diffusion transformer"
"""SD 3, or one of many whose names are alike."""
_OF_SD3 = (1536, 2432)
"""Widths of SD 3's transformers: 3 and 3.5 medium, 3.5 large."""
_BASES: tuple[tuple[str, str], ...] = (
    (r"double_blocks|single_blocks|single_transformer_blocks|lora_unet_(guidance|time|vector)_in", "Flux"),
    (r"joint_blocks|lora_te3_", "SD 3"),
    (
        r"(^|_|\.)transformer_blocks_?\.?\d+[._](attn|ff)|^transformer\.|joint_transformer_blocks|"
        r"^(lora_unet_|diffusion_model\.)(blocks|layers)[_.]\d+[_.]",
        TRANSFORMER,
    ),
    (r"lora_prior_|lora_unet_down_blocks_\d+_attentions_\d+_attention_", "Stable Cascade"),
    (
        r"lora_te[12]_|text_encoder_2\.|add_embedding|label_emb",
        "SDXL",
    ),
)
"""By names that the other families do not have; SD 1.x, 2.x and SDXL differ in what cross-attention reads too."""
WIDTHS = {family.width: family.short for family in FAMILIES}
"""Numbers of a token that cross-attention reads, and whose they are."""
BASE_KEYS = ("ss_base_model_version", "modelspec.architecture")
"""Metadata that name the base."""
SMALL_BASES = ("SD 1.x", "SD 2.x")
"""Whose LoRAs have the same names."""
BASES = tuple(family.short for family in FAMILIES)
"""What is trained here."""
_TOLD = (("sdxl", "SDXL"), ("stable-diffusion-xl", "SDXL"), ("flux", "Flux"), ("sd3", "SD 3"), ("stable-diffusion-3", "SD 3"))
_TOLD_OURS = (("sd_v1", "SD 1.x"), ("stable-diffusion-v1", "SD 1.x"), ("sd_v2", "SD 2.x"), ("stable-diffusion-v2", "SD 2.x"))
_DOWN = re.compile(r"transformer_blocks.*attn.*\.(lora_down|lora_A(\.\w+)?)\.weight$")
_CROSS = re.compile(r"attn2[._](?:processor[._])?to_[kv][._]")
APPLIED = {"LoRA", "LoCon", "LoCon with a core", "DoRA", "LoHa", "LoKr", "OFT", "(IA)^3", "full difference", "norm difference"}
"""Methods that are applied to a base here."""
_OURS = "LyCORIS in kohya's trainer"
_ALGOS = {"LoHa": "loha", "LoKr": "lokr", "OFT": "oft", "(IA)^3": "ia3"}
"""Methods that are trained here beside the plain LoRA, in these names."""


@dataclass(frozen=True)
class LoraForm:
    """What a file is."""

    names: str
    """Whose names it has."""
    methods: tuple[str, ...]
    base: str
    """SD 1.x, SD 2.x, SDXL, SD 3, Flux, …, or `unknown`."""
    width: int | None
    """Numbers of a token that its cross-attention reads, where a module says so."""
    witness: str | None = None
    """A name in it that only this base has."""

    @property
    def title(self) -> str:
        """In a few words."""
        of = tr("a base that it does not name") if self.base == "unknown" else self.base
        return tr("{names} of {of}, in the names of {names_2}", names=tr(" and ").join(self.methods), of=of, names_2=self.names)

    @property
    def use(self) -> str:
        """What can be done with it here."""
        if self.base not in (*BASES, "unknown"):
            where = tr("the base that it was trained on") if self.base == TRANSFORMER else self.base
            return tr("nothing here, where bases are SD 1.x, 2.x and XL; use it with {where}", where=where)
        refused = [method for method in self.methods if method not in APPLIED]
        if refused:
            return tr(
                "{names} is not applied here; merge it into its base with the program that made it, and measure the "
                "images (fashion-ml evaluate images)",
                names=tr(" and ").join(refused),
            )
        if self.names == "cloneofsimo":
            return tr(
                "its modules have numbers instead of names; convert it with the program that made it (lora_add, or "
                "kohya's scripts)"
            )
        plain = set(self.methods) <= {"LoRA", "LoCon", "DoRA"}
        goes_on = tr("train from it (network.network_weights)") if self.names == "kohya" and plain else ""
        if self.names == _OURS and len(self.methods) == 1 and self.methods[0] in _ALGOS:
            goes_on = tr("train from it (network.network_weights, with network.algo {algos})", algos=_ALGOS[self.methods[0]])
        fixed = self.names == "kohya" or not {"OFT", "(IA)^3"}.isdisjoint(self.methods)
        convert = "" if fixed else tr("convert it (fashion-ml export FILE OUT --format kohya)")
        return ", ".join(filter(None, (tr("measure it (fashion-ml evaluate lora)"), goes_on, convert)))


def recognise(shapes: Shapes, metadata: Mapping[str, str]) -> LoraForm | None:
    """What a file with these names and shapes is; None when no name in it is of any LoRA."""
    methods = _methods(shapes)
    if not methods:
        return None
    names = next(
        (whose for pattern, whose in _NAMES if any(re.search(pattern, name) for name in shapes)), tr("another program")
    )
    if names == "kohya" and set(methods) - {"LoRA", "LoCon", "DoRA"}:
        names = _OURS
    width = _width(shapes)
    base, witness = _base(shapes, metadata, width)
    return LoraForm(names, methods, base, width, witness)


def base_of(told: str) -> str | None:
    """The base that a value of BASE_KEYS names."""
    return next((base for start, base in (*_TOLD, *_TOLD_OURS) if told.lower().startswith(start)), None)


def dora_axis(shape: tuple[int, ...]) -> str:
    """Whether a `dora_scale` holds a magnitude for each output [out, 1, …] (or [out]), or for each input [1, in, …]."""
    return "inputs" if len(shape) > 1 and shape[0] == 1 and max(shape[1:]) > 1 else "outputs"


def _methods(shapes: Shapes) -> tuple[str, ...]:
    found = [method for pattern, method in _METHODS if any(re.search(pattern, name) for name in shapes)]
    downs = (shape for name, shape in shapes.items() if re.search(r"\.lora_(down|A(\.\w+)?)\.weight$", name))
    if "LoRA" in found and any(max(shape[2:], default=1) > 1 for shape in downs):
        found[found.index("LoRA")] = "LoCon"
    scales = [shape for name, shape in shapes.items() if name.endswith(".dora_scale")]
    if any(dora_axis(shape) == "inputs" for shape in scales):
        found.append("DoRA along the inputs")
    elif scales or any("lora_magnitude_vector" in name for name in shapes):
        found.append("DoRA")
    return tuple(found)


def _width(shapes: Shapes) -> int | None:
    """Numbers of a token that cross-attention reads."""
    for name, shape in shapes.items():
        if not _CROSS.search(name):
            continue
        if re.search(r"(lora_down|lora_A(\.\w+)?|lora\.down|_lora\.down|hada_w1_b)(\.weight)?$", name) and len(shape) > 1:
            return shape[1]
        if name.endswith(".lokr_w1"):
            other = shapes.get(name.replace("lokr_w1", "lokr_w2")) or shapes.get(name.replace("lokr_w1", "lokr_w2_b"))
            return shape[1] * other[1] if other else None
    return None


def _base(shapes: Shapes, metadata: Mapping[str, str], width: int | None) -> tuple[str, str | None]:
    """The base, and a name that only it has."""
    for pattern, base in _BASES:
        witness = next((name for name in shapes if re.search(pattern, _without_blocks(name))), None)
        if witness is not None:
            if base == TRANSFORMER and any(
                shape[-1] in _OF_SD3 for name, shape in shapes.items() if _DOWN.search(name) and shape
            ):
                return "SD 3", witness
            return base, witness
    said = next((told for key in BASE_KEYS if (told := base_of(metadata.get(key, "")))), None)
    original = next(
        (name for name in shapes if re.match(r"lora_unet_(input|output)_blocks_\d+|lora_unet_middle_block_", name)), None
    )
    if original is not None and width is None and said is None:  # so kohya names SDXL's modules, and no other base's
        return "SDXL", original
    return WIDTHS.get(width or 0) or (said if width is None or said in BASES else None) or "unknown", None


def _without_blocks(name: str) -> str:
    """A name without the transformer blocks of a UNet, which SD 3's are called like."""
    return re.sub(r"attentions[._]\d+[._]transformer_blocks|[._](\d+|block)[._]1[._]transformer_blocks", "", name)
