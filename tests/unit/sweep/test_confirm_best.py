"""What is confirmed is the best that a search may use, beside the default, and the gain is that of the best over the default."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fashion_ml.evaluation.compare import Evaluated
from fashion_ml.sweep import confirm as confirm_module
from fashion_ml.sweep.study import ask_for
from fashion_ml.sweep.trial import TrialRunner
from tests.unit.sweep.test_study import a_study

SEARCHED = [(0.3, 10), (0.1, 30), (0.2, 20)]
"""weighted_total_loss and parameters of three trials; 30 parameters are too many."""


def searched(folder: Path) -> tuple[Any, Any]:
    spec, study = a_study(folder, trials=3, constraints=["parameters <= 25"], confirm={"best": 1, "seeds": [101, 102, 103]})
    ask_for(study, spec)
    runner = TrialRunner(spec, folder / "base.yaml", folder / "trials", SimpleNamespace(run_id="study"))  # type: ignore[arg-type]

    def train(trial: Any, params: Any, seed: int, *, prune: bool) -> Any:
        value, count = SEARCHED[trial.user_attrs["slot"]]
        evaluation = {"run_id": "e", "metrics": {"weighted_total_loss": {"mean": value}}}
        return {"training_seconds": 1.0, "trained_parameters": count, "evaluation": evaluation}

    runner.train = train  # type: ignore[method-assign]
    study.optimize(runner, n_trials=3)
    return spec, study


def measured(name: str, seed: int, loss: float) -> Evaluated:
    """Eight references whose losses scatter by 0.01 around what a training of these settings has."""
    draw = np.random.default_rng([seed, int(1e3 * loss)])
    losses = loss + draw.normal(0, 0.01, 8)
    table = pd.DataFrame({"reference": [f"r{i}" for i in range(8)], "seed": "1", "weighted_total_loss": losses})
    recipe = {"optimizer.learning_rate": name, "data_digest": "d"}
    return Evaluated(f"{name}-{seed}", name, {"fingerprint": "f"}, table, recipe, str(seed))


def confirmed(folder: Path, monkeypatch: pytest.MonkeyPatch, fresh: float, default: float) -> tuple[list[Any], list[str]]:
    """What comes out where the best settings, trained anew, have one loss and the default another; and what was trained."""
    spec, study = searched(folder)
    trained = list[str]()

    def training(trainer: str, base: Path, given: Any, place: Path, *_: Any) -> Any:
        trained.append(place.parent.name)
        return {"evaluation": {"run_id": f"{place.parent.name}-{given['training.seed']}"}}

    def evaluated(_: Any, run_id: str) -> Evaluated:
        name, _, seed = run_id.rpartition("-")
        return measured(name, int(seed), default if name == "default" else fresh)

    monkeypatch.setattr(confirm_module, "run_training", training)
    monkeypatch.setattr("fashion_ml.runs.compare.evaluated", evaluated)
    run: Any = SimpleNamespace(
        **{name: lambda *_: None for name in ("log_file", "log_metrics", "note", "close_child")},
        run_id="run",
        experiment_id="0",
        client=None,
        child=lambda name, tags: SimpleNamespace(run_id=name),
    )
    return confirm_module.confirm(spec, study, folder / "base.yaml", folder / "confirm", run), trained


def test_the_best_trial_that_keeps_the_constraints_is_trained_anew_beside_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of 0.1 with too many parameters, 0.2 and 0.3 it is 0.2; 0.4 with fresh seeds against 0.5 of the default is a gain of 0.1."""
    (one,), trained = confirmed(tmp_path, monkeypatch, fresh=0.4, default=0.5)
    assert (one.trial, one.searched) == (2, 0.2)
    assert trained == ["default"] * 3 + ["trial_0002"] * 3
    assert (one.fresh, one.default, one.difference.gain.mean) == pytest.approx((0.4, 0.5, 0.1), abs=0.02)
    assert one.difference.verdict == "better"
    (row,) = json.loads((tmp_path / "confirm" / "confirmation.json").read_text(encoding="utf-8"))["confirmed"]
    assert (row["verdict"], row["searched"]) == ("better", 0.2)


def test_settings_that_only_had_luck_in_the_search_are_called_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (one,), _ = confirmed(tmp_path, monkeypatch, fresh=0.6, default=0.5)
    assert one.difference.verdict == "worse"
    assert "0.2000 in the search, 0.6" in one.sentence("weighted_total_loss")
    assert "the default has 0.5" in one.sentence("weighted_total_loss") or "the default has 0.4" in one.sentence(
        "weighted_total_loss"
    )
