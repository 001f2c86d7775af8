"""Optimisers, each from the library that maintains it."""

from __future__ import annotations

import importlib
import inspect
import io
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from fashion_ml.config import Optimizer
from fashion_ml.errors import InputError
from fashion_ml.models.ema import put_back
from fashion_ml.models.lora import LoraParameters
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.redact import first_line
from fashion_ml.training.train_state import load_state, save_state

CLASSES = {
    "adamw": "torch.optim.AdamW",
    "adamw8bit": "bitsandbytes.optim.AdamW8bit",
    "adafactor": "transformers.optimization.Adafactor",
    "prodigy": "prodigyopt.Prodigy",
    "lion": "pytorch_optimizer.Lion",
    "came": "pytorch_optimizer.CAME",
    "adamwschedulefree": "schedulefree.AdamWScheduleFree",
}
"""The class of each name. Lion: Chen et al. 2023, arXiv:2302.06675. CAME: Luo et al. 2023, arXiv:2307.02047. Schedule-free: Defazio et al.
2024, arXiv:2405.15682. Prodigy: Mishchenko & Defazio 2023, arXiv:2306.06101. Adafactor: Shazeer & Stern 2018, arXiv:1804.04235."""
_OF_SEVERAL_RATES = ("loraplus_lr_ratio", "block_lr", "text_encoder_lr", "text_encoder_2_lr", "embedding_lr")
_EXTRAS = {"bitsandbytes": "gpu", "prodigyopt": "gpu", "pytorch_optimizer": "optimizers", "schedulefree": "optimizers"}
_ALWAYS: dict[str, dict[str, Any]] = {
    "adamw": {"fused": True},  # one pass over the weights, on CPUs too
    "adafactor": {"scale_parameter": False, "relative_step": False},
    "prodigy": {"use_bias_correction": True, "safeguard_warmup": True},
}
"""How these run unless optimizer_args say otherwise."""


