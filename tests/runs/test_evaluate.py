"""Evaluations of a finished run and of images made elsewhere, and comparing them."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from skimage.metrics import structural_similarity

from fashion_ml.embedded.garments import render, sample_garments
from tests.runs.chinese import english
from tests.runs.command import FEW, SHORT, Finished, fashion_ml


@pytest.fixture
def folders(workdir: Path) -> tuple[Path, Path]:
    """References as PNG, "generated" as JPEG of other sizes; one of each without a partner, and one that is broken."""
    references, generated = workdir / "references", workdir / "generated"
    references.mkdir()
    generated.mkdir()
    for index, garment in enumerate(sample_garments(6, seed=21)):
        render(garment, 96).save(references / f"look_{index}.png")
        side = 64 if index % 2 else 120
        render(garment, 96).resize((side, side)).save(generated / f"look_{index}.jpg", quality=70)
    (references / "look_5.png").rename(references / "alone.png")
    (generated / "look_4.jpg").write_bytes((generated / "look_4.jpg").read_bytes()[:200])
    return generated, references


def images(workdir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Measured by the embedded encoder, on purpose, unless the arguments name another."""
    uri = f"sqlite:///{workdir / 'mlflow.db'}"
    encoder = () if "--encoder" in arguments else ("--encoder", "embedded")
    return fashion_ml("evaluate", "images", "--json", "out.json", *encoder, *arguments, cwd=workdir, uri=uri)


def independent(first: Path, second: Path) -> tuple[float, float]:
    """ssim and color_correlation by OpenCV, scikit-image and PIL's resize alone."""
    a, b = (Image.open(path).convert("RGB") for path in (first, second))
    histograms = [
        cv2.calcHist([np.asarray(p)], [0, 1, 2], None, [32, 32, 32], [0, 256, 0, 256, 0, 256]).ravel() for p in (a, b)
    ]
    size = min(a.width, b.width), min(a.height, b.height)
    resized = [np.asarray(p if p.size == size else p.resize(size, Image.Resampling.BICUBIC)) for p in (a, b)]
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in resized]
    return structural_similarity(*grey, data_range=255), cv2.compareHist(*histograms, cv2.HISTCMP_CORREL)


def test_folders_are_paired_by_stem_and_what_cannot_be_used_is_named(workdir: Path, folders: tuple[Path, Path]):
    generated, references = folders
    result = images(workdir, "--generated", "generated", "--reference", "references")
    assert result.returncode == 0, result.stderr
    facts = json.loads((workdir / "out.json").read_text(encoding="utf-8"))
    assert [pair["name"] for pair in facts["pairs"]] == ["look_0", "look_1", "look_2", "look_3"]
    assert facts["unpaired"] == {"generated": ["look_5.jpg"], "reference": ["alone.png", "look_4.png"]}  # its partner is broken
    (broken,) = facts["unreadable"]
    assert "generated/look_4.jpg' cannot be read" in broken
    assert "look_4.jpg" in result.stderr
    assert "look_5.jpg" in result.stderr
    assert "alone.png" in result.stderr
    for pair in facts["pairs"]:
        ssim, correlation = independent(generated / f"{pair['name']}.jpg", references / f"{pair['name']}.png")
        assert pair["ssim"] == pytest.approx(ssim, abs=1e-6)
        assert pair["color_correlation"] == pytest.approx(correlation, abs=1e-6)
        total = 0.2 * pair["visual_loss"] + 0.6 * pair["fashion_clip_loss"] + 0.2 * pair["color_loss"]
        assert pair["weighted_total_loss"] == pytest.approx(total, abs=1e-6)
        assert {"fashion_similarity", "fashion_attribute_similarity", "attribute_kind"} <= set(pair)
    mean = sum(pair["weighted_total_loss"] for pair in facts["pairs"]) / 4
    assert facts["aggregates"]["weighted_total_loss"]["mean"] == pytest.approx(mean)
    assert facts["fingerprint"]["encoder"] == "embedded"

    client = MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}")
    run = client.get_run(facts["run_id"])
    assert run.data.metrics["weighted_total_loss"] == pytest.approx(mean)
    assert "base_ssim" not in run.data.metrics
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    assert sorted(child.info.run_name for child in children) == ["color", "fashion_clip", "ssim"]
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "grid.png", "best_worst.png", "per_image.csv", "images.json"} <= names


