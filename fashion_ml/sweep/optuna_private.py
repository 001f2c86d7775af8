"""Everything here that Optuna keeps to itself, read in the code of 5.0: heartbeats, trials that wait, its database, how settings are queued.

A version that has moved any of it fails tests/unit/sweep/test_optuna_private.py, which says what.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


def heartbeats(study: optuna.Study) -> tuple[datetime, dict[int, datetime]]:
    """The time that a study's database has now, and by number the last heartbeat of each running trial that had any."""
    import optuna
    import sqlalchemy
    from optuna.storages._rdb import models
    from optuna.storages._rdb.storage import _create_scoped_session

    storage: Any = study._storage
    storage = getattr(storage, "_backend", storage)  # of a cached storage
    with _create_scoped_session(storage.scoped_session, True) as session:
        now = session.execute(sqlalchemy.func.now()).scalar()
        beats = session.query(models.TrialModel.number, models.TrialHeartbeatModel.heartbeat).join(models.TrialHeartbeatModel)
        running = models.TrialModel.state == optuna.trial.TrialState.RUNNING
        return now.replace(tzinfo=None), dict(beats.filter(models.TrialModel.study_id == study._study_id, running).all())


def take_one_by_one(storage: optuna.storages.RDBStorage) -> None:
    """Let every transaction on a SQLite file be alone from its beginning on.

    Else two workers that ask at once read the same waiting trial and both set it running: SQLite takes no notice of Optuna's `FOR UPDATE`, and
    Python's driver begins a transaction at the first write only (SQLAlchemy's documentation, "Serializable isolation / Savepoints /
    Transactional DDL" of pysqlite, has this remedy). Of 120 trials two workers took 10 twice.
    """
    from sqlalchemy import event

    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", connected)
    event.listen(storage.engine, "begin", begun)
    storage.engine.dispose()  # connections from before


def withdraw(study: optuna.Study, trial: optuna.trial.FrozenTrial, mark: str) -> None:
    """Fail a trial that nobody has begun, with the user attribute `mark`: `Study.tell` takes running trials only. One that ended stays."""
    import optuna

    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_user_attr(trial._trial_id, mark, True)
        study._storage.set_trial_state_values(trial._trial_id, state=optuna.trial.TrialState.FAIL)


def made_again(
    trial: optuna.trial.FrozenTrial,
    *,
    without: str = "",
    changed: Mapping[str, Any] | None = None,
    failed: Mapping[str, Any] | None = None,
) -> optuna.trial.FrozenTrial:
    """A waiting trial with another one's user attributes and settings: those that had been drawn, and those that were queued for it.

    `without` is an attribute that it does not take over, `changed` are others that it has; with `failed`, attributes too, it has failed
    instead of waiting.
    """
    import optuna

    states = optuna.trial.TrialState
    attributes = {key: value for key, value in trial.user_attrs.items() if key != without}
    return optuna.create_trial(
        state=states.FAIL if failed else states.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={**attributes, **(changed or {}), **(failed or {})},
        system_attrs={key: value for key, value in trial.system_attrs.items() if key == "fixed_params"},
    )
