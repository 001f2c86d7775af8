"""A confirmation is one draw: it is known on every machine, and another one of the same sweep is said and judged as another one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashion_ml.evaluation.compare import Evaluated
from fashion_ml.evaluation.recipes import crossed_gain
from fashion_ml.sweep import confirm as confirm_module
from fashion_ml.sweep.best_settings import note_confirmed, write_best
from fashion_ml.sweep.confirm_notes import Draw, Standing
from fashion_ml.sweep.confirmed import Confirmation, difference_of
from fashion_ml.sweep.ranked import best_trials, ranked, tied_with_best
from fashion_ml.sweep.report import write_report
from fashion_ml.sweep.study import ask_for
from fashion_ml.sweep.trial import TrialError, TrialRunner
from tests.unit.sweep.test_confirm_best import Run, SimpleNamespace, measured
from tests.unit.sweep.test_study import a_study

TOTAL = "weighted_total_loss"


class Bench:
    """A sweep whose trials are done, machines that confirm it, and what they train."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, searched: list[float], fresh: dict[str, float]):
        self.folder, self.fresh, self.trained, self.run = folder, fresh, list[str](), Run()
        self.spec, self.study = a_study(folder, trials=len(searched), confirm={"best": 1, "seeds": [101, 102, 103]})
        self.failing, self.seen = "", 0
        ask_for(self.study, self.spec)
        parent = SimpleNamespace(run_id="study")
        runner = TrialRunner(self.spec, folder / "base.yaml", folder / "trials", parent)  # type: ignore[arg-type]

        def train(trial: Any, *_: Any, **__: Any) -> Any:
            evaluation = {"run_id": "e-0", "metrics": {TOTAL: {"mean": searched[trial.user_attrs["slot"]]}}}
            return {"training_seconds": 1.0, "trained_parameters": 1, "evaluation": evaluation}

        runner.train = train  # type: ignore[method-assign]
        self.study.optimize(runner, n_trials=len(searched))
        patch.setattr(confirm_module, "run_training", self._train)
        patch.setattr("fashion_ml.runs.compare.evaluated", self._evaluated)

    def _train(self, trainer: str, base: Path, given: Any, place: Path, *_: Any) -> Any:
        name, seed = place.parent.name, given["training.seed"]
        if name == self.failing:
            raise TrialError("no memory")
        self.trained.append(f"{name} {seed}")
        return {"evaluation": {"run_id": f"{name}-{seed}"}}

    def _evaluated(self, _: Any, run_id: str) -> Evaluated:
        name, _, seed = run_id.rpartition("-")
        return replace(measured(name, int(seed), self.fresh.get(name, 0.5)), seen=self.seen if name != "e" else 0)

    def confirm(self, machine: str = "here", *, train: bool = True, **confirm: Any) -> Confirmation:
        place, spec = self.folder / machine, self.spec
        spec = spec.model_copy(update={"confirm": spec.confirm.model_copy(update=confirm)})
        place.mkdir(exist_ok=True)
        base = place / "base.yaml"
        base.write_text("name: x\ndata: {train_data_dir: embedded}\n", encoding="utf-8")
        outcome = confirm_module.confirm(spec, self.study, base, place / "confirm", self.run, train=train)  # type: ignore[arg-type]
        note_confirmed(spec, self.study, base, place, outcome, self.run, ended=True)  # type: ignore[arg-type]
        return outcome

    def best(self, machine: str = "here") -> tuple[Any, str]:
        texts = [(self.folder / machine / f"best.{end}").read_text(encoding="utf-8") for end in ("json", "yaml")]
        return json.loads(texts[0]), texts[1]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch, [0.3, 0.2, 0.25], {"default": 0.5, "trial_0001": 0.5, "trial_0002": 0.4})


