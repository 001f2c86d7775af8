"""Does it still obey? Whether images show their prompts, and differ between seeds, beside what real pictures do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from fashion_ml.evaluation.measure import Arm, MetricSuite
from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.prompt import diversity_of_seeds, diversity_of_set, prompt_retrieval, prompt_similarity
from fashion_ml.metrics.registry import DIVERSITY_SEEDS, PROMPT_RETRIEVAL, PROMPT_SIMILARITY, metric_of
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

CHANCE, REFERENCES_VARY = "prompt_retrieval_chance", "reference_diversity"


@dataclass(frozen=True)
class Asked:
    """What the images of an evaluation were asked to show."""

    references: Sequence[str]
    """The name of each image's reference."""
    place: Sequence[int]
    """The index of each image's reference."""
    prompts: Sequence[str]
    """By reference: its caption as an encoder reads it, without the trigger; empty where nothing is left."""
    own: Sequence[str] = ()
    """By image: what it was asked for itself, read in the same way; empty where every image was asked for its reference's caption."""

    @property
    def of_images(self) -> list[str]:
        """The prompt of each image."""
        return list(self.own) or [self.prompts[place] for place in self.place]

    @property
    def texts(self) -> list[str]:
        """The different prompts; equal ones are one."""
        return list(dict.fromkeys(prompt for prompt in (*self.prompts, *self.own) if prompt))


def measure_obedience(
    arms: Iterable[Arm], asked: Asked, references: torch.Tensor | None, suite: MetricSuite, resamples: int
) -> dict[str, Interval]:
    """Add prompt_similarity, prompt_retrieval and diversity_seeds to the tables of `arms`; each as far as the suite measures it.

    Returns what they are to be held against: `reference_prompt_similarity` and `reference_prompt_retrieval`, the references' own;
    `prompt_retrieval_chance`; `reference_diversity`, of different references. The last two have no interval. `references` are their embeddings
    (R, D), in the order of `asked.prompts`.
    """
    held: dict[str, Interval] = {}
    found = [arm for arm in arms if arm.embeddings is not None]
    if suite.encoder is None or not found or references is None:
        return held
    if suite.measures(PROMPT_SIMILARITY) and asked.texts:
        _say_empty(asked.prompts)
        say_cut(asked.prompts, suite.encoder)
        texts = suite.encoder.embed_texts(asked.texts)
        for arm in found:
            assert arm.embeddings is not None
            for name, values in of_prompts(arm.embeddings, asked.of_images, asked.texts, texts).items():
                arm.table[name] = values
        of_references = of_prompts(references, asked.prompts, asked.texts, texts)
        for name, values in of_references.items():
            measured = bootstrap_mean([one for one in values if one == one], resamples=resamples)
            held[f"reference_{name}"] = measured.within(*metric_of(name).bounds)
        if PROMPT_RETRIEVAL in of_references:
            held[CHANCE] = Interval(1 / len(asked.texts), None, None)
    if suite.measures(DIVERSITY_SEEDS):
        for arm in found:
            assert arm.embeddings is not None
            arm.table[DIVERSITY_SEEDS] = diversity_of_seeds(arm.embeddings, asked.references)
        varied = diversity_of_set(references)
        if varied is not None and found[0].table[DIVERSITY_SEEDS].notna().any():
            held[REFERENCES_VARY] = Interval(varied, None, None)
    return held


def of_prompts(
    pictures: torch.Tensor, prompts: Sequence[str], texts: Sequence[str], embedded: torch.Tensor
) -> dict[str, list[float]]:
    """prompt_similarity and prompt_retrieval of pictures (N, D) asked for by `prompts` among different `texts`, `embedded` (M, D); NaN where
    the prompt is empty, and no retrieval among one text."""
    there = [index for index, prompt in enumerate(prompts) if prompt]
    places = [texts.index(prompts[index]) for index in there]
    similar = prompt_similarity(pictures[there], embedded[places])
    found = {PROMPT_SIMILARITY: _spread(similar, there, len(prompts))}
    if len(texts) > 1:
        found[PROMPT_RETRIEVAL] = _spread(prompt_retrieval(pictures[there], embedded, places), there, len(prompts))
    return found


def held_to_dict(held: Mapping[str, Interval]) -> dict[str, dict[str, float | None]]:
    """Plain nested numbers for JSON."""
    return {name: dict(vars(one)) for name, one in held.items()}


def say_cut(prompts: Sequence[str], encoder: FashionClip) -> None:
    """Say of how many prompts the encoder does not read the end."""
    if cut := sum(encoder.cut([prompt for prompt in prompts if prompt])):
        reads = encoder.tokenizer(["a"]).shape[1]
        say(
            tr(
                "{cut} of {count} prompts are longer than the {reads} tokens that the encoder reads; their ends are "
                "not compared",
                cut=cut,
                count=len(prompts),
                reads=reads,
            )
        )


def _spread(values: Sequence[float], there: Sequence[int], count: int) -> list[float]:
    series = pd.Series(values, index=list(there), dtype=float).reindex(range(count))
    return [float(value) for value in series]


def _say_empty(prompts: Sequence[str]) -> None:
    if empty := sum(not prompt for prompt in prompts):
        say(
            tr(
                "{empty} of {count} captions are nothing beside the trigger, so their images have no prompt_similarity",
                empty=empty,
                count=len(prompts),
            )
        )
