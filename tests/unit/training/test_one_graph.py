"""A compiled training has one graph for each bucket: the last batch of an epoch has the shape of the others, and counts as it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.data.lora_batches import Batch
from fashion_ml.models.text_encoding import Tokens
from tests.unit.training.setup import experiment, train, write_images

pytestmark = pytest.mark.slow


def test_a_padded_batch_repeats_its_first_row_which_counts_for_nothing_there():
    tokens = Tokens(torch.arange(4).view(2, 1, 2), torch.ones(2, 1, 2))
    x, weights = torch.arange(8.0).view(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)
    batch = Batch(x, -x, torch.tensor([5, 6]), tokens, torch.tensor([0.5, 0.5]), weights)
    padded = batch.padded(3)
    assert padded.share.tolist() == [0.5, 0.5, 0.0]
    assert padded.timesteps.tolist() == [5, 6, 5]
    assert torch.equal(padded.latents, x[[0, 1, 0]])
    assert torch.equal(padded.noise, -x[[0, 1, 0]])
    assert isinstance(padded.text, Tokens)
    assert padded.text.ids[2].tolist() == [[0, 1]]
    assert padded.added is None
    assert batch.padded(2) is batch


def test_two_epochs_with_a_short_last_batch_are_one_graph_without_breaks_and_the_numbers_of_a_plain_training(
    tmp_path: Path, by_dynamo: Any
):
    """Five images by twos: 2, 2 and 1."""
    write_images(tmp_path / "images", count=5, repeats=1)
    training = {"train_batch_size": 2, "max_train_steps": 6, "log_every": 1}
    plain = train(experiment(tmp_path / "images", training=training), tmp_path / "plain")
    one = train(experiment(tmp_path / "images", training={**training, "compile": "default"}), tmp_path / "compiled")
    assert by_dynamo["stats"]["unique_graphs"] == 1
    assert not by_dynamo["graph_break"]
    assert by_dynamo["frames"] == {"total": 1, "ok": 1}
    losses = [[row["total_loss"] for row in done.rows] for done in (one, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    weights = load_file(plain.result.path)
    for name, value in load_file(one.result.path).items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-5)
