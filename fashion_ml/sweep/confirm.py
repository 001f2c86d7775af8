"""The best settings trained again with fresh seeds, beside the default, and measured by what the search has not seen.

The best of many trials is optimistic: it was chosen for its luck too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import EXPERIMENTS, SweepSpec, load_experiment
from fashion_ml.config.sweep import QUICK
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Evaluated
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.language import tr, translated
from fashion_ml.runtime.redact import first_line
from fashion_ml.sweep.confirm_notes import (
    DEFAULT,
    Draw,
    Fresh,
    draw_of,
    fresh_trainings,
    name_of,
    note_drawn,
    note_outcomes,
    standing_of,
)
from fashion_ml.sweep.confirm_power import ConfirmPower, better_half, confirm_power
from fashion_ml.sweep.confirmed import Confirmation, Confirmed, compared
from fashion_ml.sweep.halves import held_of
from fashion_ml.sweep.own_folder import is_of, noted_text, own_folder
from fashion_ml.sweep.ranked import ranked
from fashion_ml.sweep.trial import EVALUATIONS, TrialError, run_training, wait
from fashion_ml.tracking.queries import log_changed

if TYPE_CHECKING:
    import optuna

    from fashion_ml.tracking.run import TrackedRun

TAG, NUMBER_TAG = "confirmation", "confirmation_number"
"""Tags of a sweep's run: the verdict on its best trial, why there is none, or that it was a quick look; which confirmation of the sweep it is,
and what the others said."""


def _say_left(left: Sequence[str], of: int) -> None:
    say(
        tr(
            "Not confirmed: {count} of {count_2} trainings are left ({names}); fashion-ml sweep, or sweep-report "
            "with --confirm, trains them",
            count=len(left),
            count_2=of,
            names=", ".join(left),
        )
    )


def confirm(
    spec: SweepSpec, study: optuna.Study, base_yaml: Path, folder: Path, run: TrackedRun, *, train: bool = True
) -> Confirmation:
    """Train the default and the best settings with the fresh seeds, compare, and log `confirmation.json`; what any machine has done of it is
    taken from the store.

    What it can see is said, and logged, before it begins; so is that the sweep was confirmed before by something else. With confirm.quick it is
    a look with one seed, and marked as one. Without `train` nothing is trained, and what would be is said.
    """
    complete = ranked(study)
    best = complete[: spec.confirm.best]
    if not best:
        return Confirmation()
    slots = [int(trial.user_attrs["slot"]) for trial in best]
    wanted, draw = fresh_trainings(spec, best), draw_of(spec, slots)
    standing = standing_of(study, draw)
    power = _power(spec, complete, base_yaml, run, standing.times)
    say(power.sentence())
    if spec.confirm.quick:
        say(
            tr(
                "{quick}; without --quick it takes the training seeds {names}",
                quick=translated(QUICK),
                names=", ".join(map(str, spec.confirm.seeds)),
            )
        )
    if standing.earlier:
        warn(
            tr(
                "confirm: {line}; who confirms until one says better is told so by luck, so each takes more than the "
                "one before",
                line=standing.line,
            )
        )
    left = [str(one) for own in wanted.values() for one in own if not _is_there(study, one, folder, run)]
    outcome = Confirmation(left=[] if train else left, standing=standing)
    _write(spec, folder, run, power, outcome)
    if outcome.left:
        _say_left(left, sum(map(len, wanted.values())))
        return outcome
    trained, why = dict[str, list[Evaluated]](), dict[str, str]()
    for name, own in wanted.items():
        try:
            trained[name] = [_trained(spec, study, one, base_yaml, folder, run, draw) for one in own]
        except TrialError as error:
            why[name] = str(error)
            say(tr("{name} cannot be confirmed: {error}", name=name, error=error))
    outcome = _judged(spec, study, best, trained, why)
    if outcome.found:
        note_outcomes(study, draw, {one.trial: one.difference.label for one in outcome.found})
    _write(spec, folder, run, power, outcome)
    _log(spec, run, power, outcome, slots[0])
    return outcome


def _judged(
    spec: SweepSpec,
    study: optuna.Study,
    best: Sequence[optuna.trial.FrozenTrial],
    trained: Mapping[str, Sequence[Evaluated]],
    why: Mapping[str, str],
) -> Confirmation:
    """The best trials beside the default, and why some are not."""
    slots = [int(trial.user_attrs["slot"]) for trial in best]
    standing = standing_of(study, draw_of(spec, slots))
    if DEFAULT in why:
        failed = dict.fromkeys(slots, tr("the default's fresh trainings failed: {why}", why=why[DEFAULT]))
        return Confirmation(failed=failed, standing=standing)
    others = {slot: trained[name_of(slot)] for slot in slots if name_of(slot) in trained}
    entries, unlike = compared(trained[DEFAULT], others, spec, standing.times)
    for slot, problem in unlike.items():
        say(tr("trial {slot}: {problem}", slot=slot, problem=problem))
    found = [
        Confirmed(
            trial=slot,
            params=trial.params,
            searched=trial.values[0],
            default=entries[slot].first,
            fresh=entries[slot].other,
            difference=entries[slot],
            quick=spec.confirm.quick,
            references_seen_in_training=max(one.seen for one in [*trained[DEFAULT], *others[slot]]),
            standing=standing.line,
        )
        for slot, trial in zip(slots, best, strict=True)
        if slot in entries
    ]
    failed = {slot: tr("its fresh trainings failed: {why}", why=why[name_of(slot)]) for slot in slots if name_of(slot) in why}
    return Confirmation(found, failed | unlike, standing=standing)


def _power(
    spec: SweepSpec, complete: Sequence[optuna.trial.FrozenTrial], base_yaml: Path, run: TrackedRun, times: float
) -> ConfirmPower:
    from fashion_ml.runs.compare import evaluated

    base = load_experiment(base_yaml, {}, EXPERIMENTS[spec.trainer])
    measured = []
    for trial in better_half(complete):
        try:
            measured.append([evaluated(run.client, run_id) for run_id in trial.user_attrs.get(EVALUATIONS, ())])
        except InputError:  # its files are lost: the others say enough
            continue
    return confirm_power(spec, complete, measured, held_of(spec, base), times=times)


def _write(spec: SweepSpec, folder: Path, run: TrackedRun, power: ConfirmPower, outcome: Confirmation) -> None:
    """`confirmation.json`."""
    metric, path, standing = spec.objectives[0].metric, folder / "confirmation.json", outcome.standing
    quick = {"quick": QUICK} if spec.confirm.quick else {}
    claim = "this file" if spec.confirm.quick else "this recipe"
    tree = {"metric": metric, **quick, **measured_by(spec), "claim": claim, "power": power.to_dict()}
    tree |= {"number": standing.number, "standing": standing.line} if standing else {}
    tree |= {"confirmed": [one.to_dict(metric) for one in outcome.found], "failed": outcome.failed, "left": outcome.left}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(tree, indent=2) + "\n")
    run.log_file(path, "report")


def _log(spec: SweepSpec, run: TrackedRun, power: ConfirmPower, outcome: Confirmation, best: int) -> None:
    """Tags, metrics and the description of the sweep's run, all of the `best` trial's slot; each that was confirmed is said."""
    metric, first = spec.objectives[0].metric, outcome.of(best)
    lines = [one.sentence(metric) for one in outcome.found]
    lines += [tr("trial {slot}: no verdict: {why}", slot=slot, why=why) for slot, why in outcome.failed.items()]
    for line in lines:
        say(line)
    why = outcome.failed.get(best, "").partition(":")[0]
    label = tr("no verdict: {why}", why=why) if first is None else first.difference.label
    run.set_tags({TAG: QUICK if spec.confirm.quick else label, NUMBER_TAG: outcome.standing.line if outcome.standing else ""})
    run.note("\n".join([*lines, power.sentence()]))
    mark = "quick" if spec.confirm.quick else "confirmed"
    names = (f"{mark}_{metric}", f"{mark}_default", f"{mark}_gain", f"{mark}_gain_low", f"{mark}_gain_high")
    values = [math.nan] * len(names)  # what an earlier one has left there is not of this one
    if first is not None:
        gain = first.difference.gain
        values = [first.fresh, first.default, gain.mean, *(gain.ends or (math.nan, math.nan))]
    again = first is None or bool(outcome.standing and outcome.standing.earlier)
    log_changed(run, {name: value for name, value in zip(names, values, strict=True) if again or not math.isnan(value)})


def measured_by(spec: SweepSpec) -> dict[str, Any]:
    """What the search has not seen: training seeds, image seed, references."""
    what = "references" if spec.trainer == "lora" else "contents"
    where = spec.confirm.references or tr("held back from the search")
    return {"seeds": list(spec.confirm.trained_with), "image_seed": spec.confirm.image_seed, what: where}


def _is_there(study: optuna.Study, fresh: Fresh, folder: Path, run: TrackedRun) -> bool:
    """Whether a training has been measured: by the store, or by what an earlier version has left on this machine."""
    if _from_store(study, fresh, run) is not None:
        return True
    place = folder / fresh.name / f"seed_{fresh.seed}"
    return (place / "facts.json").is_file() and is_of(place, _identity(fresh, run))


def _identity(fresh: Fresh, run: TrackedRun) -> dict[str, str]:
    return {"study": run.run_id, **fresh.settings}


def _from_store(study: optuna.Study, fresh: Fresh, run: TrackedRun) -> Evaluated | None:
    """The evaluation of a training that any machine has noted; None where there is none, or its files are lost."""
    from fashion_ml.runs.compare import evaluated

    if not (run_id := fresh.noted(study).get("evaluation", "")):
        return None
    try:
        return evaluated(run.client, run_id)
    except InputError as error:
        say(
            tr(
                "confirm {fresh}: what was measured is lost ({first_line}), so it is to be trained again",
                fresh=fresh,
                first_line=first_line(error),
            )
        )
        return None


def _trained(
    spec: SweepSpec, study: optuna.Study, fresh: Fresh, base_yaml: Path, folder: Path, run: TrackedRun, draw: Draw
) -> Evaluated:
    """The evaluation of a training: that of the store, else it is trained and measured here. TrialError where that does not work."""
    from fashion_ml.runs.compare import evaluated

    found = _from_store(study, fresh, run)
    if found is None:
        place = own_folder(folder / fresh.name / f"seed_{fresh.seed}", _identity(fresh, run))
        run_id = _run_of(spec, study, fresh, place, run)
        say(tr("confirm {fresh}", fresh=fresh))
        try:
            facts = run_training(spec.trainer, base_yaml, fresh.settings, place, run_id, run.experiment_id, wait)
        except TrialError as error:
            run.close_child(run_id, "FAILED", str(error))
            raise
        found = _from_store(study, fresh, run)  # another machine may have been faster: the first that is noted counts
        if found is None:
            fresh.note(study, run_id, facts["evaluation"]["run_id"])
            found = evaluated(run.client, facts["evaluation"]["run_id"])
    if fresh.name != DEFAULT:
        note_drawn(study, draw)
    return found


def _run_of(spec: SweepSpec, study: optuna.Study, fresh: Fresh, place: Path, run: TrackedRun) -> str:
    """The run of a training: that of its folder, one that was noted and not begun, or a new one.

    One that was begun on another machine is closed: its files are there.
    """
    note, before = place / "run_id.txt", fresh.noted(study).get("run", "")
    run_id = noted_text(note).strip()
    if not run_id and note.is_file():  # it is damaged: the study has noted the same
        run_id = before
    if before and before != run_id and (run_id or run.begun(before)):
        run.close_child(before, "KILLED", "its files are on another machine; the training goes on in another run")
        before = ""
    run_id = run_id or before
    if not run_id:
        tags = {"sweep": spec.name, "confirms": fresh.name, "training_seed": str(fresh.seed)}
        run_id = run.child(f"confirm {fresh.name} seed {fresh.seed}", tags).run_id
    write_text(note, run_id)
    fresh.note(study, run_id)
    return run_id
