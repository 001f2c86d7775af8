"""All on one CUDA GPU in a quarter of an hour, as JSON: `python -m benchmarks gpu [--out FILE] [--sections NAME,…] [--seconds N] [--tiny]`.

Needs no network, no MLflow and no weights: Stable Diffusion's architectures have random ones. Sections run in the order of what matters; one
that fails is a line among `errors`, and none is begun that would not end within `--seconds`. `--tiny` goes through all of it on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_evaluation import EVALUATION
from benchmarks.gpu_float32 import FLOAT32
from benchmarks.gpu_parts import Bench, Section
from benchmarks.gpu_sdxl import XL, XL_GRAPHS
from benchmarks.gpu_stargan import COMPILED, STARGAN
from benchmarks.gpu_training import GRAPHS, LORA, MORE
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say, show_lines
from fashion_ml.runtime.provenance import installed_versions


def environment(bench: Bench) -> dict[str, Any]:
    """Versions, the card and the driver's switches, and what `fashion-ml doctor` says of them."""
    from fashion_ml.runs.doctor_gpus import gpus

    found: dict[str, Any] = {**installed_versions(), "doctor": str(gpus())}
    if bench.cuda:
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "tf32_of_products": torch.backends.cuda.matmul.allow_tf32,
            "tf32_of_convolutions": torch.backends.cudnn.allow_tf32,
            "flash": torch.backends.cuda.flash_sdp_enabled(),
        }
    return found


def sections(*, cuda: bool, tiny: bool, only: Collection[str]) -> dict[str, tuple[float, Section]]:
    """Those that are to run, in their order: all that this machine can do, or those whose names begin with one of `only`."""
    graphs, xl = (GRAPHS, {**XL, **XL_GRAPHS}) if cuda else ({}, XL)
    every = {"environment": (5.0, environment), **LORA, **graphs, **EVALUATION, **STARGAN, **xl, **MORE, **FLOAT32, **COMPILED}
    if only:
        return {name: one for name, one in every.items() if name.startswith(tuple(only))}
    return {name: one for name, one in every.items() if not (tiny and name in COMPILED)}


def run(
    wanted: Mapping[str, tuple[float, Section]],
    bench: Bench,
    *,
    seconds: float,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Go through the sections and hand out what is there so far after each; the result has `seconds` and `errors` beside them."""
    began = time.monotonic()
    found: dict[str, Any] = {"errors": {}, "seconds": {}}
    for name, (need, section) in wanted.items():
        started = time.monotonic()
        left = seconds - (started - began)
        if left < need:
            found["errors"][name] = f"left out: {left:.0f} s left, {need:.0f} wanted"
            keep(found)
            continue
        try:
            bench.fresh_memory()
            found[name] = section(bench)
        except Exception as error:
            found["errors"][name] = f"{type(error).__name__}: {str(error)[:600]}\n{traceback.format_exc()[-1500:]}"
        ended = time.monotonic()
        found["seconds"][name] = round(ended - started, 1)
        say(f"[{ended - began:5.0f} s] {name}: {json.dumps(found.get(name, found['errors'].get(name)), default=str)[:900]}")
        found["total_seconds"] = round(ended - began, 1)
        keep(found)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the JSON."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--sections", default="", help="beginnings of names, by comma; all when not given")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(arguments)
    show_lines()
    with tempfile.TemporaryDirectory(prefix="gpu_benchmark_") as place:
        bench = Bench(tiny=given.tiny or not torch.cuda.is_available(), work=Path(place))
        only = [name for name in given.sections.split(",") if name]
        wanted = sections(cuda=bench.cuda, tiny=bench.tiny, only=only)
        if not wanted:
            known = ", ".join(sections(cuda=True, tiny=False, only=()))
            parser.error(f"--sections: {given.sections!r} begins the name of none; there are {known}")

        def keep(found: Mapping[str, Any]) -> None:
            write_text(given.out, json.dumps(found, indent=1, default=str) + "\n")

        run(wanted, bench, seconds=given.seconds, keep=keep)


if __name__ == "__main__":
    main()
