"""Every kind of section of the GPU benchmark goes through on a CPU, small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu import sections

SOME = "environment,flops,lora_bf16_b1,stargan_bf16,generation,memory,decoding,encoding"


def test_each_kind_of_section_goes_through_on_a_cpu_without_a_network(tmp_path: Path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks", "gpu", "--tiny", "--sections", SOME, "--out", str(out)]
    subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}, check=True)
    measured = json.loads(out.read_text())
    wanted = sections(cuda=False, tiny=True, only=SOME.split(","))
    assert measured["errors"] == {}
    assert set(wanted) <= measured.keys()
    assert set(measured["seconds"]) == set(wanted)
