"""What a suite may say of each recipe against the baseline: p over all looks and recipes, verdict, interval, what could be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fashion_ml.evaluation.compare import Difference
from fashion_ml.evaluation.recipes import LATENT, crossed_gain
from fashion_ml.evaluation.suite_lines import NOTHING_VARIES
from fashion_ml.evaluation.verdicts import LEVEL, verdict_of
from fashion_ml.metrics.bootstrap import FEWEST, Interval
from fashion_ml.metrics.crossed import FEWEST_SEEDS, Crossed, Floats, hidden_by_references, seeds_to_show
from fashion_ml.metrics.registry import better, metric_of
from fashion_ml.metrics.sequential import levels, p_of_looks
from fashion_ml.metrics.sign_flip import holm
from fashion_ml.runtime.language import tr


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
    hidden: tuple[bool, bool] = (False, False)
    """Whether the references hide the difference, and half of it, from any number of seeds."""
    confidence: float = 0.95
    """Of the interval: of the primary metric it leaves 0 out just where p is below 0.05."""
    level: float = 0.05
    """How small p has to be alone, before any correction, for what can be seen; the strictest that the recipes and looks may ask for."""
    decided_at: int | None = None
    """The look, in seeds of each, that decided it; None where nothing did."""


def better_way(metric: str) -> str:
    """Which way a metric of a suite is better, a StarGAN's `latent_…` like the other: `higher`, `lower`, or empty."""
    return better(metric.removeprefix(LATENT))


def difference_of(
    metric: str,
    first: Floats,
    second: Floats,
    *,
    confidence: float = 0.95,
    seeds: int | None = None,
    level: float = LEVEL,
    settles_at: float = LEVEL,
) -> SuiteDifference:
    """A metric's gain, by all seeds or by the first so many of both, without verdict.

    `level` is how small p has to be with so many seeds, `settles_at` with the most.
    """
    first, second = first[:seeds], second[:seeds]
    crossed = crossed_gain(metric, first, second, confidence=confidence, level=level)
    enough = min(len(first), len(second)) >= FEWEST_SEEDS
    sign = 1 if better_way(metric) == "higher" else -1
    gain = Interval(sign * float(second.mean() - first.mean()), None, None, first.shape[1])
    if crossed is None or not enough:
        entry = Difference(metric, float(first.mean()), float(second.mean()), gain)
        return SuiteDifference(entry, (len(first), len(second)))
    gain = Interval(crossed.mean, crossed.low, crossed.high, first.shape[1])
    gain = gain.within(*metric_of(metric.removeprefix(LATENT)).bounds_of_gain)
    whole, half = (seeds_to_show(crossed.mean * part, first, second, level=settles_at) for part in (1.0, 0.5))
    hidden = [hidden_by_references(crossed.mean * part, first, second, level=settles_at) for part in (1.0, 0.5)]
    return SuiteDifference(
        Difference(metric, float(first.mean()), float(second.mean()), gain),
        (len(first), len(second)),
        crossed,
        to_settle=whole,
        to_settle_half=half,
        hidden=(hidden[0], hidden[1]),
        confidence=confidence,
        level=level,
    )


def judge_recipes(
    values: Mapping[str, Floats],
    baseline: str,
    metric: str,
    looks: tuple[int, ...] = (),
    *,
    same: Mapping[str, str] | None = None,
    withheld: Mapping[str, str] | None = None,
    forbidden: str = "",
) -> dict[str, SuiteDifference]:
    """By recipe the primary metric's difference with its verdict, or why it has none, from the values (seeds, references) of each.

    `same` says of recipes why they are no others than the baseline, `withheld` why they have no verdict yet, and `forbidden` why none has,
    whatever its numbers. What was decided has the gain and interval of the look that decided it, the rest of its last look; each interval is
    as wide as its recipe's p has to be small, so that it leaves 0 out just where p, after all corrections, is below 5 %.
    """
    own, others = values[baseline], [name for name in values if name not in (baseline, *(same or {}))]
    why = {
        name: tr(", and ").join(filter(None, ((withheld or {}).get(name, ""), forbidden, _too_few(own, values[name], looks))))
        for name in others
    }
    p_values = {name: [] if why[name] else _p_of_each_look(metric, own, values[name], looks) for name in others}
    planned = looks or (FEWEST_SEEDS,)
    overall = {name: [p_of_looks(p[: at + 1], planned) for at in range(len(p))] for name, p in p_values.items()}
    family = {name: p[-1] if p else 1.0 for name, p in overall.items()}  # what has no p yet may have one later
    corrected, asked = holm(family), _levels_of_holm(family)
    strict = levels(planned, LEVEL / max(len(others), 1))
    found = {}
    for name in [one for one in values if one != baseline]:
        if not p_values.get(name):
            reason = tr(", and ").join(filter(None, ((same or {}).get(name, ""), why.get(name, forbidden))))
            one = difference_of(metric, own, values[name], level=strict[-1], settles_at=strict[-1])
            found[name] = replace(one, difference=replace(one.difference, why=reason or NOTHING_VARIES))
            continue
        at = next((at for at, p in enumerate(overall[name]) if p < asked[name]), len(overall[name]) - 1)
        one = difference_of(
            metric,
            own,
            values[name],
            confidence=1 - levels(planned, asked[name])[at],
            seeds=looks[at] if looks else None,
            level=strict[at],
            settles_at=strict[-1],
        )
        verdict = verdict_of(one.difference.gain, corrected[name])
        decided = min(one.seeds) if verdict in ("better", "worse") else None
        entry = replace(one.difference, p=corrected[name], verdict=verdict)
        found[name] = replace(one, difference=entry, decided_at=decided)
    return found


def _levels_of_holm(family: Mapping[str, float]) -> dict[str, float]:
    """The level that each recipe's overall p is held against: the smallest p 5 % by the number of recipes, the next by one fewer, …; from
    the first that is not below its own on, all others against that one's."""
    asked, level, goes_on = {}, LEVEL, True
    for rank, name in enumerate(sorted(family, key=lambda name: family[name])):
        level = LEVEL / (len(family) - rank) if goes_on else level
        goes_on = goes_on and family[name] < level
        asked[name] = level
    return asked


def _too_few(first: Floats, second: Floats, looks: tuple[int, ...]) -> str:
    """Why so many seeds and references give no verdict; empty where they do."""
    references, seeds = first.shape[1], min(len(first), len(second))
    reasons = []
    if seeds < FEWEST_SEEDS:
        reasons.append(
            tr(
                "{seeds} seeds: of a recipe something can be said from {fewest_seeds} on",
                seeds=seeds,
                fewest_seeds=FEWEST_SEEDS,
            )
        )
    elif looks and seeds < looks[0]:
        reasons.append(tr("{seeds} seeds: the suite looks from {looks} on", seeds=seeds, looks=looks[0]))
    if references < FEWEST:
        reasons.append(tr("{references} references are fewer than {fewest}", references=references, fewest=FEWEST))
    return tr(", and ").join(reasons)


def _p_of_each_look(metric: str, first: Floats, second: Floats, looks: tuple[int, ...]) -> list[float]:
    """Of every look that there are seeds for, in order; of a suite that looks once the one p of all seeds. Empty where nothing varies."""
    there: list[int | None] = [look for look in looks if look <= min(len(first), len(second))] if looks else [None]
    found = [crossed_gain(metric, first[:look], second[:look]) for look in there]
    return [one.p for one in found if one is not None] if all(one is not None for one in found) else []
