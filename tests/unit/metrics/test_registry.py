"""The rows of the registry: what is derived from them, and what other places say about metrics."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.config.base import ExtraMetric, Weights
from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.metrics.metric import measure_pair
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import METRIC_RUNS, METRICS, SIMILARITY_OF, SWITCHES, TOTAL, asked_for, better, metric_of
from fashion_ml.reports.loss_log import IMAGE_LOSSES
from fashion_ml.sweep.objectives import measured
from fashion_ml.tracking.ui_views import VIEWS

PROJECT = Path(__file__).parents[3]
WEIGHTS = {"visual_loss": 0.2, "fashion_clip_loss": 0.6, "color_loss": 0.2}


def test_every_name_stands_once_and_every_row_says_whether_it_has_a_better_way():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {metric.better for metric in METRICS} == {"higher", "lower", ""}
    assert all(metric.unit or metric.range for metric in METRICS)
    assert all(metric.version >= 1 for metric in METRICS)


def test_a_row_that_is_worked_out_from_others_comes_after_them():
    places = {metric.name: place for place, metric in enumerate(METRICS)}
    assert all(places[similarity] < places[loss] < places[TOTAL] for loss, similarity in SIMILARITY_OF.items())


def test_the_child_runs_hold_what_they_always_held_and_begin_with_the_metric_of_their_histogram():
    held = {
        "ssim": ["ssim", "visual_loss", "lpips", "cycle_l1", "diversity"],
        "fashion_clip": [
            "fashion_similarity",
            "fashion_clip_loss",
            "fashion_attribute_similarity",
            "attribute_",
            "nearest_training_similarity",
            "domain_accuracy",
        ],
        "color": ["color_correlation", "color_loss", "color_correlation_masked", "ciede2000"],
    }
    assert {run: [name for name in metrics if name in held[run]] for run, metrics in METRIC_RUNS.items()} == held
    assert {run: metrics[0] for run, metrics in METRIC_RUNS.items()} == {run: names[0] for run, names in held.items()}


def test_the_settings_name_the_switches_and_the_losses_of_the_registry():
    assert set(get_args(ExtraMetric)) == set(SWITCHES)
    assert set(Evaluation().extra_metrics) <= set(SWITCHES)
    assert tuple(Weights.model_fields) == tuple(SIMILARITY_OF) == IMAGE_LOSSES
    assert tuple(type(GanEvaluation().weights).model_fields) == tuple(SIMILARITY_OF)


def test_a_sweep_may_use_what_its_training_measures():
    lora, stargan = measured("lora"), measured("stargan")
    assert {TOTAL, "ssim", "lpips", "nearest_training_similarity", "val_loss", "parameters"} <= set(lora)
    assert not {"domain_accuracy", "cycle_l1", "diversity", "kid", "others_color_loss", "specific_visual_loss"} & set(lora)
    assert {"domain_accuracy", "cycle_l1", "diversity", "latent_ssim", "latent_visual_loss", "latent_domain_accuracy"} <= set(
        stargan
    )
    assert not {"kid", "ciede2000", "lpips", "val_loss", "latent_color_loss"} & set(stargan)


def test_the_ready_views_show_metrics_that_there_are_and_the_best_first():
    trained = {"total_loss", "d_loss", "g_loss", "confirmed_gain"}
    for view in VIEWS:
        for name in (*view.curves, *view.metrics):
            plain = re.sub(r"^(eval/)?(latent_|gain_|best_|confirmed_)?(.*?)(_low|_high)?$", r"\3", name)
            assert name in trained or metric_of(plain), name
        ordered = re.fullmatch(r"metrics\.`(?:eval/)?(gain_)?(\w+)`", view.order_by)
        if ordered and ordered[1]:
            assert not view.ascending  # a gain is the better the more it is
        elif ordered:
            assert view.ascending == (better(ordered[2]) == "lower")


def test_the_losses_and_the_total_of_a_pair_follow_from_its_similarities():
    """Embeddings (1, 0) and (0.6, 0.8): cosine 0.6. Equal pictures: ssim and color_correlation 1, losses 0. Total 0.6 * 0.4 = 0.24."""
    picture = Image.effect_noise((16, 16), 60).convert("RGB")
    made = Picture(picture, torch.tensor([1.0, 0.0]))
    other = Picture(picture, torch.tensor([0.6, 0.8]))
    rows = asked_for(["lora"], (), encoder=True)
    found = measure_pair(rows, made, {"reference": other, "content": other}, WEIGHTS, {})
    assert (found["ssim"], found["visual_loss"], found["color_loss"]) == pytest.approx((1, 0, 0))
    assert (found["fashion_similarity"], found["fashion_clip_loss"]) == pytest.approx((0.6, 0.4))
    assert found[TOTAL] == pytest.approx(0.24)


def test_without_an_encoder_nothing_that_needs_it_is_asked_for():
    bare, whole = ({metric.name for metric in asked_for(["lora"], SWITCHES, encoder=encoder)} for encoder in (False, True))
    assert {"ssim", "visual_loss", "color_loss", "color_correlation_masked", "ciede2000", "lpips"} <= bare < whole
    assert not bare & {"fashion_similarity", "fashion_clip_loss", TOTAL, "kid", "nearest_training_similarity", "attribute_"}


def test_a_stargans_shape_is_compared_with_the_content_and_its_style_with_the_reference():
    grey, red = Image.effect_noise((16, 16), 60).convert("RGB"), Image.new("RGB", (16, 16), "red")
    rows = asked_for(["stargan"], (), encoder=False)
    found = measure_pair(rows, Picture(grey), {"content": Picture(grey), "reference": Picture(red)}, WEIGHTS, {})
    assert found["ssim"] == pytest.approx(1)
    assert found["color_correlation"] < 0.5
    latent = {metric.name for metric in asked_for(["latent"], (), encoder=False)}  # there is no reference for its style
    assert {"ssim", "visual_loss"} <= latent
    assert not {"color_correlation", "color_loss"} & latent


def test_an_unknown_name_has_no_row():
    with pytest.raises(KeyError, match="no metric has this name"):
        metric_of("sim")
    assert metric_of("attribute_colour").family


def test_the_list_alone_is_light():
    code = "import sys, fashion_ml.metrics.registry; print({'torch', 'numpy', 'PIL', 'skimage'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_the_documents_tables_say_of_every_metric_what_its_row_says():
    """Rows of several metrics, and cells such as `as above`, are looked at as far as they say something."""
    ways = {"高": "higher", "低": "lower"}
    checked = {"docs/metrics.md": 0, "docs/zh-TW/metrics.md": 0}
    for file in checked:
        for line in (PROJECT / file).read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not line.startswith("| `") or len(cells) != 5:
                continue
            for name in re.findall(r"`([a-z_0-9]+?)(?:<category>)?`", cells[0]):
                rows = [metric for metric in METRICS if metric.name == name]
                if not rows or "as above" in cells[2] or "同上" in cells[2]:
                    continue
                assert cells[2].removeprefix("約").removeprefix("about").strip() in rows[0].range, f"{file}: {name}"
                assert ways.get(cells[3], cells[3]) == rows[0].better, f"{file}: {name}"
                if file == "docs/metrics.md" and len(re.findall("`", cells[0])) == 2:
                    assert (cells[1], cells[4]) == (rows[0].unit, rows[0].description), f"{file}: {name}"
                checked[file] += 1
    assert min(checked.values()) >= 15


def test_with_the_score_attributes_the_loss_comes_from_the_labels():
    """Two categories. Kind: both dress, confidences 0.9 and 0.7: 0.7 + 0.3 * 0.8 = 0.94. Colour: red and blue, 0.6 and 0.5: 0 + 0.3 * 0.9 =
    0.27. Similarity (0.94 + 0.27) / 2 = 0.605, loss 0.395; equal pictures leave a total of 0.6 * 0.395 = 0.237. Beside it the cosine."""
    picture = Image.effect_noise((16, 16), 60).convert("RGB")
    made = Picture(picture, torch.tensor([1.0, 0.0]), {"kind": ("dress", 0.9), "colour": ("red", 0.6)})
    other = Picture(picture, torch.tensor([0.6, 0.8]), {"kind": ("dress", 0.7), "colour": ("blue", 0.5)})
    for by in ("lora", "images", "stargan"):
        rows = asked_for([by], (), encoder=True, score="attributes")
        found = measure_pair(rows, made, {"reference": other, "content": other}, WEIGHTS, {})
        assert found["fashion_attribute_similarity"] == pytest.approx(0.605)
        assert found["fashion_clip_loss"] == pytest.approx(0.395)
        assert found["fashion_similarity"] == pytest.approx(0.6)
        assert found[TOTAL] == pytest.approx(0.237)
        assert list(found) == [metric.name for metric in rows if metric.name in found]
        assert "attribute_kind" not in found
    loss = {metric.name: metric for metric in rows}["fashion_clip_loss"]
    assert (loss.loss_of, loss.parameters["same"]) == ("fashion_attribute_similarity", 0.7)
    assert metric_of("fashion_clip_loss").loss_of == "fashion_similarity"


def test_the_bounds_of_a_metric_are_those_of_its_range():
    assert metric_of("attribute_kind").bounds == (0, 1)
    assert metric_of("attribute_kind").bounds_of_gain == (-1, 1)
    assert metric_of("ciede2000").bounds == (0, math.inf)
    assert metric_of("kid").bounds == (-math.inf, math.inf)
    assert all(low < high for low, high in (metric.bounds for metric in METRICS))
