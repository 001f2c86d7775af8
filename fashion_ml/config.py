"""Every experiment setting, and how a YAML file and overrides become one frozen, checked object."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fashion_ml.errors import InputError

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]


class Section(BaseModel):
    """Unknown keys are errors, nothing changes after loading, and each attribute's docstring is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class Model(Section):
    """The base model."""

    base: Text = "embedded"
    """`embedded`, a diffusers folder, or a hub id (`owner/name`, the only value that may use the network)."""


class Data(Section):
    """What is learnt from."""

    train_data_dir: Text
    """A folder of kohya-style folders `N_class`, or `embedded` for the collection inside the package."""
    resolution: Positive = 512
    """Side of the square training images, pixels; a multiple of 8 times the VAE's factor."""
    caption_extension: Annotated[str, Field(pattern=r"^\.[^/\\]+$")] = ".txt"
    """Ending of the caption file beside each image."""


class Network(Section):
    """The LoRA on the UNet's attention (q, k, v and out projections)."""

    rank: Positive = 32
    """r; kohya's network_dim."""
    alpha: Rate | None = None
    """The update is (alpha / r) * B @ A; kohya's network_alpha. Equal to the rank when not given."""


class Optimizer(Section):
    """AdamW and its learning-rate schedule."""

    learning_rate: Rate = 5e-5
    """Peak learning rate, per optimiser step."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay of the LoRA weights."""
    max_grad_norm: NotNegative = 1.0
    """Gradients are scaled down to this L2 norm; 0 turns clipping off."""
    lr_scheduler: Literal["constant", "cosine", "linear"] = "constant"
    """Shape after the warm-up; cosine and linear end at 0."""
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps of linear warm-up."""


class Training(Section):
    """The loop."""

    max_train_steps: Positive = 200
    """Optimiser steps."""
    train_batch_size: Positive = 1
    """Images in one forward pass."""
    gradient_accumulation_steps: Positive = 1
    """Forward passes in one optimiser step."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the frozen base and the forward pass; LoRA weights stay float32."""
    gradient_checkpointing: bool = False
    """Trade time for memory in the backward pass."""
    seed: Annotated[int, Field(ge=0)] = 0
    """All randomness of training is a function of (seed, purpose, step)."""
    save_every_n_epochs: Positive = 50
    """A LoRA file is kept every so many epochs."""
    log_every: Positive = 10
    """Optimiser steps between rows of the loss log."""


class Loss(Section):
    """The training objective."""

    min_snr_gamma: Rate | None = None
    """Min-SNR weighting (arXiv:2303.09556), 5 in the paper; off when not given."""


class Weights(Section):
    """Shares of the three image losses in weighted_total_loss."""

    visual_loss: NotNegative = 0.2
    """Share of 1 - ssim."""
    fashion_clip_loss: NotNegative = 0.6
    """Share of 1 - fashion_similarity."""
    color_loss: NotNegative = 0.2
    """Share of 1 - color_correlation."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Weights:
        total = self.visual_loss + self.fashion_clip_loss + self.color_loss
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"the three weights sum to {total:g}; make them sum to 1")
        return self


class Evaluation(Section):
    """Generating with the LoRA and without it, and measuring both against references."""

    enabled: bool = True
    """Evaluate after training."""
    references: Text | None = None
    """Folder of reference images with captions; the training images when not given (said in the report)."""
    max_references: Positive = 32
    """At most so many reference images, in the order of their names."""
    images_per_reference: Positive = 2
    """Seeds for every reference image; their scores are averaged before intervals are made."""
    seed: Annotated[int, Field(ge=0)] = 0
    """First seed of the generated images, the same for base and LoRA."""
    num_inference_steps: Positive = 25
    """Sampler steps (DDIM)."""
    guidance_scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 7.5
    """Classifier-free guidance."""
    batch_size: Positive = 4
    """Images generated at once; changes speed and memory."""
    encoder: Text = "embedded"
    """FashionCLIP: `embedded`, `local-dir:FOLDER` in open_clip's form, or `hf-hub:OWNER/NAME` (uses the network)."""
    weights: Weights = Weights()
    resamples: Positive = 2000
    """Bootstrap resamples over reference images."""


class Output(Section):
    """Where files go; all of them are logged to MLflow too."""

    output_dir: Text | None = None
    """Folder of this run's files; `outputs/<output_name>/<run id>` when not given."""
    output_name: FileName = "lora"
    """The LoRA is written to `<output_name>.safetensors`."""


