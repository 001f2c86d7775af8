"""Every CUDA GPU that is visible, whether this torch can use it, and why not."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from fashion_ml.runs.doctor_finding import Finding
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line

_WANTS_ONE = marked("the embedded default runs on the CPU; Stable Diffusion 1.5 wants a GPU")


@dataclass(frozen=True)
class Card:
    """One GPU as torch sees it."""

    name: str
    free: int
    """Bytes that other programs have left."""
    total: int
    capability: tuple[int, int]
    """Compute capability."""
    error: str
    """What a small product on it raised; empty where it was right."""

    def line(self) -> str:
        """In words."""
        half = tr("bf16 in hardware") if self.capability[0] >= 8 else tr("no bf16 in hardware, use fp16")
        memory = tr("{free:.1f} of {total:.1f} GiB free", free=self.free / 2**30, total=self.total / 2**30)
        return tr(
            "{name}, {memory}, capability {capability}.{capability_2}, {half}",
            name=self.name,
            memory=memory,
            capability=self.capability[0],
            capability_2=self.capability[1],
            half=half,
        )


def gpus() -> Finding:
    """All of them, with the driver; a note where there is none, wrong where there is one that cannot be used."""
    import torch

    driver = _driver()
    if not torch.cuda.is_available():
        return without_gpu(torch.version.cuda, driver, os.environ.get("CUDA_VISIBLE_DEVICES"))
    with_driver = (
        tr("; driver {driver}, CUDA {cuda}", driver=driver, cuda=torch.version.cuda)
        if driver
        else f"; CUDA {torch.version.cuda}"
    )
    return of_cards([_card(index) for index in range(torch.cuda.device_count())], with_driver, torch.cuda.get_arch_list())


def without_gpu(cuda: str | None, driver: str, visible: str | None) -> Finding:
    """Why there is none: of a torch for `cuda` (None: for CPUs), a driver (empty: none), and what CUDA_VISIBLE_DEVICES says."""
    if not driver:
        return Finding("gpu", "note", tr("no CUDA GPU is visible"), translated(_WANTS_ONE))
    if visible in ("", "-1"):
        return Finding(
            "gpu", "note", tr("CUDA_VISIBLE_DEVICES={visible!r} hides all GPUs", visible=visible), tr("unset it to use them")
        )
    if cuda is None:
        fix = tr("install torch for CUDA: https://pytorch.org/get-started/locally")
        return Finding("gpu", "wrong", tr("driver {driver}, but this torch is built for CPUs", driver=driver), fix)
    if visible is not None:
        fix = tr("name one that is there, by number or UUID (nvidia-smi -L), or unset it")
        return Finding(
            "gpu",
            "wrong",
            tr("driver {driver}, but CUDA_VISIBLE_DEVICES={visible!r} shows no GPU", driver=driver, visible=visible),
            fix,
        )
    return Finding(
        "gpu",
        "wrong",
        tr("driver {driver} is too old for this torch, which is built for CUDA {cuda}", driver=driver, cuda=cuda),
        tr("update the driver"),
    )


def of_cards(cards: list[Card], beside: str, built_for: list[str]) -> Finding:
    """What was found of the cards; `built_for` are the architectures of this torch, such as sm_90."""
    lines = [f"{number}: {card.line()}" if len(cards) > 1 else card.line() for number, card in enumerate(cards)]
    found = tr("; ").join(lines) + beside
    broken = [card for card in cards if card.error]
    if not broken:
        return Finding("gpu", "ok", found)
    card = broken[0]
    architecture = f"sm_{card.capability[0]}{card.capability[1]}"
    if "out of memory" not in card.error and not _runs_on(card.capability, built_for):
        fix = tr(
            "this torch is built for {names}, not for {architecture}: install one that is",
            names=", ".join(built_for),
            architecture=architecture,
        )
    else:
        fix = tr("free the GPU, or restart the machine; CUDA_VISIBLE_DEVICES leaves one out")
    return Finding("gpu", "wrong", tr("{found}; {name} fails: {error}", found=found, name=card.name, error=card.error), fix)


def _runs_on(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether a torch that is built for these architectures computes on a card: binaries do on later cards of one major number, and compute_…,
    which the driver translates, on all later ones."""
    for kind, _, number in (name.partition("_") for name in built_for):
        digits = "".join(sign for sign in number if sign.isdigit())
        own = (int(digits[:-1]), int(digits[-1])) if len(digits) > 1 else (99, 0)
        if own <= capability and (kind == "compute" or own[0] == capability[0]):
            return True
    return False


def _card(index: int) -> Card:
    import torch

    properties = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    free = 0
    try:
        free = torch.cuda.mem_get_info(index)[0]
        error = _tried(torch, f"cuda:{index}")
    except RuntimeError as problem:
        error = first_line(problem)
    return Card(properties.name, free, properties.total_memory, capability, error)


def _tried(torch: Any, device: str) -> str:
    """What is wrong with a product of two small matrices there; empty where nothing is."""
    ones = torch.ones(64, 64, device=device)
    return "" if bool(((ones @ ones) == 64).all()) else tr("a product of ones is not what it should be")


def _driver() -> str:
    """The version of NVIDIA's driver; empty without one."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
        except (OSError, subprocess.TimeoutExpired):
            told = []
        if told and told[0][:1].isdigit():
            return told[0]
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    return tr("of unknown version")
