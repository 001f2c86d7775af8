"""The study of a sweep or suite: what it holds, and how it is continued."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SweepSpec
from fashion_ml.config.sweep import Pruner
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line
from fashion_ml.sweep.objectives import directions_of
from fashion_ml.sweep.optuna_private import made_again, take_one_by_one, withdraw
from fashion_ml.sweep.plan import DATABASE, STORAGE, Plan, Slot, Spec, check_database, study_folder
from fashion_ml.sweep.same_study import difference, kind_of, noted
from fashion_ml.sweep.silence import Silence
from fashion_ml.sweep.space import grid
from fashion_ml.tracking.store_checks import check_answers

if TYPE_CHECKING:
    import optuna


SLOT, ERROR, SURPLUS = "slot", "error", "surplus"
"""User attributes: the trial's place among those that were asked for, which its retries keep; why its settings do not work; that another
trial of the slot counts."""
PROGRESS = "progress"
"""User attribute: how far the trainings of the trial had come when it took them up."""
TRAINING_RUN = "run_"
"""Begins the user attributes with the MLflow runs of a trial's trainings; the seed follows."""
_SHARED, _RUN, _TRIED_AGAIN = "shared", "mlflow_run_id", "tried_again"
_RETRIES = 20
"""So often in a row a trial may be cut off where it was taken up."""
_NEVER_SECONDS = 10**9
"""Optuna fails trials by itself, and by the clock on the wall alone; `Silence` decides instead."""


def dashboards() -> list[str]:
    """How to open the studies of the working folder, and that of FASHION_ML_STORAGE, in optuna-dashboard."""
    kept = [path for kind in ("sweeps", "suites") for path in sorted(Path("outputs").glob(f"{kind}/*/study.db"))]
    urls = [f"sqlite:///{path}" for path in kept]
    if os.environ.get(STORAGE):
        urls.append(f'"${STORAGE}"')
    if not urls:
        return [
            tr(
                "No sweeps yet in outputs/sweeps, nor suites in outputs/suites. Make one: fashion-ml sweep "
                "sweeps/lora_rank_lr.yaml"
            )
        ]
    lines = [f"optuna-dashboard {url} --host 127.0.0.1 --port 8080" for url in urls]
    if find_spec("optuna_dashboard") is None:
        lines.insert(0, tr("Install it first: pip install optuna-dashboard"))
    return [*lines, tr("Then open http://127.0.0.1:8080/dashboard")]


def plan_of(spec: SweepSpec, base: Any) -> Plan:
    """The study of a sweep; InputError as of `directions_of`."""
    tree = spec.model_dump(mode="json", include={"search_space", "objectives", "seeds", "constraints"})
    slots = {number: Slot(params) for number, params in enumerate(planned(spec))}
    return Plan(spec, directions_of(spec), slots, tree, {"": base}, tr("experiment, search space or objective"), spec.pruner)


def open_study(spec: SweepSpec, base: Any, url: str, *, create: bool) -> optuna.Study:
    """The study of a sweep in a storage, as `open_planned` has it."""
    study = open_planned(plan_of(spec, base), url, create=create)
    study.sampler = sampler_of(spec, 0)
    return study


def open_planned(plan: Plan, url: str, *, create: bool) -> optuna.Study:
    """The study in a storage.

    InputError when the storage cannot be used, when the study is to be there and is not, or when it was begun with another plan.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats are called that since 2021
    spec = plan.spec
    form = marked("--storage: holds no study {name!r}; begin it with fashion-ml {kind}, --workers 0 begins it only")
    missing = translated(form, name=spec.name, kind=spec.kind)
    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file is not None and file.absolute() == study_folder(spec) / DATABASE:
        check_database(spec)
    if file is not None and create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif file is not None and not file.is_file():
        raise InputError(missing)
    options: dict[str, Any] = {"study_name": spec.name, "pruner": _pruner(plan.pruner)}
    try:
        storage = _storage(spec, url)
        if create:
            directions = list(plan.directions)
            study = optuna.create_study(storage=storage, directions=directions, load_if_exists=True, **options)
        else:
            study = optuna.load_study(storage=storage, **options)
    except KeyError:
        raise InputError(missing) from None
    except Exception as error:
        raise _unusable(url, error) from error
    before = study.user_attrs.get(_SHARED)
    if before is None:
        study.set_user_attr(_SHARED, noted(plan))
    elif kind_of(before) != spec.kind:
        raise InputError(
            tr(
                "name: {name!r} is a {kind_of} in {hidden!r}, where a name is one study; give this {kind} another name",
                name=spec.name,
                kind_of=kind_of(before),
                hidden=hidden(url),
                kind=spec.kind,
            )
        )
    elif what := difference(plan, before):
        raise InputError(
            tr(
                "name: the study {name!r} was begun with another {shared} ({what}); set it back, or give this {kind} "
                "another name",
                name=spec.name,
                shared=plan.shared,
                what=what,
                kind=spec.kind,
            )
        )
    return study


def check_storage(url: str) -> None:
    """InputError where a storage's URL is none, or of a kind that is not known; whether the storage answers shows when the study is opened."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url).get_dialect()
    except ArgumentError as error:
        raise _unusable(url, error) from None


