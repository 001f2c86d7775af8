"""The study of a sweep: where it is kept, what it holds, and how it is continued."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import SweepSpec, flat
from fashion_ml.errors import InputError
from fashion_ml.evaluation.scores import ATTRIBUTE, METRICS, better
from fashion_ml.sweep.space import grid

if TYPE_CHECKING:
    import optuna

SLOT = "slot"
"""User attribute: the trial's place among those that were asked for; a retry keeps it."""
STORAGE = "FASHION_ML_STORAGE"
"""Environment variable: the storage's URL, so that its password is on no command line."""
_DIGEST, _RUN = "digest", "mlflow_run_id"
_NO_IMAGE_METRICS = ("val_loss", "kid", "parameters", "training_seconds")
"""What an objective may name beside the metrics of pairs of images; less is better."""
_RETRIES = 20


def study_folder(spec: SweepSpec) -> Path:
    """`outputs/sweeps/<name>`, on each machine."""
    return (Path("outputs") / "sweeps" / spec.name).absolute()


def storage_url(spec: SweepSpec, given: str) -> str:
    """The storage of a sweep: what is given, else FASHION_ML_STORAGE, else what the file says, else a file in the study's folder.

    A PostgreSQL URL that names no driver gets the one that comes with `fashion-ml[postgres]`.
    """
    url = given or os.environ.get(STORAGE) or spec.storage or f"sqlite:///{study_folder(spec) / 'study.db'}"
    scheme, colon, rest = url.partition("://")
    return f"postgresql+psycopg{colon}{rest}" if scheme in ("postgresql", "postgres") else url


def dashboards() -> list[str]:
    """How to open the studies of the working folder, and that of FASHION_ML_STORAGE, in optuna-dashboard."""
    from importlib.util import find_spec

    urls = [f"sqlite:///{path}" for path in sorted(Path("outputs").glob("sweeps/*/study.db"))]
    if os.environ.get(STORAGE):
        urls.append(f'"${STORAGE}"')
    if not urls:
        return ["No sweeps yet in outputs/sweeps. Make one: fashion-ml sweep sweeps/lora_rank_lr.yaml"]
    lines = [f"optuna-dashboard {url} --host 127.0.0.1 --port 8080" for url in urls]
    if find_spec("optuna_dashboard") is None:
        lines.insert(0, "Install it first: pip install optuna-dashboard")
    return [*lines, "Then open http://127.0.0.1:8080/dashboard"]


def directions_of(spec: SweepSpec) -> list[str]:
    """`minimize` or `maximize` for each objective, by the metric's meaning where the file does not say.

    InputError for a metric that there is not, one of which neither more nor less is better, and one that cannot be confirmed.
    """
    found, problems = [], []
    for objective in spec.objectives:
        name = objective.metric.removeprefix("latent_")
        paired = name in METRICS or name.startswith(ATTRIBUTE)
        way = better(name) if paired else "lower"
        if not paired and name not in _NO_IMAGE_METRICS:
            near = difflib.get_close_matches(name, [*METRICS, *_NO_IMAGE_METRICS], n=1)
            fix = f"did you mean {near[0]}?" if near else f"there are {', '.join([*METRICS, *_NO_IMAGE_METRICS])}"
            problems.append(f"objectives: {objective.metric!r} is no metric; {fix}")
        elif not way and objective.direction is None:
            problems.append(f"objectives: of {objective.metric!r} neither more nor less is better; give its direction")
        if spec.confirm.best and not (paired and way):
            problems.append(f"confirm.best: {objective.metric} is not compared image by image; set it to 0")
        found.append(objective.direction or {"lower": "minimize", "higher": "maximize"}.get(way, ""))
    if problems:
        raise InputError(problems)
    return found


