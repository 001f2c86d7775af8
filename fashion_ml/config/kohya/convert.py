"""From options of sd-scripts to the settings that are their equal, and a line for each that has none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashion_ml.config.kohya.networks import network_settings, optimizer_settings
from fashion_ml.config.kohya.options import DEFAULTS, NEUTRAL, NO_EQUAL, NOT_NEEDED, NULLABLE, SAME
from fashion_ml.config.kohya.values import is_nothing, is_true, side_of, whole
from fashion_ml.errors import InputError
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.language import tr, translated

_PROMPT_BYTES = 1 << 20
"""At most of a file of sample prompts."""

_BUCKETS = {"min_bucket_reso": 256, "max_bucket_reso": 1024, "bucket_reso_steps": 64}
"""sd-scripts' own; this project's follow the resolution."""


@dataclass
class Equal:
    """What options of sd-scripts are here."""

    settings: dict[str, Any] = field(default_factory=dict)
    """By path."""
    notes: list[str] = field(default_factory=list)
    """A line for each option that asks for something else than what is done here: `option value: reason`."""
    nearly: list[str] = field(default_factory=list)
    """The same for options that are done here in part."""
    not_needed: dict[str, str] = field(default_factory=dict)
    """Options that change nothing that is learnt, and what is so instead."""
    kind: str = ""
    """Which kind of base the options were read for, and why, where no script and no form says it."""

    @property
    def all_notes(self) -> list[str]:
        """What is not so, and what is so in part."""
        return [*self.notes, *self.nearly]

    def note(self, option: str, value: Any, reason: str, *, in_part: bool = False) -> None:
        """What an option asked for, as on a command line, and why it is not so."""
        words = value if isinstance(value, (list, tuple)) else () if value is True else (value,)
        shown = "".join(f" {word}" for word in words)
        (self.nearly if in_part else self.notes).append(f"{option}{shown}: {reason}")


def equal_of(options: Mapping[str, Any], *, defaults: bool) -> Equal:
    """The settings of options by name; with `defaults` also those of sd-scripts for what is not among them, so that all of it is equal.

    InputError when a value cannot be read.
    """
    given = {name: value for name, value in options.items() if value is not None and value != "" and value != []}
    result = Equal(dict(DEFAULTS) if defaults else {})
    for name, value in given.items():
        if name in NO_EQUAL and not (is_nothing(value) or value in NEUTRAL.get(name, ())):
            result.note(name, value, translated(NO_EQUAL[name]))
        elif name in NOT_NEEDED and not is_nothing(value):
            result.not_needed[name] = translated(NOT_NEEDED[name])
        elif name in SAME and not (name in NULLABLE and is_nothing(value)):
            result.settings[SAME[name]] = _plain(value)
    problems = []
    for convert in (_resolution, network_settings, optimizer_settings, _length, _loss, _masks, _saving, _samples, _output):
        try:
            convert(given, result, defaults)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise InputError(problems)
    return result


def _plain(value: Any) -> Any:
    """A number that a form wrote as 64.0 is whole."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 1 else value


