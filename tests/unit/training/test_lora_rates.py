"""The learning rate of each step, and the weights' two rates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.config import Optimizer
from fashion_ml.models.lora import LoraParameters
from fashion_ml.training.optimizers import make_optimizer
from tests.unit.training.setup import experiment, train, write_images


def test_every_step_is_trained_and_logged_at_the_rate_of_the_schedule(tmp_path: Path):
    """Warm-up over 2 steps from 0, then linearly from 1 to 0 over the 4 that are left. The first step, at rate 0, moves nothing."""
    write_images(tmp_path / "images")
    settings = {"lr_scheduler": "linear", "lr_warmup_steps": 2, "learning_rate": 1e-2}
    trained = train(experiment(tmp_path / "images", optimizer=settings, training={"max_train_steps": 6}), tmp_path / "long")
    rates = [row["learning_rate"] for row in trained.rows]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.0075, 0.005, 0.0025])
    once = train(experiment(tmp_path / "images", optimizer=settings, training={"max_train_steps": 1}), tmp_path / "short")
    ups = [tensor for name, tensor in load_file(once.result.path).items() if "lora_up" in name]
    assert all((tensor == 0).all() for tensor in ups)


def test_unet_and_text_encoder_have_rates_and_peaks_of_their_own():
    parameters = LoraParameters([torch.nn.Parameter(torch.ones(2))], [torch.nn.Parameter(torch.ones(3))])
    settings = Optimizer(learning_rate=3e-4, text_encoder_lr=2e-5, weight_decay=0.3)
    optimizer = make_optimizer(settings, parameters, torch.device("cpu"))
    said = [(len(g["params"][0]), g["lr"], g["peak"], g["weight_decay"]) for g in optimizer.param_groups]
    assert said == [(2, 3e-4, 3e-4, 0.3), (3, 2e-5, 2e-5, 0.3)]
    parameters = replace(parameters, text_encoder=[*parameters.text_encoder, other := torch.nn.Parameter(torch.ones(4))])
    parameters = replace(parameters, second=frozenset([id(other)]))
    for second, peaks in ((None, [3e-4, 2e-5]), (7e-6, [3e-4, 2e-5, 7e-6])):
        given = settings.model_copy(update={"text_encoder_2_lr": second})
        groups = make_optimizer(given, parameters, torch.device("cpu")).param_groups
        assert [group["peak"] for group in groups] == peaks
    shared = make_optimizer(Optimizer(learning_rate=3e-4), parameters, torch.device("cpu"))
    assert [group["lr"] for group in shared.param_groups] == [3e-4, 3e-4]