def _unusable(url: str, error: Exception) -> InputError:
    told = {"hidden": hidden(url), "first_line": first_line(error)[:200], "fix": _fix(url, error)}
    return InputError(tr("--storage: {hidden!r} cannot be used ({first_line}); {fix}", **told))


def _fix(url: str, error: Exception) -> str:
    """What to do about a storage that cannot be used."""
    from sqlalchemy.exc import ArgumentError

    if isinstance(error, ImportError):
        return (
            "pip install 'fashion-ml[postgres]'"
            if url.startswith("postgresql+psycopg:")
            else tr("install the driver that it names")
        )
    if isinstance(error, ArgumentError):
        return tr("give a SQLAlchemy URL whose driver is installed")
    return tr("give another file") if url.startswith("sqlite") else tr("start that server, and check its user and password")


def planned(spec: SweepSpec) -> list[dict[str, Any]]:
    """What is fixed of the settings of each wanted trial: everything of a grid, nothing elsewhere."""
    if spec.sampler.name != "grid":
        return [{}] * spec.trials
    every = grid(spec.search_space)
    return every[: spec.trials] if "trials" in spec.model_fields_set else every


def ask_for(study: optuna.Study, spec: SweepSpec) -> int:
    """Queue the trials of a sweep, as `queue` has it."""
    return queue(study, {number: Slot(params) for number, params in enumerate(planned(spec))})


def queue(study: optuna.Study, wanted: Mapping[int, Slot]) -> int:
    """Queue trials so that every wanted slot has one, and take back others that still wait; returns how many slots there are.

    Two processes that do so at once may queue a slot twice; `is_slot_owner` decides which of the two is run.
    """
    import optuna

    for trial in study.get_trials(deepcopy=False):
        slot = wanted.get(trial.user_attrs.get(SLOT, -1))
        if trial.state == optuna.trial.TrialState.WAITING and not (
            slot and slot.attributes.items() <= trial.user_attrs.items()
        ):
            withdraw(study, trial, SURPLUS)
    there = set(by_slot(study))
    for number, slot in wanted.items():
        if number not in there:
            study.enqueue_trial(dict(slot.settings), user_attrs={**slot.attributes, SLOT: number})
    return len({*wanted, *there})


