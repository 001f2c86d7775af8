"""The curve over LoRA strengths: every metric's mean at each of them, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fashion_ml.evaluation.aggregate import metrics_of
from fashion_ml.evaluation.figures import save_curves
from fashion_ml.metrics.registry import LOSSES
from fashion_ml.runtime.language import tr


def means_of(table: pd.DataFrame, references: Sequence[str]) -> dict[str, float]:
    """Every metric's mean over references, each one's seeds averaged first; `references` names each row's."""
    return {metric: float(table[metric].groupby(list(references)).mean().mean()) for metric in metrics_of(table)}


def draw_strengths(curve: Mapping[float, Mapping[str, float]], base: Mapping[str, float], path: Path) -> None:
    """The losses over the strengths, for the means of each strength and of the base."""
    lines = {loss: [means[loss] for means in curve.values() if loss in means] for loss in LOSSES}
    shown = {loss: values for loss, values in lines.items() if values}
    strengths = list(curve)
    said = ""
    if shown:
        main = list(shown)[-1]
        best = min(range(len(strengths)), key=lambda place: shown[main][place])
        said = tr(
            "{main} is lowest at strength {strengths:g}: {shown:.3f}",
            main=main,
            strengths=strengths[best],
            shown=shown[main][best],
        )
    save_curves(path, strengths, tr("LoRA strength (1 as trained)"), shown, title=said, base=base)
