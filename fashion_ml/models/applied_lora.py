"""A LoRA file of any program on a base, exactly: W + strength * (alpha / rank) * up @ down for each module by itself, as kohya reads it.

Modules of plain LoRA compute beside the base's weight, as peft does it. What LoCon with a core, LoHa, LoKr, OFT, (IA)^3 and full differences
add is added to the weight.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.models.families.known import family_of, other_names, part_of
from fashion_ml.models.kohya_faults import check_family
from fashion_ml.models.kohya_format import read_lora, read_metadata
from fashion_ml.models.lora_delta import FULL, LORA, NORM, ROTATION, SCALING, alpha_in, delta, method_of, rank_of
from fashion_ml.models.lora_file import LoraFile, note_of_zero_alphas, read_lora_file
from fashion_ml.runtime.console import say
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.weight_files import is_safetensors

DORA = "DoRA"


@dataclass
class AppliedLora:
    """What a LoRA file has done to a pipeline, and how to change it."""

    pipeline: Any
    form: str
    """Whose names the file has: kohya, LyCORIS, diffusers or PEFT."""
    methods: dict[str, int]
    """LoRA, LoHa, …: how many modules."""
    added: list[tuple[Any, str, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """Module, `weight` or `bias`, the base's tensor, and what is added to it at strength 1."""
    alphas_beside: Mapping[str, float] = field(default_factory=dict)
    """By module, alphas that no tensor of the file says but its metadata or a configuration beside it: tensors alone do not tell such files
    apart."""

    def set_strength(self, strength: float) -> None:
        """Scale what the LoRA adds; 0 is the base, bit for bit, 1 the LoRA as it was trained."""
        for layer in self._layers():
            layer.enable_adapters(strength != 0)
            for adapter in layer.lora_A if strength != 0 else ():
                layer.set_scale(adapter, strength)
        for module, name, before, change in self.added:
            now = before if strength == 0 else before + (strength * change).to(before.device, before.dtype)
            weight = getattr(module, name)  # which may have moved, and be in half precision, since
            weight.data = now.to(weight.device, weight.dtype)

    def remove(self) -> None:
        """Leave the base as it was before, ready for another file."""
        self.set_strength(0)
        if any(True for _ in self._layers()):
            self.pipeline.unload_lora_weights()
        self.added.clear()

    @torch.no_grad()
    def merge(self) -> None:
        """Put what the LoRA adds into the base's own weights, for good: the pipeline is then one without a LoRA."""
        layers = list(self._layers())
        for layer in layers:
            layer.merge()
        if layers:
            self.pipeline.unload_lora_weights()
        self.added.clear()

    def _layers(self) -> Any:
        for model in _models(self.pipeline):
            yield from (module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "set_scale"))


@dataclass(frozen=True)
class Target:
    """A module of the base."""

    model: Any
    name: str
    """As `named_modules` gives it."""
    module: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its weight."""
        return tuple(self.module.weight.shape)


@dataclass(frozen=True)
class FittedLora:
    """A LoRA file beside the base that it fits: what each module is, and where it goes. Nothing is changed yet."""

    file: LoraFile
    targets: Mapping[str, Target]
    """The base's modules by kohya's names, those of the file among them."""
    methods: Mapping[str, str]
    alphas: Mapping[str, float]

    @property
    def plain(self) -> list[str]:
        """The modules of plain LoRA and DoRA."""
        return [module for module, method in self.methods.items() if method in (LORA, DORA)]


def fit_lora(pipeline: Any, path: Path) -> FittedLora:
    """Which modules of a pipeline a LoRA file changes, and how. InputError as apply_lora."""
    what = f"lora: {str(path)!r}"
    tensors = read_lora(path, "lora")
    metadata = read_metadata(path) if is_safetensors(path) else {}
    check_family(what, tensors, metadata, pipeline.unet)
    targets = _targets(pipeline)
    file = read_lora_file(tensors, targets, what, other_names(pipeline.unet))
    methods = {module: _method(file, module, targets[module], what) for module in file.modules}
    return FittedLora(file, targets, methods, _alphas(file, targets, path, metadata))


@torch.no_grad()
def apply_lora(pipeline: Any, path: Path) -> AppliedLora:
    """Put a LoRA file on a pipeline that has none, at strength 1.

    InputError when it is no LoRA, holds NaN, is of another base, holds a module that the base does not have or one of another shape, or what is
    not applied here; nothing of a file is ever left out.
    """
    fitted = fit_lora(pipeline, path)
    file, targets, alphas, plain = fitted.file, fitted.targets, fitted.alphas, fitted.plain
    for model in _models(pipeline):
        _add_layers(model, file, [one for one in plain if targets[one].model is model], targets, alphas)
    beside = {
        one: alphas[one] for one, parts in file.modules.items() if "alpha" not in parts and alphas[one] != (rank_of(parts) or 1)
    }
    result = AppliedLora(pipeline, file.form, dict(Counter(fitted.methods.values())), alphas_beside=beside)
    for module in file.modules.keys() - set(plain):
        parts = file.modules[module]
        result.added += _changes(parts, targets[module], alphas[module] / (rank_of(parts) or 1))
    result.set_strength(1.0)
    return result


def restore_added(pipeline: Any, path: Path, load: Callable[[], Any]) -> None:
    """Before another file is put on a base that computes in half precision: give what it adds to weights the weights of the base's file back,
    to which it is added before they are rounded. `load` reads that base anew; it is not asked for plain LoRA. InputError as apply_lora."""
    fitted = fit_lora(pipeline, path)
    wanted = [fitted.targets[module] for module in fitted.methods.keys() - set(fitted.plain)]
    names = [target.name for target in wanted if target.model is pipeline.unet]
    if not names:
        return
    whole = load().unet
    for name in names:
        own, files = (unet.get_submodule(name).parameters() for unet in (pipeline.unet, whole))
        for weight, file in zip(own, files, strict=True):
            weight.data = file.data.to(weight.device)


def _targets(pipeline: Any) -> dict[str, Target]:
    """Every module with a weight that a LoRA may change, by kohya's name for it."""
    found, family = {}, family_of(pipeline)
    for model, key in family.keyed(pipeline.unet, family.encoders(pipeline)):
        for name, module in model.named_modules():
            if getattr(module, "weight", None) is not None and not isinstance(module, torch.nn.Embedding):
                found[key(name)] = Target(model, name, module)
    return found