def _resolution(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """One side of a square; of a rectangle the square of its area, which is what buckets keep to."""
    buckets = is_true(given.get("enable_bucket"))
    if "resolution" in given:
        width, height = side_of("resolution", given["resolution"])
        side = width if width == height else max(int(math.sqrt(width * height)) // 64 * 64, 64)
        result.settings["data.resolution"] = side
        if width != height:
            same = (
                tr("buckets of the same area are used")
                if buckets
                else tr("turn data.enable_bucket on for images that are no squares")
            )
            result.note("resolution", f"{width},{height}", tr("a square of {side} is written; {same}", side=side, same=same))
    for name, value in _BUCKETS.items() if defaults and buckets else ():
        result.settings.setdefault(SAME[name], value)
    if not buckets and defaults:
        for name in _BUCKETS:
            result.settings.pop(SAME[name], None)  # forms give them always


def _length(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """Epochs win over steps, as in sd-scripts; a share of the steps may be a warm-up."""
    settings = result.settings
    if "training.max_train_epochs" in settings:
        settings.pop("training.max_train_steps", None)
    ratio, epochs = whole(given, "save_n_epoch_ratio"), whole(given, "max_train_epochs")
    if ratio and epochs:
        settings["training.save_every_n_epochs"] = max(epochs // ratio, 1)
    elif ratio:
        result.note("save_n_epoch_ratio", ratio, tr("needs max_train_epochs; give training.save_every_n_epochs"))
    if defaults and "seed" not in given:
        result.nearly.append(tr("seed is not given: sd-scripts then draws one each time; here it is training.seed, 0"))
    if is_nothing(settings.get("optimizer.lr_warmup_steps", 1)):
        settings.pop("optimizer.lr_warmup_steps")


def _loss(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    if is_true(given.get("weighted_captions")):
        reason = tr("embeddings are scaled back to their mean, which sd-scripts' newest version leaves out")
        result.note("weighted_captions", True, reason, in_part=True)
    if is_true(given.get("enable_wildcard")) and (given.get("caption_prefix") or given.get("caption_suffix")):
        reason = tr("prefix and suffix are around every line of a caption, in sd-scripts around all lines together")
        result.note("enable_wildcard", True, reason, in_part=True)
    kind = str(given.get("loss_type", "l2")).lower()
    if kind in ("l2", "l1", "huber", "smooth_l1"):
        if "loss_type" in given:
            result.settings["loss.loss_type"] = kind
    else:
        result.note("loss_type", kind, tr("the losses are l2, l1, huber and smooth_l1; l2 is written"))
    if kind not in ("huber", "smooth_l1") and defaults:
        result.settings.pop("loss.huber_c", None), result.settings.pop("loss.huber_schedule", None)
    by_v = is_true(given.get("v_parameterization"))
    if by_v or is_true(
        given.get("v2")
    ):  # a single file of version 2 says nothing of it, and this project takes it for one of 768 pixels
        result.settings["model.prediction_type"] = "v_prediction" if by_v else "epsilon"
    if is_true(given.get("scale_v_pred_loss_like_noise_pred")) and by_v:  # counts there with v_parameterization alone
        result.settings["loss.scale_v_pred_loss_like_noise_pred"] = True
    if is_true(given.get("zero_terminal_snr")):
        if by_v:
            result.settings["model.zero_terminal_snr"] = True
        else:
            result.note(
                "zero_terminal_snr",
                True,
                tr("pure noise tells a base that predicts noise nothing; give v_parameterization too"),
            )
    if whole(given, "multires_noise_iterations") and whole(given, "train_batch_size") > 1:
        reason = tr("each image's noise is scaled to a deviation of 1, in sd-scripts the batch's")
        result.note("multires_noise_iterations", given["multires_noise_iterations"], reason, in_part=True)
    if "loss.min_snr_gamma" in result.settings and is_true(given.get("debiased_estimation_loss")):
        result.settings.pop("loss.debiased_estimation")
        result.note("debiased_estimation_loss", True, tr("weights by the timestep as min_snr_gamma does, which is kept"))


def _masks(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """Outside of a mask nothing counts there."""
    folder = given.get("conditioning_data_dir")
    masked = {"data.masks": "alpha"} if is_true(given.get("alpha_mask")) else {}
    if not masked and is_true(given.get("masked_loss")) and folder:
        masked = {"data.masks": "folder", "data.masks_dir": str(folder)}
    if masked:
        result.settings |= {**masked, "loss.unmasked_weight": 0.0}
        reason = tr(
            "an image's weights are scaled to a mean of 1, so that small masks count as much as large ones; there they are not"
        )
        result.note("masked_loss", True, reason, in_part=True)
    elif is_true(given.get("masked_loss")):
        result.note("masked_loss", True, tr("needs a conditioning_data_dir of masks, or alpha_mask; give data.masks"))
    elif folder:
        result.note(
            "conditioning_data_dir",
            folder,
            tr("masks count with masked_loss alone; give data.masks folder with data.masks_dir"),
        )


def _saving(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """Of sd-scripts' files those of the last n epochs or steps stay; here so many files."""
    for name, every in (("save_last_n_epochs", "save_every_n_epochs"), ("save_last_n_steps", "save_every_n_steps")):
        count = whole(given, name)
        if count:
            result.settings["training.save_last_n"] = max(count // max(whole(given, every), 1), 1)
    if is_true(given.get("save_state")):
        result.settings["training.save_state"] = True
    if is_true(given.get("cache_latents_to_disk")):
        result.not_needed["cache_latents_to_disk"] = tr("latents are kept in memory; data.cache_dir keeps them in a folder")


def _samples(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    """Prompts are lines of a file, or of the text itself; what follows ` --` in a line are options of sd-scripts' own."""
    value = str(given.get("sample_prompts", "")).strip()
    if not value:
        return
    path = Path(value).expanduser()
    if "\n" not in value and path.suffix.lower() in (".txt", ".toml", ".json"):
        if path.suffix.lower() != ".txt" or not path.is_file():
            result.note("sample_prompts", value, tr("no text file is there; give training.sample_prompts"))
            return
        try:
            value = read_whole(path, _PROMPT_BYTES).decode("utf-8-sig", errors="replace")
        except OSError as error:
            result.note("sample_prompts", value, tr("it cannot be read ({why})", why=error.strerror or error))
            return
    lines = [line.strip() for line in value.splitlines() if line.strip() and not line.strip().startswith("#")]
    prompts = [line.partition(" --")[0].strip() for line in lines]
    if any(" --" in line for line in lines):
        result.note(
            "sample_prompts",
            "--w, --n, …",
            tr("of a prompt's line the words count; sizes and samplers are those of the evaluation"),
            in_part=True,
        )
    result.settings["training.sample_prompts"] = prompts


def _output(given: Mapping[str, Any], result: Equal, defaults: bool) -> None:
    name = str(given.get("output_name", ""))
    if name:
        result.settings["output.output_name"] = name
    if given.get("output_dir"):
        folder = str(given["output_dir"]).rstrip("/\\")
        result.settings["output.output_dir"] = f"{folder}/{name or 'last'}" if defaults else given["output_dir"]
    run = given.get("wandb_run_name") or name
    if run:
        result.settings["name"] = run
    if "log_with" in given:
        if str(given["log_with"]).lower() in ("tensorboard", "all"):
            result.settings["tracking.log_with"] = "tensorboard"
        else:
            result.not_needed["log_with"] = tr("MLflow is used")


Converter = Callable[[Mapping[str, Any], Equal, bool], None]
