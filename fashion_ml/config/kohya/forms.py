"""A saved form (preset) of the kohya_ss GUI as options of sd-scripts: the GUI's names, its percentages, and what depends on LoRA_type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fashion_ml.config.kohya.files import command_words, options_of
from fashion_ml.config.kohya.values import is_nothing, number

_MARKS = frozenset({"LoRA_type", "max_resolution", "lr_warmup", "model_list", "LyCORIS_preset", "lora_network_weights"})
_NAMES = {
    "max_resolution": "resolution",
    "optimizer": "optimizer_type",
    "lora_network_weights": "network_weights",
    "stop_text_encoder_training_pct": "stop_text_encoder_training",
}
_ARGUMENTS = frozenset(
    [
        "block_alphas",
        "block_dims",
        "block_lr_zero_threshold",
        "conv_block_alphas",
        "conv_block_dims",
        "down_lr_weight",
        "loraplus_lr_ratio",
        "loraplus_text_encoder_lr_ratio",
        "loraplus_unet_lr_ratio",
        "mid_lr_weight",
        "module_dropout",
        "rank_dropout",
        "up_lr_weight",
    ]
)
"""Fields that the GUI hands on for a plain LoRA."""
_OF_TYPES = _ARGUMENTS | frozenset(
    [
        "LyCORIS_preset",
        "bypass_mode",
        "constrain",
        "conv_alphas",
        "conv_dims",
        "decompose_both",
        "dora_wd",
        "factor",
        "rank_dropout_scale",
        "rescaled",
        "train_norm",
        "train_on_input",
        "unit",
        "use_cp",
        "use_scalar",
        "use_tucker",
        "LoRA_type",
        "conv_dim",
        "conv_alpha",
    ]
)
"""Those and others that the network's type decides about."""
_OF_OTHER_MODELS = frozenset(
    [
        "ae",
        "apply_t5_attn_mask",
        "clip_l",
        "clip_g",
        "t5xxl",
        "t5xxl_lr",
        "t5xxl_max_token_length",
        "discrete_flow_shift",
        "guidance_scale",
        "model_prediction_type",
        "model_type",
        "timestep_sampling",
        "split_mode",
        "split_qkv",
        "train_blocks",
        "train_t5xxl",
        "enable_all_linear",
        "sdxl",
        "sdxl_cache_text_encoder_outputs",
        "sdxl_no_half_vae",
    ]
)
_PREFIXES = ("flux1_", "sd3_", "hunyuan_", "anima_", "lumina_")
_OF_THE_GUI = frozenset(
    {"additional_parameters", "save_as_bool", "file_path", "model_list", "lr_warmup", "epoch", "max_train_epochs"}
)
_PLAIN = {
    "Standard": "networks.lora",
    "Kohya LoCon": "networks.lora",
    "Kohya DyLoRA": "networks.dylora",
    "LoRA-FA": "networks.lora_fa",
}


def is_form(tree: Mapping[str, Any]) -> bool:
    """Whether a file is a saved form of the GUI."""
    return bool(_MARKS & tree.keys())


def options_of_form(form: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the GUI starts sd-scripts with. InputError for additional_parameters that sd-scripts does not have."""
    named = {_NAMES.get(name, name): value for name, value in form.items()}
    skipped = _OF_TYPES | _OF_OTHER_MODELS | _OF_THE_GUI
    options = {
        name: value
        for name, value in named.items()
        if name not in skipped and not name.startswith(_PREFIXES) and value not in ("", None)
    }
    options |= _network(form) | _length(form)
    if not is_nothing(form.get("flux1_checkbox")):
        options["base_model"] = "Flux.1"
    if not str(options.get("xformers", "")).strip():
        options.pop("xformers", None)
    if options.get("noise_offset_type", "Original") == "Original":
        options = {name: value for name, value in options.items() if not name.startswith("multires_noise")}
    else:
        options = {name: value for name, value in options.items() if name not in ("noise_offset", "adaptive_noise_scale")}
    added = str(form.get("additional_parameters", "")).strip()
    return options | (options_of(command_words(added)[1]) if added else {})


def _network(form: Mapping[str, Any]) -> dict[str, Any]:
    """The network's module and arguments; without a rate for it the text encoder does not train."""
    kind = str(form.get("LoRA_type") or "Standard")
    found: dict[str, Any] = {"network_module": _PLAIN.get(kind, kind)}
    arguments = [f"{name}={form[name]}" for name in sorted(_ARGUMENTS & form.keys()) if not is_nothing(form[name])]
    if kind in ("Kohya LoCon", "LoRA-FA") or kind.startswith("LyCORIS"):
        arguments += [f"{name}={form[name]}" for name in ("conv_dim", "conv_alpha") if not is_nothing(form.get(name))]
    if kind.startswith("LyCORIS") and not is_nothing(form.get("dora_wd")):
        arguments.append("dora_wd=True")
    text, unet = (0 if is_nothing(form.get(name)) else number(name, form[name]) for name in ("text_encoder_lr", "unet_lr"))
    if text == 0 and unet != 0:
        found["network_train_unet_only"] = True
    found |= {"text_encoder_lr": text or None, "unet_lr": unet or None}
    return found | ({"network_args": arguments} if arguments else {})


def _length(form: Mapping[str, Any]) -> dict[str, Any]:
    """The GUI makes steps of its epochs when no steps are given, and hands the warm-up on as a share."""
    found: dict[str, Any] = {}
    epochs = form.get("max_train_epochs") if not is_nothing(form.get("max_train_epochs")) else None
    if epochs is None and is_nothing(form.get("max_train_steps")):
        epochs = form.get("epoch")
    if not is_nothing(epochs):
        found["max_train_epochs"] = int(number("epoch", epochs))
    if is_nothing(form.get("lr_warmup_steps")) and not is_nothing(form.get("lr_warmup")):
        found["lr_warmup_steps"] = number("lr_warmup", form["lr_warmup"]) / 100
    if is_nothing(form.get("lr_scheduler_num_cycles")) and not is_nothing(form.get("epoch")):
        found["lr_scheduler_num_cycles"] = int(number("epoch", form["epoch"]))
    return found
