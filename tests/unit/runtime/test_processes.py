"""What several processes agree on: real ones, over the CPU, with an accelerator that has no device to ask."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from fashion_ml.runtime.processes import LONGEST_WAIT, InAnyProcess, _cpus, main_process_first
from fashion_ml.runtime.signals import StopRequest


def two(folder: Path, work: Callable[[Any], Any]) -> list[Any]:
    """What `work` gives in two processes, each with an accelerator that knows who it is and nothing else."""

    def process(rank: int) -> None:
        distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
        found = work(SimpleNamespace(num_processes=2, is_main_process=rank == 0))
        (folder / f"{rank}.json").write_text(json.dumps(found))
        distributed.destroy_process_group()

    multiprocessing.start_processes(process, nprocs=2, start_method="fork")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def stopped_behind(accelerator: Any, asked: int, steps: int = 6) -> int:
    """The step behind which a training stops in which the second process is asked at step `asked`."""
    stop = StopRequest(accelerator)
    for step in range(1, steps + 1):
        if step == asked and not accelerator.is_main_process:
            time.sleep(0.05)  # the other one is ahead
            stop.requested = True
        try:
            stop.check(last=step == steps)
        except KeyboardInterrupt:
            return step
    return 0


def test_all_processes_stop_behind_one_step_when_one_was_asked_and_none_when_none_was(tmp_path: Path):
    """A step later than it would by itself, but at the last one at once: there is no later one."""
    found = two(tmp_path, lambda accelerator: [stopped_behind(accelerator, step) for step in (1, 3, 5, 6, 7)])
    assert found == [[2, 4, 6, 6, 0]] * 2


def test_one_process_stops_behind_the_step_at_which_it_was_asked():
    stop = StopRequest(SimpleNamespace(num_processes=1))
    stop.check()
    stop.requested = True
    with pytest.raises(KeyboardInterrupt):
        stop.check()


def test_who_tells_does_not_wait_for_who_is_late(tmp_path: Path):
    def work(accelerator: Any) -> list[float]:
        flag = InAnyProcess(lambda: not accelerator.is_main_process, accelerator)
        flag.tell()  # makes the group, for which both wait
        assert flag.heard()
        if not accelerator.is_main_process:
            time.sleep(0.5)
        began = time.monotonic()
        flag.tell()
        told = time.monotonic() - began
        return [told, float(flag.heard()), time.monotonic() - began]

    (told, heard, after), _ = two(tmp_path, work)
    assert told < 0.3 < after
    assert heard


def test_the_main_process_is_first_however_long_it_takes(tmp_path: Path):
    """Groups give up after half an hour where nothing else is said; here a day."""

    def work(accelerator: Any) -> list[Any]:
        with main_process_first(accelerator):
            if accelerator.is_main_process:
                time.sleep(0.2)
                (tmp_path / "kept").touch()
            there = (tmp_path / "kept").exists()
        backend = _cpus()._get_backend(torch.device("cpu"))
        return [there, distributed.get_backend(_cpus()), backend.options._timeout.total_seconds()]

    assert two(tmp_path, work) == [[True, "gloo", LONGEST_WAIT.total_seconds()]] * 2