def test_the_same_files_on_both_sides_give_no_loss_at_all(workdir: Path, folders: tuple[Path, Path]):
    result = images(workdir, "--generated", "references", "--reference", "references")
    assert result.returncode == 0, result.stderr
    for pair in json.loads((workdir / "out.json").read_text(encoding="utf-8"))["pairs"]:
        assert pair["visual_loss"] == pair["color_loss"] == 0
        assert pair["fashion_clip_loss"] == pytest.approx(0, abs=1e-6)
        assert pair["weighted_total_loss"] == pytest.approx(0, abs=1e-6)
        assert pair["fashion_attribute_similarity"] == pytest.approx(1)


def test_a_csv_pairs_files_of_other_names_and_its_mistakes_are_named(workdir: Path, folders: tuple[Path, Path]):
    with (workdir / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["generated", "reference"], ["look_0.jpg", "look_1.png"], ["look_1.jpg", "alone.png"]])
    common = ("--generated", "generated", "--reference", "references", "--pairs", "pairs.csv")
    weights = ("--weights.visual_loss=0.6", "--set", "evaluation.weights.fashion_clip_loss=0.2", "--resamples", "50")
    assert images(workdir, *common, *weights).returncode == 0
    pairs = json.loads((workdir / "out.json").read_text(encoding="utf-8"))["pairs"]
    assert [(pair["name"], pair["reference"]) for pair in pairs] == [("look_0", "look_1.png"), ("look_1", "alone.png")]
    for pair in pairs:
        total = 0.6 * pair["visual_loss"] + 0.2 * pair["fashion_clip_loss"] + 0.2 * pair["color_loss"]
        assert pair["weighted_total_loss"] == pytest.approx(total, abs=1e-6)
    useless = images(workdir, *common, "--set", "evaluation.guidance_scale=5")
    assert useless.returncode == 2
    assert "evaluation.guidance_scale: is not among these settings; evaluate images takes encoder, without, " in useless.stderr
    (workdir / "pairs.csv").write_text("generated,reference\nlook_0.jpg,none.png\nx.jpg,look_1.png\n", encoding="utf-8")
    refused = images(workdir, *common)
    assert refused.returncode == 2
    lines = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ", 2)[2].split(" of ")[0] for line in lines] == ["line 2", "line 3"]


