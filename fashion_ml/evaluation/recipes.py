"""Two recipes side by side: several trainings of each, with seeds of their own, measured on the same references and image seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import means_by_reference, metrics_of, shown
from fashion_ml.evaluation.compare import (
    Difference,
    Evaluated,
    difference_table,
    no_verdict,
    noted,
    paired_tables,
    refuse_different,
)
from fashion_ml.evaluation.verdicts import PARTS, PRIMARY, Claim, Verdict, too_few, verdict_of
from fashion_ml.metrics.bootstrap import FEWEST, Interval
from fashion_ml.metrics.crossed import FEWEST_SEEDS, Crossed, Floats, crossed_difference
from fashion_ml.metrics.registry import better
from fashion_ml.metrics.sign_flip import holm
from fashion_ml.runtime.language import tr

LATENT = "latent_"
"""What the names of a StarGAN's latent-guided columns begin with."""


@dataclass(frozen=True)
class RecipeComparison:
    """A second recipe against a first, over training seeds and references."""

    first: Sequence[Evaluated]
    second: Sequence[Evaluated]
    differences: list[Difference]
    crossed: Mapping[str, Crossed]
    """By metric; absent where nothing varies."""
    noted: list[str]
    settings: Mapping[str, tuple[str | None, str | None]]
    """The settings that differ; empty where they are not known."""
    claim: Claim = "this recipe"

    @property
    def references(self) -> int:
        """How many there are."""
        return int(self.first[0].table["reference"].nunique())

    @property
    def table(self) -> pd.DataFrame:
        """One row a metric, a similarity and its loss being one: means of both, gain with its interval, n (references), p, verdict, what could
        be seen."""
        table = difference_table(self.differences)
        table["sees"] = [self.crossed[name].sees if name in self.crossed else None for name in table["metric"]]
        return table

    @property
    def sentence(self) -> str:
        """One line of what came out, and one of what could be seen and what the training seed alone does."""
        found = {entry.metric: entry for entry in self.differences}
        entry = found.get(PRIMARY) or found.get(PARTS[0])
        if entry is None:
            return tr("The evaluations share no loss.")
        text = tr(
            "This recipe has {metric} {other:.4f}, the first {first:.4f}; gain {shown}: ",
            metric=entry.metric,
            other=entry.other,
            first=entry.first,
            shown=shown(entry.gain, "+"),
        )
        lines = [f"{text}{entry.label}."]
        one = self.crossed.get(entry.metric)
        if one is not None:
            seeds = tr(
                "{count} and {count_2} training seeds x {references} references",
                count=len(self.first),
                count_2=len(self.second),
                references=self.references,
            )
            lines.append(
                tr(
                    "With {seeds} a difference in {metric} below {sees:.4f} is easily missed; the training seed alone moves it by "
                    "{seed_sd:.4f} (standard deviation).",
                    metric=entry.metric,
                    seeds=seeds,
                    sees=one.sees,
                    seed_sd=one.seed_sd,
                )
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "claim": self.claim,
            "sentence": self.sentence,
            "first": {one.run_id: one.training_seed for one in self.first},
            "second": {one.run_id: one.training_seed for one in self.second},
            "settings": {name: list(values) for name, values in self.settings.items()},
            "fingerprint": self.first[0].facts.get("fingerprint"),
            "noted": self.noted,
            "compared": {
                entry.metric: {**asdict(entry), **({"crossed": asdict(one)} if (one := self.crossed.get(entry.metric)) else {})}
                for entry in self.differences
            },
        }


def compare_recipes(first: Sequence[Evaluated], second: Sequence[Evaluated]) -> RecipeComparison:
    """Compare two recipes, at least 3 trainings of each.

    InputError when there are fewer, when one side is not of one recipe with different seeds, and as for files.
    """
    everything = [*first, *second]
    _refuse_mixed(first, tr("the first side"))
    _refuse_mixed(second, tr("the second side"))
    if both := sorted({one.run_id for one in first} & {one.run_id for one in second}):
        raise InputError(tr("compare: {both} is on both sides; give different runs", both=both[0]))
    refuse_different(everything)
    matrices = {name: (means[: len(first)], means[len(first) :]) for name, means in means_by_metric(everything).items()}
    crossed = {name: one for name, (a, b) in matrices.items() if (one := crossed_gain(name, a, b)) is not None}
    settings, said = _settings(first[0], second[0])
    same = tr("both sides are one recipe") if first[0].recipe is not None and not settings else ""
    forbidden = {name: same for name in (PRIMARY, *PARTS) if same} or no_verdict(everything)
    found = _differences(matrices, crossed, forbidden)
    return RecipeComparison(first, second, found, crossed, [*said, *noted(everything[0], everything[1:])], settings)


