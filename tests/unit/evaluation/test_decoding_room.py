"""Images that do not fit into a CPU's memory are made fewer at once, or refused, before they take it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.errors import InputError
from fashion_ml.evaluation import decoding_room
from fashion_ml.evaluation.decoding_room import decoding_fits
from fashion_ml.evaluation.generate import Job, generate
from fashion_ml.models.vae import decode_latents, load_vae
from fashion_ml.training.lora_memory import decoding_bytes

GIB = 1 << 30


@pytest.fixture(scope="module")
def vae() -> Any:
    return load_vae("embedded")


class Counting:
    """A pipeline that makes any image at once and notes how many it was asked for."""

    def __init__(self, vae: Any) -> None:
        self.vae, self.asked = vae, list[int]()
        self.tokenizer = self.scheduler = None

    def __call__(self, prompts: list[str], *, height: int, width: int, **options: Any) -> Any:
        self.asked.append(len(prompts))
        return SimpleNamespace(images=[Image.new("RGB", (8, 8)) for _ in prompts])


def jobs_of(count: int, side: int) -> list[Job]:
    return [Job(number, f"j{number}", str(number), number, (side, side)) for number in range(count)]


def has(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Give the machine so many bytes."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=size, available=size))


def test_a_batch_that_cannot_fit_is_made_in_parts(vae: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    has(monkeypatch, decoding_bytes(vae, 2, (128, 128)))
    pipeline = Counting(vae)
    with caplog.at_level(logging.WARNING, "fashion_ml"):
        made = list(generate(pipeline, jobs_of(10, 512), Evaluation(batch_size=5)))
    assert [len(part) for _, part in made] == [5, 5]
    assert pipeline.asked == [2, 2, 1, 2, 2, 1]
    (said,) = (record.message for record in caplog.records)
    assert said.startswith("evaluation.batch_size: 5 images at once do not fit into this machine's memory; 2 are made at once")


def test_one_image_that_cannot_fit_is_refused_before_it_is_made(vae: Any, monkeypatch: pytest.MonkeyPatch):
    has(monkeypatch, decoding_bytes(vae, 1, (256, 256)) - 1)
    pipeline = Counting(vae)
    says = r"data\.resolution: one image of 1024 x 1024 does not fit into this machine's memory; use less"
    with pytest.raises(InputError, match=says):
        list(generate(pipeline, jobs_of(2, 1024), Evaluation(batch_size=2)))
    assert pipeline.asked == []


def test_it_is_counted_once_and_only_where_it_may_matter(vae: Any, monkeypatch: pytest.MonkeyPatch):
    counted = list[tuple[int, tuple[int, ...]]]()
    monkeypatch.setattr(decoding_room, "decoding_bytes", lambda _, images, cells: counted.append((images, cells)) or GIB)
    has(monkeypatch, GIB)
    pipeline = Counting(load_vae("embedded"))  # of its own: what was counted for the other is known
    assert decoding_fits(pipeline, 1, (512, 512))
    assert all(decoding_fits(pipeline, 2, (512, 640)) for _ in range(3))
    assert counted == [(2, (160, 128))]
    on_gpu = SimpleNamespace(device=torch.device("cuda"), config=pipeline.vae.config)
    assert decoding_fits(SimpleNamespace(vae=on_gpu), 64, (4096, 4096))


def test_what_is_counted_is_what_torch_allocates(vae: Any):
    """Against torch's own record of every allocation and release."""
    with torch.profiler.profile(profile_memory=True) as profile, torch.no_grad():
        vae.decode(torch.zeros(2, 4, 64, 64))
    live = most = 0
    for size in _allocations(profile):
        live += size
        most = max(most, live)
    assert most == pytest.approx(decoding_bytes(vae, 2, (64, 64)) - (40 << 20), rel=0.05)


def _allocations(profile: Any) -> list[int]:
    """Bytes taken or, below zero, given back, in the order of time."""
    found = list[tuple[int, int]]()
    pending = list(profile.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending += event.children
        if event.tag.name == "Allocation":
            found.append((event.start_time_ns, event.extra_fields.alloc_size))
    return [size for _, size in sorted(found)]


def test_large_latents_are_decoded_one_after_the_other(vae: Any, monkeypatch: pytest.MonkeyPatch):
    at_once = list[int]()
    decode = vae.decode

    def noting(z: torch.Tensor) -> Any:
        at_once.append(len(z))
        return decode(z)

    monkeypatch.setattr(vae, "decode", noting)
    for count, side in ((17, 8), (3, 96), (2, 160)):
        assert len(decode_latents(vae, torch.zeros(count, 4, side, side))) == count
    assert at_once == [16, 1, 1, 1, 1, 1, 1]
