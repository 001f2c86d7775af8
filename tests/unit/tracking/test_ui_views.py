"""A ranking holds runs that were measured in one way, the most gained first."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from fashion_ml.runtime.language import VARIABLE
from fashion_ml.tracking.queries import kept_views
from fashion_ml.tracking.ui_views import SHORT, VIEWS, of_fingerprint, tag_of


def state(tag: str) -> dict[str, Any]:
    return dict(json.loads(zlib.decompress(base64.b64decode(tag.removeprefix("deflate;")))))


def test_rankings_are_by_gain_and_show_the_first_digits_of_one_fingerprint():
    for view in (one for one in VIEWS if one.kind in ("train_lora", "evaluation") and one.measured_by):
        found = state(tag_of(of_fingerprint(view, "0123456789abcdef", newest=True)))
        assert "gain_weighted_total_loss" in found["orderByKey"]
        assert found["orderByAsc"] is False
        assert f"tags.`{view.measured_by}` = '0123456789abcdef'" in found["searchFilter"]
        assert view.charts or f"tags.`{SHORT}`" in found["selectedColumns"]


def test_titles_are_said_in_the_language_and_what_the_store_keeps_is_english(monkeypatch: pytest.MonkeyPatch):
    views = [of_fingerprint(view, "0123456789abcdef", newest=True) for view in VIEWS]
    kept = [tag_of(view) for view in views]
    monkeypatch.setenv(VARIABLE, "zh-TW")
    assert views[0].said == "LoRA 訓練，量測方式 01234567"
    assert not [view.said for view in views if "measured" in view.said or "trainings" in view.said]
    assert [tag_of(view) for view in views] == kept


def test_each_fingerprint_of_an_experiment_has_a_view_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    for fingerprint in ("aaaaaaaa11", "bbbbbbbb22", "bbbbbbbb22"):
        client.create_run("0", tags={"kind": "train_lora", "eval.fingerprint": fingerprint})
    client.create_run("0", tags={"kind": "train_lora"})
    found = [view for view in kept_views("0") if not view.charts]
    assert [view.said for view in found] == ["LoRA trainings, measured as bbbbbbbb", "LoRA trainings, measured as aaaaaaaa"]
    assert [view.key for view in found] == ["fashion-ml-lora", "fashion-ml-lora-aaaaaaaa"]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


@pytest.mark.parametrize(
    ("kind", "keys"), [("train_lora", ["sample_0", "sample_1"]), ("train_stargan", ["grid_latent", "grid_reference"])]
)
def test_what_a_training_has_drawn_is_shown_large_first_at_its_last_step_and_without_params(
    client: MlflowClient, kind: str, keys: list[str], tmp_path: Path
):
    experiment = client.create_experiment("pictures", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_run(experiment, tags={"kind": kind})
    assert not [view for view in kept_views(experiment) if view.page == "pictures"]
    run_id = client.create_run(experiment, tags={"kind": kind}).info.run_id
    for step in (0, 20, 100):
        for key in keys:
            client.log_image(run_id, Image.new("RGB", (8, 8)), key=key, step=step, synchronous=True)
    (view,) = [view for view in kept_views(experiment) if view.page == "pictures"]
    found = state(tag_of(view))
    assert [section["display"] for section in found["compareRunSections"]] == [True, True, False, False, False]
    first = [chart for chart in found["compareRunCharts"] if chart["metricSectionId"] == found["compareRunSections"][0]["uuid"]]
    assert [(one["type"], one["imageKeys"], one["step"], one["showRunParams"]) for one in first] == [
        ("IMAGE", keys, 100, False)
    ]
    runs = client.search_runs([experiment], found["searchFilter"])
    assert [run.info.run_id for run in runs] == [run_id]


def test_the_page_that_compares_begins_with_the_loss_and_the_score_and_folds_everything_else():
    for view in (one for one in VIEWS if one.page == "compared"):
        found = state(tag_of(view))
        names = [section["name"] for section in found["compareRunSections"] if section["display"]]
        assert names == ["Loss and score", view.title]
        charts = [chart.get("metricKey", "") for chart in found["compareRunCharts"]]
        assert (
            charts[:2]
            == {"train_lora": ["total_loss", "eval/gain_weighted_total_loss"], "train_stargan": ["d_loss", "g_loss"]}[view.kind]
        )
