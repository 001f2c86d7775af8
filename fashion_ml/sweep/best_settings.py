"""A sweep's best settings as files: an experiment that can be run, and beside it in JSON what the search and the confirmation say of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import EXPERIMENTS, SweepSpec, as_overrides, load_experiment, to_yaml
from fashion_ml.config.sweep import QUICK
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.sweep.confirm import measured_by
from fashion_ml.sweep.confirmed import Confirmation, Confirmed
from fashion_ml.sweep.ranked import best_trials, tie_line, tied_with_best
from fashion_ml.sweep.trial import references_of_search

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun

BEST = "best.yaml"
_NOT_YET = marked("not confirmed yet")


def best_experiment(spec: SweepSpec, trial: optuna.trial.FrozenTrial, base_yaml: Path) -> Any:
    """The experiment of a trial, as its training had it."""
    kind = EXPERIMENTS[spec.trainer]
    return load_experiment(base_yaml, as_overrides({**trial.params, "training.seed": spec.seeds[0]}), kind)


def write_best(
    spec: SweepSpec,
    study: optuna.Study,
    base_yaml: Path,
    folder: Path,
    outcome: Confirmation | None = None,
    why: str = "",
) -> list[Path]:
    """`best.yaml` and `best.json`, or two for each trial of the Pareto front; with what the `outcome` says of each, before there is one with
    `why` it was not confirmed."""
    for path in (*folder.glob("best*.yaml"), *folder.glob("best*.json")):
        path.unlink()
    paths, best, tied = [], best_trials(study), tied_with_best(study)
    for trial in best:
        slot = trial.user_attrs["slot"]
        path = folder / (BEST if len(best) == 1 else f"best_{slot:04d}.yaml")
        one, reason = (outcome.of(slot), outcome.why_not(slot)) if outcome else (None, why or translated(_NOT_YET))
        head = _head(spec, trial, one, reason, tied)
        write_text(path, "".join(f"# {line}\n" for line in head) + to_yaml(best_experiment(spec, trial, base_yaml)))
        beside, facts = path.with_suffix(".json"), {**_facts(spec, trial, one, reason), "tied": tied}
        write_text(beside, json.dumps(facts, indent=2, allow_nan=False) + "\n")
        paths += [path, beside]
    return paths


def note_confirmed(
    spec: SweepSpec,
    study: optuna.Study,
    base_yaml: Path,
    folder: Path,
    outcome: Confirmation,
    run: TrackedRun,
    *,
    ended: bool,
) -> None:
    """Write the best settings' files again with what came out, or why nothing did; `ended` is whether no trial waits."""
    known, why = outcome if outcome.standing else None, ""
    if not spec.confirm.best:
        why = tr("not confirmed: confirm.best is 0")
    elif not ended:
        why = tr("not confirmed yet: trials are left")
    for path in write_best(spec, study, base_yaml, folder, known, why):
        run.log_file(path, "report")


def _head(
    spec: SweepSpec, trial: optuna.trial.FrozenTrial, found: Confirmed | None, why: str, tied: Sequence[int]
) -> list[str]:
    """The comments at the head of an experiment."""
    values = ", ".join(f"{o.metric} {v:.6g}" for o, v in zip(spec.objectives, trial.values, strict=True))
    half = tr("references") if spec.trainer == "lora" else tr("contents")
    by = tr(", by the half of the {half} that is the search's", half=half) if references_of_search(spec) else ""
    lines = [
        tr(
            "Trial {slot} of the sweep {name}: {values} (mean over the seeds {seeds}{by}).",
            slot=trial.user_attrs["slot"],
            name=spec.name,
            values=values,
            seeds=list(spec.seeds),
            by=by,
        )
    ]
    lines += [tr("{line}.", line=tie_line(tied))] if tied else []
    if found is None:
        return [*lines, tr("{why}: the value is the best of many, so optimistic.", why=f"{why[:1].upper()}{why[1:]}")]
    facts = measured_by(spec)
    seeds = ", ".join(map(str, facts.pop("seeds")))
    what, where = list(facts.items())[-1]
    told = {"seeds": seeds, "image_seed": facts["image_seed"], "what": what, "where": where}
    quick = translated(QUICK)
    lines.append(
        tr(
            "{quick}: training seed {seeds}, image seed {image_seed} and {what} {where}:",
            quick=f"{quick[:1].upper()}{quick[1:]}",
            **told,
        )
        if found.quick
        else tr("Confirmed with training seeds {seeds}, image seed {image_seed} and {what} {where}:", **told)
    )
    verdict = "; ".join([found.outcome, *found.remarks])
    return [
        *lines,
        tr("{line}.", line=found.sentence(spec.objectives[0].metric)),
        tr("Verdict: {verdict}.", verdict=verdict),
    ]


def _facts(spec: SweepSpec, trial: optuna.trial.FrozenTrial, found: Confirmed | None, why: str) -> dict[str, Any]:
    """The same for programs: searched and confirmed values, and the verdict, empty where there is none."""
    searched = {objective.metric: value for objective, value in zip(spec.objectives, trial.values, strict=True)}
    facts: dict[str, Any] = {"study": spec.name, "trial": trial.user_attrs["slot"], "params": trial.params}
    facts |= {"searched": searched, "searched_seeds": list(spec.seeds), "quick": QUICK if spec.confirm.quick else ""}
    if found is None:
        return {**facts, "confirmed": None, "verdict": "", "why": why}
    metric, entry = spec.objectives[0].metric, found.difference
    confirmed = {
        "claim": found.claim,
        "metric": metric,
        "value": found.fresh,
        "default": found.default,
        "gain": entry.gain.mean,
        "low": entry.gain.low,
        "high": entry.gain.high,
        "p": entry.p,
        "n": entry.gain.n,
        **measured_by(spec),
    }
    told: dict[str, Any] = {
        "verdict": entry.verdict,
        "why": entry.why,
        "outcome": found.outcome,
        "sentence": found.sentence(metric),
    }
    told |= {"references_seen_in_training": found.references_seen_in_training, "standing": found.standing}
    return {**facts, "confirmed": confirmed, **told}
