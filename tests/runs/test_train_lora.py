from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from safetensors.torch import load_file

from fashion_ml.config import load_config, validate
from fashion_ml.metrics.registry import LOSSES, SIMILARITY_OF, TOTAL
from fashion_ml.models.kohya_format import read_metadata
from fashion_ml.reports.loss_log import read_loss_log
from fashion_ml.runs.training_speed import OF_THE_MACHINE
from fashion_ml.runtime.provenance import git_commit
from tests.runs.command import FEW, SHORT, Finished, fashion_ml


@pytest.fixture
def client(finished: Finished) -> MlflowClient:
    return MlflowClient(finished.uri)


@pytest.fixture
def training(client: MlflowClient, finished: Finished) -> Any:
    return client.get_run(finished.facts["run_id"])


def children(client: MlflowClient, run: Any) -> list[Any]:
    return client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")


def artifacts(client: MlflowClient, run_id: str, folder: str = "") -> set[str]:
    found = set()
    for item in client.list_artifacts(run_id, folder or None):
        found |= artifacts(client, run_id, item.path) if item.is_dir else {item.path}
    return found


def test_the_tree_is_training_evaluation_and_three_metric_runs(client: MlflowClient, training: Any):
    (evaluation,) = children(client, training)
    metrics = children(client, evaluation)
    assert [run.data.tags["kind"] for run in (training, evaluation)] == ["train_lora", "evaluation"]
    assert sorted(run.info.run_name for run in metrics) == ["color", "fashion_clip", "ssim"]
    assert training.info.run_name == "zarya r4 a2 lr1e-3 seed 7 6st"
    assert evaluation.info.run_name == "evaluation of zarya r4 a2 lr1e-3 seed 7 6st, step 6"
    what = f"color of every image of the {evaluation.info.run_name}."
    assert what in {run.data.tags["mlflow.note.content"] for run in metrics}
    assert {run.data.tags["kind"] for run in metrics} == {"metric"}
    everything = client.search_runs([training.info.experiment_id])
    assert len(everything) == 5
    assert {run.info.status for run in everything} == {"FINISHED"}


def test_the_training_run_holds_only_what_training_measured_and_the_roll_up(client: MlflowClient, training: Any):
    measured = {"total_loss", "learning_rate", "epoch", "grad_norm", "steps_per_second", "images_per_second"}
    assert {name for name in training.data.metrics if not name.startswith("eval/")} == measured
    rolled_up = {name for name in training.data.metrics if name.startswith("eval/")}
    assert rolled_up == {
        f"eval/{name}" for name in (*LOSSES, *SIMILARITY_OF.values(), f"gain_{TOTAL}")
    }  # 2 references have no interval
    (evaluation,) = children(client, training)
    assert training.data.tags["eval.run_id"] == evaluation.info.run_id
    assert training.data.tags["eval.fingerprint"] == evaluation.data.tags["eval_fingerprint"]
    for name in rolled_up:
        assert training.data.metrics[name] == evaluation.data.metrics[name.removeprefix("eval/")]


def test_the_description_says_what_was_trained_and_how_it_came_out(client: MlflowClient, training: Any):
    verdict, what = training.data.tags["mlflow.note.content"].rsplit("\n\n", 1)
    assert what.startswith("LoRA of embedded: rank 4, alpha 2, 6 steps of batch")
    (evaluation,) = children(client, training)
    assert verdict == evaluation.data.tags["mlflow.note.content"]


def test_the_code_that_trained_is_known(client: MlflowClient, training: Any):
    if git_commit() is None:
        assert "mlflow.source.git.commit" not in training.data.tags
        assert "source.changed" not in training.data.tags
    else:
        assert training.data.tags["mlflow.source.git.commit"] == git_commit()
        kept = "source/uncommitted.diff" in artifacts(client, training.info.run_id)
        assert training.data.tags["source.changed"] == str(kept).lower()


def test_every_step_is_in_mlflow_once(client: MlflowClient, training: Any):
    points = client.get_metric_history(training.info.run_id, "total_loss")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    rows = {
        row.step: row.total_loss for row in read_loss_log(Path(training_folder(client, training)) / "training_loss_log.txt")
    }
    assert sorted(rows) == [1, 2, 4, 6]
    assert all(rows[p.step] == pytest.approx(p.value, abs=1e-6) for p in points if p.step in rows)


def training_folder(client: MlflowClient, run: Any) -> str:
    return client.download_artifacts(run.info.run_id, "training_logs")