def make_optimizer(settings: Optimizer, parameters: LoraParameters, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser over one parameter group for each learning rate; the group's `peak` holds that rate. The first is the UNet's, of LoRA+
    that of its lora_down.

    InputError when its library is missing, naming the extra to install, when it needs a GPU and there is none, or does not take an argument.
    """
    return _made(settings, _groups(settings, parameters), device)


def _groups(settings: Optimizer, parameters: LoraParameters) -> list[dict[str, Any]]:
    rate, second = settings.learning_rate, settings.text_encoder_2_lr
    apart = parameters.second if second is not None else frozenset()
    first = [one for one in parameters.text_encoder if id(one) not in apart]
    rest = [one for one in parameters.text_encoder if id(one) in apart]
    groups: list[dict[str, Any]] = []
    for own, peak in ((parameters.unet, rate), (first, settings.text_encoder_lr or rate), (rest, second or rate)):
        parts: dict[float, list[torch.nn.Parameter]] = {}
        for one in own:
            parts.setdefault(_factor(settings, parameters, one), []).append(one)
        for factor, part in sorted(parts.items(), key=lambda found: found[0] != 1):  # the rate that is logged is the first's
            groups.append({"params": part, "lr": peak * factor, "peak": peak * factor})
    if parameters.word:  # towards 0 it would become no word
        peak = settings.embedding_lr or rate
        without_decay = {"weight_decay": 0.0} if "weight_decay" in _taken_by(class_of(settings.optimizer_type)) else {}
        groups.append({"params": parameters.word, "lr": peak, "peak": peak, **without_decay})
    return groups


def _factor(settings: Optimizer, parameters: LoraParameters, one: torch.nn.Parameter) -> float:
    """Of a parameter's rate: LoRA+'s, and its block's."""
    factor = settings.loraplus_lr_ratio or 1.0 if id(one) in parameters.ups else 1.0
    block = parameters.blocks.get(id(one))
    return factor if settings.block_lr is None or block is None else factor * settings.block_lr[block]


def _made(settings: Optimizer, parameters: Any, device: torch.device) -> torch.optim.Optimizer:
    kind = settings.optimizer_type
    own = class_of(kind)
    if kind == "adamw8bit" and device.type != "cuda":
        raise InputError(tr("optimizer.optimizer_type: adamw8bit needs a CUDA GPU and there is none; use adamw"))
    taken = _taken_by(own)
    options: dict[str, Any] = _ALWAYS.get(kind, {}) | (
        {"weight_decay": settings.weight_decay} if "weight_decay" in taken else {}
    )
    if strange := [
        name for name in settings.optimizer_args if name not in taken
    ]:  # a library may swallow what it does not know
        has = ", ".join(name for name in taken if name not in ("betas", "weight_decay"))
        raise InputError(
            tr("optimizer.optimizer_args: {kind} has no {strange!r}; it has {has}", kind=kind, strange=strange[0], has=has)
        )
    if settings.betas is not None:
        if "betas" not in taken:
            raise InputError(tr("optimizer.betas: {kind} has none; leave them out", kind=kind))
        options["betas"] = settings.betas
    options |= {name: _as_meant(value, taken[name]) for name, value in settings.optimizer_args.items()}
    try:
        with redirect_stdout(io.StringIO()):  # some say on standard output how they were made
            made: torch.optim.Optimizer = own(parameters, lr=settings.learning_rate, **options)
    except Exception as error:  # a library may raise what it likes
        betas = _other_betas(settings, taken)
        of_betas = betas or (settings.betas is not None and "beta" in str(error).lower())
        raise InputError(
            tr(
                "optimizer.{part}: {kind} cannot be made so ({first_line}){betas}; its library's documentation says "
                "what it takes",
                part="betas" if of_betas else "optimizer_args",
                kind=kind,
                first_line=first_line(error),
                betas=betas,
            )
        ) from error
    if "train_mode" in made.param_groups[0]:  # schedule-free
        made.train()  # type: ignore[attr-defined]
    return made


def _as_meant(value: Any, default: Any) -> Any:
    """A word that stands for a type of numbers, `bfloat16`, where the class has one of its own."""
    if isinstance(default, torch.dtype) and isinstance(value, str):
        found = getattr(torch, value.removeprefix("torch."), None)
        return found if isinstance(found, torch.dtype) else value
    return value


def _other_betas(settings: Optimizer, taken: Mapping[str, Any]) -> str:
    """What to say where another number of betas is given than the class has; empty where it is not."""
    own = taken.get("betas")
    if settings.betas is None or not isinstance(own, tuple) or len(own) == len(settings.betas):
        return ""
    return tr(
        ": it has {count} betas, {names} of its own, and {count_2} are given",
        count=len(own),
        names=", ".join(map(str, own)),
        count_2=len(settings.betas),
    )


def _taken_by(own: type) -> dict[str, Any]:
    """What a class, or one that it comes from, is made with beside parameters and learning rate, by name with its default."""
    found: dict[str, Any] = {}
    for one in own.__mro__:
        if one is not torch.optim.Optimizer and "__init__" in vars(one):
            kinds = inspect.signature(one.__init__).parameters.values()  # type: ignore[misc]
            named = {each.name: each.default for each in kinds if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
            found = named | found
    return {name: found[name] for name in sorted(set(found) - {"self", "params", "lr", "defaults"})}


def class_of(kind: str) -> Any:
    """The class that a name means. InputError when its library is missing, naming the extra to install, or it is no optimiser."""
    module, _, name = CLASSES.get(kind, kind).rpartition(".")
    library = module.partition(".")[0]
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        extra = (
            f"'fashion-ml[{_EXTRAS[library]}]'"
            if library in _EXTRAS
            else tr("the library that has {library!r}", library=library)
        )
        raise InputError(
            tr(
                "optimizer.optimizer_type: {kind} needs {module}, which is not installed; pip install {extra}, or use adamw",
                kind=kind,
                module=module,
                extra=extra,
            )
        ) from error
    except AttributeError:
        raise InputError(
            tr(
                "optimizer.optimizer_type: {module} has no {name!r}; look the class up in its documentation",
                module=module,
                name=name,
            )
        ) from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise InputError(
            tr("optimizer.optimizer_type: {kind} is no optimiser of torch; give a class such as torch.optim.RAdam", kind=kind)
        )
    return found


def check_optimizer(
    settings: Optimizer, device: torch.device, *, resumable: bool = True, text_encoder: bool = False, word: bool = False
) -> None:
    """InputError when an optimiser cannot be made (`make_optimizer`), or cannot step; where a state is to be kept (`resumable`) also when
    it does not go on from one bit for bit.

    It is tried on small matrices in the groups that a training has, with `text_encoder` and `word` those of the text encoders and of a new
    word too: three steps in one go, and two, a state, and the third, each at another rate. An optimiser without weight decay is said.
    """
    if settings.weight_decay and "weight_decay" not in _taken_by(class_of(settings.optimizer_type)):
        say(
            tr(
                "optimizer.weight_decay: {weight_decay:g} does nothing, for {optimizer_type} has none; give 0",
                weight_decay=settings.weight_decay,
                optimizer_type=settings.optimizer_type,
            )
        )
    if settings.optimizer_type == "adamw8bit":  # goes on exactly, but on a GPU alone
        make_optimizer(settings, small_parameters(settings, text_encoder, word), device)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        whole, optimizer = _tried(settings, text_encoder, word)
        for step in range(3):
            _step(settings, whole, optimizer, step)
            if step == 1 and resumable:
                _kept(settings, path, whole, optimizer)
        if not resumable:
            return
        again, other = _tried(settings, text_encoder, word)
        try:
            load_state(path).restore(again, {"lora": other})
            _stepped(again, other, 2)
        except Exception as error:
            raise _not_resumable(settings, first_line(error)) from error
        if not all(torch.equal(one, two) for one, two in zip(whole, again, strict=True)):
            raise _not_resumable(settings, tr("its state does not hold all that it goes by"))


def small_parameters(settings: Optimizer, text_encoder: bool, word: bool = False) -> LoraParameters:
    """Of a LoRA with a lora_down [4, 6] and a lora_up [6, 4] in each block that trains, so that they fall into the groups of a real one."""
    draw, blocks = torch.Generator().manual_seed(0), dict[int, int]()
    rates = settings.block_lr or (1.0,)
    pairs = [
        [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 6), (6, 4))]
        for _ in range(sum(rate > 0 for rate in rates) + 2 * text_encoder)
    ]
    texts = [pairs.pop() for _ in range(2 * text_encoder)]
    for number, pair in zip((number for number, rate in enumerate(rates) if rate > 0), pairs, strict=True):
        blocks |= {id(one): number for one in pair}
    ups = frozenset(id(pair[1]) for pair in (*pairs, *texts))
    second = frozenset(id(one) for pair in texts[1:] for one in pair)
    vectors = [torch.nn.Parameter(torch.randn(2, 6, generator=draw))] if word else []
    unet, text = ([one for pair in some for one in pair] for some in (pairs, texts))
    return LoraParameters(unet, text, ups, second, blocks if settings.block_lr else {}, word=vectors)


