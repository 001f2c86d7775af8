"""Which checkpoint at which strength: successive halving over references, then a final on references that the halving has not seen.

Halving: Jamieson & Talwalkar 2016, arXiv:1502.07943. Whoever is worse than the leader by Wilcoxon's signed-rank test over the references goes
as well. Looking at many settings makes the best score of them optimistic, so what is said of the winner comes from the held-back references.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.seeding import derive_seed

FINALISTS = 3
"""So many settings meet on the held-back references."""
HOLD_BACK = 12
"""From so many references on half of them are held back; with fewer neither half could show anything."""
_P = 0.05


@dataclass(frozen=True)
class Candidate:
    """A kept file at a strength."""

    file: str
    step: int
    strength: float

    def __str__(self) -> str:
        return f"{self.file} at {self.strength:g}"


def told(candidate: Candidate | str) -> str:
    """A candidate, or its name in JSON, as it is said in the language."""
    file, _, strength = str(candidate).rpartition(" at ")
    return tr("{file} at {strength}", file=file, strength=strength)


Score = Callable[[Candidate, Sequence[int]], Mapping[int, float]]
"""The loss of a candidate on references, by their indices; lower is better."""


@dataclass(frozen=True)
class Round:
    """One round of the halving."""

    references: int
    """On which the candidates had been measured at its end."""
    means: dict[str, float]
    """By candidate, lowest first."""
    dropped: list[str]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and what speaks for it."""

    winner: Candidate
    best: Candidate
    """Of the lowest mean in the final; not the winner where that is indistinguishable from it, earlier or weaker."""
    second: Candidate | None
    """The next after the best in the final."""
    lead: Interval | None
    """How much lower the best's loss is than the second's, over the references of the final; None where one alone was left."""
    tied: list[Candidate]
    """The finalists that cannot be told from the best, it among them."""
    finals: dict[str, float]
    """Means of the finalists over the references of the final, lowest first."""
    final_references: list[int]
    held_back: bool
    """Whether the halving has not seen the references of the final."""
    rounds: list[Round] = field(default_factory=list)
    measured: int = 0
    """References measured, over all candidates."""
    whole: int = 0
    """What the full grid would measure."""

    def sentence(self, metric: str) -> str:
        """What was chosen and how sure it is."""
        share = tr(
            "{measured} of {whole} measurements of the full grid ({measured_2:.0%})",
            measured=self.measured,
            whole=self.whole,
            measured_2=self.measured / self.whole,
        )
        if len(self.tied) > 1:
            why = tr(
                "{count} settings are indistinguishable by {metric}: the earliest, weakest of them is taken",
                count=len(self.tied),
                metric=metric,
            )
        else:
            why = tr("it is best by {metric}", metric=metric)
        text = tr("{winner} is chosen: {why}; {share}.", winner=told(self.winner), why=why, share=share)
        if self.lead is not None:
            ends = (
                f" [{self.lead.ends[0]:+.4f}, {self.lead.ends[1]:+.4f}]"
                if self.lead.ends
                else tr(" (too few references for an interval)")
            )
            text += tr(
                " The lead of {best} over {second} is {mean:+.4f}{ends} on {count} references",
                best=told(self.best),
                second=told(self.second or self.best),
                mean=self.lead.mean,
                ends=ends,
                count=len(self.final_references),
            )
            text += tr(", which the halving has not seen.") if self.held_back else tr(".")
        if not self.held_back and self.rounds:
            text += tr(
                " With fewer than {hold_back} references none could be held back, so the chosen score is optimistic.",
                hold_back=HOLD_BACK,
            )
        elif len(self.finals) > 1:
            text += tr(
                " It is the best of {count} there, so its own score is still a little optimistic.", count=len(self.finals)
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def choose(candidates: Sequence[Candidate], units: Sequence[Sequence[int]], score: Score, *, resamples: int = 2000) -> Choice:
    """Choose among candidates by a loss over references; `units` are references that are generated together, so measured together.

    In every round those that are left are measured on the next references, and the worse half goes, until three or two are left, which meet on
    the held-back references. Among those that cannot be told from the best the earliest, then the weakest, wins.
    """
    order = sorted(range(len(units)), key=lambda number: derive_seed(0, "choose", number))
    total = sum(len(unit) for unit in units)
    rounds_wanted = max(math.ceil(math.log2(len(candidates) / FINALISTS)), 0)
    held_back = total >= HOLD_BACK and rounds_wanted > 0
    racing = order[: math.ceil(len(order) / 2)] if held_back else order
    final = order[len(racing) :] if held_back else order
    found: dict[Candidate, dict[int, float]] = {one: {} for one in candidates}

    def measure(who: Sequence[Candidate], numbers: Sequence[int]) -> None:
        references = [index for number in numbers for index in units[number]]
        for one in who:
            new = [index for index in references if index not in found[one]]
            found[one] |= score(one, new) if new else {}

    left, rounds = list(candidates), list[Round]()
    for number in range(rounds_wanted):
        first, last = (part * len(racing) // rounds_wanted for part in (number, number + 1))
        measure(left, racing[first:last])
        if not found[left[0]] or len(left) <= FINALISTS:
            continue
        means = _means(found, left)
        kept = list(means)[: max(math.ceil(len(left) / 2), FINALISTS)]
        kept = [one for place, one in enumerate(kept) if place < 2 or not _is_worse(found[one], found[kept[0]])]
        rounds.append(
            Round(
                len(found[left[0]]),
                {str(one): mean for one, mean in means.items()},
                [str(one) for one in means if one not in kept],
            )
        )
        left = kept
    measure(left, final)
    measured = sum(len(values) for values in found.values())
    references = sorted(index for number in final for index in units[number])
    return _decide(left, found, references, held_back, rounds, resamples, measured, total * len(candidates))


def most_measured(candidates: Sequence[Candidate], units: Sequence[Sequence[int]]) -> int:
    """How many references are measured at most, over all candidates and then by the base in the final: where none is dropped for being worse
    before its half goes."""
    choice = choose(candidates, units, lambda _, references: dict.fromkeys(references, 0.0))
    return choice.measured + len(choice.final_references)


def _decide(
    finalists: list[Candidate],
    found: Mapping[Candidate, Mapping[int, float]],
    references: list[int],
    held_back: bool,
    rounds: list[Round],
    resamples: int,
    measured: int,
    whole: int,
) -> Choice:
    finals = _means({one: {index: found[one][index] for index in references} for one in finalists}, finalists)
    best, *others = finals
    leads = {one: bootstrap_mean([found[one][i] - found[best][i] for i in references], resamples=resamples) for one in others}
    tied = [best]
    for one, lead in leads.items():
        clear = lead.ends is not None and lead.ends[0] > 0
        if not (clear and _is_worse(found[one], found[best])):
            tied.append(one)
    winner = min(tied, key=lambda one: (one.step, one.strength))
    means = {str(one): mean for one, mean in finals.items()}
    second = others[0] if others else None
    return Choice(
        winner, best, second, leads[second] if second else None, tied, means, references, held_back, rounds, measured, whole
    )


def _means(found: Mapping[Candidate, Mapping[int, float]], who: Sequence[Candidate]) -> dict[Candidate, float]:
    """Means over the references that each was measured on, lowest first; of equal ones the earlier, weaker first."""
    means = {one: sum(found[one].values()) / len(found[one]) for one in who}
    return dict(sorted(means.items(), key=lambda item: (item[1], item[0].step, item[0].strength)))


def _is_worse(one: Mapping[int, float], leader: Mapping[int, float]) -> bool:
    """By Wilcoxon's signed-rank test over the references that both have, one-sided."""
    from scipy.stats import wilcoxon

    differences = [one[index] - leader[index] for index in sorted(one.keys() & leader.keys())]
    if not any(differences):
        return False
    return float(wilcoxon(differences, alternative="greater").pvalue) < _P
