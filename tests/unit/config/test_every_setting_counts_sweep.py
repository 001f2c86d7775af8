"""Every setting of a sweep reaches the study, the sampler, the trainings or the workers; no training is made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml

from fashion_ml.config import SweepSpec, load_sweep, to_yaml
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.sweep import confirm as confirm_module
from fashion_ml.sweep import launch
from fashion_ml.sweep.objectives import directions_of
from fashion_ml.sweep.plan import storage_url, study_folder
from fashion_ml.sweep.space import grid, suggest
from fashion_ml.sweep.study import ask_for, open_study, planned, sampler_of, set_run
from fashion_ml.sweep.trial import TrialRunner, references_of_search
from tests.unit.config.leaves import leaves, repeated
from tests.unit.config.studies import heartbeat_of, seconds_given

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[3]
RATE, RANK = "optimizer.learning_rate", "network.rank"
CHANGES_NOTHING: dict[str, str] = {}
"""Settings of a sweep that change nothing that could be looked at, each with its "because …"; none does."""


class Sweep:
    """A sweep file with some changes, and what becomes of it."""

    def __init__(self, folder: Path, **changes: Any):
        tree: dict[str, Any] = {
            "name": "plain",
            "trainer": "lora",
            "experiment": str(PROJECT / "experiments" / "lora" / "embedded.yaml"),
            "search_space": {RATE: {"type": "float", "low": 1e-4, "high": 1e-2}, RANK: {"type": "int", "low": 2, "high": 40}},
            "objectives": [{"metric": "weighted_total_loss"}],
            **changes,
        }
        self.folder, self.path = folder, folder / f"sweep_{abs(hash(str(changes)))}.yaml"
        self.path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}), encoding="utf-8")
        self.spec, self.base = load_sweep(self.path, {})
        self._study: Any = None

    @property
    def study(self) -> optuna.Study:
        if self._study is None:
            self._study = open_study(self.spec, self.base, f"sqlite:///{self.folder / self.path.stem}.db", create=True)
            set_run(self._study, "run")
        return self._study

    def drawn(self, slots: int = 12) -> list[dict[str, Any]]:
        """What the sampler draws for some trials, none told yet how the others ended."""
        study = optuna.create_study(directions=directions_of(self.spec))
        found = []
        for slot in range(slots):
            study.sampler = sampler_of(self.spec, slot)
            found.append(suggest(study.ask(), self.spec.search_space))
        return found

    def learnt(self) -> list[dict[str, Any]]:
        """What the sampler draws when each trial has ended with its learning rate as its value."""
        study = optuna.create_study(directions=directions_of(self.spec))
        found = []
        for slot in range(12):
            study.sampler = sampler_of(self.spec, slot)
            trial = study.ask()
            found.append(suggest(trial, self.spec.search_space))
            study.tell(trial, found[-1][RATE])
        return found

    def trained(self, **values: float) -> tuple[list[int], optuna.trial.FrozenTrial]:
        """The seeds that a trial trains with, and the trial, when every training measures these values."""
        seeds: list[int] = []
        runner = TrialRunner(self.spec, self.folder / "base.yaml", self.folder / "trials", SimpleNamespace(run_id="run"))  # type: ignore[arg-type]
        scores = {name: {"mean": value} for name, value in {"weighted_total_loss": 0.5, "ssim": 0.25, **values}.items()}

        def train(trial: Any, params: Any, seed: int, *, prune: bool) -> Any:
            seeds.append(seed)
            return {"training_seconds": 1.0, "trained_parameters": 10, "evaluation": {"run_id": "e", "metrics": scores}}

        runner.train = train  # type: ignore[method-assign]
        ask_for(self.study, self.spec)
        self.study.optimize(runner, n_trials=1)
        return seeds, self.study.trials[0]


class Sweeps:
    """Sweep files in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, **changes: Any) -> Sweep:
        return Sweep(self.folder, **changes)

    def space(self, **dimension: Any) -> list[float]:
        """What twelve trials draw of the learning rate in such a dimension."""
        drawn = self(search_space={RATE: {"type": "float", "low": 1e-4, "high": 1e-2, **dimension}}).drawn()
        return [one[RATE] for one in drawn]


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASHION_ML_STORAGE", raising=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return Sweeps(tmp_path)


def types(sweeps: Sweeps) -> bool:
    kinds = ({"type": "int", "low": 2, "high": 40}, {"type": "float", "low": 2, "high": 40})
    whole, real = (sweeps(search_space={"network.alpha": kind}).drawn() for kind in kinds)
    return all(one["network.alpha"] % 1 == 0 for one in whole) and any(one["network.alpha"] % 1 for one in real)