def _tried(
    settings: Optimizer, text_encoder: bool, word: bool = False
) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    parameters = small_parameters(settings, text_encoder, word)
    return parameters.all, make_optimizer(settings, parameters, torch.device("cpu"))


def _step(settings: Optimizer, parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
    try:
        _stepped(parameters, optimizer, step)
    except Exception as error:
        fix = (
            tr("leave out {names}", names=", ".join(_OF_SEVERAL_RATES))
            if any(getattr(settings, name) for name in _OF_SEVERAL_RATES) and _steps_at_one_rate(settings)
            else tr("use another, such as adamw")
        )
        betas = _other_betas(settings, _taken_by(class_of(settings.optimizer_type)))
        raise InputError(
            tr(
                "optimizer.{part}: {optimizer_type} cannot step here ({first_line}){betas}; {fix}",
                part="betas" if betas else "optimizer_type",
                optimizer_type=settings.optimizer_type,
                first_line=first_line(error),
                betas=betas,
                fix=fix,
            )
        ) from error


def _steps_at_one_rate(settings: Optimizer) -> bool:
    alone = settings.model_copy(update=dict.fromkeys(_OF_SEVERAL_RATES))
    try:
        _stepped(*_tried(alone, text_encoder=True, word=True), 0)
    except Exception:
        return False
    return True


def _stepped(parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer, step: int) -> None:
    draw = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=draw)
    for group in optimizer.param_groups:  # as a schedule has it
        group["lr"] = group["peak"] * (0.5, 1.0, 0.75)[step]
    optimizer.step()


