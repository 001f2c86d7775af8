"""All benchmarks, one after the other, into benchmarks/RESULTS.md: `python -m benchmarks [--only NAME] [--diffusers PATH] [--kohya PATH]`.

Each runs in a process of its own. In the table at the top of RESULTS.md the rows of the benchmarks that ran are replaced; what is written
below it stays. `--diffusers` is a checkout of diffusers, `--kohya` one of sd-scripts; without them ours is measured alone.

`python -m benchmarks gpu …` is a benchmark of its own, which writes a JSON: `python -m benchmarks gpu --help`. `python -m benchmarks
gpu_memory` counts memory without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers import existing
from benchmarks.results import FILE
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.runtime.provenance import installed_versions

RESULTS = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COMMANDS: dict[str, list[str]] = {
    "startup": ["startup"],
    "lora_step": ["lora_step"],
    "loop_overhead": ["loop_overhead"],
    "lora_step_sd15": ["lora_step", "--size", "sd15"],
    "lora_step_sd15_kohya": ["lora_step", "--size", "sd15", "--targets", "kohya"],
    "lora_peers": ["lora_peers"],
    "lora_peers_small_files": ["lora_peers", "--photo", "256", "--seeds", "1"],
    "lora_full_size": ["lora_full_size"],
    "stargan_step": ["stargan_step"],
    "evaluation": ["evaluation"],
    "evaluation_aa": ["evaluation_aa"],
    "encoding": ["encoding", "--large"],
    "tracking": ["tracking"],
    "sweep": ["sweep"],
    "long_lora": ["scaling", "--part", "lora"],
    "long_stargan": ["scaling", "--part", "stargan"],
    "large_data_set": ["scaling", "--part", "images"],
    "load_images": ["load", "--part", "images"],
    "load_kept": ["load", "--part", "kept"],
    "load_points": ["load", "--part", "points"],
    "load_together": ["load", "--part", "together"],
}


def main() -> None:
    """Run, and write the table."""
    if sys.argv[1:2] == ["gpu"]:
        from benchmarks.gpu import main as measure_gpu

        measure_gpu(sys.argv[2:])
        return
    if sys.argv[1:2] == ["gpu_memory"]:
        from benchmarks.gpu_memory import main as count_memory

        count_memory(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(COMMANDS))
    for name in ("diffusers", "kohya"):
        parser.add_argument(f"--{name}", type=existing)
        parser.add_argument(f"--{name}-python", default=sys.executable)
    arguments = parser.parse_args()
    peers: dict[str, list[str]] = {"lora_peers": [], "lora_peers_small_files": [], "lora_full_size": []}
    if arguments.diffusers:
        script = arguments.diffusers.absolute() / "examples" / "text_to_image" / "train_text_to_image_lora.py"
        if not script.is_file():
            parser.error(
                f"--diffusers: {str(arguments.diffusers)!r} holds no {script.relative_to(arguments.diffusers.absolute())}"
            )
        for options in peers.values():
            options += ["--example", str(script), "--example-python", arguments.diffusers_python]
    if arguments.kohya:
        if not (arguments.kohya / "train_network.py").is_file():
            parser.error(f"--kohya: {str(arguments.kohya)!r} holds no train_network.py")
        peers["lora_full_size"] += ["--kohya", str(arguments.kohya.absolute()), "--kohya-python", arguments.kohya_python]
    kept, code, failed = _kept(), _code(), list[str]()
    for name in arguments.only or COMMANDS:
        say(f"{name} …")
        module, *options = COMMANDS[name]
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "rows.json"
            command = [sys.executable, "-m", f"benchmarks.{module}", *options, *peers.get(name, [])]
            if subprocess.run(command, env={**os.environ, FILE: str(file)}).returncode:
                say(f"{name} failed; its rows stay as they were")
                failed.append(name)
                continue
            kept[name] = [{**row, "code": code} for row in json.loads(file.read_text(encoding="utf-8"))]
        _write(kept)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _code() -> str:
    """The commit that is measured, with + where files differ from it; nothing outside a checkout."""
    try:
        commit = subprocess.check_output(["git", "rev-parse", "--short=7", "HEAD"], cwd=RESULTS.parent, text=True).strip()
        changed = subprocess.check_output(
            ["git", "status", "--porcelain", "--", "../fashion_ml"], cwd=RESULTS.parent, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed.strip() else "")


def _kept() -> dict[str, list[dict[str, Any]]]:
    """The rows that are in the file, by benchmark."""
    found: dict[str, list[dict[str, Any]]] = {}
    text = RESULTS.read_text(encoding="utf-8")
    if (
        BEGIN not in text or _machine() not in text
    ):  # figures of another machine or other versions stand in no table of this one
        return found
    for line in text.split(BEGIN)[1].split(END)[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0] in COMMANDS:
            ratio = float(cells[4]) if cells[4] else None
            found.setdefault(cells[0], []).append(
                {"what": cells[1], "ours": cells[2], "other": cells[3], "ratio": ratio, "code": cells[5]}
            )
    return found


def _write(rows: dict[str, list[dict[str, Any]]]) -> None:
    lines = [
        BEGIN,
        "",
        _machine(),
        "",
        "| benchmark | what | ours | beside it | times as fast | code |",
        "|---|---|---|---|---|---|",
    ]
    for name in COMMANDS:
        for row in rows.get(name, ()):
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            lines.append(f"| {name} | {row['what']} | {row['ours']} | {row['other']} | {ratio} | {row['code']} |")
    table = "\n".join([*lines, "", END])
    text = RESULTS.read_text(encoding="utf-8")
    if BEGIN in text:
        before, rest = text.split(BEGIN)
        text = before + table + rest.split(END)[1]
    else:
        title, rest = text.split("\n", 1)
        text = f"{title}\n\n{table}\n{rest}"
    write_text(RESULTS, text)


def _machine() -> str:
    versions = ", ".join(f"{name} {version}" for name, version in installed_versions().items())
    memory = psutil.virtual_memory().total / 2**30
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), model
        )
    return f"{psutil.cpu_count()} cores of {model}, {memory:.0f} GiB; {versions}. Medians; ratios of two commands or steps that took turns."


if __name__ == "__main__":
    main()
