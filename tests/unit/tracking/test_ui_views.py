"""A ranking holds runs that were measured in one way, the most gained first."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fashion_ml.tracking.queries import kept_views
from fashion_ml.tracking.ui_views import SHORT, VIEWS, of_fingerprint, tag_of


def state(tag: str) -> dict[str, Any]:
    return dict(json.loads(zlib.decompress(base64.b64decode(tag.removeprefix("deflate;")))))


def test_rankings_are_by_gain_and_show_the_first_digits_of_one_fingerprint():
    for view in (one for one in VIEWS if one.kind in ("train_lora", "evaluation")):
        found = state(tag_of(of_fingerprint(view, "0123456789abcdef", newest=True)))
        assert "gain_weighted_total_loss" in found["orderByKey"]
        assert found["orderByAsc"] is False
        assert f"tags.`{view.measured_by}` = '0123456789abcdef'" in found["searchFilter"]
        assert view.charts or f"tags.`{SHORT}`" in found["selectedColumns"]


def test_each_fingerprint_of_an_experiment_has_a_view_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    for fingerprint in ("aaaaaaaa11", "bbbbbbbb22", "bbbbbbbb22"):
        client.create_run("0", tags={"kind": "train_lora", "eval.fingerprint": fingerprint})
    client.create_run("0", tags={"kind": "train_lora"})
    found = [view for view in kept_views("0") if not view.charts]
    assert [view.title for view in found] == ["LoRA trainings, measured as bbbbbbbb", "LoRA trainings, measured as aaaaaaaa"]
    assert [view.key for view in found] == ["fashion-ml-lora", "fashion-ml-lora-aaaaaaaa"]
