"""A training without a store that is resumed, measured again, sent, and goes on in the store: several trainings, so in tests/full."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from mlflow import MlflowClient

from tests.runs.command import fashion_ml
from tests.runs.run_tree import artifacts, tree
from tests.runs.test_offline import NOWHERE, TINY, assert_each_point_once, note, runs, sync, train


def test_a_run_goes_on_offline_before_and_after_it_was_sent_and_then_in_the_store(workdir: Path, collection: Path):
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    few = ("--max_references", "2", "--num_inference_steps", "1", "--images_per_reference", "1", "--resamples", "10")
    train(workdir, *TINY, *few, "--sample_every", "2")
    first = note(workdir / "out")["run_id"]
    train(workdir, *TINY, *few, "--sample_every", "2", "--steps", "6", "--resume")
    assert note(workdir / "out")["run_id"] == first
    sync(workdir, "out")
    run_id = note(workdir / "out")["run_id"]
    train(workdir, *TINY, *few, "--sample_every", "2", "--steps", "8", "--resume", "--no-evaluate")
    assert len(client.get_metric_history(run_id, "total_loss")) == 6
    more = (*TINY, *few, "--sample_every", "2", "--steps", "10", "--resume", "--no-evaluate", "--offline", "false")
    result = fashion_ml("train", "lora", *more, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert result.returncode == 0, result.stderr
    run = client.get_run(run_id)
    assert [point.step for point in client.get_metric_history(run_id, "total_loss")] == list(range(1, 11))
    assert run.info.status == "FINISHED"
    assert "error" not in run.data.tags
    found = tree(client, run_id)
    assert [one["params"]["training.max_train_steps"] for one in found["below"]] == ["4", "6"]
    assert [one["status"] for one in found["below"]] == ["FINISHED"] * 2
    pictures = [one for one in found["artifacts"] if one.startswith("images/sample_0+")]
    assert {one.split("+")[2] for one in pictures} == {"0", "2", "4", "6", "8", "10"}
    assert len(pictures) == 12  # each with its small one
    assert_each_point_once(client)


def test_what_is_measured_again_from_an_offline_folder_is_sent_with_it(workdir: Path, collection: Path):
    shutil.copytree(collection, workdir / "outputs" / collection.name)
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    train(workdir, *TINY, "--no-evaluate")
    again = ("--max_references", "2", "--num_inference_steps", "1", "--images_per_reference", "1", "--resamples", "10")
    for seed in ("1", "2"):
        result = fashion_ml("evaluate", "run", "out", *again, "--seed", seed, cwd=workdir, uri=NOWHERE)
        assert result.returncode == 0, result.stderr
    pending = note(workdir / "out")["run_id"]
    sync(workdir, "out")
    training = client.get_run(note(workdir / "out")["run_id"])
    found = [one for one in runs(client) if one.data.tags.get("kind") == "evaluation"]
    seeds = {one.data.params["evaluation.seed"]: one for one in found}
    assert set(seeds) == {"1", "2"}
    for one in found:  # the second wrote the same files as the first, before that was sent
        assert "fingerprint.json" in artifacts(client, one.info.run_id)
        path = client.download_artifacts(one.info.run_id, "fingerprint.json")
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
        assert facts["fingerprint"] == one.data.tags["eval_fingerprint"]
    assert training.data.tags["eval.run_id"] == seeds["2"].info.run_id
    assert training.data.metrics["eval/color_loss"] == seeds["2"].data.metrics["color_loss"]
    result = fashion_ml("evaluate", "run", pending, *again, cwd=workdir, uri=os.environ["MLFLOW_TRACKING_URI"])
    assert result.returncode == 0, result.stderr  # its old name is known
