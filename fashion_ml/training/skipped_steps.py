"""Steps that fp16 leaves out: a gradient scaler skips a step whose gradients overflow, and a training that skips them all learns nothing."""

from __future__ import annotations

from collections import deque

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import warn

SKIPPED = "skipped_steps"
"""Name of the metric: how many steps have been left out so far."""
_IN_A_ROW, _WINDOW = 5, 50


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
                f"fp16 overflowed in the {_IN_A_ROW} steps up to step {step}, which were left out; if it goes on use mixed_precision bf16 or a "
                "lower learning rate"
            )
        if len(self._window) == _WINDOW and 2 * sum(self._window) > _WINDOW:
            raise InputError(
                f"training.mixed_precision: fp16 overflowed in {sum(self._window)} of the {_WINDOW} steps up to step {step}, which were left "
                "out: nothing is learnt like this; use bf16, or no, or a lower optimizer.learning_rate"
            )
