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
from fashion_ml.sweep.best_settings import note_confirmed, write_best
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
        evaluation = {"run_id": f"e-{trial.user_attrs['slot']}", "metrics": {"weighted_total_loss": {"mean": value}}}
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


class Run:
    """What a sweep's run was given, in place of a store."""

    run_id, experiment_id = "run", "0"

    def __init__(self) -> None:
        self.client = SimpleNamespace(get_metric_history=self._history)
        self.files, self.tags, self.metrics, self.description = list[str](), dict[str, str](), dict[str, float](), ""

    def log_file(self, path: Path, folder: str | None = None) -> None:
        self.files.append(path.name)

    def set_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        self.metrics |= metrics

    def _history(self, _: str, key: str) -> list[Any]:
        return [SimpleNamespace(step=0, value=self.metrics[key])] if key in self.metrics else []

    def note(self, text: str) -> None:
        self.description = text

    def close_child(self, *_: Any) -> None: ...

    def begun(self, run_id: str) -> bool:
        return True

    def child(self, name: str, tags: dict[str, str]) -> Any:
        return SimpleNamespace(run_id=name)


def confirmed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fresh: float, default: float, **confirm: Any
) -> tuple[list[Any], list[str], Run]:
    """What comes out where the best settings, trained anew, have one loss and the default another; and what was trained."""
    spec, study = searched(folder)
    spec = spec.model_copy(update={"confirm": spec.confirm.model_copy(update=confirm)})
    trained = list[str]()
    (folder / "base.yaml").write_text("name: x\ndata: {train_data_dir: embedded}\n", encoding="utf-8")  # 32 of 72 images

    def training(trainer: str, base: Path, given: Any, place: Path, *_: Any) -> Any:
        trained.append(place.parent.name)
        return {"evaluation": {"run_id": f"{place.parent.name}-{given['training.seed']}"}}

    def evaluated(_: Any, run_id: str) -> Evaluated:
        name, _, seed = run_id.rpartition("-")
        return measured(name, int(seed), default if name == "default" else SEARCHED[int(seed)][0] if name == "e" else fresh)

    monkeypatch.setattr(confirm_module, "run_training", training)
    monkeypatch.setattr("fashion_ml.runs.compare.evaluated", evaluated)
    run = Run()
    outcome = confirm_module.confirm(spec, study, folder / "base.yaml", folder / "confirm", run)  # type: ignore[arg-type]
    note_confirmed(spec, study, folder / "base.yaml", folder, outcome, run, ended=True)  # type: ignore[arg-type]
    return list(outcome.found), trained, run


def best_json(folder: Path) -> Any:
    return json.loads((folder / "best.json").read_text(encoding="utf-8"))


