"""The best settings trained again with fresh seeds, beside the default, and measured by what the search has not seen.

The best of many trials is optimistic: it was chosen for its luck too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SweepSpec, as_overrides
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Difference, Evaluated, no_verdict
from fashion_ml.evaluation.recipes import compare_recipes
from fashion_ml.evaluation.verdicts import too_few, verdict_of
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
    """Over training seeds and references; `gain` is positive where these settings are better than the default."""

    def sentence(self, metric: str) -> str:
        """Both numbers, and how sure the second is."""
        gain = self.difference.gain
        ends = f" [{gain.ends[0]:+.4f}, {gain.ends[1]:+.4f}]" if gain.ends else ""
        return (
            f"trial {self.trial}: {metric} {self.searched:.4f} in the search, {self.fresh:.4f} with fresh seeds; the default has "
            f"{self.default:.4f}; gain of this recipe {gain.mean:+.4f}{ends}: {self.difference.label}"
        )


def confirm(spec: SweepSpec, study: optuna.Study, base_yaml: Path, folder: Path, run: TrackedRun) -> list[Confirmed]:
    """Train the default and the best settings with the fresh seeds, compare, and log `confirmation.json`; what is there is not repeated."""
    metric = spec.objectives[0].metric
    best = _best(spec, study)
    if not best:
        return []
    wanted: dict[str, Mapping[str, Any]] = {"default": {}}
    wanted |= {f"trial_{trial.user_attrs['slot']:04d}": trial.params for trial in best}
    trained = {}
    for name, params in wanted.items():
        try:
            trained[name] = _trained(spec, name, params, base_yaml, folder, run)
        except TrialError as error:
            say(f"{name} cannot be confirmed: {error}")
    found = []
    for trial in best:
        other = trained.get(f"trial_{trial.user_attrs['slot']:04d}")
        if other is None or "default" not in trained:
            continue
        try:
            entry = _difference(trained["default"], other, metric)
        except InputError as error:
            say(f"trial {trial.user_attrs['slot']} cannot be confirmed: {error.problems[0]}")
            continue
        found.append(Confirmed(trial.user_attrs["slot"], trial.params, trial.values[0], entry.first, entry.other, entry))
        say(found[-1].sentence(metric))
    path = folder / "confirmation.json"
    rows = [{**asdict(one), "verdict": one.difference.verdict, "sentence": one.sentence(metric)} for one in found]
    measured_by = {"seeds": list(spec.confirm.seeds), "image_seed": spec.confirm.image_seed, "references": _references(spec)}
    write_text(path, json.dumps({"metric": metric, **measured_by, "claim": "this recipe", "confirmed": rows}, indent=2) + "\n")
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


def _difference(default: list[Evaluated], other: list[Evaluated], metric: str) -> Difference:
    """The objective, over training seeds and references; it alone was asked for, so it has a verdict whatever metric it is."""
    result = compare_recipes(default, other)
    entry = next((one for one in result.differences if one.metric == metric), None)
    if entry is None:
        raise InputError(f"objectives: {metric} was not measured on the references that confirm ({_count(result.references)})")
    crossed = result.crossed.get(metric)
    same = "" if result.settings or default[0].recipe is None else "these are the default's own settings"
    reasons = [too_few(result.references), no_verdict([*default, *other], [metric]).get(metric, ""), same]
    why = ", and ".join(filter(None, reasons))
    if crossed is None or why:
        return replace(entry, verdict="", why=why or "nothing varies")
    return replace(entry, p=crossed.p, verdict=verdict_of(entry.gain, crossed.p), why="")


def _count(references: int) -> str:
    return f"{references} reference{'s' if references != 1 else ''}"


def _references(spec: SweepSpec) -> str:
    return spec.confirm.references or "held back from the search"


def _fresh(spec: SweepSpec) -> dict[str, Any]:
    """The settings of what the search has not seen."""
    chosen = (
        {"evaluation.references": spec.confirm.references}
        if spec.confirm.references
        else {"evaluation.references_part": "held"}
    )
    return {"evaluation.seed": spec.confirm.image_seed, **chosen}


def note_confirmed(spec: SweepSpec, found: Sequence[Confirmed], path: Path, run: TrackedRun) -> None:
    """Put what came out at the head of the best settings' file, which holds the search's value already."""
    if not found or not path.is_file():
        return
    seeds = ", ".join(str(seed) for seed in spec.confirm.seeds)
    head = (
        f"# Confirmed with training seeds {seeds}, image seed {spec.confirm.image_seed} and references {_references(spec)}:\n"
    )
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    write_text(path, f"{first}\n{head}# {found[0].sentence(spec.objectives[0].metric)}.\n{rest}")
    run.log_file(path, "report")


def _trained(
    spec: SweepSpec, name: str, params: Mapping[str, Any], base_yaml: Path, folder: Path, run: TrackedRun
) -> list[Evaluated]:
    """Train with every fresh seed and measure each."""
    from fashion_ml.runs.compare import evaluated

    evaluations = []
    for seed in spec.confirm.seeds:
        settings = as_overrides({**params, "training.seed": seed, **_fresh(spec)})
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
    return evaluations
