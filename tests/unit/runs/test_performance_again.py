"""A training that goes on takes over what a performance check had measured, and the final evaluation comes to its run all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fashion_ml as fm
from fashion_ml.config import flat, load_config
from fashion_ml.runs.evaluate import roll_up
from fashion_ml.runs.lora import _known_performance
from fashion_ml.tracking.run import open_run

pytestmark = pytest.mark.usefixtures("blank_figures")

MEANS = {
    "weighted_total_loss": 0.4,
    "base_weighted_total_loss": 0.5,
    "weighted_total_loss_low": 0.3,
    "weighted_total_loss_high": 0.5,
}
ALONE = {"ruler/visual_loss/flat": 0.6, "position/visual_loss": 0.1, "encoder_check/readable": 1.0, "strength/ssim": 0.2}
ALONE |= {"reference_nearest_training_similarity": 0.7, "reference_nearest_training_similarity_p95": 0.8}


def test_numbers_of_a_check_alone_do_not_keep_the_final_evaluation_from_the_run(workdir: Path):
    config = load_config({"model.base": "embedded", "data.train_data_dir": "embedded", "steps": 6})
    with open_run("training", {"kind": "train_lora"}, experiment="e") as run:
        tags = {"kind": "evaluation", "step": "3", "eval_fingerprint": "f"}
        with open_run("evaluation", tags, parent=run) as check:
            check.log_params(flat(config))
            check.log_metrics({**MEANS, **ALONE})
        known = _known_performance(config, run, 3)  # the kill came before these were on the training run
        assert known is not None
        roll_up(run, "final", "g", {**MEANS, "weighted_total_loss": 0.2}, 6, "said")
        found = run.client.get_run(run.run_id).data
    rolled = {name: value for name, value in found.metrics.items() if name.startswith("eval/")}
    assert rolled == {
        "eval/weighted_total_loss": 0.2,
        "eval/weighted_total_loss_low": 0.3,
        "eval/weighted_total_loss_high": 0.5,
    }
    assert found.tags["eval.run_id"] == "final"


def test_the_headline_alone_is_rolled_up_and_what_an_older_run_has_beside_it_goes_on(workdir: Path):
    with open_run("training", {"kind": "train_lora"}, experiment="e") as run:
        run.log_metrics({"eval/kid": 0.3, "eval/ssim": 0.1}, step=3)
        numbers = {**MEANS, "gain_weighted_total_loss": 0.1, "ssim": 0.5, "kid": 0.2, "specific_visual_loss": 0.1}
        roll_up(run, "final", "g", numbers, 6, "said")
        found = run.client.get_run(run.run_id).data.metrics
    expected = {"weighted_total_loss": 0.4, "gain_weighted_total_loss": 0.1, "ssim": 0.5, "kid": 0.2}
    assert found == {f"eval/{name}": value for name, value in expected.items()}


def test_an_evaluation_that_ends_once_more_adds_no_point_and_another_value_does(workdir: Path):
    with open_run("training", {"kind": "train_lora"}, experiment="e") as run:
        for numbers in (MEANS, MEANS, {**MEANS, "weighted_total_loss": 0.2}):
            roll_up(run, "final", "g", numbers, 6, "said")
        points = {
            name: [point.value for point in run.client.get_metric_history(run.run_id, f"eval/weighted_total_loss{name}")]
            for name in ("", "_low")
        }
    assert points == {"": [0.4, 0.2], "_low": [0.3]}


def test_a_check_makes_no_free_prompts_and_is_compared_with_the_final_evaluation_all_the_same(workdir: Path):
    prompts = {"without_trigger": ["a blue hat", "a red dress"], "with_trigger": ["a yellow hat, {}", "a green dress, {}"]}
    (workdir / "free.yaml").write_text(json.dumps(prompts), encoding="utf-8")
    few = {"max_references": 2, "images_per_reference": 1, "num_inference_steps": 1, "resamples": 10, "extra_metrics": []}
    given = {
        "resolution": 64,
        "steps": 4,
        "rank": 2,
        "performance_check_interval": 2,
        "prompts": "free.yaml",
        "references": "embedded",
        **few,
    }
    outcome = fm.train_lora({"model.base": "embedded", "data.train_data_dir": "embedded", **given}, folder="out")
    check, final = workdir / "out" / "evaluation-step00000002", workdir / "out" / "evaluation"
    assert not (check / "free_prompts.csv").exists()
    assert (final / "free_prompts.csv").is_file()
    assert outcome.evaluation is not None
    assert outcome.evaluation.free is not None
    assert fm.compare(check, final).first.facts["fingerprint"] == outcome.evaluation.fingerprint