def test_confirming_again_by_other_seeds_is_a_second_confirmation_and_takes_more(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    first = bench.confirm()
    assert first.found[0].difference.verdict == "not shown"
    assert first.found[0].standing == ""
    caplog.clear()
    second = bench.confirm(seeds=(201, 202, 203))
    line = "confirmation number 2 of this sweep (p times 3); before it seeds 101, 102, 103, image seed 1001: trial 1 not shown"
    assert any(line in said for said in caplog.messages)
    (one,) = second.found
    sides = [[bench._evaluated(None, f"{name}-{seed}") for seed in (201, 202, 203)] for name in ("default", "trial_0001")]
    alone = difference_of(*sides, TOTAL)
    assert alone.p is not None
    assert one.difference.p == min(3 * alone.p, 1)
    assert one.difference.gain.ends is not None
    assert alone.gain.ends is not None
    assert one.difference.gain.ends[0] < alone.gain.ends[0] < alone.gain.ends[1] < one.difference.gain.ends[1]
    facts, text = bench.best()
    assert line in one.sentence(TOTAL)
    assert line in facts["standing"]
    assert line in text
    assert line in bench.run.tags["confirmation_number"]
    assert line in bench.run.description
    report = json.loads((bench.folder / "here" / "confirm" / "confirmation.json").read_text(encoding="utf-8"))
    assert (report["number"], report["standing"]) == (2, line)
    assert report["power"]["sees"] > 0


@pytest.mark.parametrize(
    "changed",
    [
        {"seeds": (101, 102, 103, 104)},
        {"image_seed": 7},
        {"best": 2},
        {"references": "elsewhere"},
    ],
)
def test_whatever_is_changed_of_a_confirmation_makes_it_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
):
    monkeypatch.setattr(confirm_module, "held_of", lambda *_: 12)
    bench.confirm()
    assert bench.confirm(**changed).found[0].standing.startswith("confirmation number 2 of this sweep (p times 3); before it")


def test_going_back_to_the_first_confirmation_trains_nothing_and_names_the_second(bench: Bench):
    first = bench.confirm()
    bench.confirm(seeds=(201, 202, 203))
    bench.trained.clear()
    again = bench.confirm(seeds=(103, 101, 102))
    assert bench.trained == []
    assert again.found[0].difference.p == pytest.approx(first.found[0].difference.p)
    assert again.found[0].standing.startswith("confirmation number 1 of this sweep; after it seeds 201, 202, 203")


def test_a_quick_look_at_a_part_of_the_confirmation_is_no_draw_of_its_own_and_one_by_another_seed_is(bench: Bench):
    looked = bench.confirm(quick=True)
    assert looked.found[0].standing == ""
    assert bench.confirm().found[0].standing == ""
    bench.confirm(quick=True, seeds=(301,))
    standing = bench.confirm(seeds=(201, 202, 203)).standing
    assert standing is not None
    assert [one.seeds for one in standing.earlier] == [(101, 102, 103), (301,)]


def test_what_was_trained_on_one_machine_is_not_trained_on_another(bench: Bench):
    here = bench.confirm()
    assert len(bench.trained) == 6
    there = bench.confirm("there")
    assert len(bench.trained) == 6
    assert there.found == here.found
    assert bench.best("there")[0]["verdict"] == "not shown"


