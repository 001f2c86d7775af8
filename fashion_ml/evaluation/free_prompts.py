"""Images of prompts that no reference is for: does the look show where nobody called it, and is something new still drawn beside it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.evaluation.aggregate import Comparison, compare, headline, intervals, shown, to_dict
from fashion_ml.evaluation.figures import comparison_grid, save_picture
from fashion_ml.evaluation.generate import ImageFolder, Job, image_seed
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.obedience import of_prompts, say_cut
from fashion_ml.evaluation.prompts import WITH, WITHOUT, PromptSuite, read_prompts
from fashion_ml.evaluation.trigger import Wording
from fashion_ml.evaluation.words import word
from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.registry import EDITABILITY, LEAK, LOOK, PROMPT_RETRIEVAL
from fashion_ml.runtime.beside import beside
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

SEEDS = 2
"""Images of each prompt and side."""
SIMILARITY = "similarity_to_references"
CHANCE = "editability_chance"
MAIN, BASE = "LoRA", "base"
_SIDES = (MAIN, BASE)
_UNREAD = 16
"""Batches that may wait for being embedded."""


@dataclass(frozen=True)
class FreePlan:
    """The prompts of an evaluation that no reference is for, and the images to be made for them."""

    suite: PromptSuite
    prompts: list[tuple[str, str]]
    """Group and prompt of each."""
    jobs: list[Job]
    base_jobs: list[Job]

    def facts(self) -> dict[str, Any]:
        """What of it decides numbers."""
        return {"sha256": self.suite.sha256, "prompts": [prompt for _, prompt in self.prompts], "seeds": SEEDS}


@dataclass(frozen=True)
class FreePrompts:
    """What came out. Means are over prompts, each one's seeds averaged first, and paired with the base by prompt and seed."""

    leak: Interval | None
    """How much more the LoRA's images than the base's resemble the references where the prompt has no trigger."""
    look: Interval | None
    """The same where it has."""
    editability: Comparison | None
    """prompt_retrieval among the prompts with the trigger, read without it."""
    chance: float | None
    """What editability is by chance."""
    table: pd.DataFrame
    """One row an image: group, prompt, seed, similarity_to_references and editability of the LoRA, and as `base_…` of the base."""
    generated: Mapping[str, ImageFolder] = field(default_factory=dict)
    """The images, by side: `LoRA` and `base`."""
    jobs: Sequence[Job] = ()
    """The images in the order of the table, for `generated[…].load`; both sides have the same names."""

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow."""
        means = {name: one.mean for name, one in self._alone().items()}
        chance = {CHANCE: self.chance} if self.chance is not None else {}
        return {**means, **headline(self._compared()), **chance}

    def ends(self) -> dict[str, float]:
        """The ends of the intervals by their names in MLflow."""
        alone = {f"{name}_{end}": value for name, one in self._alone().items() for end, value in _ends(one)}
        return {**alone, **intervals(self._compared())}

    def rows(self) -> list[tuple[str, str, list[str]]]:
        """Lines of the report's table: base, LoRA, gain; leak and look are of the LoRA against the base."""
        lines = [
            (name, "lower" if name == LEAK else "higher", ["", shown(one, "+"), ""]) for name, one in self._alone().items()
        ]
        for name, one in self._compared().items():
            lines.append((name, "higher", [shown(one.base), shown(one.lora), shown(one.gain, "+") if one.gain else ""]))
        return lines

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what was not measured is null."""
        alone = {name: vars(one) if (one := self._alone().get(name)) else None for name in (LEAK, LOOK)}
        compared = to_dict(self._compared())
        return {**alone, EDITABILITY: compared.get(EDITABILITY), CHANCE: self.chance, "images": len(self.table)}

    def draw(self, path: Path) -> None:
        """A grid of the first image of every prompt, the base's beside the LoRA's."""
        rows = []
        for place, job in enumerate(self.jobs):
            if place % SEEDS == 0:
                pictures = [self.generated[who].load(job) for who in (BASE, MAIN)]
                rows.append((job.prompt, [picture for picture in pictures if picture is not None]))
        save_picture(path, comparison_grid(rows, [word(BASE), word(MAIN)]))

    def _alone(self) -> dict[str, Interval]:
        return {name: one for name, one in ((LEAK, self.leak), (LOOK, self.look)) if one is not None}

    def _compared(self) -> dict[str, Comparison]:
        return {EDITABILITY: self.editability} if self.editability else {}


def plan_free(
    settings: Evaluation, wording: Wording, sizes: Sequence[tuple[int, int]], suite: MetricSuite, *, embedded: bool
) -> FreePlan | None:
    """The images of `evaluation.prompts`, at the size that most references have; None where there are none to be made, which is said unless
    the setting is `none`. InputError as `read_prompts`."""
    found = read_prompts(settings.prompts, embedded=embedded)
    if found is None:
        return None
    if suite.encoder is None:
        say(tr("evaluation.prompts: the images of free prompts are measured by FashionCLIP, which is left out; none are made"))
        return None
    if found.with_trigger and not wording.trigger:
        say(
            tr(
                "No trigger is known (evaluation.trigger names it), so no prompts with it are drawn: there is no "
                "look and no editability"
            )
        )
    prompts = found.prompts(wording.trigger)
    if not prompts:
        return None
    size = Counter(sizes).most_common(1)[0][0]
    counted: Counter[str] = Counter()
    jobs = []
    for place, (group, prompt) in enumerate(prompts):
        counted[group] += 1
        for index in range(SEEDS):
            name = f"{group}_{counted[group]:02d}_{index}"
            jobs.append(Job(place, name, prompt, image_seed(settings.seed, f"free prompt {prompt}", index), size))
    return FreePlan(found, prompts, jobs, [replace(job, prompt=wording.of_base(job.prompt)) for job in jobs])


def embed_batches(batches: Iterator[tuple[list[int], list[Image.Image]]], suite: MetricSuite, count: int) -> torch.Tensor:
    """Embeddings (count, D) of batches of (job indices, pictures), in the order of the jobs, made in a thread while the next ones come."""
    assert suite.encoder is not None
    with beside(tr("embed images"), most=_UNREAD) as embedding:
        made = [(batch, embedding(suite.encoder.embed_images, pictures)) for batch, pictures in batches]
    found = {index: one for batch, part in made for index, one in zip(batch, part.result(), strict=True)}
    return torch.stack([found[index] for index in range(count)])


def measure_free(
    plan: FreePlan,
    embeddings: Mapping[str, torch.Tensor],
    references: torch.Tensor,
    suite: MetricSuite,
    kept: Mapping[str, ImageFolder],
    resamples: int,
) -> FreePrompts:
    """leak, look and editability from the embeddings (N, D) of both sides' images, in the order of the jobs, and of the references (R, D)."""
    assert suite.encoder is not None
    places = [job.reference for job in plan.jobs]
    groups = [plan.prompts[place][0] for place in places]
    tables = {who: pd.DataFrame({SIMILARITY: (embeddings[who] @ references.T).mean(1).tolist()}) for who in _SIDES}
    called = [index for index, group in enumerate(groups) if group == WITH]
    editability, chance = None, None
    if called:
        texts = plan.suite.texts()
        different, first = list(dict.fromkeys(texts)), len(plan.prompts) - len(texts)
        say_cut(different, suite.encoder)
        embedded = suite.encoder.embed_texts(different)
        asked = [texts[places[index] - first] for index in called]
        for who, table in tables.items():
            found = of_prompts(embeddings[who][called], asked, different, embedded)
            values = found.get(PROMPT_RETRIEVAL)
            if values is not None:
                table[EDITABILITY] = pd.Series(values, index=called).reindex(table.index)
        if EDITABILITY in tables[MAIN]:
            base, lora = (tables[who].loc[called, [EDITABILITY]] for who in (BASE, MAIN))
            editability = compare(base, lora, [str(places[index]) for index in called], resamples=resamples).get(EDITABILITY)
            chance = 1 / len(different)
    more = (tables[MAIN][SIMILARITY] - tables[BASE][SIMILARITY]).groupby(places).mean()
    of_group = {
        group: [more[place] for place, (one, _) in enumerate(plan.prompts) if one == group] for group in (WITHOUT, WITH)
    }
    leak, look = (
        bootstrap_mean(values, resamples=resamples) if (values := of_group[group]) else None for group in (WITHOUT, WITH)
    )
    columns = {"group": groups, "prompt": [job.prompt for job in plan.jobs], "seed": [str(job.seed) for job in plan.jobs]}
    table = pd.DataFrame(columns).join(tables[MAIN]).join(tables[BASE].add_prefix("base_"))
    return FreePrompts(leak, look, editability, chance, table, kept, plan.jobs)


def _ends(interval: Interval) -> list[tuple[str, float]]:
    return [("low", interval.ends[0]), ("high", interval.ends[1])] if interval.ends else []
