"""What images made elsewhere were asked for: what a WebUI wrote into them, else the captions beside their references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from fashion_ml.config import Evaluation
from fashion_ml.data.folder_listing import list_folder, read_captions
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.notices import Kind
from fashion_ml.data.picture_prompts import plain_prompt, prompt_of, without_loras
from fashion_ml.evaluation.measure import Arm, MetricSuite
from fashion_ml.evaluation.obedience import Asked, measure_obedience
from fashion_ml.evaluation.trigger import classes_of_folders, find_trigger, plain_prompts, say_trigger
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.registry import PROMPT_SIMILARITY
from fashion_ml.models.text_encoding import weighted_pieces
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

_EXTENSION = ".txt"


@dataclass(frozen=True)
class ImagePrompts:
    """What images were asked for: the captions of the different references, in order, and what a WebUI wrote into the images themselves."""

    references: Sequence[str]
    """Names."""
    captions: Sequence[str]
    """By reference; empty where there is none. One without a caption has the prompt of its first image that says one."""
    trigger: str
    own: Sequence[str] = ()
    """By image: its own prompt, the caption of its reference where it says none; empty where no image says anything else than that caption."""

    def facts(self) -> dict[str, Any]:
        """What of it decides numbers; nothing where no prompt is known."""
        known = {"prompts": list(self.captions), "trigger": self.trigger or None} if any(self.captions) else {}
        return known | ({"prompts_of_images": sorted({*self.own} - {""})} if self.own else {})


def read_prompts(
    pairs: Sequence[tuple[str, CaptionedImage, CaptionedImage]],
    settings: Evaluation,
    suite: MetricSuite,
    training: Sequence[CaptionedImage],
) -> ImagePrompts:
    """The prompts of pairs of name, image and reference; says for how many there is none, and which trigger is taken. None are read where the
    suite has no use for them."""
    once = {item.name: item for _, _, item in pairs}
    asked, of_sets = suite.measures(PROMPT_SIMILARITY), any(metric.of_sets for metric in suite.metrics)
    if not (asked or of_sets):
        return ImagePrompts(list(once), [""] * len(once), "")
    texts: dict[Any, str] = {}
    for folder in dict.fromkeys(item.path.parent for item in once.values()):
        read = read_captions(folder, list_folder(folder, "", read_below=True), _EXTENSION, None)
        texts |= dict(read.found)
        for problem, notice in read.problems:
            if notice.kind is Kind.UNREADABLE:
                say(tr("left out: {problem}", problem=problem))
    captions = {name: texts.get(item.path, "").strip().split("\n", 1)[0].strip() for name, item in once.items()}
    if not asked:  # sets leave out pairs of one caption
        return ImagePrompts(list(once), list(captions.values()), "")
    own = _own_prompts(pairs, captions)
    for (_, _, item), prompt in zip(pairs, own, strict=True):
        captions[item.name] = captions[item.name] or prompt
    if unknown := sum(not caption for caption in captions.values()):
        say(
            tr(
                "{unknown} of {count} references have no caption ({extension} beside them), and their images no "
                "prompt of a WebUI, so what was asked for is not known there: no prompt_similarity",
                unknown=unknown,
                count=len(captions),
                extension=_EXTENSION,
            )
        )
    there = [caption for caption in captions.values() if caption]
    trigger = find_trigger(settings.trigger, there, classes_of_folders(training))
    if there:
        say_trigger(settings.trigger, trigger, there)
    differ = any(prompt and prompt != captions[item.name] for (_, _, item), prompt in zip(pairs, own, strict=True))
    each = [prompt or captions[item.name] for (_, _, item), prompt in zip(pairs, own, strict=True)] if differ else []
    return ImagePrompts(list(once), list(captions.values()), trigger, each)


def _own_prompts(pairs: Sequence[tuple[str, CaptionedImage, CaptionedImage]], captions: Mapping[str, str]) -> list[str]:
    """What a WebUI wrote into each image, in the words of a caption that says the same; empty where there is none."""
    words = {plain_prompt(caption): caption for caption in captions.values() if caption}
    found = []
    for _, made, _ in pairs:
        prompt = prompt_of(made.path) or ""
        text = without_loras("".join(piece for piece, _ in weighted_pieces(without_loras(prompt))))
        found.append(words.setdefault(plain_prompt(text), text) if text else "")
    if count := sum(map(bool, found)):
        say(
            tr(
                "{count} of {count_2} images say what they were asked for (a WebUI's metadata): that is their prompt",
                count=count,
                count_2=len(pairs),
            )
        )
    return found


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
    plain, own = (plain_prompts(texts, prompts.trigger) for texts in (prompts.captions, prompts.own))
    asked = Asked(names, [places[name] for name in names], plain, own)
    return measure_obedience([Arm(table, torch.stack(list(embeddings)))], asked, references, suite, resamples)
