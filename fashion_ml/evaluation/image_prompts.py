"""What images made elsewhere were asked for: the captions beside their references, where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from fashion_ml.config import Evaluation
from fashion_ml.data.folder_listing import list_folder, read_captions
from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.measure import Arm, MetricSuite
from fashion_ml.evaluation.obedience import Asked, measure_obedience
from fashion_ml.evaluation.trigger import classes_of_folders, find_trigger, plain_prompts, say_trigger
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.registry import PROMPT_SIMILARITY
from fashion_ml.runtime.console import say

_EXTENSION = ".txt"


@dataclass(frozen=True)
class ImagePrompts:
    """The captions of the different references, in order, empty where there is none, and the trigger in them."""

    references: Sequence[str]
    """Names."""
    captions: Sequence[str]
    trigger: str

    def facts(self) -> dict[str, Any]:
        """What of it decides numbers; nothing where no reference has a caption."""
        return {"prompts": list(self.captions), "trigger": self.trigger or None} if any(self.captions) else {}


def read_prompts(
    references: Sequence[CaptionedImage], settings: Evaluation, suite: MetricSuite, training: Sequence[CaptionedImage]
) -> ImagePrompts:
    """The captions of the pairs' references; says of how many there is none, and which trigger is taken. None are read where the suite has no
    use for them."""
    once = {item.name: item for item in references}
    if not suite.measures(PROMPT_SIMILARITY):
        return ImagePrompts(list(once), [""] * len(once), "")
    texts: dict[Any, str] = {}
    for folder in dict.fromkeys(item.path.parent for item in once.values()):
        texts |= dict(read_captions(folder, list_folder(folder, "", read_below=True), _EXTENSION, None).found)
    captions = [texts.get(item.path, "").strip().split("\n", 1)[0].strip() for item in once.values()]
    there = [caption for caption in captions if caption]
    if len(there) < len(captions):
        say(
            f"{len(captions) - len(there)} of {len(captions)} references have no caption ({_EXTENSION} beside them), so what was asked for is "
            "not known there: no prompt_similarity"
        )
    trigger = find_trigger(settings.trigger, there, classes_of_folders(training))
    if there:
        say_trigger(settings.trigger, trigger, there)
    return ImagePrompts(list(once), captions, trigger)


def measure_prompts(
    table: pd.DataFrame,
    embeddings: Sequence[torch.Tensor],
    names: Sequence[str],
    references: torch.Tensor | None,
    prompts: ImagePrompts,
    suite: MetricSuite,
    resamples: int,
) -> dict[str, Interval]:
    """Add prompt_similarity, prompt_retrieval and diversity_seeds to the table of the images, whose references are `names`.

    `references` are the embeddings (R, D) of the different references, in order. Returns what the means are to be held against, as
    `measure_obedience` does.
    """
    if not embeddings:
        return {}
    places = {name: place for place, name in enumerate(prompts.references)}
    asked = Asked(names, [places[name] for name in names], plain_prompts(prompts.captions, prompts.trigger))
    return measure_obedience([Arm(table, torch.stack(list(embeddings)))], asked, references, suite, resamples)
