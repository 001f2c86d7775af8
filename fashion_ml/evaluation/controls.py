"""Controls: each picture against other references than its own, so that what all references share is told from what is specific to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fashion_ml.data.pictures import fit
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.control_rows import OTHERS, SPECIFIC
from fashion_ml.metrics.metric import Metric, measure_pair
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import LOSSES, TOTAL

_SEED = 0
"""Of the order that references are rotated in."""


def others_of(count: int, rotations: int, alike: Sequence[int] | None = None) -> list[list[int]]:
    """Of each of `count` references up to `rotations` others: where it goes in as many derangements, turns of one shuffled circle.

    `alike` gives near-duplicates one number; such a one is no other reference, and the next of the circle takes its place.
    """
    circle = np.random.default_rng(_SEED).permutation(count).tolist()
    place = {reference: number for number, reference in enumerate(circle)}
    groups = list(alike) if alike is not None else list(range(count))
    return [
        [other for other in (circle[(place[one] + turn) % count] for turn in range(1, count)) if groups[other] != groups[one]][
            :rotations
        ]
        for one in range(count)
    ]


@dataclass(frozen=True)
class Losses:
    """The three losses and their total of any two pictures; embeddings and everything else that a picture has alone is worked out once."""

    metrics: tuple[Metric, ...]
    weights: Mapping[str, float]

    def of(self, made: Picture, other: Picture) -> dict[str, float]:
        """By their names."""
        row = measure_pair(self.metrics, made, {"reference": other, "content": other}, self.weights, {})
        return {name: row[name] for name in LOSSES if name in row}


@dataclass(frozen=True)
class Controls:
    """The references and which others each is exchanged for."""

    references: Sequence[Picture]
    others: Sequence[Sequence[int]]
    losses: Losses
    _fitted: dict[tuple[int, tuple[int, int]], Picture] = field(default_factory=dict)

    def measure(self, pictures: Sequence[Picture], of: Sequence[int], own: pd.DataFrame) -> pd.DataFrame:
        """`others_<loss>` and `specific_<loss>` of each picture; absent where its reference has no other. `own` are its losses."""
        rows: list[dict[str, float]] = []
        for place, (picture, reference) in enumerate(zip(pictures, of, strict=True)):
            size = self.references[reference].image.size
            found = pd.DataFrame([self.losses.of(picture, self.at(other, size)) for other in self.others[reference]])
            means = found.mean().to_dict()
            specific = {f"{SPECIFIC}{loss}": mean - float(own[loss].iloc[place]) for loss, mean in means.items()}
            rows.append({f"{OTHERS}{loss}": mean for loss, mean in means.items()} | specific)
        return pd.DataFrame(rows, index=own.index)

    def at(self, number: int, size: tuple[int, int]) -> Picture:
        """A reference at the size of another."""
        picture = self.references[number]
        if picture.image.size == size:
            return picture
        if (number, size) not in self._fitted:
            self._fitted[number, size] = resized(picture, size)
        return self._fitted[number, size]


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture brought to the size of another as references are, with what the encoder said of it."""
    image: Image.Image = fit(picture.image, size)
    return Picture(image, picture.embedding, picture.labels)


def losses_of(suite: MetricSuite) -> Losses:
    """The losses that a suite measures."""
    wanted = {*LOSSES, *(metric.loss_of for metric in suite.metrics)} - {""}
    return Losses(tuple(metric for metric in suite.metrics if metric.name in wanted), suite.weights)


def parts_of_gain(scores: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Of each loss the gain on the pictures' own references, on others, and what is specific (own = others + specific), with intervals.

    And what each of the three contributes to the gain of the total: the loss's weight times it. A loss not measured on others is absent.
    """
    found: dict[str, dict[str, Any]] = {}
    for loss in LOSSES:
        names = {"own": loss, "others": f"{OTHERS}{loss}", "specific": f"{SPECIFIC}{loss}"}
        if any(name not in scores for name in names.values()):
            continue
        gains = {part: scores[name].gain for part, name in names.items()}
        weight = 1.0 if loss == TOTAL else weights[loss] if TOTAL in scores else None
        found[loss] = {
            **{part: vars(gain) for part, gain in gains.items()},
            "weight": weight,
            "contribution": {part: weight * gain.mean for part, gain in gains.items()} if weight is not None else None,
        }
    return found
