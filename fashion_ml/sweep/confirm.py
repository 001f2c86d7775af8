"""The best settings trained again with fresh seeds, beside the default: the best of many trials is optimistic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_ml.config import SweepSpec, as_overrides
from fashion_ml.evaluation.compare import Difference, Evaluated, differences, refuse_different
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.sweep.launch import best_trials
from fashion_ml.sweep.study import directions_of, trials_of
from fashion_ml.sweep.trial import TrialError, own_folder, run_training, wait

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun


@dataclass(frozen=True)
class Confirmed:
    """One of the best trials beside the default, each trained with every fresh seed."""

    trial: int
    params: dict[str, Any]
    searched: float
    """The objective in the search: the best of many, so optimistic."""
    default: float
    """Mean of the default over the fresh seeds."""
    fresh: float
    """Mean of these settings over the fresh seeds."""
    difference: Difference
    """Paired on references, seeds averaged; `gain` is positive where these settings are better than the default."""

    def sentence(self, metric: str) -> str:
        """Both numbers, and how sure the second is."""
        gain = self.difference.gain
        ends = f" [{gain.ends[0]:+.4f}, {gain.ends[1]:+.4f}]" if gain.ends else ""
        return (
            f"trial {self.trial}: {metric} {self.searched:.4f} in the search, {self.fresh:.4f} with fresh seeds; the default has "
            f"{self.default:.4f}; gain {gain.mean:+.4f}{ends}: {self.difference.label}"
        )


def confirm(spec: SweepSpec, study: optuna.Study, base_yaml: Path, folder: Path, run: TrackedRun) -> list[Confirmed]:
    """Train the default and the best settings with the fresh seeds, compare, and log `confirmation.json`; what is there is not repeated."""
    metric = spec.objectives[0].metric
    best = _best(spec, study)
    if not best:
        return []
    wanted: dict[str, Mapping[str, Any]] = {"default": {}}
    wanted |= {f"trial_{trial.user_attrs['slot']:04d}": trial.params for trial in best}
    averaged = {}
    for name, params in wanted.items():
        try:
            averaged[name] = _averaged(spec, name, params, base_yaml, folder, run)
        except TrialError as error:
            say(f"{name} cannot be confirmed: {error}")
    found = []
    for trial in best:
        other = averaged.get(f"trial_{trial.user_attrs['slot']:04d}")
        if other is None or "default" not in averaged:
            continue
        (entry,) = [one for one in differences(averaged["default"], other, resamples=2000) if one.metric == metric]
        found.append(Confirmed(trial.user_attrs["slot"], trial.params, trial.values[0], entry.first, entry.other, entry))
        say(found[-1].sentence(metric))
    path = folder / "confirmation.json"
    rows = [{**asdict(one), "verdict": one.difference.verdict, "sentence": one.sentence(metric)} for one in found]
    write_text(path, json.dumps({"metric": metric, "seeds": list(spec.confirm.seeds), "confirmed": rows}, indent=2) + "\n")
    run.log_file(path, "report")
    if not found:
        return []
    first = found[0]
    run.log_metrics(
        {f"confirmed_{metric}": first.fresh, "confirmed_default": first.default, "confirmed_gain": first.difference.gain.mean}
    )
    run.note("; ".join(one.sentence(metric) for one in found))
    return found


def _best(spec: SweepSpec, study: optuna.Study) -> Sequence[optuna.trial.FrozenTrial]:
    """The best feasible trials of a single objective, best first."""
    if not best_trials(study) or len(spec.objectives) > 1:
        return []
    complete = [trial for trial in trials_of(study) if trial.state.name == "COMPLETE"]
    feasible = [trial for trial in complete if all(value <= 0 for value in trial.constraints.values())]
    sign = 1 if directions_of(spec) == ["minimize"] else -1
    return sorted(feasible, key=lambda trial: sign * trial.values[0])[: spec.confirm.best]


def _averaged(
    spec: SweepSpec, name: str, params: Mapping[str, Any], base_yaml: Path, folder: Path, run: TrackedRun
) -> Evaluated:
    """Train with every fresh seed; one evaluation whose numbers are the means over them."""
    from fashion_ml.runs.compare import evaluated

    evaluations = []
    for seed in spec.confirm.seeds:
        settings = as_overrides({**params, "training.seed": seed})
        place = own_folder(folder / name / f"seed_{seed}", {"study": run.run_id, **settings})
        note = place / "run_id.txt"
        if not note.is_file():
            tags = {"sweep": spec.name, "confirms": name, "training_seed": str(seed)}
            write_text(note, run.child(f"confirm {name} seed {seed}", tags).run_id)
        run_id = note.read_text(encoding="utf-8")
        say(f"confirm {name} with seed {seed}")
        try:
            facts = run_training(spec.trainer, base_yaml, settings, place, run_id, run.experiment_id, wait)
        except TrialError as error:
            run.close_child(run_id, "FAILED", str(error))
            raise
        evaluations.append(evaluated(run.client, facts["evaluation"]["run_id"]))
    refuse_different(evaluations)
    tables = pd.concat([one.table for one in evaluations])
    keys = [key for key in ("reference", "seed") if key in tables]
    means = tables.groupby(keys, sort=False).mean(numeric_only=True).reset_index()
    return Evaluated(evaluations[0].run_id, name, evaluations[0].facts, means)
