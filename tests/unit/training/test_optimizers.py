"""What `make_optimizer` hands on to the libraries."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from fashion_ml.config import Optimizer
from fashion_ml.models.lora import LoraParameters
from fashion_ml.training.optimizers import make_optimizer

LIBRARIES = {"prodigy": "prodigyopt", "adamw8bit": "bitsandbytes"}


@pytest.mark.parametrize("kind", ["adamw", "adafactor", "prodigy", "adamw8bit"])
def test_weight_decay_and_the_rates_reach_every_group_of_the_optimiser(kind: str):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if kind in LIBRARIES and importlib.util.find_spec(LIBRARIES[kind]) is None:
        pytest.skip(f"{LIBRARIES[kind]} is not installed")
    if kind == "adamw8bit" and device.type != "cuda":
        pytest.skip("adamw8bit needs a CUDA GPU")
    settings = Optimizer(optimizer_type=kind, learning_rate=0.25, text_encoder_lr=0.125, weight_decay=0.375)  # type: ignore[arg-type]
    unet, text = (torch.nn.Parameter(torch.ones(2, device=device)) for _ in range(2))
    groups = make_optimizer(settings, LoraParameters([unet], [text]), device).param_groups
    assert [(group["weight_decay"], group["lr"], group["peak"]) for group in groups] == [
        (0.375, 0.25, 0.25),
        (0.375, 0.125, 0.125),
    ]


class _Taken(torch.optim.AdamW):
    """In the place of a library's optimiser: keeps what it was given."""

    def __init__(self, groups: Any, **options: Any):
        super().__init__(groups, lr=options["lr"])
        self.options = options


@pytest.mark.parametrize(
    ("kind", "module", "name"), [("prodigy", "prodigyopt", "Prodigy"), ("adamw8bit", "bitsandbytes.optim", "AdamW8bit")]
)
def test_weight_decay_is_given_to_the_libraries_of_the_gpu_extra(
    monkeypatch: pytest.MonkeyPatch, kind: str, module: str, name: str
):
    """A stand-in for the library, which is no part of the project; only tensors on the CPU are touched."""
    parts = module.split(".")
    for number in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:number]), ModuleType(".".join(parts[:number])))
    monkeypatch.setattr(sys.modules[module], name, _Taken, raising=False)
    settings = Optimizer(optimizer_type=kind, learning_rate=0.25, weight_decay=0.375)  # type: ignore[arg-type]
    optimizer: Any = make_optimizer(settings, LoraParameters([torch.nn.Parameter(torch.ones(2))], []), torch.device("cuda"))
    assert (optimizer.options["weight_decay"], optimizer.options["lr"]) == (0.375, 0.25)
