"""What trials may be ranked by, and the reason of each that they may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import load_sweep
from fashion_ml.errors import InputError
from fashion_ml.metrics.registry import METRICS
from fashion_ml.sweep.objectives import directions_of
from tests.unit.sweep.test_study import written


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("g_loss", r"g_loss contains -lambda_ds \* ds: searching w_ds on it only buys a bigger weight"),
        ("total_loss", "falls most where training images are learnt by heart; use a metric of the evaluation, .*, or val_loss"),
        ("d_loss", "it falls where the generator is worse"),
        ("cyc", "one term of g_loss, which falls where another one's weight does"),
        ("grad_norm", "how steep the loss is, not how good the images are"),
    ],
)
def test_a_training_loss_is_no_objective_and_the_reason_of_each_is_given(metric: str, reason: str, tmp_path: Path):
    with pytest.raises(InputError, match=f"'{metric}' is measured in training and cannot rank trials: .*{reason}"):
        load_sweep(written(tmp_path, objectives=[{"metric": metric}]), {})


def test_directions_follow_from_the_metric_unless_given(tmp_path: Path):
    objectives = [{"metric": m} for m in ("weighted_total_loss", "ssim", "lpips", "ciede2000")]
    spec, _ = load_sweep(written(tmp_path, objectives=objectives, confirm={"best": 0}), {})
    assert directions_of(spec) == ["minimize", "maximize", "minimize", "minimize"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objectives": [{"metric": "weighted_total_los"}]}, "is no metric of train lora; did you mean weighted_total_loss"),
        (
            {"objectives": [{"metric": "nearest_training_similarity"}], "confirm": {"best": 0}},
            "neither more nor less is better",
        ),
        ({"constraints": ["paramters <= 5e6"]}, "constraints: 'paramters' is no metric of train lora; did you mean parameters"),
        (
            {"objectives": [{"metric": "diversity"}], "confirm": {"best": 0}},
            "objectives: 'diversity' is no metric of train lora",
        ),
        ({"objectives": [{"metric": "kid"}]}, "confirm.best: kid is not compared image by image; set it to 0"),
        (
            {"objectives": [{"metric": "kid"}]},
            "objectives: 'kid' is measured and cannot rank: it is of a whole set of images, .*; take weighted_total_loss",
        ),
        (
            {"constraints": ["specific_color_loss >= 0"]},
            "constraints: 'specific_color_loss' is measured and cannot rank: it is a difference of two losses",
        ),
        (
            {"objectives": [{"metric": "others_visual_loss"}], "confirm": {"best": 0}},
            "'others_visual_loss' is measured and cannot rank: .*one picture for every prompt would win",
        ),
        ({"objectives": [{"metric": "parameters"}]}, "confirm.best: parameters is not compared image by image; set it to 0"),
        (
            {"objectives": [{"metric": "parameters"}], "confirm": {"best": 0}},
            "'parameters' cannot rank alone: .* smallest wins",
        ),
        (
            {"objectives": [{"metric": "training_seconds"}], "confirm": {"best": 0}},
            "'training_seconds' cannot rank: .*constraints: training_seconds <= 600",
        ),
        ({"objectives": [{"metric": "leak"}]}, "confirm.best: leak is of free prompts, which have no references; set it to 0"),
    ],
)
def test_an_objective_that_no_trial_could_meet_is_refused_before_any_trains(changes: dict[str, Any], says: str, tmp_path: Path):
    spec, _ = load_sweep(written(tmp_path, **changes), {})
    with pytest.raises(InputError, match=says):
        directions_of(spec)


def test_every_metric_that_cannot_rank_says_why():
    assert {metric.name: metric.objective for metric in METRICS} == {metric.name: not metric.cannot_rank for metric in METRICS}
    assert {"kid", "others_color_loss", "specific_visual_loss"} <= {metric.name for metric in METRICS if metric.cannot_rank}


def test_what_a_stargans_latents_guide_is_an_objective_that_cannot_be_confirmed(tmp_path: Path):
    changes: dict[str, Any] = {
        "trainer": "stargan",
        "experiment": str(Path(__file__).parents[3] / "experiments" / "stargan" / "embedded.yaml"),
        "search_space": {"loss.w_ds": {"type": "float", "low": 0.5, "high": 2}},
        "objectives": [{"metric": "latent_ssim"}],
    }
    spec, _ = load_sweep(written(tmp_path, **changes), {})
    with pytest.raises(
        InputError, match=r"confirm\.best: latent_ssim is of latent-guided images, .* by references; set it to 0"
    ):
        directions_of(spec)
    assert directions_of(load_sweep(written(tmp_path, **changes, confirm={"best": 0}), {})[0]) == ["maximize"]
    changes["objectives"] = [{"metric": "domain_accuracy"}]
    assert directions_of(load_sweep(written(tmp_path, **changes), {})[0]) == ["maximize"]
