"""Which trials nobody works at any more: their heartbeats have stopped, whatever the clock on the wall does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from fashion_ml.sweep.optuna_private import heartbeats

if TYPE_CHECKING:
    import optuna

_EPOCH, _STEP_SECONDS = datetime(1970, 1, 1), 5.0
"""By so much a clock on the wall and one that only counts may drift apart between two looks, before the first counts as set."""


class Silence:
    """What one process has seen of a study's heartbeats; a trial is silent after `grace_seconds` without any.

    A heartbeat is a time on the wall. One that is older than that is believed, unless a clock was seen to be set, or the machine to wake up,
    less than that ago: then those that live have yet to say so. One that this process has seen to stay the same for so long is silent,
    whatever time it says: after a clock was set back it may lie ahead.
    """

    def __init__(self, grace_seconds: float, counted: Callable[[], float] = time.monotonic):
        self.grace_seconds, self._counted = grace_seconds, counted
        self._seen: dict[int, tuple[datetime | None, float]] = {}
        """By trial: its last heartbeat, and when that was first seen."""
        self._offsets: tuple[float, ...] = ()
        self._set = float("-inf")
        """When a clock was last seen to be set."""

    def of(self, study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
        """The running trials of a study that are silent now."""
        import optuna

        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        there, beats = heartbeats(study)
        here, now = datetime.now(), self._counted()
        offsets = tuple((clock - _EPOCH).total_seconds() - now for clock in (there, here))
        if any(abs(one - before) > _STEP_SECONDS for one, before in zip(offsets, self._offsets, strict=False)):
            self._set = now
        self._offsets = offsets
        found = []
        for trial in running:
            beat = beats.get(trial.number)
            first = self._seen.get(trial.number)
            if first is None or first[0] != beat:
                first = self._seen[trial.number] = (beat, now)
            age = (there - beat) if beat else (here - (trial.datetime_start or here))
            old = age.total_seconds() > self.grace_seconds and now - self._set > self.grace_seconds
            if old or now - first[1] > self.grace_seconds:
                found.append(trial)
        return found
