"""The network and the optimiser of sd-scripts' options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fashion_ml.config.kohya.blocks import NAMES as BLOCK_ARGUMENTS
from fashion_ml.config.kohya.blocks import block_settings
from fashion_ml.config.kohya.values import assignments_of, is_nothing, is_true, number
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.config.kohya.convert import Equal

OPTIMIZERS = {
    "": "adamw",
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "adafactor": "adafactor",
    "prodigy": "prodigy",
    "pagedadamw": "adamw",
    "pagedadamw32bit": "adamw",
    "pagedadamw8bit": "adamw8bit",
    "lion": "lion",
    "came": "came",
    "adamwschedulefree": "adamwschedulefree",
}
"""Names in lower case; the paged ones differ in where their state lies, not in what they do."""
_ALGOS = {
    **dict.fromkeys(("lora", "locon"), "lora"),
    **{name: name for name in ("loha", "lokr", "ia3")},
    **dict.fromkeys(("oft", "diag-oft"), "oft"),
}
"""LyCORIS' algo, and network.algo."""
SCHEDULES = {
    name: name for name in ("constant", "cosine", "linear", "polynomial", "cosine_with_restarts", "warmup_stable_decay")
} | {"constant_with_warmup": "constant", "cosine_with_min_lr": "cosine"}
_ARGUMENTS = {
    "rank_dropout": "network.rank_dropout",
    "module_dropout": "network.module_dropout",
    "loraplus_lr_ratio": "optimizer.loraplus_lr_ratio",
}
"""network_args that are settings here, with the same values."""
_OWN = {
    "prodigy": {"use_bias_correction": "true", "safeguard_warmup": "true", "decouple": "true"},
    "adafactor": {"relative_step": "false", "scale_parameter": "false", "warmup_init": "false"},
}
"""How these two always run here."""
_THEIRS = {
    "prodigy": "use_bias_correction=False safeguard_warmup=False",
    "adafactor": "relative_step=True scale_parameter=True",
}
"""How they run in sd-scripts when nothing is said."""


