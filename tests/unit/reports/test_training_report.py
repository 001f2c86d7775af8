from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

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
    text = reading_help(loss, 200)
    assert "Indicative only" in text[0]
    assert said in text[1]
    assert "suitable" in text[2]


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