def choices(sweeps: Sweeps) -> bool:
    drawn = sweeps(search_space={RANK: {"type": "categorical", "choices": [23, 29]}}).drawn()
    return {one[RANK] for one in drawn} == {23, 29}


def conditions(sweeps: Sweeps) -> bool:
    space = {
        RANK: {"type": "categorical", "choices": [23, 29]},
        RATE: {"type": "float", "low": 1e-4, "high": 1e-2, "when": {RANK: [29]}},
    }
    return {(one[RANK], RATE in one) for one in sweeps(search_space=space).drawn()} == {(23, False), (29, True)}


def several_objectives(sweeps: Sweeps) -> bool:
    several = [{"metric": "weighted_total_loss"}, {"metric": "ssim"}]
    _, trial = sweeps(objectives=several, confirm={"best": 0}).trained()
    return trial.values == [0.5, 0.25]


def constraint(sweeps: Sweeps) -> bool:
    """parameters is 10: 10 <= 8 is broken by 2, 10 >= 8 is kept with 2 to spare."""
    found = {}
    for sign in ("<=", ">="):
        _, trial = sweeps(constraints=[f"parameters {sign} 8"]).trained()
        found[sign] = list(trial.constraints.values())
    return found == {"<=": [2.0], ">=": [-2.0]}


def pruner(sweeps: Sweeps, **settings: Any) -> Any:
    return sweeps(pruner=settings).study.pruner


def pruners(sweeps: Sweeps) -> bool:
    split = {"settings": {"data.validation_split": 0.2}}
    kinds = {name: type(sweeps(pruner={"name": name}, **split).study.pruner).__name__ for name in ("median", "hyperband")}
    return kinds == {"median": "MedianPruner", "hyperband": "HyperbandPruner"}


def startup_of_the_pruner(sweeps: Sweeps) -> bool:
    """A median pruner stops the trial after so many, and none before."""
    settings = {"data.validation_split": 0.2}
    study = sweeps(pruner={"name": "median", "startup_trials": 3}, settings=settings).study
    stopped = []
    for number in range(5):
        trial = study.ask()
        trial.report(float(number), 1)
        stopped.append(trial.should_prune())
        study.tell(trial, float(number))
    return stopped == [False, False, False, True, True]


def how_sure(sweeps: Sweeps) -> bool:
    """Six images a little worse each have p = 1/64: enough for 0.05, not for 0.01."""

    def stops(threshold: float) -> bool:
        study = sweeps(pruner={"name": "wilcoxon", "p_threshold": threshold}).study
        for shift in (0.0, 0.1):
            trial = study.ask()
            for image in range(6):
                trial.report(image + shift * (1 + image / 10), image)
            found = trial.should_prune()
            study.tell(trial, shift)
        return found

    return stops(0.05) and not stops(0.01)


def deadline(sweeps: Sweeps, minutes: float) -> float:
    """How many seconds the workers of a sweep are given."""
    sweep = sweeps(timeout_minutes=minutes)
    url = storage_url(sweep.spec, "")
    return seconds_given(lambda: launch.run_sweep(sweep.spec, sweep.base, sweep.path, url, workers=1))


def confirmed(sweeps: Sweeps, **settings: Any) -> list[tuple[str, str]]:
    """The trainings that confirming makes: what is trained, and the seed."""
    return [(name, given["training.seed"]) for name, given in confirming(sweeps, **settings)]


def confirming(sweeps: Sweeps, **settings: Any) -> list[tuple[str, Mapping[str, str]]]:
    """The trainings that confirming makes: what is trained, and its settings."""
    sweep, made = sweeps(confirm=settings, trials=3), list[tuple[str, Mapping[str, str]]]()
    sweep.trained()

    def training(trainer: str, base: Path, given: Any, folder: Path, *_: Any) -> Any:
        made.append((folder.parent.name, given))
        raise confirm_module.TrialError("enough is known")

    run = SimpleNamespace(
        run_id="run",
        experiment_id="0",
        client=SimpleNamespace(get_metric_history=lambda *_: []),
        child=lambda name, tags: SimpleNamespace(run_id=name),
        close_child=lambda *_: None,
        begun=lambda _: False,
        set_tags=lambda _: None,
        log_metrics=lambda _, step=0: None,
        note=lambda _: None,
        log_file=lambda *_: None,
    )
    (sweep.folder / "base.yaml").write_text(to_yaml(sweep.base), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirm_module, "run_training", training)
        patch.setattr("fashion_ml.runs.compare.evaluated", lambda client, run_id: no_evaluation())
        confirm_module.confirm(sweep.spec, sweep.study, sweep.folder / "base.yaml", sweep.folder / "confirm", run)  # type: ignore[arg-type]
    return made