def test_the_best_trial_that_keeps_the_constraints_is_trained_anew_beside_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of 0.1 with too many parameters, 0.2 and 0.3 it is 0.2; 0.4 with fresh seeds against 0.5 of the default is a gain of 0.1."""
    (one,), trained, run = confirmed(tmp_path, monkeypatch, fresh=0.4, default=0.5)
    assert (one.trial, one.searched) == (2, 0.2)
    assert trained == ["default"] * 3 + ["trial_0002"] * 3
    assert (one.fresh, one.default, one.difference.gain.mean) == pytest.approx((0.4, 0.5, 0.1), abs=0.02)
    assert one.difference.verdict == "better"
    (row,) = json.loads((tmp_path / "confirm" / "confirmation.json").read_text(encoding="utf-8"))["confirmed"]
    assert (row["verdict"], row["searched"]) == ("better", 0.2)
    assert run.tags == {"confirmation": "better", "confirmation_number": ""}
    gains = {f"confirmed_gain{end}" for end in ("", "_low", "_high")}
    assert {"confirmed_weighted_total_loss", "confirmed_default", *gains} == set(run.metrics)
    assert (run.metrics["confirmed_gain_low"], run.metrics["confirmed_gain_high"]) == one.difference.gain.ends
    facts = best_json(tmp_path)
    assert (facts["trial"], facts["searched"], facts["verdict"], facts["quick"]) == (
        2,
        {"weighted_total_loss": 0.2},
        "better",
        "",
    )
    told = facts["confirmed"]
    assert (told["value"], told["default"], told["claim"], told["seeds"]) == (
        one.fresh,
        one.default,
        "this recipe",
        [101, 102, 103],
    )
    assert told["low"] <= told["gain"] <= told["high"]
    assert (told["image_seed"], told["references"]) == (1001, "held back from the search")
    head = (tmp_path / "best.yaml").read_text(encoding="utf-8").splitlines()[:4]
    assert head[0].startswith(
        "# Trial 2 of the sweep test: weighted_total_loss 0.2 (mean over the seeds [0], by the half of the references"
    )
    assert head[1] == "# Confirmed with training seeds 101, 102, 103, image seed 1001 and references held back from the search:"
    assert head[2].startswith("# trial 2: weighted_total_loss 0.2000 in the search, 0.")
    assert head[3] == "# Verdict: better."


def test_settings_that_only_had_luck_in_the_search_are_called_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (one,), _, _ = confirmed(tmp_path, monkeypatch, fresh=0.6, default=0.5)
    assert one.difference.verdict == "worse"
    assert "0.2000 in the search, 0.6" in one.sentence("weighted_total_loss")
    assert "the default has 0.5" in one.sentence("weighted_total_loss") or "the default has 0.4" in one.sentence(
        "weighted_total_loss"
    )


def test_what_the_confirmation_can_see_is_said_and_written_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """From the better half of the feasible trials, 0.2 and 0.3: that their means differ by 0.1 stands for the spread of the seeds."""
    before = dict[str, Any]()
    caplog.set_level("INFO")
    real = confirm_module._trained

    def look_first(*given: Any) -> Any:
        before.setdefault("file", json.loads((tmp_path / "confirm" / "confirmation.json").read_text(encoding="utf-8")))
        before.setdefault("said", caplog.text)
        return real(*given)

    monkeypatch.setattr(confirm_module, "_trained", look_first)
    _, _, run = confirmed(tmp_path, monkeypatch, fresh=0.4, default=0.5)
    said = "In the confirmation with 3 seeds x 16 references a difference in weighted_total_loss below 0."
    assert said in before["said"]
    assert before["file"]["confirmed"] == []
    power = before["file"]["power"]
    assert power["sentence"].startswith(said)
    assert (power["trials"], power["own_seeds"], power["found"]) == (2, False, pytest.approx(0.05))
    assert power["seed_sd"] == pytest.approx(0.1 / 2**0.5, rel=0.1)
    assert said in run.description


def test_a_quick_look_takes_one_seed_has_no_verdict_and_is_marked_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (one,), trained, run = confirmed(tmp_path, monkeypatch, fresh=0.3, default=0.5, quick=True)
    assert trained == ["default", "trial_0002"]
    assert (one.difference.verdict, one.difference.why) == ("", "quick: one seed, not a confirmation")
    assert "with one fresh seed; the default has 0." in one.sentence("x")
    assert one.sentence("x").endswith("no verdict: quick: one seed, not a confirmation")
    assert "gain of this file" in one.sentence("x")
    assert run.tags == {"confirmation": "quick: one seed, not a confirmation", "confirmation_number": ""}
    assert all(name.startswith("quick_") for name in run.metrics)
    report = json.loads((tmp_path / "confirm" / "confirmation.json").read_text(encoding="utf-8"))
    assert (report["quick"], report["claim"]) == ("quick: one seed, not a confirmation", "this file")
    facts = best_json(tmp_path)
    assert (facts["quick"], facts["verdict"], facts["confirmed"]["claim"]) == (report["quick"], "", "this file")
    assert "# Quick: one seed, not a confirmation: training seed 101, image seed 1001" in (tmp_path / "best.yaml").read_text()


def test_best_settings_that_were_never_confirmed_say_so(tmp_path: Path):
    spec, study = searched(tmp_path)
    (tmp_path / "base.yaml").write_text("name: x\ndata: {train_data_dir: embedded}\n", encoding="utf-8")
    write_best(spec, study, tmp_path / "base.yaml", tmp_path, why="not confirmed yet: trials are left")
    facts = best_json(tmp_path)
    assert (facts["confirmed"], facts["verdict"], facts["why"]) == (None, "", "not confirmed yet: trials are left")
    head = (tmp_path / "best.yaml").read_text(encoding="utf-8").splitlines()[1]
    assert head == "# Not confirmed yet: trials are left: the value is the best of many, so optimistic."
