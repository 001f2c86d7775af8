"""Controls of a StarGAN: pictures against other references of their target domain; what is the domain's look, and what a reference's own?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from fashion_ml.evaluation.controls import Controls, Losses, others_of
from fashion_ml.metrics.metric import Metric
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import SIMILARITY_OF

Latent = tuple[int, int]
"""Domain and index."""


def others_of_domain(references: Sequence[Latent], rotations: int) -> list[list[int]]:
    """Of each of different references the places of up to `rotations` others of its own domain, by fixed derangements; none where it is its
    domain's only one."""
    found: list[list[int]] = [[] for _ in references]
    for domain in dict.fromkeys(y for y, _ in references):
        places = [place for place, (y, _) in enumerate(references) if y == domain]
        for place, others in zip(places, others_of(len(places), rotations), strict=True):
            found[place] = [places[other] for other in others]
    return found


def with_controls(
    table: pd.DataFrame,
    made: Sequence[Picture],
    targets: Sequence[Picture],
    references: Sequence[Latent],
    metrics: Collection[Metric],
    weights: Mapping[str, float],
    rotations: int,
) -> pd.DataFrame:
    """The losses of reference-guided pictures with `others_<loss>` and `specific_<loss>` of those that are against the reference.

    `targets` are each picture's reference, which `references` tells apart.
    """
    if not rotations:
        return table
    place = {reference: number for number, reference in enumerate(dict.fromkeys(references))}
    pictures = [targets[references.index(reference)] for reference in place]
    losses = [metric for metric in metrics if metric.name in SIMILARITY_OF and "content" not in metric.needs]
    wanted = {metric.name for metric in losses} | {metric.loss_of for metric in losses}
    against = Losses(tuple(metric for metric in metrics if metric.name in wanted), weights)
    controls = Controls(pictures, others_of_domain(list(place), rotations), against)
    return table.join(controls.measure(made, [place[reference] for reference in references], table))
