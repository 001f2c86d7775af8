"""What a suite had planned when it was first judged, and how far its trainings are: whether anything may be said of its recipes.

A p below 0.05 means what it says where the data that it is of were planned before anyone looked. Seeds that are added because a look has
shown nothing, a baseline that is chosen by its results and a report before all trainings have ended are looks that no bound counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fashion_ml.runtime.language import tr

Change = Literal["", "seeds", "baseline"]


@dataclass(frozen=True)
class SuitePlan:
    """What has to be known before the first look."""

    baseline: str
    seeds: tuple[int, ...]
    """All that there may be, those that may be added among them."""
    looks: tuple[int, ...] = ()
    """Numbers of seeds at which the suite looks; empty where it looks once, at all of them."""

    def sizes(self) -> list[str]:
        """Numbers of seeds that it looks at: 3, or 3, 4, 5, 6."""
        return [str(look) for look in self.looks or (len(self.seeds),)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> SuitePlan:
        """From what `to_dict` gave, read again."""
        return cls(str(tree["baseline"]), tuple(tree["seeds"]), tuple(tree["looks"]))


@dataclass(frozen=True)
class Standing:
    """How a suite stands when it is compared; as it is by default, one without a plan whose every training has ended."""

    plan: SuitePlan | None = None
    judged: SuitePlan | None = None
    """The plan that its first look was by; None before one."""
    planned: int = 0
    """Trainings of the plan, without the seeds that may be added."""
    left: int = 0
    """Of them, and of the seeds that were added, those that have not ended."""
    failed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By recipe the trainings that failed, and how many there are of it."""

    @property
    def changed(self) -> Change:
        """What was changed after the first look, so that there is no verdict; empty where nothing was."""
        if self.plan is None or self.judged is None or self.plan == self.judged:
            return ""
        return "baseline" if self.plan.baseline != self.judged.baseline else "seeds"

    @property
    def waits(self) -> bool:
        """Whether there is no verdict before more trainings have ended: a suite with looks says what each look allows."""
        return self.left > 0 and not (self.plan and self.plan.looks)

    def why_none(self) -> str:
        """Why no recipe has a verdict; empty where one may."""
        reasons = {
            "baseline": tr("the baseline was changed after a look"),
            "seeds": tr("seeds were changed after a look"),
            "": "",
        }
        waits = (
            tr("{planned} of {planned_2} trainings have ended", planned=self.planned - self.left, planned_2=self.planned)
            if self.waits
            else ""
        )
        return tr(", and ").join(filter(None, (reasons[self.changed], waits)))

    def withheld(self, baseline: str, recipes: Sequence[str]) -> dict[str, str]:
        """Of recipes why they have no verdict: trainings of them or of the baseline have failed, and what does not fail is no fair draw."""
        found = {}
        for name in recipes:
            those = [(side, *self.failed[side]) for side in dict.fromkeys((name, baseline)) if side in self.failed]
            if those:
                found[name] = ", ".join(
                    tr("{failed} of {count} trainings of {side} failed", failed=failed, count=count, side=side)
                    for side, failed, count in those
                )
        return found