def _models(pipeline: Any) -> tuple[Any, ...]:
    """Those that can have a LoRA."""
    return (pipeline.unet, *family_of(pipeline).encoders(pipeline))


def _method(file: LoraFile, module: str, target: Target, what: str) -> str:
    """How a module is to be applied. InputError when its parts or their shapes do not fit, naming it."""
    parts, name = file.modules[module], file.names[module]
    method, dora = method_of(parts), parts.get("dora_scale")
    if method is None:
        raise InputError(
            tr(
                "{what} holds only {names} of the module of {name}, which is no whole LoRA (damaged, or two methods "
                "mixed); give a whole file",
                what=what,
                names=", ".join(sorted(parts)),
                name=name,
            )
        )
    if dora is not None and (
        method != LORA or dora.numel() != target.shape[0] or (dora.dim() > 1 and dora.shape[0] != dora.numel())
    ):
        raise InputError(
            tr(
                "{what} holds DoRA {part} ({name}), which is not applied here; give one without DoRA, or DoRA of "
                "plain LoRA with a magnitude for each output",
                what=what,
                part=tr("along the inputs") if method == LORA else tr("of {method}", method=method),
                name=name,
            )
        )
    linear = isinstance(target.module, torch.nn.Linear | torch.nn.Conv2d)
    without_bias = {"diff_b", "b_norm"} & parts.keys() and getattr(target.module, "bias", None) is None
    if (method == NORM and linear) or (method not in (NORM, FULL) and not linear) or without_bias:
        raise InputError(
            tr(
                "{what} holds a {method} of {name}, which is another kind of layer in this base; use a LoRA trained on it",
                what=what,
                method=method,
                name=name,
            )
        )
    try:
        if not parts.keys() <= {"diff_b", "b_norm"}:
            _fits(parts, method, target.shape)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            tr(
                "{what} was made for another base ({name}: {partition}); use a LoRA trained on this one",
                what=what,
                name=name,
                partition=str(error).partition(chr(10))[0],
            )
        ) from None
    return DORA if dora is not None else method


def _fits(parts: Mapping[str, torch.Tensor], method: str, shape: tuple[int, ...]) -> None:
    """ValueError or RuntimeError when what a module adds has not the weight's shape; nothing is computed."""
    if method == LORA:
        down, up = parts["down"], parts["up"]
        says = (up.shape[0], math.prod(down.shape[1:]))
        if says != (shape[0], math.prod(shape[1:])) or up.flatten(1).shape[1] != down.shape[0]:
            raise ValueError(tr("makes {says}, and the base's weight is {shape}", says=list(says), shape=list(shape)))
        return
    with torch.device("meta"):
        stand_ins = {name: torch.empty(tensor.shape) for name, tensor in parts.items() if name != "on_input"}
        kept = {name: parts[name].cpu() for name in ("on_input",) if name in parts}
        delta({**stand_ins, **kept}, shape, torch.empty(shape))


