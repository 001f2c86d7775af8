"""What goes to a GPU by pinned memory, with a stand-in for CUDA's pinning: it keeps a tensor's strides, and so cannot write an expanded one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fashion_ml
from fashion_ml.runtime.pinned import pinned


@pytest.fixture(autouse=True)
def pinning(monkeypatch: pytest.MonkeyPatch) -> None:
    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.size(), tensor.stride()).copy_(tensor)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)


def test_a_caption_that_stands_for_several_images_can_be_pinned():
    one = torch.arange(3.0)[None]
    with pytest.raises(RuntimeError, match="more than one element"):
        one.expand(4, 3).pin_memory()
    assert torch.equal(pinned(one.expand(4, 3)), one.repeat(4, 1))


def test_nothing_pins_but_by_this_function():
    places = [path.name for path in Path(fashion_ml.__path__[0]).rglob("*.py") if ".pin_memory(" in path.read_text("utf-8")]
    assert places == ["pinned.py"]
