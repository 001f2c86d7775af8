"""Rows of the registry for losses against other references than a picture's own; the evaluations measure them (`evaluation.controls`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fashion_ml.metrics.metric import By, Metric, Need, Run
from fashion_ml.runtime.language import marked

OTHERS, SPECIFIC = "others_", "specific_"
"""What stands before a loss against other references, and before what is specific to a picture's own."""


def control_rows(losses: Mapping[str, Run | None]) -> Iterator[Metric]:
    """Of each loss, shown in this child run, what it is against other references, and what is left for a picture's own."""
    for loss, run in losses.items():
        needs: tuple[Need, ...] = ("reference",) if run in ("ssim", "color") else ("reference", "encoder")
        # a StarGAN's shape is of the content, and so is a part of its total
        by: tuple[By, ...] = ("lora", "images", "stargan") if run in ("fashion_clip", "color") else ("lora", "images")
        yield Metric(
            f"{OTHERS}{loss}",
            unit="",
            range="[0, 1]",
            better="lower",
            description="the loss against other references than the picture's own: the look that all of them share",
            by=by,
            shown_in=run,
            needs=needs,
            cannot_rank=marked("it is of the look that all references share: one picture for every prompt would win"),
        )
        yield Metric(
            f"{SPECIFIC}{loss}",
            unit="",
            range="[-1, 1]",
            better="higher",
            description="others_… less the loss itself: how much nearer a picture is to its own reference than to others",
            by=by,
            shown_in=run,
            needs=needs,
            cannot_rank=marked(
                "it is a difference of two losses, which grows too where images get farther from all other references"
            ),
        )