def test_a_report_trains_nothing_unless_asked_and_says_what_is_left(bench: Bench, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    outcome = bench.confirm(train=False)
    assert bench.trained == []
    assert "Not confirmed: 6 of 6 trainings are left (default with seed 101, " in caplog.text
    assert "sweep-report with --confirm, trains them" in caplog.text
    assert len(outcome.left) == 6
    facts, text = bench.best()
    assert facts["why"] == "not confirmed yet: 6 fresh trainings are left"
    assert "# Not confirmed yet: 6 fresh trainings are left: the value is the best of many" in text
    bench.confirm()
    assert bench.confirm("there", train=False).found[0].difference.verdict == "not shown"
    bench.confirm(train=False, seeds=(201, 202, 203))
    assert "confirmation number 2 of this sweep (p times 3); before it seeds 101, 102, 103" in bench.best()[0]["why"]
    assert bench.run.tags["confirmation"] == "not shown"


def test_the_first_of_two_machines_that_has_measured_a_training_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def slower(trainer: str, base: Path, given: Any, place: Path, *_: Any) -> Any:
        noted = bench.study.user_attrs
        for key, value in noted.items():
            if key.startswith("confirm_training") and not value["evaluation"]:
                faster = f"{value['name']}-{value['seed']}"
                bench.study.set_user_attr(key, {**value, "run": "theirs", "evaluation": faster})
        return {"evaluation": {"run_id": "lost-0"}}

    monkeypatch.setattr(confirm_module, "run_training", slower)
    assert bench.confirm().found[0].difference.other == pytest.approx(0.5, abs=0.02)
    noted = [value for key, value in bench.study.user_attrs.items() if key.startswith("confirm_training")]
    assert {one["run"] for one in noted} == {"theirs"}


def test_where_the_best_fails_its_tag_is_not_that_of_another_trial(bench: Bench):
    bench.failing = "trial_0001"
    outcome = bench.confirm(best=2)
    assert [one.trial for one in outcome.found] == [2]
    assert outcome.found[0].difference.verdict == "better"
    assert bench.run.tags["confirmation"] == "no verdict: its fresh trainings failed"
    assert all(np.isnan(value) for name, value in bench.run.metrics.items() if name.startswith("confirmed_"))
    assert "trial 1: no verdict: its fresh trainings failed: no memory" in bench.run.description
    facts, _ = bench.best()
    assert facts["why"] == "not confirmed: its fresh trainings failed: no memory"
    bench.failing = "default"
    assert bench.confirm(best=2, seeds=(201, 202, 203)).failed == dict.fromkeys(
        (1, 2), "the default's fresh trainings failed: no memory"
    )


def test_references_that_were_trained_on_are_said_beside_the_verdict(bench: Bench):
    bench.seen = 8
    (one,) = bench.confirm().found
    said = "8 of the 8 references that confirm were trained on, so what is better may be better at those by heart"
    assert one.sentence(TOTAL).endswith(said)
    facts, text = bench.best()
    assert facts["references_seen_in_training"] == 8
    assert text.count(said) == 2
    report = json.loads((bench.folder / "here" / "confirm" / "confirmation.json").read_text(encoding="utf-8"))
    assert report["confirmed"][0]["references_seen_in_training"] == 8


def test_of_trials_that_tie_the_first_is_the_best_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bench = Bench(tmp_path, monkeypatch, [0.3, 0.2, 0.2], {"trial_0001": 0.4})
    assert [trial.user_attrs["slot"] for trial in best_trials(bench.study)] == [1]
    assert [trial.user_attrs["slot"] for trial in ranked(bench.study)] == [1, 2, 0]
    assert tied_with_best(bench.study) == [1, 2]
    (tmp_path / "base.yaml").write_text("name: x\ndata: {train_data_dir: embedded}\n", encoding="utf-8")
    bench.run.log_table = lambda *_: None  # type: ignore[attr-defined]
    write_report(bench.spec, bench.study, tmp_path / "base.yaml", tmp_path / "report", bench.run)  # type: ignore[arg-type]
    assert bench.run.metrics["best_weighted_total_loss"] == 0.2
    assert [trial.trial for trial in bench.confirm().found] == [1]
    facts, text = bench.best()
    assert facts["tied"] == [1, 2]
    assert "# 2 trials tie (1, 2): the first is taken." in text
    assert [path.name for path in write_best(bench.spec, bench.study, tmp_path / "base.yaml", tmp_path)] == [
        "best.yaml",
        "best.json",
    ]


def test_who_confirms_until_one_says_better_is_told_so_of_equal_settings_in_at_most_5_percent():
    """Each of 1,000 sweeps is confirmed up to eight times on the same eight references, with other training seeds, until one says better."""
    draws = [Draw((1,), (number,), 1, "") for number in range(8)]
    better, sweeps = {"corrected": 0, "uncorrected": 0}, 1000
    for sweep in range(sweeps):
        draw = np.random.default_rng([5, sweep])
        hard, told = draw.normal(0, 0.05, 8), set[str]()
        for number in range(8):
            first, second = (0.5 + draw.normal(0, 0.01, (3, 1)) + hard + draw.normal(0, 0.01, (3, 8)) for _ in range(2))
            found = crossed_gain(TOTAL, first, second)
            assert found is not None
            times = Standing(draws[number], draws[:number]).times
            told |= {
                how for how, factor in (("corrected", times), ("uncorrected", 1)) if found.mean > 0 and found.p * factor < 0.05
            }
        for how in told:
            better[how] += 1
    assert better["corrected"] / sweeps <= 0.05
    assert better["uncorrected"] / sweeps > 0.08
