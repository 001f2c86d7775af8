"""The best settings trained again with fresh seeds, beside the default, and measured by what the search has not seen.

The best of many trials is optimistic: it was chosen for its luck too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import EXPERIMENTS, SweepSpec, as_overrides, load_experiment
from fashion_ml.config.sweep import QUICK
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Difference, Evaluated, differences, no_verdict, refuse_different
from fashion_ml.evaluation.recipes import compare_recipes
from fashion_ml.evaluation.verdicts import Claim, too_few, verdict_of
from fashion_ml.metrics.sign_flip import holm
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say
from fashion_ml.sweep.confirm_power import ConfirmPower, better_half, confirm_power
from fashion_ml.sweep.halves import held_of
from fashion_ml.sweep.launch import best_trials
from fashion_ml.sweep.study import directions_of, trials_of
from fashion_ml.sweep.trial import EVALUATIONS, PART_OF, TrialError, own_folder, run_training, wait

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun

TAG = "confirmation"
"""Tag of a sweep's run: the verdict on its best trial, why there is none, or that it was a quick look."""
_NOT_SHOWN = "not shown: by what the search has not seen, the default may be as good"


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
    quick: bool = False
    """Whether it is of one seed, and no confirmation."""

    @property
    def claim(self) -> Claim:
        """What is spoken of."""
        return "this file" if self.quick else "this recipe"

    @property
    def outcome(self) -> str:
        """The verdict in words, or why there is none."""
        return _NOT_SHOWN if self.difference.verdict == "not shown" else self.difference.label

    def sentence(self, metric: str) -> str:
        """Both numbers, and how sure the second is."""
        gain = self.difference.gain
        ends = f" [{gain.ends[0]:+.4f}, {gain.ends[1]:+.4f}]" if gain.ends else ""
        seeds = "one fresh seed" if self.quick else "fresh seeds"
        return (
            f"trial {self.trial}: {metric} {self.searched:.4f} in the search, {self.fresh:.4f} with {seeds}; the default has "
            f"{self.default:.4f}; gain of {self.claim} {gain.mean:+.4f}{ends}: {self.outcome}"
        )

    def to_dict(self, metric: str) -> dict[str, Any]:
        """For JSON."""
        verdict = {"verdict": self.difference.verdict, "outcome": self.outcome, "claim": self.claim}
        return {**asdict(self), **verdict, "sentence": self.sentence(metric)}


def confirm(spec: SweepSpec, study: optuna.Study, base_yaml: Path, folder: Path, run: TrackedRun) -> list[Confirmed]:
    """Train the default and the best settings with the fresh seeds, compare, and log `confirmation.json`; what is there is not repeated.

    What it can see is said, and logged, before it begins. With confirm.quick it is a look with one seed, and marked as one.
    """
    metric = spec.objectives[0].metric
    complete = _complete(spec, study)
    best = complete[: spec.confirm.best]
    if not best:
        return []
    power = _power(spec, complete, base_yaml, run)
    say(power.sentence())
    if spec.confirm.quick:
        say(f"{QUICK}; without --quick it takes the training seeds {', '.join(map(str, spec.confirm.seeds))}")
    _log(spec, folder, run, power, [])
    wanted: dict[str, Mapping[str, Any]] = {"default": {}}
    wanted |= {f"trial_{trial.user_attrs['slot']:04d}": trial.params for trial in best}
    trained = {}
    for name, params in wanted.items():
        try:
            trained[name] = _trained(spec, name, params, base_yaml, folder, run)
        except TrialError as error:
            say(f"{name} cannot be confirmed: {error}")
    entries: dict[int, Difference] = {}
    for trial in best:
        slot = trial.user_attrs["slot"]
        other = trained.get(f"trial_{slot:04d}")
        if other is None or "default" not in trained:
            continue
        try:
            look = _look if spec.confirm.quick else _difference
            entries[slot] = look(trained["default"], other, metric)
        except InputError as error:
            say(f"trial {slot} cannot be confirmed: {error.problems[0]}")
    entries = _corrected(entries)
    found = [
        Confirmed(
            slot, trial.params, trial.values[0], entries[slot].first, entries[slot].other, entries[slot], spec.confirm.quick
        )
        for trial in best
        if (slot := trial.user_attrs["slot"]) in entries
    ]
    _log(spec, folder, run, power, found)
    return found