def by_slot(study: optuna.Study) -> dict[int, list[optuna.trial.FrozenTrial]]:
    """The trials of every slot, oldest first, without those that were surplus."""
    found: dict[int, list[optuna.trial.FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if SLOT in trial.user_attrs and SURPLUS not in trial.user_attrs:
            found.setdefault(trial.user_attrs[SLOT], []).append(trial)
    return found


def trials_of(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """One trial for every slot, by slot: that which ended, else the one that goes on."""
    slots = by_slot(study)
    return [_standing(slots[slot]) for slot in sorted(slots)]


def _standing(trials: Sequence[optuna.trial.FrozenTrial]) -> optuna.trial.FrozenTrial:
    ended = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    return ended[0] if ended else trials[-1]


def is_slot_owner(study: optuna.Study, trial: optuna.Trial) -> bool:
    """Whether a trial that begins is the one of its slot: no other has ended, and none that is older waits or runs."""
    for other in by_slot(study).get(trial.user_attrs[SLOT], []):
        older_is_alive = other.number < trial.number and other.state.name in ("WAITING", "RUNNING")
        if other.state.name in ("COMPLETE", "PRUNED") or older_is_alive:
            return False
    return True


def queue_again(study: optuna.Study, silence: Silence) -> None:
    """Queue the slots again whose trials were cut off: workers that died, were stopped, or lost the tracking store.

    A trial that failed (ERROR) is left as it is, and one that was cut off more than twenty times in a row without getting any further fails
    with that as its reason. The new trial has the old one's settings, as far as they had been drawn, and its runs.
    """
    import optuna

    states = optuna.trial.TrialState
    for trial in silence.of(study):
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            study.tell(trial.number, state=states.FAIL, skip_if_finished=True)
    for trials in by_slot(study).values():
        last = trials[-1]
        if any(trial.state != states.FAIL for trial in trials) or ERROR in last.user_attrs:
            continue
        cuts = len(list(next(itertools.groupby(reversed(trials), _came_to))[1]))
        if cuts > _RETRIES:
            why = tr(
                "cut off {cuts} times without getting any further, by the end of its worker, of its machine or of "
                "the tracking store",
                cuts=cuts,
            )
            study.add_trial(made_again(last, failed={ERROR: why}))
        else:
            study.add_trial(made_again(last))


def _came_to(trial: optuna.trial.FrozenTrial) -> tuple[Any, ...]:
    return trial.user_attrs.get(PROGRESS), trial.user_attrs.get(_TRIED_AGAIN)


def retry_failed(study: optuna.Study) -> int:
    """Queue the slots again that failed, with their settings and runs, and return how many; the old trials keep their reasons."""
    failed = [trials for trials in by_slot(study).values() if _has_failed(trials)]
    for trials in failed:
        study.add_trial(made_again(trials[-1], without=ERROR, changed={_TRIED_AGAIN: len(trials)}))
    return len(failed)


def _has_failed(trials: Sequence[optuna.trial.FrozenTrial]) -> bool:
    return all(trial.state.name == "FAIL" for trial in trials) and ERROR in trials[-1].user_attrs


def has_work(plan: Plan, url: str) -> bool:
    """Whether any trial of a plan is left, as far as its study tells: yes where it was not begun, or cannot be opened."""
    try:
        trials = trials_of(open_planned(plan, url, create=False))
    except InputError:
        return True
    ended = [one for one in trials if one.state.name in ("COMPLETE", "PRUNED") or ERROR in one.user_attrs]
    return len(ended) < max(len(plan.slots), len(trials))


def hidden(url: str) -> str:
    """A storage URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    scheme, _, rest = url.partition("://")
    url = f"{scheme}://{rest.rpartition('@')[0].replace('@', '%40')}@{rest.rpartition('@')[2]}" if "@" in rest else url
    try:
        parsed = make_url(url)
    except ArgumentError:
        return url.rpartition("@")[2].partition("?")[0]
    secret = {key: "***" for key in parsed.query if "pass" in key.lower() or "key" in key.lower()}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


def run_of(study: optuna.Study) -> str:
    """The id of the study's MLflow run; empty when it has none yet."""
    return str(study.user_attrs.get(_RUN, ""))


def begun_run_of(study: optuna.Study) -> str:
    """The id of the study's MLflow run. InputError when it has none yet."""
    if not run_of(study):
        raise InputError(
            tr("--storage: the study {study_name!r} has no run yet; begin it with --workers 0", study_name=study.study_name)
        )
    return run_of(study)


def set_run(study: optuna.Study, run_id: str) -> None:
    """Note the study's MLflow run."""
    study.set_user_attr(_RUN, run_id)


def _storage(spec: Spec, url: str) -> optuna.storages.RDBStorage:
    import optuna

    check_answers(url, "--storage", tr("leave it out for a file in the study's folder"))
    options: Mapping[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    storage = optuna.storages.RDBStorage(
        url,
        engine_kwargs=dict(options),
        heartbeat_interval=spec.heartbeat_seconds,
        grace_period=_NEVER_SECONDS,
    )
    if url.startswith("sqlite"):
        take_one_by_one(storage)
    return storage


def sampler_of(spec: SweepSpec, slot: int) -> optuna.samplers.BaseSampler:
    """The sampler of one slot: what it draws at random is a function of the sweep's seed and the slot, whoever runs it."""
    import numpy as np
    from optuna import samplers

    settings, startup = spec.sampler, spec.sampler.startup_trials
    seed = int(np.random.SeedSequence([settings.seed, slot]).generate_state(1)[0])
    if settings.name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)
    if settings.name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup)
    if settings.name == "cmaes":
        return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)
    if settings.name == "nsga2":
        return samplers.NSGAIISampler(seed=seed, population_size=max(min(spec.trials // 4, 50), 4))
    return samplers.RandomSampler(seed=seed)  # a grid is queued setting by setting


def _pruner(settings: Pruner) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if settings.name == "median":
        return pruners.MedianPruner(n_startup_trials=settings.startup_trials)
    if settings.name == "hyperband":
        return pruners.HyperbandPruner()
    if settings.name == "wilcoxon":
        return pruners.WilcoxonPruner(p_threshold=settings.p_threshold, n_startup_steps=4)
    return pruners.NopPruner()
