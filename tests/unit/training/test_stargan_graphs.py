"""A compiled StarGAN: every call of a network is one graph for each size of its batch, and an epoch makes none that the first has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_ml.config import StarganExperiment, checked
from fashion_ml.errors import InputError
from tests.unit.training.test_stargan_loop import experiment, folder, inputs_of, log_of, tensors, train

pytestmark = pytest.mark.slow

__all__ = ["folder"]


def test_two_epochs_of_contents_that_do_not_fill_the_batches_are_ten_graphs_without_breaks_and_the_numbers_of_a_plain_training(
    folder: Path, tmp_path: Path, by_dynamo: Any
):
    """Eleven contents by fours: the last batch of an epoch is filled from the next round, so all have one size, b.

    Content of b latents and 2 b fakes, decoder of 2 b and 5 b, E of 2 b latents and 2 b fakes (which have a gradient), F of b and 2 b,
    D of 3 b in its own step and of 2 b fakes in the other.
    """
    settings: dict[str, Any] = {"epochs": 2}
    config = experiment(folder, training={**settings, "compile": "default"}, loss={"ds_decay_epochs": 9})
    inputs = inputs_of(config, folder)
    assert {len(inputs.batch(step).x_src) for step in range(1, 2 * inputs.steps_per_epoch + 1)} == {4}
    assert sum(len(part) for part in inputs.training) % 4 != 0
    assert train(config, folder, tmp_path / "compiled")
    assert by_dynamo["stats"]["unique_graphs"] == 10
    assert not by_dynamo["graph_break"]
    assert by_dynamo["frames"] == {"total": 10, "ok": 10}
    assert train(experiment(folder, training=settings, loss={"ds_decay_epochs": 9}), folder, tmp_path / "plain")
    for mine, other in zip(log_of(tmp_path / "compiled"), log_of(tmp_path / "plain"), strict=True):
        assert mine == pytest.approx(other, rel=1e-5)
    plain = tensors(tmp_path / "plain")
    for name, value in tensors(tmp_path / "compiled").items():
        torch.testing.assert_close(value, plain[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("network", [{}, {"discriminator": "patch", "spectral_norm": True}])
def test_a_compiled_training_is_the_plain_one_and_resumes_bit_for_bit(
    folder: Path, tmp_path: Path, by_dynamo: Any, network: dict[str, Any]
):
    """Spectral norm keeps vectors that each pass moves on, also the pass that only compiles."""
    config = experiment(folder, training={"compile": "default"}, network=network)
    assert train(experiment(folder, network=network), folder, tmp_path / "plain")
    assert train(config, folder, tmp_path / "whole")
    assert train(config, folder, tmp_path / "parts", stop_after=4) is None
    assert train(config, folder, tmp_path / "parts", resume=True)
    parts = tensors(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in tensors(tmp_path / "whole").items())
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "parts")
    assert not by_dynamo["graph_break"]
    for mine, other in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "plain"), strict=True):
        assert mine == pytest.approx(other, rel=1e-5)


def test_cudagraphs_is_refused_with_why():
    tree: dict[str, Any] = {"data": {"latents_dir": "embedded"}, "training": {"compile": "cudagraphs"}}
    with pytest.raises(InputError, match=r"^training\.compile: .*cudagraphs.*LoRA.*default"):
        checked(tree, StarganExperiment)
