"""A training that goes on takes over what a performance check had measured, and the final evaluation comes to its run all the same."""

from __future__ import annotations

from pathlib import Path

from fashion_ml.config import flat, load_config
from fashion_ml.runs.evaluate import roll_up
from fashion_ml.runs.lora import _known_performance
from fashion_ml.tracking.run import open_run

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
    assert rolled == {**{f"eval/{name}": value for name, value in MEANS.items()}, "eval/weighted_total_loss": 0.2}
    assert found.tags["eval.run_id"] == "final"
