"""What a confirmation will be able to see, from the search's own spread, said before it begins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fashion_ml.config import SweepSpec
from fashion_ml.evaluation.aggregate import means_by_reference
from fashion_ml.evaluation.compare import Evaluated
from fashion_ml.evaluation.verdicts import LEVEL, too_few
from fashion_ml.metrics.power import sees_of_recipes
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    import optuna

_MOST = 8
"""Trials that are looked at: the better half of them, at most so many."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ConfirmPower:
    """What the fresh trainings of the best settings and of the default can see."""

    metric: str
    seeds: int
    references: int
    sees: float | None
    """The true difference that is found in 80 % of such confirmations; None where nothing can be said of it."""
    trials: int = 0
    """Trials of the search that it is taken from."""
    seed_sd: float = 0.0
    """Standard deviation that stands for that of training seeds."""
    reference_sd: float = 0.0
    """Of differences between references."""
    own_seeds: bool = False
    """Whether trials had several seeds, which `seed_sd` is of; else it is of the better half of the trials, whose settings differ too."""
    found: float | None = None
    """How much better the search's best is than its median trial."""
    why: str = ""
    """Why nothing can be said of it."""
    what: str = "references"
    """What confirms: references, of a StarGAN contents."""

    def sentence(self) -> str:
        """`In the confirmation with 3 seeds x 12 references a difference in weighted_total_loss below 0.0210 is easily missed (…)`."""
        seeds = tr("1 seed") if self.seeds == 1 else tr("{seeds} seeds", seeds=self.seeds)
        if self.what == "contents":
            what, counted = tr("contents"), tr("{contents} contents", contents=self.references)
        else:
            what, counted = tr("references"), tr("{references} references", references=self.references)
        size = f"{seeds} x {counted}"
        if self.sees is None:
            return tr(
                "How small a difference the confirmation with {size} finds is not known before: {why}", size=size, why=self.why
            )
        source = (
            tr("between seeds of one trial")
            if self.own_seeds
            else tr("between the better half of the trials, for that between seeds")
        )
        text = tr(
            "In the confirmation with {size} a difference in {metric} below {shown} is easily missed (from the search's spread, "
            "{trials} trials: {shown_2} between {what}, {shown_3} {source})",
            size=size,
            shown=_shown(self.sees),
            metric=self.metric,
            trials=self.trials,
            shown_2=_shown(self.reference_sd),
            what=what,
            shown_3=_shown(self.seed_sd),
            source=source,
        )
        return (
            text
            if self.found is None
            else tr("{text}; the search's best is {shown} better than its median trial", text=text, shown=_shown(self.found))
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "sentence": self.sentence()}


def confirm_power(
    spec: SweepSpec,
    complete: Sequence[optuna.trial.FrozenTrial],
    measured: Sequence[Sequence[Evaluated]],
    references: int,
    *,
    times: float = 1.0,
) -> ConfirmPower:
    """From the complete trials, best first, and the evaluations of the first of them, one for each of the search's seeds.

    `references` are how many will confirm. Variances between references are of the differences between the best trial and each other one.
    With several trials to confirm it is what each can be shown by after Holm's correction over them, at 5 % by their number; `times` is what
    p is multiplied by beside, where the sweep was confirmed before.
    """
    metric, seeds = spec.objectives[0].metric, len(spec.confirm.trained_with)
    what = "references" if spec.trainer == "lora" else "contents"
    tables = matrices(measured, metric)
    values = [trial.values[0] for trial in complete]
    found = abs(values[0] - statistics.median(values)) if values else None
    why = too_few(references)
    if seeds < 2:
        why = tr("one seed says nothing of others")
    elif len(tables) < 2:
        why = tr("the search has no two trials whose images were measured")
    if why:
        return ConfirmPower(metric, seeds, references, None, found=found, why=why, what=what)
    best, others = tables[0].mean(axis=0), [table.mean(axis=0) for table in tables[1:]]
    reference_sd = float(np.sqrt(np.mean([(other - best).var(ddof=1) for other in others])))
    several = tables[0].shape[0] > 1
    own = float(np.sqrt(np.mean([table.mean(axis=1).var(ddof=1) for table in tables]))) if several else 0.0
    seed_sd = own if several else _spread_of_better_half(values)
    if seed_sd == 0 and reference_sd == 0:
        return ConfirmPower(metric, seeds, references, None, found=found, why=tr("the trials do not differ"), what=what)
    level = LEVEL / (max(min(spec.confirm.best, len(complete)), 1) * times)
    sees = sees_of_recipes(seed_sd, reference_sd, seeds, references, level=level)
    return ConfirmPower(metric, seeds, references, sees, len(tables), seed_sd, reference_sd, several, found, what=what)


def _shown(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-3 or value == 0 else f"{value:.1e}"


def _spread_of_better_half(values: Sequence[float]) -> float:
    """The standard deviation that trials, best first, would have if they differed by chance alone, from those of the better half: settings
    that fail do not count. Of a normal distribution the better half has 0.603 of the whole one's, sqrt(1 - 2 / pi)."""
    count = max((len(values) + 1) // 2, 2)
    cut = math.sqrt(1 - 2 / math.pi) if count < len(values) else 1.0
    return float(np.std(values[:count], ddof=1)) / cut


def better_half(complete: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """Of complete trials, best first, the better half, at least 2 and at most 8."""
    return list(complete[: min(max((len(complete) + 1) // 2, 2), _MOST)])


def matrices(measured: Sequence[Sequence[Evaluated]], metric: str) -> list[Floats]:
    """Of each trial (seeds, references) means of a metric, of the references that all have; none of trials that lack it."""
    whole = [trial for trial in measured if trial and all(metric in one.table for one in trial)]
    series = [
        [means_by_reference(one.table, metric, one.table["reference"].astype(str)).dropna() for one in trial] for trial in whole
    ]
    if not series:
        return []
    shared = [name for name in series[0][0].index if all(name in one.index for trial in series for one in trial)]
    return [np.array([one[shared].to_numpy(dtype=float) for one in trial]) for trial in series] if len(shared) > 1 else []