def test_without_an_encoder_no_such_loss_is_anywhere(workdir: Path, folders: tuple[Path, Path]):
    arguments = ("--generated", "generated", "--reference", "references", "--output-dir", "files")
    missing = images(workdir, *arguments, "--encoder", "local-dir:none")
    assert missing.returncode == 2
    assert "--without fashion_clip" in missing.stderr
    result = images(workdir, *arguments, "--encoder", "local-dir:none", "--without", "fashion_clip", "--name", "of a WebUI")
    assert result.returncode == 0, result.stderr
    facts = json.loads((workdir / "out.json").read_text(encoding="utf-8"))
    absent = ("fashion_clip_loss", "weighted_total_loss", "fashion_similarity", "fashion_attribute_similarity", "kid")
    assert not set(absent) & {*facts["aggregates"], *facts["pairs"][0]}
    client = MlflowClient(f"sqlite:///{workdir / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert sorted(run.info.run_name for run in runs) == ["color", "of a WebUI", "ssim"]
    assert not {name for run in runs for name in run.data.metrics if any(part in name for part in absent)}
    for name in ("per_image.csv", "images.json"):
        text = (workdir / "files" / name).read_text(encoding="utf-8")
        assert not [part for part in absent if f'"{part}"' in text.replace(",", '"')]
    page = (workdir / "files" / "report.html").read_text(encoding="utf-8")
    assert "<td>fashion_clip_loss</td>" not in page
    assert "<td>weighted_total_loss</td>" not in page
    assert "without FashionCLIP there is no weighted_total_loss" in page


@pytest.fixture(scope="module")
def another(finished: Finished) -> dict[str, Any]:
    """A second training in the same store, of another rank, with files kept on the way."""
    arguments = [*SHORT, *FEW, "--rank", "8", "--save_every_n_steps", "2", "--output-dir", "another", "--json", "another.json"]
    result = fashion_ml("train", "lora", *arguments, cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stderr
    return json.loads((finished.folder / "another.json").read_text(encoding="utf-8"))


def test_compare_pairs_two_runs_and_refuses_what_was_measured_differently(finished: Finished, another: dict[str, Any]):
    def compare(*run_ids: str) -> subprocess.CompletedProcess[str]:
        return fashion_ml("compare", *run_ids, "--json", "compared.json", cwd=finished.folder, uri=finished.uri)

    result = compare(finished.facts["run_id"], another["run_id"])
    assert result.returncode == 0, result.stderr
    facts = json.loads((finished.folder / "compared.json").read_text(encoding="utf-8"))
    first, second = (run["evaluation"] for run in (finished.facts, another))
    latest = (
        MlflowClient(finished.uri).get_run(finished.facts["run_id"]).data.tags["eval.run_id"]
    )  # other tests may have measured it again
    assert facts["first"] == latest
    entry = facts["compared"][second["run_id"]]["weighted_total_loss"]
    means = [one["metrics"]["weighted_total_loss"]["lora"]["mean"] for one in (first, second)]
    assert (entry["first"], entry["other"]) == pytest.approx(means)
    assert entry["gain"]["mean"] == pytest.approx(means[0] - means[1])
    assert "weighted_total_loss" in result.stdout
    assert "zarya r8 " in result.stdout

    again = compare(finished.facts["run_id"], another["run_id"], "--resamples", "1", "--lang", "zh-TW")
    assert again.returncode == 0, again.stderr
    names = [MlflowClient(finished.uri).get_run(one["run_id"]).info.run_name for one in (finished.facts, another)]
    assert english(again.stdout + again.stderr, *names) == []
    compared = json.loads((finished.folder / "compared.json").read_text(encoding="utf-8"))["compared"]
    once = compared[second["run_id"]]["weighted_total_loss"]["gain"]
    assert once["mean"] == entry["gain"]["mean"]
    assert (once["low"], entry["gain"]["low"], entry["verdict"]) == (None, None, "")  # two references
    assert facts["claim"] == "this file"
    assert "This file (B) has weighted_total_loss" in result.stdout

    others = ("--seed", "5", "--guidance_scale", "3", "--set", "evaluation.images_per_reference=1")
    seeds = fashion_ml("evaluate", "run", another["run_id"], *others, "--json", "s.json", cwd=finished.folder, uri=finished.uri)
    assert seeds.returncode == 0, seeds.stderr
    other = json.loads((finished.folder / "s.json").read_text(encoding="utf-8"))["run_id"]
    params = MlflowClient(finished.uri).get_run(other).data.params
    assert [params[f"evaluation.{name}"] for name in ("seed", "guidance_scale", "images_per_reference")] == ["5", "3.0", "1"]
    refused = compare(first["run_id"], other)
    assert refused.returncode == 2
    assert "were measured differently; " in refused.stderr
    assert "seed: 0, 5" in refused.stderr
    twice = compare(first["run_id"], first["run_id"])
    assert twice.returncode == 2
    assert "named twice" in twice.stderr


def test_all_checkpoints_become_curves_and_the_best_is_tagged(finished: Finished, another: dict[str, Any]):
    arguments = ("--checkpoints", "all", "--strengths", "0,0.5,1", "--json", "all.json")
    result = fashion_ml("evaluate", "run", another["run_id"], *arguments, cwd=finished.folder, uri=finished.uri)
    assert result.returncode == 0, result.stderr
    evaluations = json.loads((finished.folder / "all.json").read_text(encoding="utf-8"))["evaluations"]
    totals = [one["metrics"]["weighted_total_loss"]["lora"]["mean"] for one in evaluations]
    client = MlflowClient(finished.uri)
    assert [client.get_run(one["run_id"]).data.tags["step"] for one in evaluations] == ["2", "4", "6"]
    training = client.get_run(another["run_id"])
    best = 2 * (totals.index(min(totals)) + 1)
    assert training.data.tags["best_checkpoint_step"] == str(best)
    logs = Path(client.download_artifacts(another["run_id"], "training_logs"))
    (report,) = logs.glob("*_report_*.json")
    losses = json.loads(report.read_text(encoding="utf-8"))["loss_data"]["visual_loss"]
    assert losses["steps"] == [2, 4, 6]
    assert losses["values"] == [one["metrics"]["visual_loss"]["lora"]["mean"] for one in evaluations]
    last = evaluations[-1]
    points = {p.step: p.value for p in client.get_metric_history(last["run_id"], "strength/weighted_total_loss")}
    assert points[0] == pytest.approx(last["metrics"]["weighted_total_loss"]["base"]["mean"])
    assert points[100] == pytest.approx(totals[-1])
    assert points[50] not in (points[0], points[100])
    assert len({one["metrics"]["ssim"]["base"]["mean"] for one in evaluations}) == 1  # one base for all
    assert "strength_curve.png" in {item.path for item in client.list_artifacts(last["run_id"])}
