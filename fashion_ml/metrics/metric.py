"""What one row of the registry says, and how rows measure a pair of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from fashion_ml.metrics.picture import Picture

By = Literal["lora", "images", "stargan", "latent"]
"""Evaluations: of a LoRA, of images made elsewhere, of a StarGAN guided by references, of one guided by latents (named `latent_…`)."""
Need = Literal["reference", "content", "encoder", "texts", "prompt", "mask", "training", "model"]
"""What a value is worked out from beside the picture: the reference, or of a StarGAN the content; the encoder; its embeddings of texts;
what was asked for; where the garment is; the training images; a model of the metric's own (`load`)."""
Run = Literal["ssim", "fashion_clip", "color"]
"""The child runs of an evaluation."""


@dataclass(frozen=True)
class Metric:
    """One metric. It has one of `of_pair`, `of_row` and `of_sets`, or none where the evaluation that it belongs to measures it itself."""

    name: str
    """As in MLflow, tables and files; of a family the prefix of its columns."""
    unit: str
    range: str
    better: Literal["higher", "lower", ""]
    """Empty where neither way is better."""
    description: str
    """As in the table of docs/metrics.md."""
    by: tuple[By, ...] = ("lora", "images")
    """The evaluations that have it."""
    shown_in: Run | None = None
    """The child run that shows it image by image; None shows it on the evaluation alone."""
    needs: tuple[Need, ...] = ("reference",)
    switch: str = ""
    """The value of `evaluation.extra_metrics` that turns it on; empty is always on."""
    setting: str = ""
    """The setting of `evaluation` without which it is not measured; empty where there is none."""
    loss_of: str = ""
    """The similarity that this loss comes from; its weight is the setting `evaluation.weights.<name>`."""
    of_pair: Callable[[Picture, Picture, Any], float | Mapping[str, float] | None] | None = None
    """The value of a picture and what it is compared with; the third argument is what `load` gave. None where there is no value."""
    of_row: Callable[[Mapping[str, float], Mapping[str, float]], float] | None = None
    """The value from those of the rows above and from the weights."""
    of_sets: Callable[..., torch.Tensor | None] | None = None
    """Values for the embeddings (N, D) of all pictures and those (M, D) of all references, as `metrics.kid` has them; None for too few."""
    load: Callable[[str], Any] | None = None
    """Loads the metric's model onto a device. InputError when it cannot be had."""
    family: bool = False
    """Whether `of_pair` gives several columns that begin with the name."""
    cannot_rank: str = ""
    """Why no sweep may search or be bound by it, and no suite compare by it; empty where they may."""
    version: int = 1
    """Raised whenever the numbers change; part of the fingerprint."""
    formula: str = ""
    """The module of this package whose PARAMETERS decide the numbers."""

    @property
    def objective(self) -> bool:
        """Whether a sweep may search or be bound by it."""
        return not self.cannot_rank

    @property
    def title(self) -> str:
        """Its name for people; of a family what all its columns are called like."""
        return f"{self.name}<category>" if self.family else self.name

    @property
    def bounds(self) -> tuple[float, float]:
        """What no value can lie outside of, from `range`: `[0, 1]`, or `≥ 0`; infinite where that says nothing."""
        if self.range.startswith("["):
            low, high = (float(end) for end in self.range.strip("[]").split(","))
            return low, high
        return (0.0 if self.range == "≥ 0" else -math.inf), math.inf

    @property
    def bounds_of_gain(self) -> tuple[float, float]:
        """The same of the difference of two values."""
        low, high = self.bounds
        return low - high, high - low

    @property
    def parameters(self) -> dict[str, Any]:
        """Version and parameters: everything about the formula that its numbers depend on, for the fingerprint."""
        found: dict[str, Any] = {"version": self.version}
        if self.formula:
            found |= import_module(f"fashion_ml.metrics.{self.formula}").PARAMETERS
        if "mask" in self.needs:
            found["mask"] = import_module("fashion_ml.metrics.garment_mask").PARAMETERS
        return found


def measure_pair(
    metrics: Collection[Metric],
    made: Picture,
    compared_with: Mapping[str, Picture],
    weights: Mapping[str, float],
    models: Mapping[str, Any],
) -> dict[str, float]:
    """The columns of one pair, in the order of the rows; NaN where a metric has no value for it.

    `compared_with` holds the `reference` and, of a StarGAN, the `content`, as metrics need them (outside a StarGAN the reference is both);
    `weights` are the shares of the losses, `models` what the metrics' `load` gave, by name.
    """
    columns: dict[str, dict[str, float]] = {}
    for metric in metrics:
        if metric.of_pair is not None:
            value = metric.of_pair(
                made, compared_with["content" if "content" in metric.needs else "reference"], models.get(metric.name)
            )
            if isinstance(value, Mapping):
                columns[metric.name] = {f"{metric.name}{key}": one for key, one in value.items()}
            elif not metric.family:
                columns[metric.name] = {metric.name: float("nan") if value is None else value}
    row = {name: value for found in columns.values() for name, value in found.items()}
    for metric in metrics:
        if metric.of_row is not None:  # after all pairs' values: a loss may come from a similarity of any row
            row[metric.name] = metric.of_row(row, weights)
            columns[metric.name] = {metric.name: row[metric.name]}
    return {name: value for metric in metrics for name, value in columns.get(metric.name, {}).items()}
