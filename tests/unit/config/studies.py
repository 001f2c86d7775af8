"""What settings that sweeps and suites share come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fashion_ml.errors import InputError
from fashion_ml.sweep import launch, local_workers


def seconds_given(run: Callable[[], Any]) -> float:
    """How many seconds the workers of a study are given by what runs it."""
    given: list[Any] = []

    class Workers(local_workers.LocalWorkers):
        def __init__(self, *place: Any):
            given.append(place[-1])
            raise InputError("enough is known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "LocalWorkers", Workers)
        patch.setattr(launch.time, "monotonic", lambda: 1000.0)
        with pytest.raises(InputError, match="enough"):
            run()
    return float(given[0] - 1000.0)


def heartbeat_of(study: Any) -> int:
    """Of a study's storage: seconds between heartbeats."""
    backend = getattr(study._storage, "_backend", study._storage)
    return int(backend.heartbeat_interval)
