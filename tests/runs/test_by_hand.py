"""What no mutation makes where a command wants a file: pipes, devices, links to themselves. Each is refused in a line, or passed over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from tests.fuzz import run
from tests.fuzz.by_hand import ODD
from tests.fuzz.claims import (
    header_that_claims,
    many_pages,
    png_that_claims,
    png_with_profile,
    png_with_text,
    tensors_that_claim,
    zip_bomb,
)
from tests.fuzz.guard import guarded
from tests.fuzz.slots import OUTBOX, SLOTS, outbox_without, with_images
from tests.fuzz.subjects import command

pytestmark = pytest.mark.slow

CASES = list(zip(SLOTS, cycle(["pipe", *ODD]), strict=False))


@pytest.fixture(scope="module", autouse=True)
def loaded(empty_store: Path, collection: Path) -> None:
    """Imported, and made once, before anything is forked."""
    run.load_all()


@pytest.mark.parametrize(("slot", "odd"), CASES, ids=[f"{slot}: {odd}" for slot, odd in CASES])
def test_it_is_refused_in_a_line_or_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slot: str, odd: str):
    where, line, files = SLOTS[slot]
    for name, content in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    ODD[odd](tmp_path / where)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    outcome = guarded(command(*line.split()), tmp_path)
    assert not outcome.is_fault, f"{outcome.kind}: {outcome.text}"


@pytest.mark.parametrize("odd", ["pipe", "endless", "sparse", "folder", "zeros"])
@pytest.mark.parametrize("name", OUTBOX)
def test_an_outbox_is_sent_or_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, odd: str):
    for path, content in outbox_without(OUTBOX[name]).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    ODD[odd](tmp_path / OUTBOX[name])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    outcome = guarded(command("sync", "out"), tmp_path)
    assert not outcome.is_fault, f"{outcome.kind}: {outcome.text}"


CLAIMS: dict[str, Callable[[], bytes]] = {
    "a picture of 10 billion pixels": lambda: png_that_claims(100_000, 100_000),
    "a picture of no pixels": lambda: png_that_claims(0, 10),
    "a profile of 300 MB": png_with_profile,
    "a text of 300 MB": png_with_text,
    "3,000 pages": many_pages,
}
WEIGHTS: dict[str, Callable[[], bytes]] = {
    "a header without end": lambda: header_that_claims(2**63),
    "a header of a TB": lambda: header_that_claims(2**40),
    "a tensor of an EB": lambda: tensors_that_claim([10**9, 10**9], 64),
    "a tensor beyond the file": lambda: tensors_that_claim([16], 10**12),
    "negative sides": lambda: tensors_that_claim([-1, -16], 64),
    "a zip of 256 MB": zip_bomb,
}


@pytest.mark.parametrize("what", CLAIMS)
@pytest.mark.parametrize("line", ["data data", "caption data --encoder embedded"])
def test_a_picture_takes_no_more_than_it_may(tmp_path: Path, line: str, what: str):
    with_images(tmp_path, content=CLAIMS[what]())
    outcome = guarded(command(*line.split()), tmp_path)
    assert not outcome.is_fault, f"{outcome.kind}: {outcome.text}"


@pytest.mark.parametrize("what", WEIGHTS)
@pytest.mark.parametrize("line", ["inspect x.safetensors", "resize x.safetensors --rank 1 --output m.safetensors"])
def test_weights_that_claim_what_is_not_there_are_refused(tmp_path: Path, line: str, what: str):
    (tmp_path / "x.safetensors").write_bytes(WEIGHTS[what]())
    outcome = guarded(command(*line.split()), tmp_path)
    assert outcome.kind == "refused", f"{outcome.kind}: {outcome.text}"


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\nb.png", b"x" * 250 + b".png"])
def test_a_name_that_is_no_text_is_taken_or_refused_in_a_line(tmp_path: Path, name: bytes):
    with_images(tmp_path, name)
    outcome = guarded(command("data", "data"), tmp_path)
    assert not outcome.is_fault, f"{outcome.kind}: {outcome.text}"
