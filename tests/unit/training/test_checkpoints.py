from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from fashion_ml.config import Optimizer
from fashion_ml.errors import InputError
from fashion_ml.models.lora import LoraParameters
from fashion_ml.training.checkpoints import load_state, save_state
from fashion_ml.training.optimizers import make_optimizer


def steps(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        for index, parameter in enumerate(parameters):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * step + index))
        optimizer.step()


@pytest.mark.parametrize("kind", ["adamw", "adafactor"])
def test_an_optimiser_goes_on_bit_for_bit(tmp_path: Path, kind: str):
    def fresh() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        torch.manual_seed(0)
        unet, text = [torch.nn.Parameter(torch.randn(4, 6)) for _ in range(2)], [torch.nn.Parameter(torch.randn(3))]
        settings = Optimizer(optimizer_type=kind, learning_rate=1e-2, text_encoder_lr=1e-3)  # type: ignore[arg-type]
        parameters = LoraParameters(unet, text)
        return parameters.all, make_optimizer(settings, parameters, torch.device("cpu"))

    whole, optimizer = fresh()
    steps(whole, optimizer, 1, 6)

    stopped, optimizer = fresh()
    steps(stopped, optimizer, 1, 3)
    save_state(tmp_path / "s.safetensors", 3, stopped, optimizer.state_dict(), {"losses": [1.5, 2.5]})

    resumed, optimizer = fresh()
    state = load_state(tmp_path / "s.safetensors")
    assert (state.step, state.extra) == (3, {"losses": [1.5, 2.5]})
    with torch.no_grad():
        for parameter, saved in zip(resumed, state.parameters, strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state.optimizer)
    steps(resumed, optimizer, 4, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_a_missing_or_damaged_state_is_one_line(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist; give a run's output folder, or start with --new"):
        load_state(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"12345678901")
    with pytest.raises(InputError, match="is no training state"):
        load_state(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(("kind", "says"), [("adamw8bit", "bitsandbytes|CUDA GPU"), ("prodigy", "prodigyopt")])
def test_a_missing_library_names_the_extra(kind: str, says: str):
    if importlib.util.find_spec({"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}[kind]):
        pytest.skip("the library is installed here")
    settings = Optimizer(optimizer_type=kind)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"optimizer\.optimizer_type: {kind} needs .*({says})"):
        make_optimizer(settings, LoraParameters([torch.nn.Parameter(torch.zeros(1))], []), torch.device("cpu"))
