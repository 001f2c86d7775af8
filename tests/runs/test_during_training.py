"""What is measured and shown while training runs, and what a run can be exported to."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.reports.loss_log import IMAGE_LOSSES, read_loss_log
from tests.runs.command import FEW, SHORT, Finished, fashion_ml

WATCHED = [
    *("--performance_check_interval", "3", "--sample_every", "2", "--log_with", "tensorboard"),
    *("--validation_split", "0.1", "--no-evaluate", "--output-dir", "out"),
]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, collection: Path) -> Finished:
    folder = tmp_path_factory.mktemp("watched")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    shutil.copytree(collection, folder / "outputs" / collection.name)
    result = fashion_ml("train", "lora", *SHORT, *FEW, *WATCHED, "--json", "facts.json", cwd=folder, uri=uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Finished(folder, facts, result.stdout, result.stderr, uri)


def test_only_rows_of_performance_checks_carry_image_losses_and_they_are_those_of_the_evaluation_run(watched: Finished):
    client = MlflowClient(watched.uri)
    run = client.get_run(watched.facts["run_id"])
    children = client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}' and tags.kind = 'evaluation'"
    )
    by_step = {int(child.data.tags["step"]): child.data.metrics for child in children}
    assert sorted(by_step) == [3, 6]
    assert by_step[3]["weighted_total_loss"] != by_step[6]["weighted_total_loss"]
    rows = read_loss_log(watched.folder / "out" / "training_logs" / "training_loss_log.txt")
    assert [row.step for row in rows if row.visual_loss is not None] == [3, 6]
    for row in rows:
        for name in IMAGE_LOSSES:
            expected = by_step[row.step][name] if row.step in by_step else None
            assert getattr(row, name) == (pytest.approx(expected, abs=1e-6) if expected is not None else None)
    assert not {*IMAGE_LOSSES, "weighted_total_loss", "ssim"} & set(run.data.metrics)
    report = json.loads(next((watched.folder / "out" / "training_logs").glob("*report*.json")).read_text(encoding="utf-8"))
    assert report["loss_data"]["visual_loss"]["steps"] == [3, 6]
    assert report["training_info"]["final_color_loss"] == pytest.approx(by_step[6]["color_loss"])


def test_sample_images_begin_with_the_base_and_have_a_step_slider_and_files_that_say_step_and_prompt(watched: Finished):
    files = [item.path for item in MlflowClient(watched.uri).list_artifacts(watched.facts["run_id"], "images")]
    steps = {int(match[1]) for path in files if (match := re.search(r"sample_0\Wstep\W(\d+)\W", path))}
    assert steps == {0, 2, 4, 6}
    names = {path.name for path in (watched.folder / "out" / "samples").glob("*.png")}
    assert names == {f"step_{step:06d}_prompt{prompt}.png" for step in steps for prompt in range(2)}


def test_tensorboard_has_the_points_of_mlflow(watched: Finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(watched.folder / "out" / "tensorboard"))
    events.Reload()
    client = MlflowClient(watched.uri)
    for name in ("total_loss", "val_loss", "grad_norm"):
        points = client.get_metric_history(watched.facts["run_id"], name)
        board = {event.step: event.value for event in events.Scalars(name)}
        assert board == pytest.approx({point.step: point.value for point in points})


@pytest.fixture(scope="module")
def output() -> Any:
    """The UNet's output on fixed inputs, of the embedded base after `change(pipeline)`, or of another base."""
    x, text = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((1, 4, 16, 16), (1, 8, 128)))

    def of(base: str = "embedded", change: Any = lambda pipeline: None) -> torch.Tensor:
        pipeline = load_pipeline(base)
        change(pipeline)
        with torch.no_grad():
            return pipeline.unet(x, 500, text).sample

    return of


def export(run: Finished, form: str, target: str, *more: str) -> Any:
    return fashion_ml("export", run.facts["run_id"], target, "--format", form, *more, cwd=run.folder, uri=run.uri)


def test_every_export_computes_what_was_trained(watched: Finished, output: Any):
    for form, target in (("kohya", "exported.safetensors"), ("diffusers", "exported"), ("merged", "merged")):
        result = export(watched, form, target)
        assert result.returncode == 0, result.stderr
    trained = Path(watched.facts["lora"])
    assert (watched.folder / "exported.safetensors").read_bytes() == trained.read_bytes()
    expected = output(change=lambda p: p.load_lora_weights(str(trained.parent), weight_name=trained.name))
    assert (expected - output()).abs().max() > 1e-4
    diffusers = output(change=lambda p: p.load_lora_weights(str(watched.folder / "exported")))
    torch.testing.assert_close(diffusers, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(output(str(watched.folder / "merged")), expected, atol=1e-5, rtol=0)


def test_the_folder_for_a_hub_has_both_files_and_the_figures_of_this_steps_evaluation(watched: Finished, output: Any):
    result = export(watched, "hub", "hub")
    assert result.returncode == 0, result.stderr
    assert "Nothing was uploaded. To do so: hf upload YOUR_NAME/lora hub" in result.stderr
    assert (watched.folder / "hub" / "lora.safetensors").read_bytes() == Path(watched.facts["lora"]).read_bytes()
    names = ("pytorch_lora_weights.safetensors", "lora.safetensors")
    one, other = (
        output(change=lambda p, name=name: p.load_lora_weights(str(watched.folder / "hub"), weight_name=name)) for name in names
    )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    card = (watched.folder / "hub" / "README.md").read_text(encoding="utf-8")
    assert str(watched.folder) not in card
    client = MlflowClient(watched.uri)
    of = [client.get_run(watched.facts["run_id"]).info.experiment_id]
    (measured,) = client.search_runs(of, "tags.kind = 'evaluation' and tags.step = '6'")
    (row,) = [line for line in card.splitlines() if line.startswith("| visual_loss |")]
    assert f"{measured.data.metrics['gain_visual_loss']:+.4f}" in row
    assert (watched.folder / "hub" / "grid.png").is_file()


def test_the_best_checkpoint_can_be_exported_and_nothing_is_overwritten(watched: Finished):
    assert export(watched, "kohya", "best.safetensors", "--checkpoint", "best").returncode == 0
    assert load_file(watched.folder / "best.safetensors").keys() == load_file(Path(watched.facts["lora"])).keys()
    again = export(watched, "kohya", "best.safetensors")
    assert again.returncode == 2
    assert "'best.safetensors' exists already; give a new name" in again.stderr
    unknown = export(watched, "onnx", "x")
    assert unknown.returncode == 2
    assert "--format: 'onnx' is not known; use kohya, diffusers, merged, hub" in unknown.stderr


def test_inspect_says_what_the_file_holds(watched: Finished):
    result = fashion_ml("inspect", watched.facts["lora"], "--json", "inspected.json", cwd=watched.folder, uri=watched.uri)
    assert result.returncode == 0, result.stderr
    facts = json.loads((watched.folder / "inspected.json").read_text(encoding="utf-8"))
    assert (facts["rank"], facts["alpha"]) == ([4], [2.0])
    assert set(facts["targets"]) == {"self-attention", "cross-attention", "feed-forward", "convolutions"}
    assert facts["modules"] == sum(facts["targets"].values()) == len(load_file(Path(watched.facts["lora"]))) // 3
    assert facts["parameters"] == watched.facts["trained_parameters"]
    assert "ss_network_dim = 4" in result.stdout
