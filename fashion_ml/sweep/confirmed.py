"""What came of confirming a sweep's best settings: each beside the default, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fashion_ml.config import SweepSpec
from fashion_ml.config.sweep import QUICK
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Difference, Evaluated, differences, no_verdict, refuse_different
from fashion_ml.evaluation.recipes import compare_recipes, crossed_gain, means_by_metric
from fashion_ml.evaluation.verdicts import LEVEL, Claim, too_few, verdict_of
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.sign_flip import holm
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.sweep.confirm_notes import Standing

_NOT_SHOWN = marked("not shown: by what the search has not seen, the default may be as good")


@dataclass(frozen=True)
class Confirmed:
    """One of the best trials beside the default, each trained with every fresh seed."""

    trial: int
    params: dict[str, Any]
    searched: float
    """The objective in the search: the best of many, so optimistic."""
    default: float
    """Mean of the default over the fresh seeds."""
    fresh: float
    """Mean of these settings over the fresh seeds."""
    difference: Difference
    """Over training seeds and references; `gain` is positive where these settings are better than the default."""
    quick: bool = False
    """Whether it is of one seed, and no confirmation."""
    references_seen_in_training: int = 0
    """Of the references that confirm, those that were trained on, as far as it was found out."""
    standing: str = ""
    """Which confirmation of the sweep it is, and what the others said; empty for the only one."""

    @property
    def claim(self) -> Claim:
        """What is spoken of."""
        return "this file" if self.quick else "this recipe"

    @property
    def outcome(self) -> str:
        """The verdict in words, or why there is none."""
        return translated(_NOT_SHOWN) if self.difference.verdict == "not shown" else self.difference.label

    @property
    def remarks(self) -> list[str]:
        """What is to be known beside the verdict."""
        seen, n = self.references_seen_in_training, self.difference.gain.n
        of = (
            tr("{seen} of the {n} references that confirm were", seen=seen, n=n)
            if n is not None and seen <= n
            else tr("{seen} references were", seen=seen)
        )
        by_heart = tr("{of} trained on, so what is better may be better at those by heart", of=of) if seen else ""
        return [line for line in (by_heart, self.standing) if line]

    def sentence(self, metric: str) -> str:
        """Both numbers, how sure the second is, and what is to be known beside it."""
        gain = self.difference.gain
        ends = f" [{gain.ends[0]:+.4f}, {gain.ends[1]:+.4f}]" if gain.ends else ""
        seeds = tr("one fresh seed") if self.quick else tr("fresh seeds")
        told = tr(
            "trial {trial}: {metric} {searched:.4f} in the search, {fresh:.4f} with {seeds}; the default has "
            "{default:.4f}; gain of {claim} {mean:+.4f}{ends}: {outcome}",
            trial=self.trial,
            metric=metric,
            searched=self.searched,
            fresh=self.fresh,
            seeds=seeds,
            default=self.default,
            claim=tr("this file") if self.quick else tr("this recipe"),
            mean=gain.mean,
            ends=ends,
            outcome=self.outcome,
        )
        return "; ".join([told, *self.remarks])

    def to_dict(self, metric: str) -> dict[str, Any]:
        """For JSON."""
        verdict = {"verdict": self.difference.verdict, "outcome": self.outcome, "claim": self.claim}
        return {**asdict(self), **verdict, "sentence": self.sentence(metric)}


@dataclass(frozen=True)
class Confirmation:
    """What is known of the best trials beside the default."""

    found: Sequence[Confirmed] = ()
    """Of those that could be compared, the best first."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """By slot, why others could not."""
    left: Sequence[str] = ()
    """The trainings that were not made, because nobody asked for them here."""
    standing: Standing | None = None
    """None where nothing is to be confirmed."""

    def of(self, slot: int) -> Confirmed | None:
        """Of one trial; None where it was not, or could not be, confirmed."""
        return next((one for one in self.found if one.trial == slot), None)

    def why_not(self, slot: int) -> str:
        """Why a trial is not confirmed."""
        earlier = f"; {self.standing.line}" if self.standing and self.standing.line else ""
        if slot in self.failed:
            return tr("not confirmed: {failed}{earlier}", failed=self.failed[slot], earlier=earlier)
        if self.left:
            return tr("not confirmed yet: {count} fresh trainings are left{earlier}", count=len(self.left), earlier=earlier)
        return tr("not confirmed: it is not among the confirm.best best trials")


def compared(
    default: Sequence[Evaluated], others: Mapping[int, Sequence[Evaluated]], spec: SweepSpec, times: float = 1.0
) -> tuple[dict[int, Difference], dict[int, str]]:
    """Each trial's evaluations against the default's, by slot, and why others could not be compared.

    Of several trials each verdict is one of so many (Holm), and `times` is what the p of this confirmation is multiplied by beside.
    """
    metric, entries, failed = spec.objectives[0].metric, dict[int, Difference](), dict[int, str]()
    look = look_at if spec.confirm.quick else difference_of
    for slot, other in others.items():
        try:
            entries[slot] = look(default, other, metric)
        except InputError as error:
            failed[slot] = tr("its fresh trainings cannot be compared: {problems}", problems=error.problems[0])
    for slot, factor in factors({slot: one.p for slot, one in entries.items() if one.verdict and one.p}, times).items():
        if factor != 1:
            entries[slot] = difference_of(default, others[slot], metric, times=factor)
    return entries, failed


def factors(p_values: Mapping[int, float], times: float) -> dict[int, float]:
    """What each p is multiplied by: after Holm, for being one of several trials, and by `times`."""
    corrected = holm(p_values)
    return {slot: times * max(corrected[slot] / p, 1.0) for slot, p in p_values.items()}


def look_at(default: Sequence[Evaluated], other: Sequence[Evaluated], metric: str) -> Difference:
    """The objective of one training of each, over references: of these files, without a verdict."""
    refuse_different([*default, *other])
    found = differences(default[0], other[0], resamples=default[0].resamples)
    entry = next((one for one in found if one.metric == metric), None)
    if entry is None:
        raise InputError(tr("objectives: {metric} was not measured on the references that confirm", metric=metric))
    return replace(entry, p=None, verdict="", why=translated(QUICK))


def difference_of(default: Sequence[Evaluated], other: Sequence[Evaluated], metric: str, *, times: float = 1.0) -> Difference:
    """The objective, over training seeds and references; it alone was asked for, so it has a verdict whatever metric it is.

    `times` is what its p is multiplied by; its interval is as wide as p has to be small.
    """
    result = compare_recipes(default, other)
    entry = next((one for one in result.differences if one.metric == metric), None)
    if entry is None:
        raise InputError(
            tr(
                "objectives: {metric} was not measured on the references that confirm ({count})",
                metric=metric,
                count=_count(result.references),
            )
        )
    means = means_by_metric([*default, *other])[metric]
    crossed = crossed_gain(metric, means[: len(default)], means[len(default) :], confidence=1 - LEVEL / times)
    same = "" if result.settings or default[0].recipe is None else tr("these are the default's own settings")
    reasons = [too_few(result.references), no_verdict([*default, *other], [metric]).get(metric, ""), same]
    why = tr(", and ").join(filter(None, reasons))
    if crossed is None or why:
        return replace(entry, verdict="", why=why or "nothing varies")
    gain, p = Interval(crossed.mean, crossed.low, crossed.high, entry.gain.n), min(crossed.p * times, 1.0)
    return replace(entry, gain=gain, p=p, verdict=verdict_of(gain, p), why="")


def _count(references: int) -> str:
    return f"{references} reference{'s' if references != 1 else ''}"