def test_every_row_of_the_loss_log_says_na_three_times(client: MlflowClient, training: Any):
    lines = (Path(training_folder(client, training)) / "training_loss_log.txt").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line[0].isdigit()]
    assert len(rows) == 4
    assert all(line.split(",").count("N/A") == 3 for line in rows)


def test_the_exact_set_of_artifacts(client: MlflowClient, training: Any):
    logs = sorted(artifacts(client, training.info.run_id, "training_logs"))
    curves, report = (name for name in logs if "detailed" in name)
    assert artifacts(client, training.info.run_id) - {"source/uncommitted.diff"} == {
        *("config.yaml", "report.html", "grid.png"),
        "data/summary.json",
        "data/contact_sheet.png",
        "lora/lora.safetensors",
        "training_logs/training_loss_log.txt",
        report,
        curves,
    }
    (evaluation,) = children(client, training)
    pictures = {f"images/{who}/zarya_0{i}_{k}.png" for who in ("base", "lora") for i in ("08", "22") for k in (0, 1)}
    tables = {"per_image.csv", "per_image.json", "fingerprint.json", "evaluation_report.json", "summary.json", "report.html"}
    tables |= {"grid.png", "best_worst.png", "memorisation.png"}
    assert artifacts(client, evaluation.info.run_id) == pictures | tables
    for run in children(client, evaluation):
        assert artifacts(client, run.info.run_id) == {"per_image.json", f"histogram_{run.info.run_name}.png"}


def test_the_report_holds_what_training_measured_and_then_what_the_evaluation_did(client: MlflowClient, training: Any):
    (report,) = Path(training_folder(client, training)).glob("*_report_*.json")
    data = json.loads(report.read_text(encoding="utf-8"))
    assert data["training_info"]["total_steps"] == 6
    assert data["training_info"]["final_total_loss"] == training.data.metrics["total_loss"]
    for name in ("visual_loss", "fashion_clip_loss", "color_loss"):
        measured = training.data.metrics[f"eval/{name}"]
        assert data["training_info"][f"final_{name}"] == measured
        assert (data["loss_data"][name]["steps"], data["loss_data"][name]["values"]) == ([6], [measured])


def test_metric_runs_hold_a_value_for_every_image(client: MlflowClient, training: Any):
    (evaluation,) = children(client, training)
    means = {}
    for run in children(client, evaluation):
        for name in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, name)
            if name.endswith(("ciede2000", "color_correlation_masked")):  # absent where a picture has no even background
                continue
            assert [point.step for point in points] == [0, 1, 2, 3]
            means[name] = sum(point.value for point in points) / 4
    for name in ("ssim", "visual_loss", "fashion_similarity", "fashion_clip_loss", "color_correlation", "color_loss"):
        assert means[name] == pytest.approx(evaluation.data.metrics[name])
        assert means[f"base_{name}"] == pytest.approx(evaluation.data.metrics[f"base_{name}"])
    total = 0.2 * means["visual_loss"] + 0.6 * means["fashion_clip_loss"] + 0.2 * means["color_loss"]
    assert total == pytest.approx(evaluation.data.metrics["weighted_total_loss"])


def test_params_are_the_resolved_configuration_on_training_and_evaluation(client: MlflowClient, training: Any):
    (evaluation,) = children(client, training)
    expected = {
        "network.rank": "4",
        "network.alpha": "2.0",
        "optimizer.learning_rate": "0.001",
        "training.max_train_steps": "6",
    }
    for run in (training, evaluation):
        assert expected.items() <= run.data.params.items()
    assert {"data_digest", "base_model", "algorithm", "kind"} <= training.data.tags.keys()
    assert len(training.inputs.dataset_inputs) == len(evaluation.inputs.dataset_inputs) == 1


def test_the_resolved_yaml_is_the_run_again(client: MlflowClient, training: Any, finished: Finished):
    config = load_config(client.download_artifacts(training.info.run_id, "config.yaml"))
    assert validate(config.model_dump()) == config
    assert (config.network.rank, config.training.seed) == (4, 7)
    assert (config.data.train_data_dir, config.evaluation.references, config.output.output_dir) == (
        "embedded",
        "embedded",
        None,
    )


