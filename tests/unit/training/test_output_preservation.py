"""The base's output for a prompt of the class is held on to: what it adds to the loss, what it keeps, and that it goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.models.stable_diffusion import encode_captions, load_pipeline
from fashion_ml.models.text_encoding import Tokens
from fashion_ml.training.output_preservation import HELD, OutputPreservation, joined
from tests.unit.training.setup import small as experiment
from tests.unit.training.setup import train, write_images

CLASS: dict[str, Any] = {"output_preservation_prompt": "a dress"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


def losses(rows: list[dict[str, float]], name: str = "total_loss") -> list[float]:
    return [row[name] for row in rows]


def test_it_is_the_weighted_mean_of_squared_distances_summed_over_a_steps_batches():
    own, base = torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]], [[[0.0, 2.0]]]])  # means of squares: 5 and 2
    held = OutputPreservation(0.5)
    assert held.taken() == {}
    assert held.loss(own, base, torch.tensor([0.5, 0.5])).item() == 0.5 * 3.5
    assert held.loss(own[:1], base[:1], torch.tensor([0.2])).item() == 0.5 * 1.0
    assert held.taken()[HELD].item() == 3.5 + 1.0
    assert held.taken() == {}


def test_captions_with_weights_and_without_are_joined_as_if_all_had_some():
    ids = torch.arange(4).view(1, 1, 4)
    both = joined(Tokens(ids), Tokens(ids, torch.full((1, 1, 4), 1.5)))
    assert isinstance(both, Tokens)
    assert both.weights is not None
    assert both.weights.tolist() == [[[1.0] * 4], [[1.5] * 4]]


def test_a_lora_that_does_nothing_yet_is_at_no_distance_and_total_loss_adds_up(images: Path, tmp_path: Path):
    """B = 0 at the first step. With weight 0 it is measured, and what is learnt is as without it."""
    sections: dict[str, Any] = {"optimizer": {"learning_rate": 1e-2}, "training": {"train_batch_size": 2}}
    plain = train(experiment(images, **sections), tmp_path / "plain")
    seen = train(experiment(images, **sections, loss={**CLASS, "output_preservation_weight": 0.0}), tmp_path / "seen")
    held = train(experiment(images, **sections, loss={**CLASS, "output_preservation_weight": 2.0}), tmp_path / "held")
    assert HELD not in plain.rows[0]
    assert losses(seen.rows) == pytest.approx(losses(plain.rows), abs=1e-5)
    assert losses(seen.rows, HELD)[0] == pytest.approx(0, abs=1e-9)
    assert losses(seen.rows, HELD)[1] > 1e-6
    assert losses(held.rows)[:1] == pytest.approx(losses(plain.rows)[:1], abs=1e-6)
    # the second step begins with the same weights, for the first had nothing to hold on to
    assert losses(held.rows, HELD)[1] == pytest.approx(losses(seen.rows, HELD)[1], rel=1e-3)
    assert losses(held.rows)[1] == pytest.approx(losses(plain.rows)[1] + 2 * losses(held.rows, HELD)[1], rel=1e-4)


def test_the_class_stays_nearer_to_the_base_with_it_than_without(images: Path, tmp_path: Path):
    sections: dict[str, Any] = {
        "optimizer": {"learning_rate": 2e-3},
        "training": {"max_train_steps": 30, "train_batch_size": 2},
    }
    base, draws = load_pipeline("embedded"), torch.Generator().manual_seed(0)
    noisy, steps = torch.randn(8, 4, 8, 8, generator=draws), torch.arange(50, 1000, 120)
    text = encode_captions(base, ["a dress"]).expand(8, -1, -1)

    def moved(pipeline: Any) -> float:
        with torch.no_grad():
            return float(
                (pipeline.unet.eval()(noisy, steps, text).sample - base.unet(noisy, steps, text).sample).square().mean()
            )

    plain = moved(train(experiment(images, **sections), tmp_path / "plain").pipeline)
    held = moved(
        train(experiment(images, **sections, loss={**CLASS, "output_preservation_weight": 5.0}), tmp_path / "held").pipeline
    )
    assert held < 0.5 * plain


@pytest.mark.parametrize(
    "kind", [{"train_text_encoder": True}, {"use_dora": True, "dropout": 0.1}, {"algo": "loha"}, {"init": "pissa"}]
)
def test_it_goes_on_bit_for_bit_and_the_base_is_the_base_in_every_network(images: Path, tmp_path: Path, kind: dict[str, Any]):
    sections: dict[str, Any] = {"network": kind, "loss": CLASS, "optimizer": {"learning_rate": 1e-2}}
    whole = train(experiment(images, **sections), tmp_path / "whole")
    train(experiment(images, **sections, training={"max_train_steps": 2}), tmp_path / "parts")
    again = train(experiment(images, **sections), tmp_path / "parts", resume=True)
    one, other = load_file(whole.result.path), load_file(again.result.path)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses(again.rows, HELD) == losses(whole.rows, HELD)[2:]
    assert losses(whole.rows, HELD)[0] == pytest.approx(0, abs=1e-9)
