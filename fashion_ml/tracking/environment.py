"""What MLflow's environment variables, and the run that `mlflow run` has made, decide of a new run: its experiment and its name.

What the user gave to the command itself comes before them, and they come before the experiment's file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.tracking.mlflow_private import is_generated_name
from fashion_ml.tracking.store import find_run, open_tracking, shown_uri, store_uri
from fashion_ml.tracking.store_checks import asked, check_uri, sqlite_file

RUN, EXPERIMENT, EXPERIMENT_NAME = "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"
Chosen = Collection[str]
"""Paths of the settings that the user gave to the command itself; `name` and `tracking.experiment` matter here."""


def experiment_named(name: str, chosen: Chosen) -> str:
    """The name of the experiment that a new run goes to, as far as it is known without a store."""
    return name if "tracking.experiment" in chosen else os.environ.get(EXPERIMENT_NAME) or name


def experiment_to_use(name: str, chosen: Chosen, *, make: bool = True) -> str:
    """The name of the experiment that a new run goes to, asked before anything slow. Nothing is made in a store that is there.

    Of an sqlite store that is not there yet only the place is checked, unless MLflow's variables name something in it: then it is made, but
    not without `make`. InputError for a store that cannot be used, and for a run or an experiment of those variables, or of that name, that
    cannot.
    """
    file, make = sqlite_file(uri := store_uri()), make and bool(os.environ.get(RUN) or os.environ.get(EXPERIMENT))
    if not make and file is not None and not file.exists():
        check_uri(uri)
        return experiment_named(name, chosen)
    client = open_tracking()
    run, given, named = _run_of_environment(client), os.environ.get(EXPERIMENT), os.environ.get(EXPERIMENT_NAME)
    if run is not None:
        return experiment_of(client, run)
    if "tracking.experiment" not in chosen and given:
        found = client.get_experiment(_by_id(client, given, named))
        return str(found.name)
    wanted = experiment_named(name, chosen)
    with asked(uri):
        known = client.get_experiment_by_name(wanted)
    if known is not None:
        _check_active(known, "tracking.experiment" if "tracking.experiment" in chosen or not named else EXPERIMENT_NAME)
    return wanted


def experiment_of(client: Any, run: Any) -> str:
    """The name of the experiment that an MLflow run is in."""
    with asked(store_uri()):
        return str(client.get_experiment(run.info.experiment_id).name)


def run_to_adopt(client: Any) -> Any | None:
    """The run that MLFLOW_RUN_ID names, which is then taken out of the environment; None without one.

    InputError when there is no such run, when it was deleted, when it has finished, and when another training has logged to it.
    """
    run = _run_of_environment(client)
    os.environ.pop(RUN, None)
    return run


def _run_of_environment(client: Any) -> Any | None:
    run_id = os.environ.get(RUN)
    if not run_id:
        return None
    fix = tr(
        "unset {run} for a run of its own, or set MLFLOW_TRACKING_URI to the store of that run, with its whole path", run=RUN
    )
    run = find_run(client, run_id, RUN, fix)
    why = ""
    if run.info.lifecycle_stage != "active":
        why = tr("was deleted")
    elif run.info.status == "FINISHED":
        why = tr("has finished")
    elif any("." in key for key in run.data.params):  # ours are dotted, those of `mlflow run` are not
        why = tr("has the params of an earlier run already")
    if why:
        raise InputError(
            tr(
                "{run}: the run {run_id!r} {why}; unset {run} for a run of its own, or go on with it by --resume",
                run=RUN,
                run_id=run_id,
                why=why,
            )
        )
    return run


def name_for(run: Any, name: str, chosen: Chosen) -> str:
    """What an adopted run is called: what the user gave to this command, else to `mlflow run --run-name`, else `name`."""
    given = run.info.run_name or ""
    return name if "name" in chosen or not given or is_generated_name(given) else given


def wanted_experiment(name: str, chosen: Chosen) -> dict[str, Any]:
    """What the making of an offline run notes of the experiment that it is to go to, for `experiment_for`."""
    by_id = "" if "tracking.experiment" in chosen else os.environ.get(EXPERIMENT, "")
    said = bool(by_id or "tracking.experiment" in chosen or os.environ.get(EXPERIMENT_NAME))
    return {"named": experiment_named(name, chosen), "id": by_id, "chosen": said}


def experiment_for(client: Any, wanted: Mapping[str, Any]) -> str:
    """The id of the experiment that an offline run goes to: what was said when it was trained, else what the environment says now."""
    if wanted["id"]:
        return _by_id(client, wanted["id"], None)
    return experiment_id(client, wanted["named"], {"tracking.experiment"} if wanted["chosen"] else ())


def experiment_id(client: Any, name: str, chosen: Chosen) -> str:
    """The id of the experiment of a new run, made where there is none of that name. InputError for one that is not there, or was deleted."""
    given, named = os.environ.get(EXPERIMENT), os.environ.get(EXPERIMENT_NAME)
    if "tracking.experiment" in chosen:
        return _by_name(client, name, "tracking.experiment")
    if given:
        return _by_id(client, given, named)
    return _by_name(client, named or name, EXPERIMENT_NAME if named else "tracking.experiment")


def _by_id(client: Any, given: str, named: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        with asked(store_uri()):
            found = client.get_experiment(given)
    except InputError as error:
        cause = error.__cause__
        if isinstance(cause, MlflowException) and cause.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise InputError(
                tr(
                    "{experiment}: {given!r} is not in {shown_uri}; unset it, or give an experiment's id",
                    experiment=EXPERIMENT,
                    given=given,
                    shown_uri=shown_uri(store_uri()),
                )
            ) from None
        raise
    if found.lifecycle_stage != "active":
        raise InputError(
            tr(
                "{experiment}: {given!r} ({name}) was deleted in MLflow; restore it or choose another one",
                experiment=EXPERIMENT,
                given=given,
                name=found.name,
            )
        )
    if named and named != found.name:
        raise InputError(
            tr(
                "{experiment}: {given!r} is {name!r}, but {experiment_name} is {named!r}; unset one of them",
                experiment=EXPERIMENT,
                given=given,
                name=found.name,
                experiment_name=EXPERIMENT_NAME,
                named=named,
            )
        )
    return str(found.experiment_id)


def _by_name(client: Any, name: str, field: str) -> str:
    from mlflow.exceptions import MlflowException

    with asked(store_uri()):
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(name)  # another process has just made it
    _check_active(found, field)
    return str(found.experiment_id)


def _check_active(experiment: Any, field: str) -> None:
    if experiment.lifecycle_stage != "active":
        raise InputError(
            tr("{field}: {name!r} was deleted in MLflow; restore it or choose another name", field=field, name=experiment.name)
        )