def _complete(spec: SweepSpec, study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The feasible complete trials of a single objective, best first."""
    if not best_trials(study) or len(spec.objectives) > 1:
        return []
    complete = [trial for trial in trials_of(study) if trial.state.name == "COMPLETE"]
    feasible = [trial for trial in complete if all(value <= 0 for value in trial.constraints.values())]
    sign = 1 if directions_of(spec) == ["minimize"] else -1
    return sorted(feasible, key=lambda trial: sign * trial.values[0])


def _power(spec: SweepSpec, complete: Sequence[optuna.trial.FrozenTrial], base_yaml: Path, run: TrackedRun) -> ConfirmPower:
    from fashion_ml.runs.compare import evaluated

    base = load_experiment(base_yaml, {}, EXPERIMENTS[spec.trainer])
    measured = []
    for trial in better_half(complete):
        try:
            measured.append([evaluated(run.client, run_id) for run_id in trial.user_attrs.get(EVALUATIONS, ())])
        except InputError:  # its files are lost: the others say enough
            continue
    return confirm_power(spec, complete, measured, held_of(spec, base))


def _log(spec: SweepSpec, folder: Path, run: TrackedRun, power: ConfirmPower, found: Sequence[Confirmed]) -> None:
    """`confirmation.json`, and where anything was found tags, metrics and the run's description; each is said."""
    metric, path = spec.objectives[0].metric, folder / "confirmation.json"
    seen = measured_by(spec)
    rows = [one.to_dict(metric) for one in found]
    quick = {"quick": QUICK} if spec.confirm.quick else {}
    claim = found[0].claim if found else "this recipe"
    tree = {"metric": metric, **quick, **seen, "claim": claim, "power": power.to_dict(), "confirmed": rows}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(tree, indent=2) + "\n")
    run.log_file(path, "report")
    if not found:
        return
    for one in found:
        say(one.sentence(metric))
    first, mark = found[0], "quick" if spec.confirm.quick else "confirmed"
    gain = first.difference.gain
    ends = dict(zip((f"{mark}_gain_low", f"{mark}_gain_high"), gain.ends, strict=True)) if gain.ends else {}
    run.log_metrics({f"{mark}_{metric}": first.fresh, f"{mark}_default": first.default, f"{mark}_gain": gain.mean, **ends})
    run.set_tags({TAG: QUICK if spec.confirm.quick else first.difference.label})
    run.note("\n".join([*(one.sentence(metric) for one in found), power.sentence()]))


def _look(default: list[Evaluated], other: list[Evaluated], metric: str) -> Difference:
    """The objective of one training of each, over references: of these files, without a verdict."""
    refuse_different([*default, *other])
    found = differences(default[0], other[0], resamples=default[0].resamples)
    entry = next((one for one in found if one.metric == metric), None)
    if entry is None:
        raise InputError(f"objectives: {metric} was not measured on the references that confirm")
    return replace(entry, p=None, verdict="", why=QUICK)


def _corrected(entries: Mapping[int, Difference]) -> dict[int, Difference]:
    """The same after Holm: of several trials each verdict is one of so many."""
    judged = holm({slot: one.p for slot, one in entries.items() if one.verdict and one.p is not None})
    return {
        slot: replace(one, p=judged[slot], verdict=verdict_of(one.gain, judged[slot])) if slot in judged else one
        for slot, one in entries.items()
    }


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


def measured_by(spec: SweepSpec) -> dict[str, Any]:
    """What the search has not seen: training seeds, image seed, references."""
    what = "references" if spec.trainer == "lora" else "contents"
    where = spec.confirm.references or "held back from the search"
    return {"seeds": list(spec.confirm.trained_with), "image_seed": spec.confirm.image_seed, what: where}


def _fresh(spec: SweepSpec) -> dict[str, Any]:
    """The settings of what the search has not seen."""
    own = spec.confirm.references
    return {
        "evaluation.seed": spec.confirm.image_seed,
        **({"evaluation.references": own} if own else {PART_OF[spec.trainer]: "held"}),
    }


def _trained(
    spec: SweepSpec, name: str, params: Mapping[str, Any], base_yaml: Path, folder: Path, run: TrackedRun
) -> list[Evaluated]:
    """Train with every fresh seed and measure each."""
    from fashion_ml.runs.compare import evaluated

    evaluations = []
    for seed in spec.confirm.trained_with:
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
