"""Recorded steps are the steps that would have been taken; a stand-in for CUDA's recorder does the work when it is replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from fashion_ml.config import load_config
from fashion_ml.data.lora_batches import Batch
from fashion_ml.errors import InputError
from fashion_ml.training.step_graphs import StepGraphs, check_graphs


class Later:
    """Does nothing when it records and the work when it replays, into one place, as a CUDA graph does."""

    capturable = False

    def __init__(self) -> None:
        self.recorded = 0

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        yield

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        self.recorded += 1
        place = torch.full((), torch.nan)
        return lambda: place.copy_(work()), place


def batch(rows: int, seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    latents, noise = torch.randn(2, rows, 3, generator=draw)
    return Batch(latents, noise, torch.arange(rows), torch.randn(rows, 2, generator=draw), torch.full((rows,), 1 / rows))


class Trained:
    """A layer, AdamW over two groups, and what it was told."""

    def __init__(self, recorder: Any = None) -> None:
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 3)
        groups = [{"params": [self.layer.weight]}, {"params": [self.layer.bias]}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.1, fused=True)
        parameters = [self.layer.weight, self.layer.bias]
        self.graphs = StepGraphs(self.loss, parameters, self.optimizer, 0.5, recorder) if recorder else None
        self.losses, self.norms = list[float](), list[float]()

    def loss(self, one: Batch) -> torch.Tensor:
        return ((self.layer(one.latents) - one.noise).square().mean(1) * one.share).sum()

    def step(self, rates: list[float], *batches: Batch) -> None:
        for one in batches:
            if self.graphs:
                self.losses.append(self.graphs.backward(one).item())
            else:
                loss = self.loss(one)
                loss.backward()
                self.losses.append(loss.item())
        if self.graphs:
            self.graphs.set_rates(rates)
            self.norms.append(self.graphs.step().item())
            return
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.norms.append(torch.nn.utils.clip_grad_norm_(self.layer.parameters(), 0.5).item())
        self.optimizer.step()
        self.optimizer.zero_grad()


STEPS = [([0.1, 0.2], [batch(4, 1), batch(4, 2)]), ([0.05, 0.1], [batch(2, 3)]), ([0.02, 0.3], [batch(4, 4), batch(2, 5)])]


def test_recorded_steps_of_several_shapes_batches_and_rates_are_those_of_a_plain_loop():
    recorder = Later()
    plain, recorded = Trained(), Trained(recorder)
    for rates, batches in STEPS:
        plain.step(rates, *batches)
        recorded.step(rates, *batches)
    assert recorder.recorded == 3  # the update, and a batch of 4 and of 2
    assert recorded.losses == plain.losses
    assert recorded.norms == plain.norms
    # float32 rates where a loop has float64: a last digit
    torch.testing.assert_close(recorded.layer.weight, plain.layer.weight, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(recorded.layer.bias, plain.layer.bias, rtol=1e-6, atol=1e-8)


def test_recorded_steps_go_on_where_a_plain_loop_stopped():
    plain, recorded = Trained(), Trained(Later())
    for rates, batches in STEPS[:2]:
        plain.step(rates, *batches)
        recorded.step(rates, *batches)
    resumed = Trained(Later())
    resumed.layer.load_state_dict(plain.layer.state_dict())
    resumed.optimizer.load_state_dict(plain.optimizer.state_dict())
    for one in (recorded, resumed):
        one.step(STEPS[2][0], *STEPS[2][1])
    torch.testing.assert_close(resumed.layer.weight, recorded.layer.weight, rtol=1e-6, atol=1e-8)
    assert [state["step"].item() for state in resumed.optimizer.state.values()] == [3.0, 3.0]


def experiment(**sections: Any) -> Any:
    tree: dict[str, Any] = {"data": {"train_data_dir": "embedded"}, "training": {"compile": "cudagraphs"}}
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return load_config(tree)


@pytest.mark.parametrize(
    ("sections", "device", "processes", "reason"),
    [
        ({}, "cpu", 1, "there is no CUDA GPU"),
        ({}, "cuda", 2, "there are 2 processes"),
        ({"optimizer": {"optimizer_type": "adafactor"}}, "cuda", 1, "adafactor, not adamw"),
        ({"training": {"compile": "cudagraphs", "mixed_precision": "fp16"}}, "cuda", 1, "use bf16"),
        ({"network": {"train_text_encoder": True}}, "cuda", 1, "train_text_encoder"),
        ({"network": {"dropout": 0.1}}, "cuda", 1, "dropout"),
        ({"training": {"compile": "cudagraphs", "gradient_checkpointing": True}}, "cuda", 1, "gradient_checkpointing"),
    ],
)
def test_steps_that_cannot_be_recorded_are_refused_with_the_reason(
    sections: dict[str, Any], device: str, processes: int, reason: str
):
    with pytest.raises(InputError, match=rf"^training\.compile: cudagraphs cannot record these steps, for .*{reason}"):
        check_graphs(experiment(**sections), device, processes)


def test_other_steps_are_recorded_and_other_modes_are_not_looked_at():
    check_graphs(experiment(training={"compile": "cudagraphs", "mixed_precision": "bf16"}), "cuda", 1)
    check_graphs(experiment(training={"compile": "default"}), "cpu", 2)


def test_true_and_false_are_still_modes_of_compilation():
    modes = [experiment(training={"compile": given}).training.compile for given in (True, "true", False, "no")]
    assert modes == ["default", "default", "no", "no"]
