"""What the doctor says of GPUs, by what torch and the driver say of them."""

from __future__ import annotations

import pytest

from fashion_ml.runs.doctor_gpus import Card, gpus, of_cards, without_gpu
from fashion_ml.runtime.language import VARIABLE

GIB = 2**30
H100 = Card("NVIDIA H100", 70 * GIB, 80 * GIB, (9, 0), "")
T4 = Card("Tesla T4", 14 * GIB, 15 * GIB, (7, 5), "")


def test_every_card_is_named_with_memory_capability_and_bf16():
    found = of_cards([H100, T4], "; driver 580.1, CUDA 13.0", ["sm_75", "sm_90"])
    assert found.state == "ok"
    assert found.found == (
        "0: NVIDIA H100, 70.0 of 80.0 GiB free, capability 9.0, bf16 in hardware; "
        "1: Tesla T4, 14.0 of 15.0 GiB free, capability 7.5, no bf16 in hardware, use fp16; driver 580.1, CUDA 13.0"
    )


def test_a_card_that_this_torch_is_not_built_for_is_wrong_and_another_fault_has_another_fix():
    old = Card("GeForce GTX 980", 4 * GIB, 4 * GIB, (5, 2), "no kernel image is available")
    found = of_cards([old], "", ["sm_75", "sm_90"])
    assert (found.state, "sm_52" in found.fix) == ("wrong", True)
    usual = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
    for capability, runs in (
        ((8, 9), True),
        ((8, 6), True),
        ((7, 0), False),
        ((12, 1), True),
        ((13, 0), True),
        ((10, 3), True),
    ):
        found = of_cards([Card("a card", GIB, GIB, capability, "no kernel image")], "", usual)
        assert ("this torch is built for" in found.fix) != runs, capability
    full = of_cards([Card("RTX 4090", 0, 24 * GIB, (5, 2), "CUDA out of memory")], "", usual)
    assert full.fix.startswith("free the GPU")
    busy = of_cards([Card("A100", 0, 40 * GIB, (8, 0), "out of memory")], "", ["sm_80"])
    assert (busy.state, busy.fix.partition(",")[0]) == ("wrong", "free the GPU")


def test_why_there_is_no_gpu():
    assert without_gpu("13.0", "", None).state == "note"
    assert "built for CPUs" in without_gpu(None, "580.1", None).found
    assert "too old" in without_gpu("13.0", "470.1", None).found
    assert without_gpu("13.0", "580.1", "").state == "note"  # hidden on purpose
    assert "CUDA_VISIBLE_DEVICES='7'" in without_gpu("13.0", "580.1", "7").found


def test_this_machine_is_looked_at_without_an_error():
    assert gpus().state in ("ok", "note", "wrong")


def test_in_chinese_cards_are_told_apart_by_a_mark_of_full_width(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "zh-TW")
    assert "; " not in of_cards([H100, T4], "", ["sm_75", "sm_90"]).found
