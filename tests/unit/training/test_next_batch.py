"""What the next step sees is made beside this one, and nothing else changes with it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.errors import InputError
from fashion_ml.training import next_batch
from fashion_ml.training.next_batch import prepared_ahead
from tests.unit.training.setup import experiment, train, write_images

CPU = torch.device("cpu")


@pytest.fixture
def free_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_batch, "_core_is_free", lambda device: True)


@pytest.mark.usefixtures("free_core")
def test_the_next_step_is_made_on_one_thread_while_this_one_is_used_and_none_beyond_the_last():
    made: list[tuple[int, bool]] = []
    second = threading.Event()

    def make(step: int) -> int:
        made.append((step, threading.current_thread() is threading.main_thread()))
        if step == 4:
            second.set()
        return 10 * step

    with prepared_ahead(make, 5, CPU) as take:
        assert take(3) == 30
        assert second.wait(10)  # nobody asked for it yet
        assert [take(4), take(5)] == [40, 50]
    assert made == [(3, True), (4, False), (5, False)]


@pytest.mark.usefixtures("free_core")
def test_an_error_is_raised_when_its_own_step_asks():
    def make(step: int) -> int:
        if step == 2:
            raise InputError("data.train_data_dir: a.png is gone")
        return step

    with prepared_ahead(make, 9, CPU) as take:
        assert take(1) == 1
        with pytest.raises(InputError, match=r"^data\.train_data_dir: a\.png is gone$"):
            take(2)


@pytest.mark.usefixtures("free_core")
def test_the_thread_ends_with_the_block_whatever_ended_it():
    def asked_to_stop() -> None:
        with prepared_ahead(lambda step: step, 9, CPU) as take:
            take(1)
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        asked_to_stop()
    assert threading.active_count() == before


@pytest.mark.parametrize(("cores", "wanted"), [(1, True), (8, False)])
def test_without_a_free_core_or_where_models_are_asked_each_step_makes_its_own(
    cores: int, wanted: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(next_batch, "_core_is_free", lambda device: cores > 1)
    made: list[int] = []
    with prepared_ahead(lambda step: made.append(step) or step, 9, CPU, wanted=wanted) as take:
        assert take(1) == 1
        assert made == [1]


def test_a_core_is_free_where_more_may_be_used_than_compute(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(next_batch, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not next_batch._core_is_free(CPU)
    assert next_batch._core_is_free(torch.device("cuda", 0))  # one core starts kernels, whatever torch would use on a CPU
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert next_batch._core_is_free(CPU)


def test_a_single_process_has_a_gpu_without_a_number_and_its_thread_begins_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(next_batch, "_core_is_free", lambda device: True)
    with prepared_ahead(lambda step: step, 3, torch.device("cuda")) as take:
        assert [take(1), take(2), take(3)] == [1, 2, 3]


def test_a_training_that_is_stopped_and_resumed_has_the_same_weights_with_a_thread_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_images(tmp_path / "images")
    sections = {
        "data": {"flip_aug": True, "validation_split": 0.34},
        "training": {"train_batch_size": 2, "max_train_steps": 6},
    }
    config = experiment(tmp_path / "images", **sections)
    threads: list[str] = []

    def rows(name: str, free: bool, **training: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        monkeypatch.setattr(next_batch, "_core_is_free", lambda device: free and not threads.append(name))
        changed = config.model_copy(update={"training": config.training.model_copy(update=training)})
        trained = train(changed, tmp_path / name, resume=name == "resumed" and not training)
        return trained.rows, load_file(trained.result.path)

    (plain, weights), (ahead, same) = rows("plain", False), rows("ahead", True)
    rows("resumed", True, max_train_steps=3)
    rest, resumed = rows("resumed", True)
    assert threads == ["ahead", "resumed", "resumed"]
    assert ahead == plain
    assert [row["total_loss"] for row in rest] == [row["total_loss"] for row in plain[3:]]
    for name, value in weights.items():
        assert torch.equal(same[name], value), name
        assert torch.equal(resumed[name], value), name
