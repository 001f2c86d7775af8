"""One side of an evaluation: its images, measured against the references while the next ones are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
import torch
from PIL import Image

from fashion_ml.evaluation.ruler import Picture, Ruler
from fashion_ml.watching import tell


@dataclass(frozen=True)
class Side:
    """The scores of the LoRA, of the base, or of images from elsewhere, in the order of the jobs."""

    table: pd.DataFrame
    embeddings: torch.Tensor | None
    """(N, D), L2-normalised; None without an encoder."""


def measure_side(
    batches: Iterable[tuple[list[int], list[Image.Image]]],
    references: Sequence[Picture],
    of_job: Sequence[int],
    ruler: Ruler,
    *,
    watched: bool = False,
) -> Side:
    """Measure batches of (job indices, pictures) as they come, in a thread of its own; `of_job` is each job's reference.

    With `watched` a sweep is told each image's weighted_total_loss, so that it can stop an evaluation that will not win.
    """

    def measure(batch: list[int], pictures: list[Image.Image]) -> tuple[list[int], pd.DataFrame, list[torch.Tensor | None]]:
        looked = ruler.look_at(pictures)
        table = ruler.measure(looked, [references[of_job[index]] for index in batch])
        if watched and "weighted_total_loss" in table:
            for index, value in zip(batch, table["weighted_total_loss"], strict=True):
                tell("image", index, float(value))
        return batch, table, [picture.embedding for picture in looked]

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(measure, batch, pictures) for batch, pictures in batches]
        done = [future.result() for future in waiting]
    table = pd.concat([part.set_axis(batch, axis=0) for batch, part, _ in done]).sort_index()
    by_job = {index: one for batch, _, embeddings in done for index, one in zip(batch, embeddings, strict=True)}
    found = [embedding for index in sorted(by_job) if (embedding := by_job[index]) is not None]
    return Side(table, torch.stack(found) if len(found) == len(by_job) else None)
