"""What validation measures when a training continues from a LoRA: the base is without it, and dropout is off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.training.setup import experiment, train, write_images


def test_the_base_is_measured_without_the_lora_that_a_training_begins_with_and_without_dropout(tmp_path: Path):
    """At a rate of 1e-12 nothing is learnt, so both steps of the second training measure what the first one ended with."""
    write_images(tmp_path / "images", count=5, repeats=1)
    held = {"data": {"validation_split": 0.4}, "training": {"max_train_steps": 2, "validate_every_n_steps": 1}}
    first = train(experiment(tmp_path / "images", **held, optimizer={"learning_rate": 3e-2}), tmp_path / "first")
    before = first.rows[-1]
    assert abs(before["val_loss_gain"]) > 1e-4
    network = {"network_weights": str(first.result.path), "dropout": 0.9}
    again = train(
        experiment(tmp_path / "images", **held, network=network, optimizer={"learning_rate": 1e-12}), tmp_path / "again"
    )
    for row in again.rows:
        assert row["val_loss_base"] == pytest.approx(before["val_loss_base"], rel=1e-6)
        assert row["val_loss"] == pytest.approx(before["val_loss"], rel=1e-6)


def test_every_step_drops_other_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """torch's dropout draws from the global generator, so its seed must be another at every step."""
    write_images(tmp_path / "images")
    seeds, real = list[int](), torch.manual_seed

    def manual_seed(seed: int) -> torch.Generator:
        seeds.append(seed)
        return real(seed)

    config = experiment(tmp_path / "images", network={"dropout": 0.3})
    monkeypatch.setattr(torch, "manual_seed", manual_seed)
    train(config, tmp_path / "out")
    assert len(set(seeds[-4:])) == 4
