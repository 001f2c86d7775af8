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
from fashion_ml.runtime.provenance import PACKAGES
from fashion_ml.runtime.redact import first_line


def examine() -> list[Finding]:
    """Look at everything; a check that itself fails is a finding."""
    findings = []
    for name, check in _CHECKS.items():
        try:
            findings.append(check())
        except InputError as error:
            found, _, fix = error.problems[0].partition("; ")
            findings.append(Finding(name, "wrong", found, fix))
        except Exception as error:
            findings.append(Finding(name, "wrong", first_line(error), "install again: pip install -c constraints.txt -e ."))
    return findings


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _torch() -> Finding:
    import torch

    return Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _memory() -> Finding:
    import psutil

    memory, disk = psutil.virtual_memory(), psutil.disk_usage(".")
    found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free; disk {disk.free / 2**30:.1f} GiB free"
    if memory.available < 2 * 2**30:
        return Finding("memory", "wrong", found, "close other programs; the embedded default needs 2 GiB")
    if disk.free < 2**30:
        return Finding("memory", "wrong", found, "free disk space; runs and weights need at least 1 GiB")
    return Finding("memory", "ok", found)


def _packages() -> Finding:
    found, missing = [], []
    for package in (*PACKAGES, "optuna", "pydantic", "typer"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding("packages", "wrong", f"missing: {', '.join(missing)}", "pip install -c constraints.txt -e .")
    for module in ("torchvision", "diffusers", "peft", "open_clip", "mlflow"):
        importlib.import_module(module)
    return Finding("packages", "ok", ", ".join(found))


def _tracking() -> Finding:
    from fashion_ml.tracking.queries import count_runs, experiments
    from fashion_ml.tracking.store import shown_uri, store_is_there, store_uri
    from fashion_ml.tracking.store_checks import check_uri

    if not store_is_there():
        check_uri(store_uri())
        return Finding("tracking store", "ok", f"{shown_uri(store_uri())} is not there yet; the first training makes it")
    found = count_runs([experiment_id for experiment_id, _ in experiments()])
    return Finding("tracking store", "ok", f"{shown_uri(store_uri())}, {found} runs")


def _runs() -> Finding:
    from fashion_ml.tracking.queries import running

    try:
        dead, others = running()
    except InputError:
        return Finding("runs", "note", "not looked at, for the tracking store cannot be used")
    found = f"{len(others)} running" if others else "none running"
    if dead:
        fix = "end them: fashion-ml doctor --close-runs (what was done is FINISHED, the rest KILLED; a training is resumed all the same)"
        return Finding("runs", "wrong", f"{found}; {len(dead)} marked as running whose process has ended", fix)
    return Finding("runs", "ok", found)


def _models() -> Finding:
    quality = EMBEDDED_DIR / "quality.json"
    needed = [EMBEDDED_DIR / "stable_diffusion" / part / "diffusion_pytorch_model.safetensors" for part in ("unet", "vae")]
    needed += [EMBEDDED_DIR / "stable_diffusion" / "text_encoder" / "model.safetensors"]
    needed += [EMBEDDED_DIR / "fashion_clip" / "open_clip_model.safetensors", quality]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        return Finding("model files", "wrong", f"missing: {', '.join(missing)}", "check out the repository again")
    size = sum(path.stat().st_size for path in EMBEDDED_DIR.rglob("*") if path.is_file())
    try:
        quality_of_vae = float(parsed(quality.read_bytes())["vae_ssim"])
    except (OSError, ValueError, TypeError, LookupError) as error:
        return Finding(
            "model files", "wrong", f"damaged: {quality} ({first_line(error)[:200]})", "check out the repository again"
        )
    return Finding("model files", "ok", f"embedded, {size / 1e6:.1f} MB, VAE SSIM {quality_of_vae:.3f}")


_CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "torch": _torch,
    "gpu": gpus,
    "memory": _memory,
    "packages": _packages,
    "tracking store": _tracking,
    "runs": _runs,
    "model files": _models,
}
