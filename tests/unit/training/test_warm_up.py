"""What compiles does so before the clock starts, for every size of a batch, and nothing else changes."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.training import lora_loop, stargan_loop, warm_up
from fashion_ml.training.train_state import TrainState
from tests.unit.training import test_stargan_loop as gan
from tests.unit.training.setup import experiment, train, write_images
from tests.unit.training.test_lengthening import latents

pytestmark = pytest.mark.slow

__all__ = ["latents"]
CPU = torch.device("cpu")


def test_it_takes_none_of_the_trainings_time_nor_of_its_random_numbers_and_says_what_it_does(caplog: pytest.LogCaptureFixture):
    state, began = TrainState(), time.monotonic()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with caplog.at_level(logging.INFO, "fashion_ml"):
        warm_up.warm_up("compile", {"8 x 8": lambda: time.sleep(0.3), "8 x 6": lambda: torch.rand(7)}, state, CPU)
    assert torch.equal(torch.rand(2), expected)
    assert time.monotonic() - began - state.seconds >= 0.3
    assert state.seconds >= 0
    assert [line.partition(" ")[0:1] for line in caplog.messages] == [("compile:",)]
    assert "8 x 6" in caplog.messages[0]
    warm_up.warm_up("compile", {}, state, CPU)
    assert len(caplog.messages) == 1


def graphs_of_the_loop(monkeypatch: pytest.MonkeyPatch, module: Any, counters: Any) -> list[int]:
    """How many graphs there are when the loop begins, and when it has ended."""
    seen, loop = list[int](), module._loop

    def counted(*args: Any) -> None:
        seen.append(counters["stats"]["unique_graphs"])
        loop(*args)
        seen.append(counters["stats"]["unique_graphs"])

    monkeypatch.setattr(module, "_loop", counted)
    return seen


def test_more_sizes_than_dynamo_keeps_by_itself_are_a_graph_each(by_dynamo: Any):
    """Twelve, where it keeps eight of a function and runs on without compiling behind them."""
    from torch._dynamo import config as dynamo

    layer = torch.compile(torch.nn.Linear(3, 3), mode=None, dynamic=False)
    work = {f"{count} rows": partial(layer, torch.ones(count, 3)) for count in range(1, 13)}
    with dynamo.patch(recompile_limit=8):
        warm_up.warm_up("compile", work, TrainState(), CPU)
        assert by_dynamo["stats"]["unique_graphs"] == 12
        assert by_dynamo["frames"] == {"total": 12, "ok": 12}
        for one in work.values():
            one()
    assert by_dynamo["stats"]["unique_graphs"] == 12


def test_each_size_of_a_batch_is_warmed_up_by_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Images of three sizes, which are three buckets of latents."""
    place = tmp_path / "images" / "2_x"
    place.mkdir(parents=True)
    for number, (size, garment) in enumerate(zip([(64, 64), (64, 32), (32, 64)], sample_garments(3, seed=5), strict=True)):
        render(garment).resize(size).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(garment.caption(), encoding="utf-8")
    sides = {"bucket_reso_steps": 32, "min_bucket_reso": 32, "max_bucket_reso": 64, "bucket_no_upscale": True}
    training = {"train_batch_size": 2, "max_train_steps": 3}
    data = {"resolution": 64, "enable_bucket": True, **sides}
    inputs = train(experiment(tmp_path / "images", data=data, training=training), tmp_path / "out").inputs
    found = warm_up._first_batches(inputs, 0, 3)
    assert sorted(found) == ["latents of 16 x 16", "latents of 16 x 8", "latents of 8 x 16"]
    assert sorted(found.values()) == [(1, 0), (2, 0), (3, 0)]
    assert len(warm_up._first_batches(inputs, 2, 3)) == 1
    assert len(warm_up._first_batches(inputs, 2, 9)) == 3  # an epoch goes on in the next one


def test_with_the_bases_output_held_on_to_images_and_prior_images_are_warmed_up_each(tmp_path: Path):
    """Only images have it beside them: their rows are doubled, so one size is two graphs."""
    for name, seed in (("images", 5), ("prior", 6)):
        place = tmp_path / name / "1_x"
        place.mkdir(parents=True)
        for number, garment in enumerate(sample_garments(2, seed=seed)):
            render(garment).save(place / f"{number}.png")
            (place / f"{number}.txt").write_text(garment.caption(), encoding="utf-8")
    settings = {"loss": {"output_preservation_prompt": "a garment"}, "training": {"train_batch_size": 2, "max_train_steps": 1}}
    data = {"resolution": 64, "reg_data_dir": str(tmp_path / "prior")}
    inputs = train(experiment(tmp_path / "images", data=data, **settings), tmp_path / "out").inputs
    found = warm_up._first_batches(inputs, 0, 1)
    assert found == {"latents of 16 x 16, with the output that is held on to": (1, 0), "latents of 16 x 16": (1, 1)}


def test_a_compiled_lora_has_its_graph_before_the_first_step_and_the_numbers_of_one_that_was_not_warmed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_dynamo: Any
):
    write_images(tmp_path / "images")
    training = {"train_batch_size": 2, "max_train_steps": 2, "compile": "default"}
    config = experiment(tmp_path / "images", training=training, network={"dropout": 0.2})
    seen = graphs_of_the_loop(monkeypatch, lora_loop, by_dynamo)
    warm = load_file(train(config, tmp_path / "warm").result.path)
    assert seen[0] == seen[1] > 0
    monkeypatch.setattr(lora_loop, "warm_up_lora", lambda *_: None)
    cold = load_file(train(config, tmp_path / "cold").result.path)
    assert all(torch.equal(value, warm[name]) for name, value in cold.items())


def test_a_stargan_compiles_with_and_without_its_diversity_loss_before_the_first_step(
    latents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_dynamo: Any
):
    """It fades out over two of three epochs. The numbers are those of a training that was not warmed up."""
    config = gan.experiment(latents, training={"compile": "default"})
    seen = graphs_of_the_loop(monkeypatch, stargan_loop, by_dynamo)
    gan.train(config, latents, tmp_path / "warm")
    assert seen[0] == seen[1] > 8
    monkeypatch.setattr(stargan_loop, "_warm_up", lambda *_: None)
    gan.train(config, latents, tmp_path / "cold")
    warm, cold = gan.tensors(tmp_path / "warm"), gan.tensors(tmp_path / "cold")
    assert all(torch.equal(value, cold[name]) for name, value in warm.items())
    assert gan.log_of(tmp_path / "warm") == gan.log_of(tmp_path / "cold")


@pytest.mark.parametrize("module", [lora_loop, stargan_loop])
def test_without_compilation_nothing_is_warmed_up(module: Any, latents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    called: list[Any] = []
    monkeypatch.setattr(warm_up, "warm_up", lambda *given: called.append(given))
    monkeypatch.setattr(stargan_loop, "warm_up", lambda *given: called.append(given))
    if module is lora_loop:
        write_images(tmp_path / "images")
        train(experiment(tmp_path / "images"), tmp_path / "out")
    else:
        gan.train(gan.experiment(latents), latents, tmp_path / "out")
    assert not called
