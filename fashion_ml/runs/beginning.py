"""Before a training begins or goes on: where its files are to go, checked and locked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashion_ml.config import flat
from fashion_ml.errors import InputError
from fashion_ml.runs.offline_hub import check_hub
from fashion_ml.runs.resume import FinishedRunError, RunEndedError, find_run_to_resume
from fashion_ml.runs.run_folder import Experiment, RunFolder, check_output_folder, check_tensorboard, given_folder
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.folder_lock import LOCK, folder_lock, refuse_locked
from fashion_ml.runtime.language import tr


@contextmanager
def begun(config: Experiment, *, resume: str, new: bool) -> Iterator[RunFolder | None]:
    """Around a training: as `begin`, with its folder locked, so that a second one there is refused before it writes anything.

    A folder that is named after a run that is not made yet is locked by `training_run`.
    """
    folder = given_folder(config)
    if folder is not None and is_main():
        refuse_locked(folder)
    try:
        earlier = begin(config, resume=resume, new=new)
    except FinishedRunError as error:
        _come_to_end(error, offline=config.tracking.offline)
        raise
    folder = earlier.path if earlier else folder
    if folder is None or not is_main():
        yield earlier
        return
    with folder_lock(folder, "resume" if earlier else "output.output_dir"):
        caches = {flat(config).get(f"{section}.cache_dir") for section in ("data", "evaluation")} - {None}
        remove_leftovers(folder, *(Path(str(one)).expanduser() for one in caches))
        yield begin(config, resume=str(earlier.path) if earlier else "", new=new)  # another one may have ended in between


def check_beginning(config: Experiment, *, new: bool) -> None:
    """As `begun`, of a training that is not begun: its folder is locked, which says whether it can be written, and nothing of that stays."""
    folder = given_folder(config)
    if folder is not None and is_main():
        refuse_locked(folder)
    begin(config, resume="", new=new)
    if is_main():
        with folder_lock(folder or Path("outputs") / config.output.output_name):
            pass


def _come_to_end(finished: FinishedRunError, *, offline: bool) -> None:
    """RunEndedError where the run to resume had done everything and its end was missing, which is mended now."""
    from fashion_ml.runs.ending import come_to_end, end_offline, lacks_end

    if not is_main():
        return
    if not lacks_end(finished.note):
        _tidy(finished.note.path)
        return
    if offline:
        end_offline(finished.note)
    elif not come_to_end(finished.note).sent:
        folder = finished.note.path
        raise InputError(
            tr(
                "resume: the tracking store does not take the rest of {folder!r} now; later: fashion-ml sync {folder_2}",
                folder=str(folder),
                folder_2=folder,
            )
        )
    raise RunEndedError(finished.note.path)


def _tidy(folder: Path) -> None:
    """Remove what a process that was killed behind the end of its run has left: its lock, and temporary files."""
    if (folder / LOCK).exists():
        with suppress(InputError), folder_lock(folder, "resume"):  # whoever works there now removes it at its own end
            remove_leftovers(folder)


def begin(config: Experiment, *, resume: str, new: bool) -> RunFolder | None:
    """Check where the files are to go, before anything slow; returns the folder of the run that goes on. InputError when it cannot be used."""
    if resume and new:
        raise InputError(tr("new: contradicts resume; give one of them"))
    check_tensorboard(config.tracking.log_with)
    check_hub(config)
    if config.tracking.offline and os.environ.get("MLFLOW_RUN_ID"):
        raise InputError(
            tr(
                "tracking.offline: true, but MLFLOW_RUN_ID names a run that a store has made already, as mlflow run "
                "and sweeps do; leave one out"
            )
        )
    if resume:
        return find_run_to_resume(resume, config)
    if is_main():
        check_output_folder(config, new)
    return None
