"""Several recipes against a baseline, over training seeds and references: what a suite of experiments has found so far.

From evaluations as they were logged to means, differences, verdicts and what they scatter from; suite_lines.py tells it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Evaluated, no_verdict, noted, refuse_different
from fashion_ml.evaluation.recipes import LATENT, means_by_metric, refuse_unlike
from fashion_ml.evaluation.suite_lines import NOTHING_VARIES, suite_lines
from fashion_ml.evaluation.suite_plan import Standing
from fashion_ml.evaluation.suite_verdicts import SuiteDifference, better_way, difference_of, judge_recipes
from fashion_ml.evaluation.verdicts import PRIMARY, Claim
from fashion_ml.metrics.bootstrap import FEWEST, Interval
from fashion_ml.metrics.crossed import FEWEST_SEEDS, Floats, Spread, crossed_mean, spread_of
from fashion_ml.metrics.registry import EDITABILITY, LEAK, LOOK, METRICS, metric_of
from fashion_ml.metrics.sequential import SOURCE, levels
from fashion_ml.runtime.language import Language, marked, tr, translated


@dataclass(frozen=True)
class RecipeScore:
    """One metric of one recipe."""

    mean: Interval
    """Over seeds and references; without ends below 3 seeds or 6 references. `n` is the references'."""
    by_seed: Mapping[str, float]
    """Mean over the references of each training seed."""