class Tracking(Section):
    """MLflow."""

    experiment: Text = "fashion_ml"
    """Experiment that a new run goes to; `mlflow run` brings its own."""


class LoraExperiment(Section):
    """One LoRA training and its evaluation."""

    name: Text = "lora"
    """Name of the run."""
    model: Model = Model()
    data: Data
    network: Network = Network()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    loss: Loss = Loss()
    evaluation: Evaluation = Evaluation()
    output: Output = Output()
    tracking: Tracking = Tracking()

    @field_validator("network")
    @classmethod
    def _alpha_defaults_to_rank(cls, network: Network) -> Network:
        return network if network.alpha is not None else Network(rank=network.rank, alpha=float(network.rank))


SHORT_NAMES = {
    "pretrained_model_name_or_path": "model.base",
    "base": "model.base",
    "train_data_dir": "data.train_data_dir",
    "resolution": "data.resolution",
    "caption_extension": "data.caption_extension",
    "rank": "network.rank",
    "network_dim": "network.rank",
    "alpha": "network.alpha",
    "network_alpha": "network.alpha",
    "lr": "optimizer.learning_rate",
    "learning_rate": "optimizer.learning_rate",
    "lr_scheduler": "optimizer.lr_scheduler",
    "lr_warmup_steps": "optimizer.lr_warmup_steps",
    "max_grad_norm": "optimizer.max_grad_norm",
    "steps": "training.max_train_steps",
    "max_train_steps": "training.max_train_steps",
    "train_batch_size": "training.train_batch_size",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "gradient_checkpointing": "training.gradient_checkpointing",
    "mixed_precision": "training.mixed_precision",
    "save_every_n_epochs": "training.save_every_n_epochs",
    "seed": "training.seed",
    "min_snr_gamma": "loss.min_snr_gamma",
    "evaluate": "evaluation.enabled",
    "references": "evaluation.references",
    "output_dir": "output.output_dir",
    "output_name": "output.output_name",
}
"""kohya's and the short spellings, accepted wherever an override is given."""


def load_config(path: str | Path, overrides: Mapping[str, str] | None = None) -> LoraExperiment:
    """Read a YAML file, lay `overrides` (dotted path or short name -> text, empty text = not given) over it, check it all.

    Raises InputError with every problem at once: `path.in.yaml: value; fix`.
    """
    tree = _read_yaml(Path(path))
    for name, text in (overrides or {}).items():
        if text != "":
            _put(tree, SHORT_NAMES.get(name.replace("-", "_"), name), text)
    return validate(tree)


def validate(tree: Mapping[str, Any]) -> LoraExperiment:
    """The checked experiment of a plain nested mapping; InputError with every problem at once."""
    try:
        return LoraExperiment.model_validate(tree)
    except ValidationError as error:
        raise InputError([_problem(item) for item in error.errors()]) from None


def to_yaml(config: LoraExperiment) -> str:
    """The resolved experiment; loading it again gives an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flat(config: Section) -> dict[str, Any]:
    """Dotted keys to values, such as `network.rank`; values that were not given are left out."""
    return dict(_walk(config.model_dump(mode="json"), ""))


def _walk(tree: Mapping[str, Any], prefix: str) -> Any:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"config: {str(path)!r} does not exist; give the path of an experiment YAML") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config: {str(path)!r} cannot be read ({error}); give a YAML file in UTF-8") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}, " if where else ""
        reason = getattr(error, "problem", None) or "syntax"
        raise InputError(f"config: {str(path)!r} is not YAML ({line}{reason}); mend that line") from None
    if not isinstance(tree, dict):
        raise InputError(f"config: {str(path)!r} holds no settings; see experiments/lora/embedded.yaml for the form")
    return tree


def _put(tree: dict[str, Any], dotted: str, text: str) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        below = tree.get(section)
        tree[section] = dict(below) if isinstance(below, dict) else {}
        tree = tree[section]
    tree[key] = None if text == "null" else text


def _problem(item: Any) -> str:
    """One pydantic error as `path: value; fix`."""
    location = ".".join(str(part) for part in item["loc"]) or "config"
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{location}: unknown key; {fix}"
    if item["type"] == "missing":
        return f"{location}: is not given; add it to the YAML file or pass --set {location}=VALUE"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{location}: {message}"
    return f"{location}: {_shown(item['input'])} is not accepted; {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    model: Any = LoraExperiment
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