def means_by_metric(evaluations: Sequence[Evaluated], *, latent: bool = False) -> dict[str, Floats]:
    """By metric that all have and that has a better way the means (evaluations, references), seeds of images averaged.

    References that one evaluation has no value of are left out. With `latent` also a StarGAN's latent-guided images, as `latent_…`. InputError
    when the evaluations do not have the same references and seeds.
    """
    tables = paired_tables(evaluations)
    reference = [str(name) for name in tables[0]["reference"]]
    found = {}
    for prefix in ("", LATENT) if latent else ("",):
        sides = [_guided(one, prefix) for one in tables]
        for name in metrics_of(sides[0]):
            if not better(name) or not all(name in metrics_of(one) for one in sides):
                continue
            means = np.array([means_by_reference(one, name, reference).to_numpy(dtype=float) for one in sides])
            means = means[:, ~np.isnan(means).any(axis=0)]
            if means.shape[1]:
                found[f"{prefix}{name}"] = means
    return found


def _guided(table: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The columns that begin with a prefix, without it."""
    own = table[[name for name in table if str(name).startswith(prefix)]]
    return own.set_axis([str(name)[len(prefix) :] for name in own], axis=1)


def crossed_gain(
    metric: str, first: Floats, second: Floats, *, confidence: float = 0.95, level: float = 0.05
) -> Crossed | None:
    """How much better the second recipe is, (seeds, references) each; None below 6 references and where nothing varies.

    `confidence` is the interval's, `level` how small p has to be, for what can be seen.
    """
    if first.shape[1] < FEWEST or min(len(first), len(second)) < 2:
        return None
    sign = 1 if better(metric.removeprefix(LATENT)) == "higher" else -1
    return crossed_difference(sign * first, sign * second, confidence=confidence, level=level)


def _differences(
    matrices: Mapping[str, tuple[Any, Any]], crossed: Mapping[str, Crossed], forbidden: Mapping[str, str]
) -> list[Difference]:
    corrected = holm({name: crossed[name].p for name in PARTS if name in crossed})
    corrected |= {PRIMARY: crossed[PRIMARY].p} if PRIMARY in crossed else {}
    found = []
    for name, (a, b) in matrices.items():
        n, sign = a.shape[1], 1 if better(name) == "higher" else -1
        one, p = crossed.get(name), corrected.get(name)
        gain = Interval(one.mean, one.low, one.high, n) if one else Interval(sign * float(b.mean() - a.mean()), None, None, n)
        why = tr(", and ").join(filter(None, (forbidden.get(name, ""), too_few(n)))) if name in (PRIMARY, *PARTS) else ""
        verdict: Verdict = verdict_of(gain, p) if p is not None and not why else ""
        why = tr("nothing varies") if name in (PRIMARY, *PARTS) and not verdict and not why else why
        found.append(Difference(name, float(a.mean()), float(b.mean()), gain, p, verdict, why))
    return found


def _refuse_mixed(side: Sequence[Evaluated], what: str) -> None:
    """InputError when evaluations are not of at least 3 trainings of one recipe, each with another seed."""
    if len(side) < FEWEST_SEEDS:
        raise InputError(
            tr(
                "compare: {what} has {count} trainings, and of a recipe something can be said from {fewest_seeds} "
                "with other seeds on; train it again with other --seed, or compare two single runs, which says "
                "something of these files",
                what=what,
                count=len(side),
                fewest_seeds=FEWEST_SEEDS,
            )
        )
    refuse_unlike(side, what)


def refuse_unlike(side: Sequence[Evaluated], what: str) -> None:
    """InputError when evaluations are not of trainings of one recipe, each with another seed."""
    problems = []
    for number, one in enumerate(side):
        for earlier in side[:number]:
            if one.training_seed is not None and one.training_seed == earlier.training_seed:
                problems.append(
                    tr(
                        "compare: {run_id} and {run_id_2} of {what} both trained with seed {training_seed}",
                        run_id=earlier.run_id,
                        run_id_2=one.run_id,
                        what=what,
                        training_seed=one.training_seed,
                    )
                )
            elif None in (one.training_seed, earlier.training_seed) and one.table.equals(earlier.table):
                problems.append(
                    tr(
                        "compare: {run_id} and {run_id_2} of {what} have the same numbers: one training twice",
                        run_id=earlier.run_id,
                        run_id_2=one.run_id,
                        what=what,
                    )
                )
    for one in side[1:]:
        if side[0].recipe is not None and one.recipe is not None:
            problems += [
                tr(
                    "compare: {run_id} and {run_id_2} of {what} are not one recipe; {name}: {a}, {b}",
                    run_id=side[0].run_id,
                    run_id_2=one.run_id,
                    what=what,
                    name=name,
                    a=a,
                    b=b,
                )
                for name, (a, b) in differing(side[0].recipe, one.recipe).items()
            ]
    if problems:
        raise InputError(problems)


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """The settings of two recipes that differ, both values."""
    return {
        name: (first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    }


def _settings(first: Evaluated, second: Evaluated) -> tuple[dict[str, tuple[str | None, str | None]], list[str]]:
    """What differs between the recipes, and lines on what is not known of them."""
    if first.recipe is None or second.recipe is None:
        return {}, [tr("The settings of the trainings are not known here: that each side is one recipe is taken as given")]
    found = differing(first.recipe, second.recipe)
    return found, [] if found else [tr("Both sides are one recipe: what differs is chance")]