def no_evaluation() -> Any:
    raise InputError("there is none")


def a_look(sweeps: Sweeps) -> bool:
    """One seed with it, and fewer than three are taken with it alone."""
    looked = confirmed(sweeps, quick=True, seeds=[23])
    with pytest.raises(InputError, match="fewer than 3"):
        sweeps(confirm={"seeds": [23]})
    return looked == [("default", "23"), ("trial_0000", "23")]


def references_of_ones_own(sweeps: Sweeps) -> bool:
    """Without a folder trials are measured by one half of the references and what is confirmed by the other."""
    (sweeps.folder / "others").mkdir()
    render(sample_garments(1, seed=1)[0]).save(sweeps.folder / "others" / "a.png")
    (sweeps.folder / "others" / "a.txt").write_text("a dress", encoding="utf-8")
    half, own = ({str(given) for _, given in confirming(sweeps, **one)} for one in ({}, {"references": "others"}))
    searched = [references_of_search(sweeps(confirm=one).spec) for one in ({}, {"references": "others"}, {"best": 0})]
    return (
        all("'evaluation.references_part': 'held'" in one for one in half)
        and all("'evaluation.references': 'others'" in one and "references_part" not in one for one in own)
        and searched == [{"evaluation.references_part": "search"}, {}, {}]
    )


def heartbeat(sweeps: Sweeps) -> bool:
    return heartbeat_of(sweeps(heartbeat_seconds=19).study) == 19


def other_trainer(sweeps: Sweeps) -> bool:
    other = {"experiment": str(PROJECT / "experiments" / "stargan" / "embedded.yaml"), "confirm": {"best": 0}}
    space = {"loss.w_ds": {"type": "float", "low": 0.5, "high": 2}}
    sweep = sweeps(trainer="stargan", search_space=space, **other)
    return type(sweep.base).__name__ == "StarganExperiment" and type(sweeps().base).__name__ == "LoraExperiment"


def other_experiment(sweeps: Sweeps) -> bool:
    path = sweeps.folder / "own.yaml"
    path.write_text("name: own\ndata: {train_data_dir: embedded}\n", encoding="utf-8")
    return (sweeps(experiment="own.yaml").base.name, sweeps().base.name != "own") == ("own", True)


def maximised(sweeps: Sweeps) -> bool:
    objective = {"metric": "weighted_total_loss", "direction": "maximize"}
    return (directions_of(sweeps(objectives=[objective]).spec), directions_of(sweeps().spec)) == (["maximize"], ["minimize"])


def chosen_objective(sweeps: Sweeps) -> bool:
    _, trial = sweeps(objectives=[{"metric": "ssim"}]).trained()
    return trial.values == [0.25] and sweeps(objectives=[{"metric": "ssim"}]).study.direction.name == "MAXIMIZE"


def samplers(sweeps: Sweeps) -> bool:
    names = {"tpe": "TPESampler", "gp": "GPSampler", "random": "RandomSampler", "nsga2": "NSGAIISampler"}
    found = {name: type(sampler_of(sweeps(sampler={"name": name}).spec, 0)).__name__ for name in names}
    one = {"type": "int", "low": 1, "high": 3}
    every = planned(sweeps(sampler={"name": "grid"}, search_space={RANK: one}).spec)
    return found == names and every == [{RANK: 1}, {RANK: 2}, {RANK: 3}]


def started_at_random(sweeps: Sweeps) -> bool:
    """Up to so many trials TPE draws what it would draw if it had learnt nothing, and then no more."""
    early, late = (sweeps(sampler={"name": "tpe", "startup_trials": count}).learnt() for count in (5, 11))
    return early[:5] == late[:5] and early[5:11] != late[5:11]


def where_it_is_kept(sweeps: Sweeps) -> bool:
    given, plain = sweeps(storage="sqlite:///elsewhere.db").spec, sweeps().spec
    return storage_url(given, "") == "sqlite:///elsewhere.db" and storage_url(plain, "").endswith("/plain/study.db")


