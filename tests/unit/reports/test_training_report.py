from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fashion_ml.reports.loss_log import recent_mean
from fashion_ml.reports.training_report import Series, complete_report, reading_help, smoothed, write_training_report


def test_what_was_not_measured_is_null_and_empty_with_a_reason(tmp_path: Path):
    report, curves = write_training_report(
        tmp_path,
        {"total_loss": Series([1, 2], [0.5, 0.25])},
        total_steps=2,
        description="x",
        now=datetime(2025, 7, 8, 10, 30, 15),
    )
    assert report.name == "lora_detailed_training_report_20250708_103015.json"
    assert curves.name == "lora_detailed_training_curves_20250708_103015.png"
    data = json.loads(report.read_text(encoding="utf-8"))
    assert data["training_info"]["final_total_loss"] == 0.25
    assert data["loss_data"]["total_loss"]["values"] == [0.5, 0.25]
    for name in ("visual_loss", "fashion_clip_loss", "color_loss"):
        assert data["training_info"][f"final_{name}"] is None
        assert (data["loss_data"][name]["steps"], data["loss_data"][name]["values"]) == ([], [])
        assert "no images" in data["loss_data"][name]["reason"]
    with Image.open(curves) as picture:
        assert picture.width >= 1000


@pytest.mark.parametrize(
    ("loss", "said"),
    [(0.6, "just begun"), (0.3, "basic"), (0.15, "main features"), (0.07, "very accurate"), (0.01, "overfitting")],
)
def test_reading_help_follows_the_bands_and_says_it_is_indicative(loss: float, said: str):
    text = reading_help(loss, 20, 200)
    assert "Indicative only" in text[0]
    assert said in text[1]
    assert "suitable" in text[2]


@pytest.mark.parametrize(("count", "over"), [(1, 1), (7, 7), (20, 20), (200, 20), (1000, 100)])
def test_the_mean_of_the_last_steps_is_a_tenth_and_20_where_there_are_so_many(count: int, over: int):
    assert recent_mean([float(i) for i in range(count)]) == (sum(range(count - over, count)) / over, over)


def test_the_lowest_loss_of_a_batch_is_no_mark_and_the_head_is_a_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[Any] = []
    monkeypatch.setattr("fashion_ml.reports.training_report.save_figure", lambda path, figure: drawn.append(figure))
    values = [0.5, 0.1] * 20
    series = {"total_loss": Series(range(1, 41), values), "visual_loss": Series([10, 20, 40], [0.4, 0.3, 0.35])}
    report, _ = write_training_report(tmp_path, series, total_steps=40, description="x", now=datetime(2025, 7, 8, 10, 30, 15))
    total, visual, *_ = drawn[0].axes
    labels = [[line.get_label() for line in axes.lines] for axes in (total, visual)]
    assert "lowest" not in labels[0]
    assert "lowest" in labels[1]
    assert "total_loss: mean of the last 20 steps 0.3000" in {total.get_title(loc=where) for where in ("left", "center")}
    help_ = json.loads(report.read_text(encoding="utf-8"))["training_info"]["reading_help"]
    assert "total_loss 0.3000 (mean of the last 20 steps): learning basic features." in help_


def test_smoothed_is_a_trailing_mean():
    assert smoothed([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]


def test_an_evaluation_completes_the_report_and_one_of_another_fingerprint_replaces_it(tmp_path: Path):
    series = {"total_loss": Series([1, 2], [0.5, 0.4])}
    report, _ = write_training_report(tmp_path, series, total_steps=2, description="x", now=datetime(2025, 7, 8, 10, 30, 15))
    complete_report(report, {"visual_loss": Series([1], [0.7])}, "a")
    complete_report(report, {"visual_loss": Series([2], [0.6])}, "a")
    losses = json.loads(report.read_text(encoding="utf-8"))["loss_data"]
    assert (losses["visual_loss"]["steps"], losses["visual_loss"]["values"]) == ([1, 2], [0.7, 0.6])
    complete_report(report, {"visual_loss": Series([2], [0.1])}, "b")
    tree = json.loads(report.read_text(encoding="utf-8"))
    assert (tree["loss_data"]["visual_loss"]["steps"], tree["training_info"]["final_visual_loss"]) == ([2], 0.1)
    assert tree["loss_data"]["total_loss"]["values"] == [0.5, 0.4]
    assert tree["loss_data"]["color_loss"]["values"] == []
