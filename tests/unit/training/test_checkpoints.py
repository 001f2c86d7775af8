from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from fashion_ml.config import Optimizer
from fashion_ml.config.lora_optimizer import OPTIMIZERS
from fashion_ml.errors import InputError
from fashion_ml.models.lora import LoraParameters
from fashion_ml.runtime import processes
from fashion_ml.training import train_state
from fashion_ml.training.checkpoints import CheckpointManager, SaveSettings
from fashion_ml.training.optimizers import make_optimizer
from fashion_ml.training.resume_point import STATE, state_step
from fashion_ml.training.train_state import TrainState, load_state, save_state
from fashion_ml.training.training_log import Step, StepRows, TrainingLog


def steps(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        for index, parameter in enumerate(parameters):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * step + index))
        optimizer.step()


@pytest.mark.parametrize(
    "kind", [*(one for one in OPTIMIZERS if one != "adamw8bit"), "torch.optim.RAdam", "pytorch_optimizer.Adan"]
)
def test_an_optimiser_goes_on_bit_for_bit(tmp_path: Path, kind: str):
    def fresh() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(0)
        unet, text = [torch.nn.Parameter(torch.randn(4, 6)) for _ in range(2)], [torch.nn.Parameter(torch.randn(3))]
        settings = Optimizer(optimizer_type=kind, learning_rate=1e-2, text_encoder_lr=None if kind == "prodigy" else 1e-3)  # type: ignore[arg-type]
        parameters = LoraParameters(unet, text)
        return parameters.all, make_optimizer(settings, parameters, torch.device("cpu"))

    whole, optimizer = fresh()
    steps(whole, optimizer, 1, 6)

    stopped, optimizer = fresh()
    steps(stopped, optimizer, 1, 3)
    save_state(tmp_path / "s.safetensors", 3, stopped, {"lora": optimizer}, {"losses": [1.5, 2.5]})

    resumed, optimizer = fresh()
    state = load_state(tmp_path / "s.safetensors")
    assert (state.step, state.extra) == (3, {"losses": [1.5, 2.5]})
    state.restore(resumed, {"lora": optimizer})
    steps(resumed, optimizer, 4, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_a_missing_or_damaged_state_is_one_line(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist; give a run's output folder, or start with --new"):
        load_state(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"12345678901")
    with pytest.raises(InputError, match="is no training state"):
        load_state(tmp_path / "bad.safetensors")


def test_a_state_that_this_user_may_not_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(train_state, "check_regular", refuse)
    with pytest.raises(InputError, match=r"s\.safetensors' cannot be read \(Permission denied\); make it readable"):
        load_state(tmp_path / "s.safetensors")


def managed(
    folder: Path,
    weight: torch.nn.Parameter,
    accelerator: Any,
    *,
    rows: StepRows | None = None,
    scaler: Any = None,
    **given: Any,
) -> tuple[CheckpointManager, TrainState]:
    """A manager of one weight that writes the step into its files; with nothing in its log and without a scaler unless they are given."""
    state, optimizer = TrainState(), torch.optim.AdamW([weight], lr=0.1)
    rows = rows or StepRows(folder / "log.txt", lambda rows: None, log_every=1, last_step=9)
    log = TrainingLog(folder, accelerator, rows, names_of=lambda step: [], last_step=9, flush_every=1)
    settings = {"save_every_n_epochs": None, "save_last_n": None, "save_state": True, "save_state_minutes": 5.0, **given}
    manager = CheckpointManager(
        folder,
        "w",
        SaveSettings.of(settings),
        accelerator,
        state,
        log,
        last_step=9,
        write=lambda path, step: path.write_text(str(step)) and None,
        tensors=[weight],
        optimizers={"lora": optimizer},
        scalers={"lora": scaler},
    )
    return manager, state


def test_what_was_kept_is_taken_over_so_that_later_files_push_it_out(tmp_path: Path):
    """Every 2 steps, the last two stay: 2 and 4 before the stop, 4 and 6 after step 6."""
    weight, accelerator = torch.nn.Parameter(torch.ones(2)), Accelerator(cpu=True)
    manager, state = managed(tmp_path, weight, accelerator, save_every_n_steps=2, save_last_n=2)
    for step in range(1, 6):
        state.step = step
        manager.after_step(1, False)
    manager.best(0.5)
    assert state_step(tmp_path / STATE) == 4
    again, state = managed(tmp_path, torch.nn.Parameter(torch.zeros(2)), accelerator, save_every_n_steps=2, save_last_n=2)
    again.restore()
    assert (state.step, state.kept) == (4, ["w-step00000002.safetensors", "w-step00000004.safetensors"])
    state.step = 6
    again.after_step(1, False)
    assert sorted(path.name for path in tmp_path.glob("w-*")) == ["w-step00000004.safetensors", "w-step00000006.safetensors"]
    assert (tmp_path / "w-step00000006.safetensors").read_text() == "6"


def test_a_state_is_written_when_its_minutes_have_passed_in_any_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The clocks of processes differ, and writing one is the work of all of them: they agree, a step later."""
    others, told = iter([1.0, 0.0, 0.0]), list[float]()

    def all_reduce(flag: torch.Tensor, group: Any, async_op: bool) -> Any:
        told.append(flag.item())
        assert (async_op, flag.device.type) == (True, "cpu")
        flag += next(others)  # at the first step another process's minutes have passed
        return SimpleNamespace(wait=lambda: None)

    monkeypatch.setattr(processes, "_cpus", lambda: None)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    weight, two = torch.nn.Parameter(torch.ones(2)), SimpleNamespace(num_processes=2, is_main_process=True)
    manager, state = managed(tmp_path, weight, two)
    written = []
    for step in range(1, 4):
        state.step = step
        manager.after_step(1, False)
        written.append(state_step(tmp_path / STATE) if (tmp_path / STATE).exists() else 0)
    assert (told, written) == ([0.0, 0.0, 0.0], [0, 2, 2])
    alone, state = managed(tmp_path, weight, Accelerator(cpu=True), save_state_minutes=1e-9)
    state.step = 5
    alone.after_step(1, False)
    assert state_step(tmp_path / STATE) == 5


class Scaler:
    """What fp16 keeps of its gradient scaling: torch's own needs a GPU."""

    def __init__(self, scale: float):
        self.scale = scale

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale}

    def load_state_dict(self, plain: dict[str, float]) -> None:
        self.scale = plain["scale"]


def test_the_scale_of_the_gradients_and_the_measured_steps_come_back(tmp_path: Path):
    accelerator = Accelerator(cpu=True)
    first, second = (StepRows(tmp_path / "log.txt", lambda rows: None, log_every=1, last_step=9) for _ in range(2))
    manager, state = managed(tmp_path, torch.nn.Parameter(torch.ones(2)), accelerator, rows=first, scaler=Scaler(1024.0))
    first.take([Step(number, 0.0, {"total_loss": number / 4, "grad_norm": 1.0}, {}) for number in (1, 2)], main=True)
    state.step = 2
    manager.save_state()
    scaler = Scaler(65536.0)
    again, state = managed(tmp_path, torch.nn.Parameter(torch.zeros(2)), accelerator, rows=second, scaler=scaler)
    again.restore()
    assert scaler.scale == 1024.0
    assert second.total_loss.as_lists() == ([1, 2], [0.25, 0.5])
    assert (state.step, second.latest) == (2, 0.5)


def test_other_weights_are_refused(tmp_path: Path):
    manager, state = managed(tmp_path, torch.nn.Parameter(torch.ones(2)), Accelerator(cpu=True))
    state.step = 1
    manager.save_state()
    other, _ = managed(tmp_path, torch.nn.Parameter(torch.ones(3)), Accelerator(cpu=True))
    with pytest.raises(InputError, match=r"holds other weights .* give the same settings, or --new"):
        other.restore()


@pytest.mark.parametrize("name", ["../outside.safetensors", "/tmp/outside.safetensors", "report.json", 3, ["x"]])
def test_a_state_that_would_remove_other_files_is_refused(tmp_path: Path, name: object):
    """`save_last_n` removes the oldest of the files that a state lists."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    extra = {"train": {"kept": [name], "seconds": 0.0}, "log": {}, "scalers": {}}
    save_state(tmp_path / STATE, 1, [torch.ones(2)], {"lora": optimizer}, extra)
    with pytest.raises(
        InputError, match=r"resume: .* is damaged \(.* is no name of a file\); give another, or start with --new"
    ):
        load_state(tmp_path / STATE)


def test_a_state_of_a_lora_written_by_0_1_goes_on(tmp_path: Path):
    record = {
        "total_loss": [[1], [0.5]],
        "image_losses": {},
        "best": [1, 0.25],
        "val_loss": 0.25,
        "base": {"val_loss": 0.5},
        "seconds": 7.0,
    }
    extra = {"record": record, "intermediate": ["w-step00000001.safetensors"], "scaler": None}
    save_state(
        tmp_path / STATE, 1, [torch.full((2,), 3.0)], {"lora": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])}, extra
    )
    weight = torch.nn.Parameter(torch.ones(2))
    manager, state = managed(tmp_path, weight, Accelerator(cpu=True))
    manager.restore()
    assert (state.step, state.best, state.val_loss, state.base, state.seconds_before) == (
        1,
        (1, 0.25),
        0.25,
        {"val_loss": 0.5},
        7.0,
    )
    assert (state.kept, weight.tolist()) == (["w-step00000001.safetensors"], [3.0, 3.0])


def test_a_state_of_a_stargan_written_by_0_1_goes_on(tmp_path: Path):
    """Two processes, sums of d_loss 3 and 5 over 4 steps of which one overflowed in each, r1 computed twice."""
    sums = {
        "sums": [[3.0, 0.0, 0.5, 1.0], [5.0, 0.0, 1.5, 1.0]],
        "counts": {"d_loss": 4, "ds": 0, "r1": 4},
        "r1_steps": 2,
        "steps": 4,
    }
    save_state(
        tmp_path / STATE, 4, [], {}, {"sums": sums, "kept": ["a.safetensors"], "scalers": {"d": {}, "g": {}}, "seconds": 2.0}
    )
    extra = load_state(tmp_path / STATE).extra
    assert extra["log"] == {"sums": {"d_loss": 4.0, "r1": 1.0}, "steps": 3.0, "r1_steps": 2, "overflows": 1.0}
    assert extra["train"] == {"kept": ["a.safetensors"], "seconds": 2.0}