def test_the_file_has_the_true_alpha_and_kohya_metadata(finished: Finished):
    path = Path(finished.facts["lora"])
    alphas = {tensor.item() for name, tensor in load_file(path).items() if name.endswith(".alpha")}
    metadata = read_metadata(path)
    assert alphas == {2.0}
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"], metadata["ss_steps"]) == ("4", "2.0", "6")
    assert metadata["ss_num_train_images"] == "720"  # 72 images x 10 repeats


def test_the_last_lines_are_the_table_with_intervals_where_the_report_is_and_what_was_found(finished: Finished):
    *_, head, visual, clip, color, total, empty, report, grid, then, _, _, first, _, third = (
        finished.stdout.rstrip().splitlines()
    )
    rows = [visual, clip, color, total]
    places = [finished.facts["output_dir"] + f"/evaluation/{name}" for name in ("report.html", "grid.png")]
    assert [line.partition("  ")[2].strip().rpartition("/evaluation/")[2] for line in (report, grid)] == [
        "report.html",
        "grid.png",
    ]
    assert (report.split()[0], grid.split()[0], all(Path(one).is_file() for one in places)) == ("Report", "Grid", True)
    assert then == f"Next      fashion-ml show {finished.facts['run_id'][:8]}"
    assert [line.split()[0] for line in rows] == ["visual_loss", "fashion_clip_loss", "color_loss", "weighted_total_loss"]
    assert all(line.count("[") == 3 for line in rows)
    assert (head.split()[:2], empty) == (["2", "references"], "")
    assert first.startswith("No verdict (line 3 says why): this LoRA ")
    assert third.startswith("No verdict: 2 references are fewer than 6")
    assert "fashion-ml ui" in finished.stdout
    assert "Traceback" not in finished.stderr
    assert "Warning" not in finished.stderr


def test_json_says_the_same_as_mlflow(training: Any, finished: Finished):
    total = finished.facts["evaluation"]["metrics"]["weighted_total_loss"]
    assert total["lora"]["mean"] == training.data.metrics["eval/weighted_total_loss"]
    assert (total["gain"]["low"], total["gain"]["n"], total["verdict"]) == (None, 2, "")  # two references
    assert finished.facts["final_total_loss"] == training.data.metrics["total_loss"]


def test_the_same_command_again_gives_the_same_weights_and_without_evaluation_no_image_metric(
    finished: Finished, client: MlflowClient
):
    arguments = [*SHORT, *FEW, "--no-evaluate", "--json", "again.json", "--output-dir", "again"]
    result = fashion_ml("train", "lora", *arguments, cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((finished.folder / "again.json").read_text(encoding="utf-8"))
    first, again = (load_file(Path(path)) for path in (finished.facts["lora"], facts["lora"]))
    assert all((first[name] == again[name]).all() for name in first)
    assert facts["evaluation"] is None
    run = client.get_run(facts["run_id"])
    assert set(run.data.metrics) - {*OF_THE_MACHINE} == {"total_loss", "learning_rate", "epoch", "grad_norm"}
    (report,) = (finished.folder / "again" / "training_logs").glob("*_report_*.json")
    unmeasured = json.loads(report.read_text(encoding="utf-8"))
    assert unmeasured["training_info"]["final_color_loss"] is None
    assert unmeasured["loss_data"]["visual_loss"]["values"] == []
    assert unmeasured["loss_data"]["visual_loss"]["reason"].startswith("Not measured: training makes no images.")
    assert not [tag for tag in run.data.tags if tag.startswith("eval")]
    assert children(client, run) == []
    client.delete_run(run.info.run_id)

    repeated = fashion_ml("train", "lora", *arguments, cwd=finished.folder, uri=finished.uri)
    assert repeated.returncode == 2
    assert (
        "'again' already holds config.yaml, lora.safetensors, run.json; choose another folder, or add --new" in repeated.stderr
    )


def test_evaluate_run_measures_again_with_the_same_numbers(finished: Finished, client: MlflowClient, training: Any):
    result = fashion_ml(
        "evaluate", "run", finished.facts["run_id"], "--json", "evaluation.json", cwd=finished.folder, uri=finished.uri
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads((finished.folder / "evaluation.json").read_text(encoding="utf-8"))
    before = finished.facts["evaluation"]
    assert (facts["fingerprint"], facts["metrics"]) == (before["fingerprint"], before["metrics"])
    new = client.get_run(facts["run_id"])
    assert new.data.tags["mlflow.parentRunId"] == training.info.run_id
    assert len(children(client, new)) == 3
    for run in [*children(client, new), new]:
        client.delete_run(run.info.run_id)