def _kept(settings: Optimizer, path: Path, parameters: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    try:
        save_state(path, 2, parameters, {"lora": optimizer}, {"train": {}, "log": {}, "scalers": {}})
    except Exception as error:
        raise _not_resumable(settings, first_line(error)) from error


def _not_resumable(settings: Optimizer, why: str) -> InputError:
    return InputError(
        tr(
            "optimizer.optimizer_type: {optimizer_type} cannot go on from a state bit for bit ({why}); use "
            "another, or training.save_state false, without which a stopped run begins anew",
            optimizer_type=settings.optimizer_type,
            why=why,
        )
    )


@contextmanager
def averaged(optimizer: Any, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Inside the block the weights are those that a schedule-free optimiser would evaluate and keep; with any other they are as they are.

    Afterwards they are what they were, bit for bit, which the library's own way back is not.
    """
    raw = getattr(optimizer, "optimizer", optimizer)
    averages = [group for group in raw.param_groups if group.get("train_mode")]
    if not averages:
        yield
        return
    try:
        with put_back(parameters):
            raw.eval()
            yield
    finally:
        for group in averages:
            group["train_mode"] = True


def clipped_step(
    optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter], max_norm: float, scaler: Any = None
) -> torch.Tensor:
    """Clip the gradients, step with them and let go of them; their norm before clipping, 0-d. `scaler` is that of fp16, which may leave the
    step out."""
    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    if scaler is not None:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    optimizer.zero_grad()
    return norm


_SMALL, _BLOCK_8BIT = 4096, 256
"""bitsandbytes: numbers below which a tensor's states stay in 32 bits, and numbers that share a scale."""


def state_bytes(settings: Optimizer, shapes: Iterable[Sequence[int]]) -> int:
    """Bytes of an optimiser's states for float32 weights of these shapes, without its counters.

    AdamW: two means. AdamW8bit: the same in bytes with a float32 scale for each block, small tensors in float32 (bitsandbytes'
    `init_state`). Any other: what it has after a step on the CPU.
    """
    kind, counted = settings.optimizer_type, Counter(tuple(shape) for shape in shapes)
    if kind not in ("adamw", "adamw8bit"):
        return sum(_after_a_step(settings, shape) * often for shape, often in counted.items())
    found = 0
    for shape, often in counted.items():
        count = math.prod(shape)
        if kind == "adamw8bit" and count >= _SMALL:
            found += often * 2 * (count + 4 * -(-count // _BLOCK_8BIT))
        else:
            found += often * 4 * count * 2
    return found


def _after_a_step(settings: Optimizer, shape: Sequence[int]) -> int:
    parameter = torch.nn.Parameter(torch.ones(tuple(shape)))
    optimizer = _made(settings, [parameter], torch.device("cpu"))
    parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    entries = optimizer.state[parameter].values()
    return sum(one.numel() * one.element_size() for one in entries if isinstance(one, torch.Tensor) and one.numel() > 1)