@dataclass(frozen=True)
class SuiteComparison:
    """What a suite has found."""

    baseline: str
    metric: str
    """The primary one; it alone has verdicts."""
    recipes: Mapping[str, Sequence[Evaluated]]
    """Every recipe, the baseline among them, with the trainings that were measured, in the order of the seeds."""
    scores: Mapping[str, Mapping[str, RecipeScore]]
    """By recipe and metric."""
    differences: Mapping[str, Mapping[str, SuiteDifference]]
    """By recipe but the baseline, and metric."""
    spread: Spread | None
    """Of the primary metric; None where there is one training of each."""
    looks: tuple[int, ...]
    """Numbers of seeds at which the suite looks; empty where it looks once."""
    undecided: tuple[str, ...]
    """Recipes that another seed might decide, where the suite may add some."""
    unread: str
    """Why the encoder, by which the primary metric is measured, cannot read the pictures; empty where it can."""
    same: tuple[str, ...]
    """Recipes that are the baseline's under another name."""
    left_out: tuple[str, ...]
    """Metrics that were measured and cannot be compared reference by reference, or have no better way."""
    noted: tuple[str, ...]
    standing: Standing
    """How far the suite's trainings are, and what its first look was by."""

    @property
    def claim(self) -> Claim:
        """What may be said: `this recipe` where at least one recipe has enough seeds for a verdict beside the baseline, else `this file`."""
        return "this recipe" if any(self._enough(name) for name in self.differences) else "this file"

    def _enough(self, recipe: str) -> bool:
        return min(len(self.recipes[recipe]), len(self.recipes[self.baseline])) >= FEWEST_SEEDS

    @property
    def references(self) -> int:
        """How many the primary metric is over."""
        return self.scores[self.baseline][self.metric].mean.n or 0

    @property
    def better(self) -> str:
        """Which way the primary metric is better: `higher` or `lower`."""
        return better_way(self.metric)

    @property
    def looked(self) -> bool:
        """Whether an interval of recipes was shown, so that whoever changes the suite's plan from now on knows what came out."""
        return any(one.difference.gain.ends is not None for one in self.primary().values())

    @property
    def metrics(self) -> list[str]:
        """Every metric that is compared, the primary one first."""
        found = dict.fromkeys(name for own in self.scores.values() for name in own)
        return [self.metric, *(name for name in found if name != self.metric)]

    @property
    def seen(self) -> int:
        """References that a training was trained on, as far as it was found out."""
        return max(one.seen for own in self.recipes.values() for one in own)

    def primary(self) -> dict[str, SuiteDifference]:
        """By recipe its difference in the primary metric."""
        return {name: found[self.metric] for name, found in self.differences.items() if self.metric in found}

    def winners(self) -> list[str]:
        """The recipes that are better than the baseline, the best first."""
        found = {name: one.difference for name, one in self.primary().items() if one.difference.verdict == "better"}
        return sorted(found, key=lambda name: -found[name].gain.mean)

    def sentences(self, language: Language = "en") -> str:
        """Three lines: what came out, what the seed alone does, what cannot be said and what it would take."""
        return suite_lines(self, language)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each recipe and metric: mean, ends of its interval, seeds, references, mean of each seed."""
        rows = [
            {"recipe": recipe, "baseline": recipe == self.baseline, "metric": name, "better": better_way(name)}
            | {"mean": one.mean.mean, "low": one.mean.low, "high": one.mean.high}
            | {"seeds": len(one.by_seed), "references": one.mean.n}
            | {"by_seed": " ".join(f"{seed}:{value:.6g}" for seed, value in one.by_seed.items())}
            for recipe, own in self.scores.items()
            for name, one in own.items()
        ]
        return pd.DataFrame(rows)

    @property
    def difference_table(self) -> pd.DataFrame:
        """A row for each recipe but the baseline, and metric: gain with its interval, p, verdict, what could be seen, seeds it would take."""
        rows = []
        for recipe, own in self.differences.items():
            for name, one in own.items():
                entry = one.difference
                row: dict[str, Any] = {"recipe": recipe, "against": self.baseline, "metric": name, "better": better_way(name)}
                row |= {"baseline_mean": entry.first, "mean": entry.other, "gain": entry.gain.mean}
                row |= {"low": entry.gain.low, "high": entry.gain.high, "p": entry.p}
                row |= {"verdict": entry.verdict, "why_none": entry.why, "sees": one.crossed.sees if one.crossed else None}
                row |= {"seeds_baseline": one.seeds[0], "seeds": one.seeds[1], "references": entry.gain.n}
                row |= {"seeds_to_settle": one.to_settle, "seeds_to_settle_half": one.to_settle_half}
                row |= {"confidence": one.confidence, "sees_at_p_below": one.level}
                rows.append(row | {"decided_at": one.decided_at})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "claim": self.claim,
            "sentence": self.sentences("en"),
            "sentences": {name: self.sentences(name).splitlines() for name in ("en", "zh-TW")},
            "metric": self.metric,
            "better": self.better,
            "baseline": self.baseline,
            "winners": self.winners(),
            "references": self.references,
            "fingerprint": self.recipes[self.baseline][0].facts.get("fingerprint"),
            "recipes": {
                name: {
                    "trainings": {one.run_id: one.training_seed for one in evaluations},
                    "metrics": {metric: asdict(one) for metric, one in self.scores[name].items()},
                }
                for name, evaluations in self.recipes.items()
            },
            "differences": {
                name: {metric: asdict(one) for metric, one in own.items()} for name, own in self.differences.items()
            },
            "spread": {**asdict(self.spread), "shares": self.spread.shares()} if self.spread else None,
            "looks": list(self.looks),
            "bounds": {"source": SOURCE, "levels": list(levels(self.looks))} if self.looks else None,
            "undecided": list(self.undecided),
            "references_seen_in_training": self.seen,
            "left_out": list(self.left_out),
            "noted": list(self.noted),
            "left": self.standing.left,
            "failed": {name: count for name, (count, _) in self.standing.failed.items()},
            "judged": self.standing.judged.to_dict() if self.standing.judged else None,
        }


def _not_measured(metric: str, there: Iterable[str]) -> InputError:
    form = marked("metric: {metric!r} was not measured on the references; there are {value}")
    return InputError(translated(form, metric=metric, value=", ".join(there) or tr("none")))


def compare_suite(
    recipes: Mapping[str, Sequence[Evaluated]],
    baseline: str,
    metric: str = PRIMARY,
    *,
    looks: Sequence[int] = (),
    compare: Sequence[str] = (),
    standing: Standing | None = None,
) -> SuiteComparison:
    """Compare recipes with a baseline, each by its trainings with other seeds, in the order of the seeds, measured in one way.

    `looks`: the numbers of seeds at which a suite that may add seeds looks, the last the most; without any it looks once, at what there is.
    `compare` names the metrics beside the primary one, all when empty; `standing` is how far a suite is, which may forbid verdicts.
    Recipes without trainings are in no table, and said. InputError when the baseline or all others have none, when a recipe's are not of one
    recipe with other seeds each, when they were measured differently, and when the metric was not measured.
    """
    standing = standing or Standing()
    there = {name: list(own) for name, own in recipes.items() if own}
    if baseline not in there or len(there) < 2:
        missing = baseline if baseline not in there else tr("every recipe but the baseline")
        raise InputError(tr("suite: nothing can be compared, {missing!r} has no training that was measured", missing=missing))
    everything = [one for own in there.values() for one in own]
    for name, own in there.items():
        refuse_unlike(own, tr("the recipe {name!r}", name=name))
    refuse_different(everything)
    values = _values(there, metric, compare)
    if metric not in values:
        raise _not_measured(metric, values)
    scores = {
        recipe: {name: _score(name, own[recipe], there[recipe]) for name, own in values.items() if recipe in own}
        for recipe in there
    }
    differences = {
        recipe: {name: difference_of(name, own[baseline], own[recipe]) for name, own in values.items()}
        for recipe in there
        if recipe != baseline
    }
    unread = no_verdict(everything, [metric.removeprefix(LATENT)]).get(metric.removeprefix(LATENT), "")
    forbidden = tr(", and ").join(filter(None, (unread, standing.why_none())))
    same = tuple(recipe for recipe in differences if _same(there[baseline][0], there[recipe][0]))
    names = dict.fromkeys(same, tr("both are one recipe"))
    withheld = standing.withheld(baseline, list(differences))
    judged = judge_recipes(values[metric], baseline, metric, tuple(looks), same=names, withheld=withheld, forbidden=forbidden)
    for recipe, one in judged.items():
        differences[recipe][metric] = one
    own_values = [own for own in values[metric].values() if own.shape[1] > 1]
    spread = spread_of(own_values) if own_values and any(len(own) > 1 for own in own_values) else None
    most = looks[-1] if looks else 0
    undecided = [
        name
        for name, one in judged.items()
        if not (one.decided_at or forbidden or name in (*same, *withheld) or one.difference.why == NOTHING_VARIES)
        and min(len(there[name]), len(there[baseline])) < most
        and (one.difference.gain.n or 0) >= FEWEST
    ]
    none = [tr("{name}: no training was measured", name=name) for name, own in recipes.items() if not own]
    said = (*none, *dict.fromkeys(noted(everything[0], everything[1:])))
    left = () if compare else _left_out(everything[0], list(values))
    more = (tuple(looks), tuple(undecided), unread, same, left, said, standing)
    return SuiteComparison(baseline, metric, there, scores, differences, spread, *more)


def _values(there: Mapping[str, Sequence[Evaluated]], metric: str, compare: Sequence[str]) -> dict[str, dict[str, Floats]]:
    """By metric, the primary one first, and recipe the values (seeds, references), on the references that all trainings have."""
    means = means_by_metric([one for own in there.values() for one in own], latent=True)
    wanted = [metric, *(name for name in means if name != metric and (not compare or name in compare))]
    found: dict[str, dict[str, Floats]] = {}
    for name in wanted:
        if name not in means:
            continue
        found[name], first = {}, 0
        for recipe, own in there.items():
            found[name][recipe] = means[name][first : first + len(own)]
            first += len(own)
    return found


def _score(metric: str, values: Floats, trainings: Sequence[Evaluated]) -> RecipeScore:
    mean = crossed_mean(values)
    if len(values) < FEWEST_SEEDS or values.shape[1] < FEWEST:
        mean = Interval(mean.mean, None, None, mean.n)
    names = [one.training_seed if one.training_seed is not None else one.run_id for one in trainings]
    by_seed = {name: float(value) for name, value in zip(names, values.mean(axis=1), strict=True)}
    return RecipeScore(mean.within(*metric_of(metric.removeprefix(LATENT)).bounds), by_seed)


def _same(first: Evaluated, second: Evaluated) -> bool:
    return first.recipe is not None and first.recipe == second.recipe


def _left_out(one: Evaluated, compared: Sequence[str]) -> tuple[str, ...]:
    """What was measured and is in no table: what has no better way, and what is not of single references."""
    found = []
    for name in one.table:
        plain = str(name).removeprefix(LATENT)
        try:
            known = metric_of(plain)
        except KeyError:
            continue
        if str(name) not in compared and not known.better and one.table[name].notna().any():
            found.append(str(name))
    found += [metric.name for metric in METRICS if metric.of_sets is not None and metric.name in one.facts.get("metrics", {})]
    return (*found, *((LEAK, LOOK, EDITABILITY) if one.free is not None else ()))
