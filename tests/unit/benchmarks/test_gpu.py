"""The GPU benchmark goes through on a CPU, small, and one section's fault costs no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import main, run, sections
from benchmarks.gpu_parts import Bench

pytestmark = pytest.mark.slow

SOME = "environment,lora_no_b1,decoding"
"""The others take minutes, and go through in tests/full/test_gpu_sections.py."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What some sections measure in a process of their own."""
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    arguments = ["--tiny", "--sections", SOME, "--out", str(out)]
    code = f"import sys; from benchmarks.gpu import main; main({arguments!r}); print('mlflow' in sys.modules)"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"], "it needs no MLflow"
    return dict(json.loads(out.read_text()))


def test_sections_go_through_on_a_cpu_without_a_network_or_mlflow(measured: dict[str, Any]):
    wanted = sections(cuda=False, tiny=True, only=SOME.split(","))
    assert measured["errors"] == {}
    assert set(wanted) <= measured.keys()
    assert set(measured["seconds"]) == set(wanted)


def test_it_says_speed_loss_and_how_much_of_a_step_is_drawing(measured: dict[str, Any]):
    step = measured["lora_no_b1"]
    assert step["it_s"] > 0
    assert step["images_s"] == pytest.approx(step["it_s"], abs=0.1)
    assert step["ms"] == pytest.approx(1000 / step["it_s"], rel=0.02)
    assert step["batch_on_cpu_ms"] > 0
    assert step["syncs_a_step"] == 0


def test_a_section_that_fails_and_one_that_has_no_time_are_lines_among_the_errors(tmp_path: Path):
    def fails(bench: Bench) -> dict[str, Any]:
        raise RuntimeError("no kernel image")

    kept: list[int] = []
    found = run(
        {"fails": (0, fails), "long": (1e6, fails), "works": (0, lambda bench: {"it_s": 1.0})},
        Bench(tiny=True, work=tmp_path),
        seconds=100,
        keep=lambda found: kept.append(len(found["errors"])),
    )
    assert found["works"] == {"it_s": 1.0}
    assert found["errors"]["fails"].startswith("RuntimeError: no kernel image")
    assert found["errors"]["long"].startswith("left out: ")
    assert kept == [1, 2, 2]


def test_a_name_of_no_section_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--tiny", "--sections", "lorra", "--out", str(tmp_path / "gpu.json")])
    assert "there are environment, flops, lora_bf16_b1" in capsys.readouterr().err
