"""Several recipes against a baseline, over training seeds and references: what a suite of experiments has found so far.

From evaluations as they were logged to means, differences, verdicts and what they scatter from; suite_lines.py tells it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Difference, Evaluated, no_verdict, noted, refuse_different
from fashion_ml.evaluation.recipes import LATENT, crossed_gain, means_by_metric, refuse_unlike
from fashion_ml.evaluation.suite_lines import NOTHING_VARIES, suite_lines
from fashion_ml.evaluation.verdicts import PRIMARY, Claim, verdict_of
from fashion_ml.metrics.bootstrap import FEWEST, Interval
from fashion_ml.metrics.crossed import FEWEST_SEEDS, Crossed, Floats, Spread, crossed_mean, seeds_to_show, spread_of
from fashion_ml.metrics.registry import EDITABILITY, LEAK, LOOK, METRICS, better, metric_of
from fashion_ml.metrics.sequential import SOURCE, levels, p_of_looks
from fashion_ml.metrics.sign_flip import holm
from fashion_ml.runtime.language import Language


@dataclass(frozen=True)
class RecipeScore:
    """One metric of one recipe."""

    mean: Interval
    """Over seeds and references; without ends below 3 seeds or 6 references. `n` is the references'."""
    by_seed: Mapping[str, float]
    """Mean over the references of each training seed."""


@dataclass(frozen=True)
class SuiteDifference:
    """One metric of one recipe against the baseline."""

    difference: Difference
    """`gain` is positive where the recipe is better. The primary metric alone has a p (of all looks so far, after
    Holm over recipes) and a verdict."""
    seeds: tuple[int, int]
    """Of the baseline and of the recipe that it is made from."""
    crossed: Crossed | None = None
    """None below 6 references or 2 seeds, and where nothing varies."""
    to_settle: int | None = None
    """Seeds of each that would show the difference that was found in 80 % of the cases; None beyond 200, or where the references hide it."""
    to_settle_half: int | None = None
    """The same of half of it."""
    decided_at: int | None = None
    """The look, in seeds of each, that decided it; None where nothing did."""


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
        }


def better_way(metric: str) -> str:
    """Which way a metric of a suite is better, a StarGAN's `latent_…` like the other: `higher`, `lower`, or empty."""
    return better(metric.removeprefix(LATENT))


def compare_suite(
    recipes: Mapping[str, Sequence[Evaluated]],
    baseline: str,
    metric: str = PRIMARY,
    *,
    looks: Sequence[int] = (),
    compare: Sequence[str] = (),
) -> SuiteComparison:
    """Compare recipes with a baseline, each by its trainings with other seeds, in the order of the seeds, measured in one way.

    `looks`: the numbers of seeds at which a suite that may add seeds looks, the last the most; without any it looks once, at what there is.
    `compare` names the metrics beside the primary one, all when empty. Recipes without trainings are in no table, and said. InputError when the
    baseline or all others have none, when a recipe's are not of one recipe with other seeds each, when they were measured differently, and when
    the metric was not measured.
    """
    there = {name: list(own) for name, own in recipes.items() if own}
    if baseline not in there or len(there) < 2:
        missing = baseline if baseline not in there else "every recipe but the baseline"
        raise InputError(f"suite: nothing can be compared, {missing!r} has no training that was measured")
    everything = [one for own in there.values() for one in own]
    for name, own in there.items():
        refuse_unlike(own, f"the recipe {name!r}")
    refuse_different(everything)
    values = _values(there, metric, compare)
    if metric not in values:
        raise InputError(f"metric: {metric!r} was not measured on the references; there are {', '.join(values) or 'none'}")
    scores = {
        recipe: {name: _score(name, own[recipe], there[recipe]) for name, own in values.items() if recipe in own}
        for recipe in there
    }
    differences = {
        recipe: {name: _difference(name, own[baseline], own[recipe]) for name, own in values.items()}
        for recipe in there
        if recipe != baseline
    }
    forbidden = no_verdict(everything, [metric.removeprefix(LATENT)]).get(metric.removeprefix(LATENT), "")
    same = tuple(recipe for recipe in differences if _same(there[baseline][0], there[recipe][0]))
    judged = judge_recipes(
        values[metric], baseline, metric, tuple(looks), dict.fromkeys(same, "both are one recipe"), forbidden
    )
    for recipe, one in judged.items():
        differences[recipe][metric] = one
    own_values = [own for own in values[metric].values() if own.shape[1] > 1]
    spread = spread_of(own_values) if own_values and any(len(own) > 1 for own in own_values) else None
    most = looks[-1] if looks else 0
    undecided = [
        name
        for name, one in judged.items()
        if not (one.decided_at or forbidden or name in same or one.difference.why == NOTHING_VARIES)
        and min(len(there[name]), len(there[baseline])) < most
        and (one.difference.gain.n or 0) >= FEWEST
    ]
    none = [f"{name}: no training was measured" for name, own in recipes.items() if not own]
    said = (*none, *dict.fromkeys(noted(everything[0], everything[1:])))
    left = () if compare else _left_out(everything[0], list(values))
    more = (tuple(looks), tuple(undecided), forbidden, same, left, said)
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


