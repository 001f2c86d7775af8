from __future__ import annotations

from pathlib import Path

import pytest

from fashion_ml.reports.stargan_log import EpochLog, read_epochs


def test_a_log_that_goes_on_keeps_the_epochs_that_the_state_has_and_no_later_one(tmp_path: Path):
    log = EpochLog(tmp_path / "log.jsonl")
    for epoch in (1.0, 2.0, 3.0):
        log.write({"epoch": epoch, "d_loss": epoch / 2})
    again = EpochLog(tmp_path / "log.jsonl", after_epoch=2)
    assert again.rows == read_epochs(tmp_path / "log.jsonl") == [{"epoch": 1, "d_loss": 0.5}, {"epoch": 2, "d_loss": 1}]
    assert EpochLog(tmp_path / "log.jsonl").rows == []


def test_a_line_cut_by_a_crash_is_left_out_and_any_other_is_an_error(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1, "ds": null}\n{"epo', encoding="utf-8")
    assert read_epochs(path) == [{"epoch": 1}]
    path.write_text('{"epo\n{"epoch": 2}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1 of"):
        read_epochs(path)
