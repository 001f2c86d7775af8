"""What a study knows of its confirmations, on every machine: their trainings, and how often its best settings were confirmed, by what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SweepSpec, as_overrides
from fashion_ml.runtime.language import tr
from fashion_ml.sweep.trial import PART_OF

if TYPE_CHECKING:
    import optuna

_TRAINING, _CONFIRMATION = "confirm_training", "confirmation"
"""User attributes of a study begin with these; a few digits of what they are of follow."""
DEFAULT = "default"
"""The base experiment's own settings."""


@dataclass(frozen=True)
class Fresh:
    """A training that a confirmation wants."""

    name: str
    """`default`, or `trial_0007`."""
    seed: int
    settings: Mapping[str, str]
    """Over the base experiment: those of the trial, the seed, and what it is measured by."""

    @property
    def attribute(self) -> str:
        """Where the study notes it."""
        return f"{_TRAINING}_{_digest(asdict(self))}"

    def noted(self, study: optuna.Study) -> Mapping[str, str]:
        """Its `run`, and once it is measured its `evaluation`; empty before it has begun."""
        return dict(study.user_attrs.get(self.attribute, {}))

    def note(self, study: optuna.Study, run: str, evaluation: str = "") -> None:
        """Note its run, and the run of its evaluation."""
        found = {"name": self.name, "seed": self.seed, "run": run, "evaluation": evaluation}
        study.set_user_attr(self.attribute, found)

    def __str__(self) -> str:
        return f"{self.name} with seed {self.seed}"


def fresh_trainings(spec: SweepSpec, best: Sequence[optuna.trial.FrozenTrial]) -> dict[str, list[Fresh]]:
    """The trainings of a confirmation by name: the default, then the best trials, each with every fresh seed."""
    params: dict[str, Mapping[str, Any]] = {DEFAULT: {}} | {name_of(trial.user_attrs["slot"]): trial.params for trial in best}
    return {
        name: [
            Fresh(name, seed, as_overrides({**own, "training.seed": seed, **_measured_by(spec)}))
            for seed in spec.confirm.trained_with
        ]
        for name, own in params.items()
    }


def name_of(slot: int) -> str:
    """What the fresh trainings of a trial are called."""
    return f"trial_{slot:04d}"


def _measured_by(spec: SweepSpec) -> dict[str, Any]:
    """The settings of what the search has not seen."""
    own = spec.confirm.references
    return {
        "evaluation.seed": spec.confirm.image_seed,
        **({"evaluation.references": own} if own else {PART_OF[spec.trainer]: "held"}),
    }


@dataclass(frozen=True)
class Draw:
    """One confirmation of a sweep: what it draws, and what came out."""

    trials: tuple[int, ...]
    """Slots."""
    seeds: tuple[int, ...]
    image_seed: int
    references: str
    """Folder of those that it was given; empty for the half that was held back."""
    quick: bool = False
    number: int = 0
    """Which of the sweep it is, from 1 on, in the order of their first measured trainings; 0 before one is."""
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """What came out for each slot, in words; empty where it was begun, and not told."""

    @property
    def attribute(self) -> str:
        """Where the study notes it."""
        return f"{_CONFIRMATION}_{_digest([self.trials, sorted(self.seeds), self.image_seed, self.references, self.quick])}"

    def holds(self, other: Draw) -> bool:
        """Whether another one is a quick look at a part of this one: then it was no draw of its own."""
        same = (other.image_seed, other.references) == (self.image_seed, self.references)
        return other.quick and same and {*other.seeds} <= {*self.seeds} and {*other.trials} <= {*self.trials}

    def __str__(self) -> str:
        own = tr(", references {references}", references=self.references) if self.references else ""
        told = "; ".join(tr("trial {slot} {outcome}", slot=slot, outcome=outcome) for slot, outcome in self.outcomes.items())
        seeds, trials = ", ".join(map(str, self.seeds)), ", ".join(map(str, self.trials))
        return tr(
            "seeds {seeds}, image seed {image_seed}{own}: {told}",
            seeds=seeds,
            image_seed=self.image_seed,
            own=own,
            told=told or tr("trials {trials} not told", trials=trials),
        )


@dataclass(frozen=True)
class Standing:
    """A confirmation among all those of its sweep."""

    draw: Draw
    earlier: Sequence[Draw] = ()
    """Those that were drawn before it."""
    later: Sequence[Draw] = ()

    @property
    def number(self) -> int:
        """Which confirmation of the sweep it is, from 1 on."""
        return len(self.earlier) + 1

    @property
    def times(self) -> float:
        """What its p is multiplied by, 1, 3, 6, 10, … of the first, second, …: the reciprocals of all together are 2, however many there are.

        So, of a test that calls 2.5 % of equal settings better, at most 5 % are ever called so by one who draws until one says it.
        """
        return self.number * (self.number + 1) / 2

    @property
    def line(self) -> str:
        """Which confirmation of the sweep it is, and what the others said; empty for the only one."""
        if not self.earlier and not self.later:
            return ""
        before = [tr("before it {one}", one=one) for one in self.earlier]
        after = [tr("after it {one}", one=one) for one in self.later]
        if self.draw.quick:
            return tr("beside this look the sweep was confirmed: {names}", names="; ".join([*before, *after]))
        times = tr(" (p times {times:g})", times=self.times) if self.earlier else ""
        return tr(
            "confirmation number {number} of this sweep{times}; {names}",
            number=self.number,
            times=times,
            names="; ".join([*before, *after]),
        )


def draw_of(spec: SweepSpec, slots: Sequence[int]) -> Draw:
    """The confirmation that a sweep's file asks for, of some trials."""
    asked = spec.confirm
    return Draw(tuple(slots), tuple(asked.trained_with), asked.image_seed, asked.references or "", asked.quick)


def standing_of(study: optuna.Study, draw: Draw) -> Standing:
    """The same confirmation among those that the study knows."""
    known = _draws(study)
    mine = next((one for one in known if one.attribute == draw.attribute), draw)
    every = {one.attribute: one for one in (*known, mine)}
    whole = [one for one in every.values() if not any(each.holds(one) for each in every.values() if not each.quick)]
    others = [one for one in whole if one.attribute != mine.attribute and not one.holds(mine)]
    before = [one for one in others if not mine.number or one.number < mine.number]
    return Standing(mine, before, [one for one in others if one not in before])


def note_drawn(study: optuna.Study, draw: Draw) -> None:
    """Note that a training of a confirmation was measured: from now on it is one of the sweep's."""
    known = _draws(study)
    if all(one.attribute != draw.attribute for one in known):
        _write(study, replace(draw, number=1 + max((one.number for one in known), default=0)))


def note_outcomes(study: optuna.Study, draw: Draw, outcomes: Mapping[int, str]) -> None:
    """Note what came out of a confirmation that was drawn."""
    mine = standing_of(study, draw).draw
    _write(study, replace(mine, outcomes={**mine.outcomes, **{str(slot): said for slot, said in outcomes.items()}}))


def _draws(study: optuna.Study) -> list[Draw]:
    """The confirmations of a study, in their order."""
    noted = [value for key, value in study.user_attrs.items() if key.startswith(f"{_CONFIRMATION}_")]
    found = [Draw(**{**one, "trials": tuple(one["trials"]), "seeds": tuple(one["seeds"])}) for one in noted]
    return sorted(found, key=lambda one: one.number)


def _write(study: optuna.Study, draw: Draw) -> None:
    study.set_user_attr(draw.attribute, asdict(draw))


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