def _difference(
    metric: str, first: Floats, second: Floats, *, confidence: float = 0.95, seeds: int | None = None
) -> SuiteDifference:
    """A metric's gain, by all seeds or by the first so many of both, without verdict."""
    first, second = first[:seeds], second[:seeds]
    crossed = crossed_gain(metric, first, second, confidence=confidence)
    enough = min(len(first), len(second)) >= FEWEST_SEEDS
    sign = 1 if better_way(metric) == "higher" else -1
    gain = Interval(sign * float(second.mean() - first.mean()), None, None, first.shape[1])
    if crossed is not None and enough:
        gain = Interval(crossed.mean, crossed.low, crossed.high, first.shape[1])
        gain = gain.within(*metric_of(metric.removeprefix(LATENT)).bounds_of_gain)
    entry = Difference(metric, float(first.mean()), float(second.mean()), gain)
    settle: list[int | None] = [None, None]
    if crossed is not None and enough:
        settle = [seeds_to_show(crossed.mean * part, first, second) for part in (1.0, 0.5)]
    return SuiteDifference(entry, (len(first), len(second)), crossed if enough else None, settle[0], settle[1])


def _same(first: Evaluated, second: Evaluated) -> bool:
    return first.recipe is not None and first.recipe == second.recipe


def judge_recipes(
    values: Mapping[str, Floats],
    baseline: str,
    metric: str,
    looks: tuple[int, ...] = (),
    same: Mapping[str, str] | None = None,
    forbidden: str = "",
) -> dict[str, SuiteDifference]:
    """By recipe the primary metric's difference with its verdict, or why it has none, from the values (seeds, references) of each.

    `same` says of recipes why they are no others than the baseline, `forbidden` why the metric has no verdict whatever its numbers.
    """
    own = values[baseline]
    why = {
        name: ", and ".join(filter(None, ((same or {}).get(name, ""), forbidden, _too_few(own, one, looks))))
        for name, one in values.items()
        if name != baseline
    }
    p_values = {name: _p_of_each_look(metric, own, values[name], looks) for name in why if not why[name]}
    planned = looks or (FEWEST_SEEDS,)
    at: dict[str, int] = {}
    for number in range(max((len(p) for p in p_values.values()), default=0)):
        so_far = holm({name: p_of_looks(p[: number + 1], planned) for name, p in p_values.items() if p})
        at |= {name: number for name, p in so_far.items() if p < 0.05 and name not in at}
    corrected = holm({name: p_of_looks(p, planned) for name, p in p_values.items() if p})
    found = {}
    for name, reason in why.items():
        p_here, number = p_values.get(name, []), at.get(name, len(p_values.get(name, [])) - 1)
        seeds = looks[number] if looks and p_here else None
        confidence = 1 - levels(looks)[number] if looks and p_here else 0.95
        one = _difference(metric, own, values[name], confidence=confidence, seeds=seeds)
        p = corrected.get(name)
        entry = replace(one.difference, why=reason or (NOTHING_VARIES if p is None else ""))
        if p is not None and not reason:
            entry = replace(entry, p=p, verdict=verdict_of(entry.gain, p), why="")
        decided = min(one.seeds) if entry.verdict in ("better", "worse") else None
        found[name] = replace(one, difference=entry, decided_at=decided)
    return found


def _too_few(first: Floats, second: Floats, looks: tuple[int, ...]) -> str:
    """Why so many seeds and references give no verdict; empty where they do."""
    references, seeds = first.shape[1], min(len(first), len(second))
    reasons = []
    if seeds < FEWEST_SEEDS:
        reasons.append(f"{seeds} seeds: of a recipe something can be said from {FEWEST_SEEDS} on")
    elif looks and seeds < looks[0]:
        reasons.append(f"{seeds} seeds: the suite looks from {looks[0]} on")
    if references < FEWEST:
        reasons.append(f"{references} references are fewer than {FEWEST}")
    return ", and ".join(reasons)


def _p_of_each_look(metric: str, first: Floats, second: Floats, looks: tuple[int, ...]) -> list[float]:
    """Of every look that there are seeds for, in order; of a suite that looks once the one p of all seeds. Empty where nothing varies."""
    there: list[int | None] = [look for look in looks if look <= min(len(first), len(second))] if looks else [None]
    found = [crossed_gain(metric, first[:look], second[:look]) for look in there]
    return [one.p for one in found if one is not None] if all(one is not None for one in found) else []


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