def counted(sweeps: Sweeps) -> bool:
    sweep = sweeps(trials=7)
    return ask_for(sweep.study, sweep.spec) == 7 and len(sweep.study.trials) == 7


def stepped(sweeps: Sweeps) -> bool:
    drawn = sweeps.space(low=0.001, high=0.009, step=0.004)
    return {round(value, 6) for value in drawn} == {0.001, 0.005, 0.009}


def in_logarithms(sweeps: Sweeps) -> bool:
    """Of a range of two decades half of the values lie in the lower one, on a straight scale a tenth."""
    low = [sum(value < 1e-3 for value in sweeps.space(log=log)) for log in (True, False)]
    return low[0] > 3 > low[1]


SWEEP: dict[str, tuple[Any, Callable[[Sweeps], Any]]] = {
    "name": ("other", lambda sweeps: study_folder(sweeps(name="other").spec).name == sweeps(name="other").study.study_name),
    "trainer": ("stargan", other_trainer),
    "experiment": ("own.yaml", other_experiment),
    "settings": (31, lambda sweeps: sweeps(settings={"steps": 31}).base.training.max_train_steps == 31),
    "search_space.*.type": ("int", types),
    "search_space.*.choices": (23, choices),
    "search_space.*.low": (0.006, lambda sweeps: min(sweeps.space(low=0.006)) >= 0.006 and min(sweeps.space()) < 0.006),
    "search_space.*.high": (0.002, lambda sweeps: max(sweeps.space(high=0.002)) <= 0.002 < max(sweeps.space())),
    "search_space.*.log": (True, in_logarithms),
    "search_space.*.step": (0.004, stepped),
    "search_space.*.when": (29, conditions),
    "objectives.*.metric": ("ssim", chosen_objective),
    "objectives.*.direction": ("maximize", maximised),
    "constraints": (8, constraint),
    "sampler.name": ("gp", samplers),
    "sampler.seed": (101, lambda sweeps: sweeps(sampler={"seed": 101}).drawn() != sweeps().drawn()),
    "sampler.startup_trials": (5, started_at_random),
    "pruner.name": ("median", pruners),
    "pruner.startup_trials": (3, startup_of_the_pruner),
    "pruner.p_threshold": (0.05, how_sure),
    "trials": (7, counted),
    "timeout_minutes": (1.5, lambda sweeps: deadline(sweeps, 1.5) == 90),
    "seeds": (11, lambda sweeps: sweeps(seeds=[11, 13]).trained()[0] == [11, 13]),
    "confirm.best": (0, lambda sweeps: confirmed(sweeps, best=0) == [] and len(confirmed(sweeps, best=1)) == 2),
    "confirm.seeds": (17, lambda sweeps: {seed for _, seed in confirmed(sweeps, seeds=[17, 18, 19])} == {"17"}),
    "confirm.image_seed": (
        2002,
        lambda sweeps: {g["evaluation.seed"] for _, g in confirming(sweeps, image_seed=2002)} == {"2002"},
    ),
    "confirm.references": ("others", references_of_ones_own),
    "confirm.quick": (True, a_look),
    "storage": ("sqlite:///elsewhere.db", where_it_is_kept),
    "heartbeat_seconds": (19, heartbeat),
}


@pytest.mark.parametrize("leaf", leaves(SweepSpec))
def test_every_setting_of_a_sweep_does_what_it_says_or_says_why_not(leaf: str, sweeps: Sweeps):
    places = [leaf in table for table in (SWEEP, CHANGES_NOTHING)]
    assert sum(places) == 1, f"{leaf}: say in the table where it shows, or in CHANGES_NOTHING why it does not"
    if leaf in SWEEP:
        assert SWEEP[leaf][1](sweeps)


def test_the_table_names_no_setting_that_is_gone_and_no_two_have_one_value():
    assert {*SWEEP, *CHANGES_NOTHING} <= set(leaves(SweepSpec))
    assert repeated({leaf: value for leaf, (value, _) in SWEEP.items()}) == []


def test_several_objectives_each_have_their_value(sweeps: Sweeps):
    assert several_objectives(sweeps)


def test_a_grid_of_floats_keeps_its_ends(sweeps: Sweeps):
    spec = sweeps(sampler={"name": "grid"}, search_space={RATE: {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1}}).spec
    assert [one[RATE] for one in grid(spec.search_space)] == [0.1, 0.2, 0.3]
    assert json.loads(json.dumps(planned(spec))) == [{RATE: 0.1}, {RATE: 0.2}, {RATE: 0.3}]
