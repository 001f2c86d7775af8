"""What several tests of trainings stand on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def by_dynamo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Counters of dynamo, as on any device; its kernels' compiler is left out, which makes none of the graphs."""
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    compile_as_it_is = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, *, mode, dynamic: compile_as_it_is(model, backend="eager", dynamic=dynamic)
    )
    reset()
    counters.clear()
    yield counters
    reset()
