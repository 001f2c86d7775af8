"""Steps that fp16 leaves out: a gradient scaler skips a step whose gradients overflow, and a training that skips them all learns nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import marked, tr, translated

SKIPPED = "skipped_steps"
"""Name of the metric: how many steps have been left out so far."""
_LATEST = "skipped_latest"
_IN_A_ROW, _WINDOW = 5, 50
_NEARLY_ALL = 0.9
"""Share of a training's steps, when it ends; a scaler begins high, so that a few of a short one are as usual."""
FIX = marked("use bf16, or no, or a lower optimizer.learning_rate")
"""What helps where fp16 overflows."""


class SkippedSteps:
    """Counts them, warns where several come in a row, and stops a training that skips most."""

    def __init__(self) -> None:
        self.count = 0
        self._in_a_row = 0
        self._window: deque[bool] = deque(maxlen=_WINDOW)

    def add(self, step: int, skipped: bool) -> None:
        """A step and whether it was left out. InputError when most of the last 50 were; a scaler begins high, so some at first are as usual."""
        self.count += skipped
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        self._window.append(skipped)
        if self._in_a_row == _IN_A_ROW:
            warn(
                tr(
                    "fp16 overflowed in the {in_a_row} steps up to step {step}, which were left out; if it goes on use "
                    "mixed_precision bf16 or a lower learning rate",
                    in_a_row=_IN_A_ROW,
                    step=step,
                )
            )
        if len(self._window) == _WINDOW and 2 * sum(self._window) > _WINDOW:
            raise self._nothing_learnt(step)

    def at_the_end(self, step: int) -> None:
        """The last step is behind. InputError when nearly all of the latest steps, 50 at most, were left out; that most were is said."""
        skipped, count = sum(self._window), len(self._window)
        if count and skipped >= _NEARLY_ALL * count:
            raise self._nothing_learnt(step)
        if 2 * skipped > count:
            warn(
                tr(
                    "training.mixed_precision: fp16 overflowed in {skipped} of the {count} steps, which were left out; {fix}",
                    skipped=skipped,
                    count=count,
                    fix=translated(FIX),
                )
            )

    def _nothing_learnt(self, step: int) -> InputError:
        return InputError(
            tr(
                "training.mixed_precision: fp16 overflowed in {count} of the {count_2} steps up to step {step}, "
                "which were left out: nothing is learnt like this; {fix}",
                count=sum(self._window),
                count_2=len(self._window),
                step=step,
                fix=translated(FIX),
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """What a state keeps, for JSON: how many, and the latest steps as text, the oldest first, 1 for one that was left out."""
        return {SKIPPED: self.count, _LATEST: "".join(str(int(one)) for one in self._window)}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Take over what a state kept; one that kept no more than how many begins to look anew."""
        latest = plain.get(_LATEST, "")
        self.count = int(plain.get(SKIPPED, 0))
        self._window = deque((one == "1" for one in latest), maxlen=_WINDOW)
        self._in_a_row = len(latest) - len(latest.rstrip("1"))
