"""Each weight of a StarGAN weighs its own term, and each learning rate follows the schedule."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fashion_ml.training.stargan_loop import loss_weights
from fashion_ml.training.stargan_step import LossWeights
from tests.unit.training.test_stargan_loop import experiment, log_of, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, draw = tmp_path_factory.mktemp("latents"), torch.Generator().manual_seed(0)
    for number, domain in enumerate("ab"):
        (place / domain).mkdir()
        for index in range(6):
            torch.save(torch.randn(4, 8, 8, generator=draw) + number, place / domain / f"{index}.pt")
    return place


WEIGHTS = {"w_adv": 0.5, "w_sty": 3.0, "w_cyc": 7.0, "w_id": 11.0, "w_ds": 1.5, "w_r1": 0.25, "r1_interval": 2}


def test_g_loss_is_made_of_its_terms_each_with_the_weight_of_its_name(folder: Path, tmp_path: Path):
    """lambda_ds falls from 1.5 over two epochs: 1.5, 0.75, 0."""
    train(experiment(folder, loss=WEIGHTS), folder, tmp_path)
    rows = log_of(tmp_path)
    assert [row["lambda_ds"] for row in rows] == [1.5, 0.75, 0.0]
    for row in rows:
        total = 0.5 * row["g_adv"] + 3 * row["sty"] + 7 * row["cyc"] + 11 * row["id"] - row["lambda_ds"] * row.get("ds", 0)
        assert row["g_loss"] == pytest.approx(total, rel=1e-5)


def test_the_settings_reach_the_step_under_their_names(folder: Path):
    given = loss_weights(experiment(folder, loss={**WEIGHTS, "ds_margin": 0.4, "detach_style_target": True}))
    expected = {"adv": 0.5, "sty": 3.0, "cyc": 7.0, "id": 11.0, "r1": 0.25, "r1_interval": 2, "ds_margin": 0.4}
    assert given == LossWeights(**expected, detach_style_target=True)  # type: ignore[arg-type]


def test_all_three_rates_follow_the_schedule_from_peaks_of_their_own(folder: Path, tmp_path: Path):
    """10 training latents, batch 4: 3 steps an epoch, 9 in all; the last step of epoch e has had 3e - 1 steps before it; to a tenth of them."""
    rates = {"lr_g": 1e-3, "lr_d": 2e-3, "lr_mapping": 1e-4, "lr_scheduler": "cosine"}
    train(experiment(folder, optimizer=rates), folder, tmp_path)
    for epoch, row in enumerate(log_of(tmp_path), 1):
        factor = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (3 * epoch - 1) / 9))
        for name in ("lr_g", "lr_d", "lr_mapping"):
            assert row[name] == pytest.approx(rates[name] * factor, rel=1e-6), (epoch, name)  # type: ignore[operator]


def test_g_and_d_share_a_rate_where_they_have_none_of_their_own(folder: Path, tmp_path: Path):
    train(experiment(folder, optimizer={"learning_rate": 3e-3, "lr_d": 2e-3}, training={"epochs": 1}), folder, tmp_path)
    (row,) = log_of(tmp_path)
    assert (row["lr_g"], row["lr_d"], row["lr_mapping"]) == (3e-3, 2e-3, 1e-4)
