"""What this machine has, what is wrong with it, and how to mend it."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.runs.doctor_finding import Finding
from fashion_ml.runs.doctor_gpus import gpus
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import marked, tr
from fashion_ml.runtime.machine_memory import GIB, free_memory_left, total_memory
from fashion_ml.runtime.problem_line import found_and_fix
from fashion_ml.runtime.provenance import PACKAGES
from fashion_ml.runtime.redact import first_line


def examine() -> list[Finding]:
    """Look at everything; a check that itself fails is a finding."""
    findings = []
    for name, check in _CHECKS.items():
        try:
            findings.append(check())
        except InputError as error:
            findings.append(Finding(name, "wrong", *found_and_fix(error.problems[0])))
        except Exception as error:
            findings.append(Finding(name, "wrong", first_line(error), tr("install again: pip install -c constraints.txt -e .")))
    return findings


def _python() -> Finding:
    return Finding(
        "python",
        "ok",
        tr("{python_version} at {executable}", python_version=platform.python_version(), executable=sys.executable),
    )


def _torch() -> Finding:
    import torch

    return Finding(
        "torch",
        "ok",
        tr("{version}, {get_num_threads} threads", version=torch.__version__, get_num_threads=torch.get_num_threads()),
    )


def _memory() -> Finding:
    import psutil

    available, disk = free_memory_left(), psutil.disk_usage(".")
    found = tr(
        "{available:.1f} of {total:.1f} GiB free; disk {free:.1f} GiB free",
        available=available / GIB,
        total=total_memory() / GIB,
        free=disk.free / GIB,
    )
    if available < 2 * GIB:
        return Finding(marked("memory"), "wrong", found, tr("close other programs; the embedded default needs 2 GiB"))
    if disk.free < GIB:
        return Finding(marked("memory"), "wrong", found, tr("free disk space; runs and weights need at least 1 GiB"))
    return Finding(marked("memory"), "ok", found)


def _packages() -> Finding:
    found, missing = [], []
    for package in (*PACKAGES, "optuna", "pydantic", "typer"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            "packages", "wrong", tr("missing: {names}", names=", ".join(missing)), "pip install -c constraints.txt -e ."
        )
    for module in ("torchvision", "diffusers", "peft", "open_clip", "mlflow"):
        importlib.import_module(module)
    return Finding(marked("packages"), "ok", ", ".join(found))


def _tracking() -> Finding:
    from fashion_ml.tracking.queries import count_runs, experiments
    from fashion_ml.tracking.store import shown_uri, store_is_there, store_uri
    from fashion_ml.tracking.store_checks import check_uri

    if not store_is_there():
        check_uri(store_uri())
        return Finding(
            marked("tracking store"),
            "ok",
            tr("{shown_uri} is not there yet; the first training makes it", shown_uri=shown_uri(store_uri())),
        )
    found = count_runs([experiment_id for experiment_id, _ in experiments()])
    return Finding(
        marked("tracking store"), "ok", tr("{shown_uri}, {found} runs", shown_uri=shown_uri(store_uri()), found=found)
    )


def _runs() -> Finding:
    from fashion_ml.tracking.queries import running

    try:
        dead, others = running()
    except InputError:
        return Finding(marked("runs"), "note", tr("not looked at, for the tracking store cannot be used"))
    found = tr("{count} running", count=len(others)) if others else tr("none running")
    if dead:
        fix = tr(
            "end them: fashion-ml doctor --close-runs (what was done is FINISHED, the rest KILLED; a training is "
            "resumed all the same)"
        )
        return Finding(
            marked("runs"),
            "wrong",
            tr("{found}; {count} marked as running whose process has ended", found=found, count=len(dead)),
            fix,
        )
    return Finding(marked("runs"), "ok", found)


def _models() -> Finding:
    quality = EMBEDDED_DIR / "quality.json"
    needed = [EMBEDDED_DIR / "stable_diffusion" / part / "diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]
    needed += [EMBEDDED_DIR / "stable_diffusion" / "text_encoder" / "model.safetensors"]
    needed += [EMBEDDED_DIR / "fashion_clip" / "open_clip_model.safetensors", quality]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        return Finding(
            marked("model files"),
            "wrong",
            tr("missing: {names}", names=", ".join(missing)),
            tr("check out the repository again"),
        )
    size = sum(path.stat().st_size for path in EMBEDDED_DIR.rglob("*") if path.is_file())
    try:
        quality_of_vae = float(parsed(quality.read_bytes())["vae_ssim"])
    except (OSError, ValueError, TypeError, LookupError) as error:
        return Finding(
            marked("model files"),
            "wrong",
            tr("damaged: {quality} ({first_line})", quality=quality, first_line=first_line(error)[:200]),
            tr("check out the repository again"),
        )
    return Finding(
        marked("model files"),
        "ok",
        tr("embedded, {size:.1f} MB, VAE SSIM {quality_of_vae:.3f}", size=size / 1000000.0, quality_of_vae=quality_of_vae),
    )


_CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "torch": _torch,
    "gpu": gpus,
    "memory": _memory,
    "packages": _packages,
    marked("tracking store"): _tracking,
    marked("runs"): _runs,
    marked("model files"): _models,
}
