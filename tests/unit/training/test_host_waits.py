"""A step asks the device for nothing: what makes a host wait for a GPU is not called outside the log, whatever the device.

Counted on a CPU, where it costs nothing and so is easily overlooked: each call that would bring a number from the device to the host, or wait
for one to get there. On a GPU `python -m benchmarks gpu` counts with torch's sync debug mode.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from fashion_ml.config import StarganExperiment, checked
from fashion_ml.data.latents import read_latents
from fashion_ml.data.lora_batches import StepInputs
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.runtime.processes import InAnyProcess
from fashion_ml.training.stargan_loop import GanHooks, train_stargan
from fashion_ml.training.training_log import TrainingLog
from tests.unit.training.setup import experiment, train, write_images

CALLS = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__float__", "__int__", "__index__")
ALLOWED = {
    function.__code__
    for function in (TrainingLog.flush, StepInputs.batches, StepInputs._batch, GanInputs.batch, InAnyProcess.heard)
}
"""The log; what draws batches, on the CPU by itself and before anything is on a device; and flags of several processes, which no device has."""


class Waits:
    """What was called since `begin`, as file:line and name."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.counting = False

    def saw(self, name: str, arguments: Any) -> None:
        """A call, two frames up."""
        if not self.counting or threading.current_thread() is not threading.main_thread():
            return
        if name == "to" and not any(isinstance(one, (torch.device, str)) for one in arguments):
            return
        place = frame = sys._getframe(2)
        while frame.f_back is not None:
            if frame.f_code in ALLOWED:
                return
            frame = frame.f_back
        file = Path(place.f_code.co_filename)
        # a library's `.to` goes where its tensors are, and so does a schedule's; `moved` copies without a wait
        if name == "to" and ("fashion_ml" not in file.parts or file.name in ("pinned.py", "diffusion.py")):
            return
        self.found.append(f"{file.name}:{place.f_lineno} {name}")


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    waits = Waits()

    def watch(name: str) -> None:
        plain = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            waits.saw(name, [*args, *kwargs.values()])
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, call)

    with monkeypatch.context():
        for name in (*CALLS, "to"):
            watch(name)
        yield waits


def test_it_counts_what_it_is_to_count(monkeypatch: pytest.MonkeyPatch):
    with counted(monkeypatch) as waits:
        number = torch.ones(1)
        number.item()
        waits.counting = True
        if number:
            float(number)
        number.to(torch.float64).tolist()
        waits.counting = False
    assert [one.split()[1] for one in waits.found] == ["__bool__", "__float__", "tolist"]


@pytest.mark.parametrize(
    "sections",
    [
        {"loss": {"min_snr_gamma": 5.0}, "data": {"flip_aug": True}},
        {"training": {"train_batch_size": 2, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}},
        {"network": {"use_dora": True, "dropout": 0.1}},
    ],
)
def test_a_lora_step_makes_no_host_wait(sections: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_images(tmp_path / "images")
    given = {**sections, "training": {"max_train_steps": 8, "log_every": 4, **sections.get("training", {})}}
    with counted(monkeypatch) as waits:

        class Rows(list[dict[str, float]]):
            def extend(self, new: Any) -> None:  # the first rows come at step 4
                super().extend(new)
                waits.counting = len(self) < 8

        train(experiment(tmp_path / "images", **given), tmp_path / "out", rows=Rows())
    assert waits.found == []


def test_a_stargan_step_makes_no_host_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    draw = torch.Generator().manual_seed(0)
    for domain in "ab":
        (tmp_path / domain).mkdir()
        for index in range(8):
            torch.save(torch.randn(4, 8, 8, generator=draw), tmp_path / domain / f"{index}.pt")
    tree = {
        "data": {"latents_dir": str(tmp_path), "validation_split": 0.25},
        "network": {"base_dim": 8, "n_res_blocks": 2, "d_layers": 1, "style_dim": 4, "mapping_hidden_dim": 8},
        "loss": {"r1_interval": 2, "ds_decay_epochs": 1},  # the epoch that is counted measures ds without gradients
        "training": {"epochs": 2, "batch_size": 2, "save_state": False, "latent_scale": 0.5},
    }
    config, accelerator = checked(tree, StarganExperiment), Accelerator(cpu=True)
    inputs = GanInputs(
        read_latents(tmp_path),
        validation_split=0.25,
        contents_by=config.data.contents_by,
        batch_size=2,
        epoch_size=None,
        latent_dim=config.network.latent_dim,
        scale=0.5,
        seed=0,
        device=accelerator.device,
    )
    with counted(monkeypatch) as waits:

        def epoch(row: dict[str, float]) -> None:
            waits.counting = row["epoch"] == 1

        train_stargan(config, inputs, tmp_path / "out", GanHooks(epoch=epoch), accelerator)
    assert waits.found == []