def network_settings(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """Which modules train, and how strongly."""
    settings, module = result.settings, str(given.get("network_module", "networks.lora"))
    args = assignments_of("network_args", given.get("network_args", []))
    algo = _ALGOS.get(args.pop("algo", "lora").lower()) if module == "lycoris.kohya" else None
    if algo is not None:
        preset = args.pop("preset", "full")
        kind = tr("a plain LoRA as by networks.lora") if algo == "lora" else tr("network.algo {algo}", algo=algo)
        reason = tr("{kind}; LyCORIS chooses the modules by its preset", kind=kind)
        result.note("network_module", tr("{module} preset={preset}", module=module, preset=preset), reason, in_part=True)
        settings |= {"network.algo": algo} if algo != "lora" else {}
        if algo == "lokr" and not is_nothing(args.get("factor")):
            settings["network.lokr_factor"] = int(number(tr("network_args factor"), args["factor"]))
            del args["factor"]
    elif module != "networks.lora":
        names = tr("LoRA and DoRA, LoHa, LoKr, OFT and (IA)^3")
        result.note("network_module", module, tr("the networks are {names}; a LoRA of the same rank is written", names=names))
    if not is_nothing(args.get("conv_dim")):
        settings |= {f"network.{name}": True for name in ("convolutions", "time_embeddings", "shortcuts")}
        settings["network.conv_rank"] = int(number(tr("network_args conv_dim"), args["conv_dim"]))
        settings["network.conv_alpha"] = number(tr("network_args conv_alpha"), args.get("conv_alpha", 1))
        if settings["network.conv_alpha"] <= 0:
            raise ValueError(tr("network_args: conv_alpha {conv_alpha} is not above 0; give it", conv_alpha=args["conv_alpha"]))
    if is_true(args.get("dora_wd")):
        settings["network.use_dora"] = True
    for name, place in _ARGUMENTS.items():
        if not is_nothing(args.get(name)):
            settings[place] = number(tr("network_args {name}", name=name), args[name])
    blocks = block_settings(args, sdxl=is_true(given.get("sdxl")))
    if "network.conv_block_ranks" in blocks:
        settings |= {f"network.{name}": True for name in ("convolutions", "time_embeddings", "shortcuts")}
    settings |= blocks
    for name, value in args.items():
        if name not in ("conv_dim", "conv_alpha", "dora_wd", *_ARGUMENTS, *BLOCK_ARGUMENTS) and not is_nothing(value):
            result.note(
                tr("network_args {name}", name=name), value, tr("the LoRA has rank, alpha and dropout, of all or of each block")
            )
    _rates(given, result, defaults)


def _rates(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """In sd-scripts unet_lr and text_encoder_lr stand over learning_rate, and the text encoder trains unless it is told not to."""
    settings = result.settings
    rate = given.get("learning_rate", settings.get("optimizer.learning_rate"))
    unet, text = given.get("unet_lr"), given.get("text_encoder_lr")
    only_unet = is_true(given.get("network_train_unet_only")) or (text is not None and number("text_encoder_lr", text) == 0)
    if unet is not None and number("unet_lr", unet) == 0:
        result.note("unet_lr", unet, tr("the UNet always trains; learning_rate is written"))
        unet = None
    if unet is not None or "learning_rate" in given:
        settings["optimizer.learning_rate"] = number("learning_rate", rate if unet is None else unet)
    rates = [number("text_encoder_lr", one) for one in text] if isinstance(text, (list, tuple)) else []
    if only_unet:
        settings["network.train_text_encoder"] = False
        if any(rates) and not is_true(given.get("network_train_unet_only")):
            result.note("text_encoder_lr", text, tr("all text encoders train or none; none does, as the first of these says"))
        return
    if len(rates) == 2 and is_true(given.get("sdxl")) and rates[1] not in (0, rates[0]):
        settings["optimizer.text_encoder_2_lr"] = rates[1]
    elif len(set(rates)) > 1:
        result.note("text_encoder_lr", text, tr("all text encoders train at one rate, the first of these"), in_part=True)
    of_text = text if text is not None else rate if unet is not None and rate is not None else None
    if of_text is not None and defaults and number("text_encoder_lr", of_text) != settings["optimizer.learning_rate"]:
        settings["optimizer.text_encoder_lr"] = number("text_encoder_lr", of_text)
    elif text is not None and not defaults:
        settings |= {"network.train_text_encoder": True, "optimizer.text_encoder_lr": number("text_encoder_lr", text)}


def optimizer_settings(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """The optimiser with its arguments, and the schedule."""
    settings, asked = (
        result.settings,
        str(given.get("optimizer_type", _asked_by_a_switch(given))),
    )
    kind = OPTIMIZERS.get(
        asked.lower().rpartition(".")[2], asked if "." in asked else None
    )  # a class goes by its dotted name there too
    if kind is None:
        kind = "prodigy" if asked.lower().startswith("dadapt") else "adamw"
        hint = tr("finds its rate as well") if kind == "prodigy" else tr("wants a learning rate of its own")
        result.note(
            "optimizer_type",
            asked,
            tr(
                "the optimisers are {names}, and classes by dotted names; {kind} is written, which {hint}",
                names=", ".join(dict.fromkeys(OPTIMIZERS.values())),
                kind=kind,
                hint=hint,
            ),
        )
    if asked:
        settings["optimizer.optimizer_type"] = kind
    if defaults and kind in _THEIRS:
        settings["optimizer.weight_decay"] = 0.0
    args, more = assignments_of("optimizer_args", given.get("optimizer_args", [])), dict[str, str]()
    for name, value in args.items():
        if name == "weight_decay":
            settings["optimizer.weight_decay"] = number(tr("optimizer_args weight_decay"), value)
        elif name == "betas":
            settings["optimizer.betas"] = [number(tr("optimizer_args betas"), part) for part in value.strip("()[] ").split(",")]
        elif kind == "adamw8bit":
            result.note(tr("optimizer_args {name}", name=name), value, tr("{kind} has weight_decay and betas here", kind=kind))
        elif _OWN.get(kind, {}).get(name) != value.lower():
            more[name] = value.replace(" ", "")
    own = _OWN.get(kind, {})
    if kind == "prodigy" and defaults and not any(name in args for name in own):
        more |= assignments_of("optimizer_args", _THEIRS[kind])
    elif defaults and own and not any(name in args for name in own):
        always = " ".join(f"{name}={value.title()}" for name, value in own.items())
        result.note(
            "optimizer_type",
            asked,
            tr(
                "sd-scripts runs it with {theirs} unless told, and here it is always {always}",
                theirs=_THEIRS[kind],
                always=always,
            ),
        )
    if more:
        settings["optimizer.optimizer_args"] = " ".join(f"{name}={value}" for name, value in more.items())
    for name in ("text_encoder_lr", "text_encoder_2_lr") if kind == "prodigy" else ():
        if settings.get(f"optimizer.{name}") not in (None, settings.get("optimizer.learning_rate")):
            rate = settings.pop(f"optimizer.{name}")
            result.note("text_encoder_lr", rate, tr("prodigy takes one learning rate for all"))
    _schedule(given, result)


def _asked_by_a_switch(given: Mapping[str, Any]) -> str:
    switches = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
    return next((name for switch, name in switches.items() if is_true(given.get(switch))), "")


def _schedule(given: Mapping[str, Any], result: Equal) -> None:
    asked = str(given.get("lr_scheduler", "constant"))
    shape = SCHEDULES.get(asked.lower())
    if shape is None:
        shape = "constant"
        result.note(
            "lr_scheduler", asked, tr("the schedules are {names}; constant is written", names=", ".join(sorted(SCHEDULES)))
        )
    if "lr_scheduler" in given:
        result.settings["optimizer.lr_scheduler"] = shape
    if shape != "cosine_with_restarts":
        result.settings.pop("optimizer.lr_scheduler_num_cycles", None)  # forms give it always
    if asked.lower() != "cosine_with_min_lr":
        result.settings.pop("optimizer.lr_scheduler_min_lr_ratio", None)
    if shape != "warmup_stable_decay":
        result.settings.pop("optimizer.lr_decay_steps", None)
    if shape != "polynomial":
        result.settings.pop("optimizer.lr_scheduler_power", None)