def _alphas(file: LoraFile, targets: Mapping[str, Target], path: Path, metadata: Mapping[str, str]) -> dict[str, float]:
    """What of every module, over its rank, is the scale."""
    told = _told(file.form, path, metadata)
    alphas, without = {}, 0
    for module, parts in file.modules.items():
        rank, alpha = rank_of(parts), parts.get("alpha")
        alphas[module] = alpha_in(alpha, rank) if rank else 1.0
        settings = told.get(part_of(module), {})
        if alpha is None and settings:
            alphas[module] = _alpha_of_peft(settings, targets[module].name, rank)
        elif alpha is None:
            without += method_of(parts) not in (FULL, NORM, ROTATION, SCALING)
    if note := note_of_zero_alphas(file.modules, path.name):
        say(note)
    if without and file.form == "PEFT":
        say(
            tr(
                "{name} says no alpha ({without} modules), and no adapter_config.json is beside it: taken as the "
                "rank, so the scale is 1",
                name=path.name,
                without=without,
            )
        )
    return alphas


def _told(form: str, path: Path, metadata: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    """PEFT's settings by model: of diffusers' metadata, or of the configuration beside a file of PEFT's."""
    if "lora_adapter_metadata" in metadata:
        found: dict[str, dict[str, Any]] = {}
        try:
            settings = dict(parsed(metadata["lora_adapter_metadata"]))
        except (ValueError, TypeError) as error:
            raise InputError(
                tr(
                    "lora: {path!r} has a lora_adapter_metadata that cannot be read ({error}), which holds its alpha; "
                    "save it again",
                    path=str(path),
                    error=error,
                )
            ) from None
        for key, value in settings.items():
            model, _, setting = key.partition(".")
            found.setdefault(model, {})[setting] = value
        return dict(found)
    beside = path.with_name("adapter_config.json")
    names_of_peft = form == "PEFT" or path.name == "adapter_model.safetensors"
    if not (names_of_peft and beside.is_file()):
        return {}
    try:
        settings = dict(parsed(read_whole(beside)))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            tr("lora: {beside!r} cannot be read ({error}); mend it, it holds the LoRA's alpha", beside=str(beside), error=error)
        ) from None
    return dict.fromkeys(("unet", "text_encoder", "text_encoder_2"), settings)


def _alpha_of_peft(settings: Mapping[str, Any], name: str, rank: int | None) -> float:
    """Alpha of a module by peft's settings: patterns come before what all have; whole factors of LoKr are scaled too, by r."""

    def of(key: str, pattern: str) -> Any:
        own = (settings.get(pattern) or {}).items()
        return next((value for end, value in own if re.match(rf"(.*\.)?({end})$", name)), settings.get(key))

    alpha, r = of("lora_alpha" if "lora_alpha" in settings else "alpha", "alpha_pattern"), of("r", "rank_pattern")
    if alpha is None:
        return float(rank or 1)
    if settings.get("use_rslora"):
        return float(alpha) * math.sqrt(rank or 1)
    return float(alpha) if rank else float(alpha) / float(r or alpha)


def _add_layers(
    model: Any, file: LoraFile, modules: list[str], targets: Mapping[str, Target], alphas: Mapping[str, float]
) -> None:
    """Peft's layers on the modules of plain LoRA and DoRA of one model, with the file's numbers in them."""
    from peft import LoraConfig

    for dora in (False, True):
        chosen = [one for one in modules if ("dora_scale" in file.modules[one]) == dora]
        if not chosen:
            continue
        adapter = "dora" if dora else "default"
        own = {one: f"^{re.escape(targets[one].name)}$" for one in chosen}
        config = LoraConfig(
            target_modules=[targets[one].name for one in chosen],
            rank_pattern={own[one]: file.modules[one]["down"].shape[0] for one in chosen},
            alpha_pattern={own[one]: alphas[one] for one in chosen},
            use_dora=dora,
        )
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            model.add_adapter(config, adapter_name=adapter)
        for one in chosen:
            parts, layer = file.modules[one], model.get_submodule(targets[one].name)
            for name, kept in (("down", layer.lora_A), ("up", layer.lora_B)):
                weight = kept[adapter].weight
                weight.copy_(parts[name].float().view_as(weight))
            layer.set_adapter(adapter)  # beside an adapter of the other kind on other layers
            if dora:
                magnitude = layer.lora_magnitude_vector[adapter].weight
                magnitude.copy_(parts["dora_scale"].float().view_as(magnitude))
    model.requires_grad_(False)


def _changes(
    parts: Mapping[str, torch.Tensor], target: Target, scale: float
) -> list[tuple[Any, str, torch.Tensor, torch.Tensor]]:
    found = []
    for name, other in (("weight", "diff"), ("bias", "diff_b"), ("bias", "b_norm")):
        if name == "weight" and not set(parts) <= {"diff_b", "b_norm"}:
            weight = target.module.weight.data
            found.append((target.module, name, weight, delta(parts, target.shape, weight) * scale))
        elif name == "bias" and other in parts:
            found.append((target.module, name, target.module.bias.data, parts[other].float() * scale))
    return found
