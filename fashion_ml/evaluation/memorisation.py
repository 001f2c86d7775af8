"""Does the model repeat training images? How near each picture is to them, beside how near real pictures are that were never trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import load_picture
from fashion_ml.evaluation.figures import comparison_grid, save_picture
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.bootstrap import FEWEST
from fashion_ml.metrics.nearest import nearest
from fashion_ml.metrics.registry import MEMORISED, NEAREST
from fashion_ml.runtime.console import bar
from fashion_ml.runtime.language import tr

_DRAWN = 4
PERCENTILE = 95


@dataclass(frozen=True)
class Memorisation:
    """What nearness to training images is measured by."""

    held_out: Sequence[float]
    """nearest_training_similarity of each reference that has no near-duplicate among the training images."""
    limit: float | None
    """Their 95th percentile; None for fewer than six."""

    def named(self) -> dict[str, float]:
        """By their names in MLflow."""
        if not self.held_out:
            return {}
        found = {f"reference_{NEAREST}": float(np.mean(self.held_out))}
        return found if self.limit is None else {**found, f"reference_{NEAREST}_p{PERCENTILE}": self.limit}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        why = (
            None
            if self.limit is not None
            else tr("{count} references are held out, fewer than {fewest}", count=len(self.held_out), fewest=FEWEST)
        )
        quantiles = np.quantile(self.held_out, [0, 0.25, 0.5, 0.75, 1]).tolist() if self.held_out else []
        return {"held_out": len(self.held_out), "quantiles": quantiles, f"p{PERCENTILE}": self.limit, "absent": why}


def embed_training(training: Sequence[CaptionedImage], suite: MetricSuite) -> torch.Tensor:
    """Embeddings (M, D) of the training images as they are, M > 0."""
    embeddings = []
    with bar(tr("embed training images"), len(training)) as progress:
        for item in training:
            embeddings.append(suite.embed([load_picture(item.path)])[0])
            progress.advance()
    return torch.stack(embeddings)


def measure_memorisation(
    tables: Mapping[str, pd.DataFrame],
    embeddings: Mapping[str, torch.Tensor],
    training: torch.Tensor,
    references: torch.Tensor,
    held_out: Sequence[bool],
) -> tuple[Memorisation, list[int]]:
    """Add nearest_training_similarity and `memorised` to the tables of the sides; what they are measured by, and the nearest training image of
    each picture of the first side.

    `references` (R, D) and which of them are held out set the measure: a picture is memorised where it is nearer to a training image than 95 %
    of them are.
    """
    real, _ = nearest(references, training)
    known = [value for value, held in zip(real, held_out, strict=True) if held]
    limit = float(np.quantile(known, PERCENTILE / 100)) if len(known) >= FEWEST else None
    places: list[int] = []
    for who, table in tables.items():
        values, of_side = nearest(embeddings[who], training)
        table[NEAREST] = values
        if limit is not None:
            table[MEMORISED] = [float(value > limit) for value in values]
        places = places or of_side
    return Memorisation(known, limit), places


def draw_nearest(
    values: Sequence[float], nearest_: Sequence[CaptionedImage], made: Callable[[int], Image.Image], head: str, path: Path
) -> None:
    """The pictures that are nearest to a training image, each beside that one; `values` and `nearest_` are each picture's."""
    order = sorted(range(len(values)), key=lambda index: -values[index])[:_DRAWN]
    rows = [(f"{values[i]:.3f}: {nearest_[i].name}", [load_picture(nearest_[i].path), made(i)]) for i in order]
    save_picture(path, comparison_grid(rows, [tr("training image"), head]))
