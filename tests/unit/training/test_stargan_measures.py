"""When a StarGAN's steps measure what they do not always measure, and where its rates end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fashion_ml.training.stargan_loop as loop
from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.models.stargan import Networks
from fashion_ml.training.stargan_step import LossWeights
from tests.unit.training.test_stargan_loop import a_gan, experiment, folder, log_of, tensors, train

__all__ = ["folder"]


def test_diversity_is_measured_in_every_epoch_on_one_step_in_eight_also_where_it_counts_for_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten steps an epoch: the first and the ninth; by hand, with the networks as they are before the step of G, E and F, nothing else moved."""
    found: list[tuple[float, bool]] = []
    plain_losses = loop.g_losses

    def looked_at(n: Networks, b: GanBatch, made: Any, w: LossWeights, **given: Any) -> Any:
        with torch.no_grad():
            ours = (n.g(b.x_src, n.f(b.z_1, b.y_trg)) - n.g(b.x_src, n.f(b.z_2, b.y_trg))).abs().mean().item()
        loss, terms = plain_losses(n, b, made, w, **given)
        found.append((ours, "ds" in terms))
        return loss, terms

    sections: dict[str, Any] = {"loss": {"w_ds": 0.0}, "training": {"epochs": 2, "epoch_size": 40}}
    config = experiment(folder, **sections)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "g_losses", looked_at)
        train(config, folder, tmp_path / "measured")
    assert [measured for _, measured in found] == [step % 10 in (0, 8) for step in range(20)]
    expected = [(found[first][0] + found[first + 8][0]) / 2 for first in (0, 10)]
    assert [row["ds"] for row in log_of(tmp_path / "measured")] == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(loop, "DS_EVERY", 1)
    train(config, folder, tmp_path / "always")
    often, seldom = tensors(tmp_path / "always"), tensors(tmp_path / "measured")
    assert all(torch.equal(value, seldom[name]) for name, value in often.items())


@pytest.mark.parametrize(("shape", "least"), [("cosine", 0.25), ("linear", 0.25), ("cosine", None)])
def test_the_rates_end_at_a_share_of_their_peaks(folder: Path, tmp_path: Path, shape: str, least: float | None):
    """Of each of the three; the default is a tenth. One step behind the last of a schedule of nine is its end."""
    given = {} if least is None else {"min_lr_ratio": least}
    peaks = {"lr_g": 1e-3, "lr_d": 2e-3, "lr_mapping": 1e-4}
    gan = a_gan(experiment(folder, optimizer={"lr_scheduler": shape, **peaks, **given}))
    gan.set_rates(10, 9)
    assert gan.rates() == pytest.approx({name: peak * (0.1 if least is None else least) for name, peak in peaks.items()})
    gan.set_rates(1, 9)
    assert gan.rates() == pytest.approx(peaks)


@pytest.mark.parametrize(("by", "expected"), [("run", [3, 6, 9]), ("epoch", [3, 8])])
def test_the_steps_between_penalties_are_counted_through_the_run_or_through_each_epoch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, expected: list[int]
):
    """Two epochs of five steps, every third."""
    seen, plain_losses = [], loop.d_losses

    def looked_at(*given: Any, with_r1: bool) -> Any:
        seen.append(with_r1)
        return plain_losses(*given, with_r1=with_r1)

    monkeypatch.setattr(loop, "d_losses", looked_at)
    sections: dict[str, Any] = {"loss": {"r1_counted_by": by}, "training": {"epochs": 2, "epoch_size": 20}}
    train(experiment(folder, **sections), folder, tmp_path)
    assert [step for step, with_r1 in enumerate(seen, 1) if with_r1] == expected