def open_study(spec: SweepSpec, base: Any, url: str, *, create: bool, worker: int = 0) -> optuna.Study:
    """The study in a storage, as worker number `worker` sees it: each draws other settings.

    InputError when the storage cannot be used, when the study is to be there and is not, or when it was begun with another experiment or
    search space.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats are called that since 2021
    missing = f"--storage: holds no study {spec.name!r}; begin it with fashion-ml sweep, --workers 0 begins it only"
    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file is not None and create:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif file is not None and not file.is_file():
        raise InputError(missing)
    directions = directions_of(spec)
    options: dict[str, Any] = {"study_name": spec.name, "pruner": _pruner(spec)}
    try:
        storage = _storage(spec, url)
        if create:
            study = optuna.create_study(storage=storage, directions=directions, load_if_exists=True, **options)
        else:
            study = optuna.load_study(storage=storage, **options)
    except KeyError:
        raise InputError(missing) from None
    except Exception as error:
        fix = (
            "pip install 'fashion-ml[postgres]'"
            if "psycopg" in str(error)
            else "give a SQLAlchemy URL whose driver is installed"
        )
        raise InputError(f"--storage: {hidden(url)!r} cannot be used ({_first_line(error)}); {fix}") from error
    study.sampler = _sampler(spec, spec.sampler.seed + 7919 * worker + len(study.get_trials(deepcopy=False)))
    digest = _digest(spec, base)
    before = study.user_attrs.get(_DIGEST)
    if before is None:
        study.set_user_attr(_DIGEST, digest)
    elif before != digest:
        raise InputError(
            f"name: the study {spec.name!r} was begun with another experiment, search space or objective; give this sweep another name"
        )
    return study


def ask_for(study: optuna.Study, spec: SweepSpec) -> int:
    """Queue trials so that there are `spec.trials` in all, whatever became of them; returns how many there are."""
    there = {trial.user_attrs[SLOT] for trial in study.get_trials(deepcopy=False) if SLOT in trial.user_attrs}
    wanted: list[dict[str, Any]] = [{}] * spec.trials
    if spec.sampler.name == "grid":
        wanted = grid(spec.search_space)[: spec.trials]
    for slot, params in enumerate(wanted):
        if slot not in there:
            study.enqueue_trial(params, user_attrs={SLOT: slot})
    return max(len(wanted), len(there))


def trials_of(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The last trial of every slot, by slot: retries stand for those they go on with."""
    by_slot: dict[int, optuna.trial.FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if SLOT in trial.user_attrs:
            by_slot[trial.user_attrs[SLOT]] = trial
    return [by_slot[slot] for slot in sorted(by_slot)]


def retry(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queue a trial again that was cut off: the same settings, folder and runs."""
    import optuna

    optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES)(study, trial)


def hidden(url: str) -> str:
    """A storage URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]


def run_of(study: optuna.Study) -> str:
    """The id of the study's MLflow run; empty when it has none yet."""
    return str(study.user_attrs.get(_RUN, ""))


def set_run(study: optuna.Study, run_id: str) -> None:
    """Note the study's MLflow run."""
    study.set_user_attr(_RUN, run_id)


def _storage(spec: SweepSpec, url: str) -> optuna.storages.RDBStorage:
    import optuna

    options: Mapping[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    return optuna.storages.RDBStorage(
        url,
        engine_kwargs=dict(options),
        heartbeat_interval=spec.heartbeat_seconds,
        grace_period=4 * spec.heartbeat_seconds,
        heartbeat_stale_trial_callback=retry,
    )


def _sampler(spec: SweepSpec, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    settings, startup = spec.sampler, spec.sampler.startup_trials
    if settings.name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)
    if settings.name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup)
    if settings.name == "cmaes":
        return samplers.CmaEsSampler(seed=seed, n_startup_trials=startup)
    if settings.name == "nsga2":
        return samplers.NSGAIISampler(seed=seed)
    return samplers.RandomSampler(seed=seed)  # a grid is queued setting by setting


def _pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    from optuna import pruners

    settings = spec.pruner
    if settings.name == "median":
        return pruners.MedianPruner(n_startup_trials=settings.startup_trials)
    if settings.name == "hyperband":
        return pruners.HyperbandPruner()
    if settings.name == "wilcoxon":
        return pruners.WilcoxonPruner(p_threshold=settings.p_threshold, n_startup_steps=4)
    return pruners.NopPruner()


def _digest(spec: SweepSpec, base: Any) -> str:
    """What trials of one study must share."""
    tree = spec.model_dump(mode="json", include={"search_space", "objectives", "seeds", "constraints"})
    text = json.dumps([tree, {key: str(value) for key, value in flat(base).items()}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
