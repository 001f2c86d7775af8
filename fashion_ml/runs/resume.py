"""How a stopped run goes on: which folder `--resume` means, and which settings may have changed since."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fashion_ml.config import checked, flat, settings_of
from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import CONFIG, FACTS, NOTE, Experiment, RunFolder, has_only_begun, read_run_folder
from fashion_ml.runtime.json_file import read_mapping as read_json
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.yaml_file import read_mapping

_ID = re.compile(r"(pending-)?[0-9a-f]{4,32}")
_MOST_LISTED = 5


class FinishedRunError(InputError):
    """The run to resume has as many steps as are asked for."""

    def __init__(self, note: RunFolder, why: str):
        super().__init__(why)
        self.note = note


class RunEndedError(InputError):
    """`--resume` of a training that had done everything: its end, which its process had not come to, is in the store now."""

    def __init__(self, folder: Path):
        super().__init__(
            tr(
                "resume: the run in {folder!r} had done everything, and its end is in the store now; nothing is left to train",
                folder=str(folder),
            )
        )
        self.folder = folder

    @property
    def facts(self) -> dict[str, Any]:
        """What the training reports, as for `--json`."""
        return read_json(self.folder / FACTS, "resume", tr("it holds what the training reported; nothing else is missing"))


def find_run_to_resume(resume: str, config: Experiment) -> RunFolder:
    """The folder that `--resume` means: a path, a run's id or its first digits, or `latest`: the output_dir, else the newest unfinished run
    of this output_name.

    InputError when there is none, when it is finished with as many steps as are asked for, or when a setting that decides what is
    learnt has changed.
    """
    given = config.output.output_dir
    if resume != "latest":
        path = Path(resume).expanduser()
        path = path.parents[1] if path.is_file() and path.parent.name == "state" else path
        path = path if path.exists() else _folder_of_run(resume) or path
    elif given:
        path = Path(given).expanduser()
    else:
        path = _newest_unfinished(Path("outputs") / config.output.output_name)
    found = read_run_folder(path.absolute())
    if has_only_begun(path.absolute()):
        return found or RunFolder(path.absolute(), "", "", "", finished=False)
    if found is None:
        raise InputError(
            tr("resume: no run has begun in {path!r}; give the output folder of one, or leave --resume out", path=str(path))
        )
    before = config_of(found.path, type(config))
    config = _with_length(config, before)
    done = found.length or length_of(before)
    if found.finished and done >= length_of(config):
        field = config.length_field.rpartition(".")[2]
        raise FinishedRunError(
            found,
            tr(
                "resume: the run in {path!r} is finished; give more {field} than {done}, or leave --resume out",
                path=str(path),
                field=field,
                done=done,
            ),
        )
    _refuse_changes(before, _precision_as_begun(config, before), finished=found.finished)
    return found


def _precision_as_begun(config: Experiment, before: Experiment) -> Experiment:
    """An experiment whose training.mixed_precision is auto with that of the run that it goes on with; any other as it is."""
    if config.training.mixed_precision != "auto":
        return config
    training = config.training.model_copy(update={"mixed_precision": before.training.mixed_precision})
    return config.model_copy(update={"training": training})


def _newest_unfinished(folder: Path) -> Path:
    notes = sorted(folder.glob(f"*/{NOTE}"), key=lambda note: note.stat().st_mtime, reverse=True)
    for note in notes:
        found = read_run_folder(note.parent)
        if found and not found.finished:
            return note.parent
    raise InputError(
        tr(
            "resume: there is no unfinished run below {folder!r}; give the output folder of one, or leave --resume out",
            folder=str(folder),
        )
    )


def _folder_of_run(given: str) -> Path | None:
    """The folder below outputs/ of the run whose id this is, or begins with; None without one. InputError when there are several."""
    if not _ID.fullmatch(given):
        return None
    found = {}
    for note in sorted(Path("outputs").glob(f"*/*/{NOTE}")):
        run = read_run_folder(note.parent)
        if run and run.run_id.startswith(given):
            found[run.run_id] = note.parent
    if len(found) > 1:
        listed = tr("; ").join(f"{run_id} ({folder})" for run_id, folder in list(found.items())[:_MOST_LISTED])
        more = tr("; {count} more", count=len(found) - _MOST_LISTED) if len(found) > _MOST_LISTED else ""
        raise InputError(
            tr(
                "resume: {given!r} may be {count} runs below 'outputs': {listed}{more}; give more of the id",
                given=given,
                count=len(found),
                listed=listed,
                more=more,
            )
        )
    return next(iter(found.values()), None)


def config_of(folder: Path, kind: type[Experiment]) -> Experiment:
    """The experiment that a run in a folder was begun with. InputError when it cannot be read."""
    return checked(read_mapping(folder / CONFIG, "resume", tr("a whole copy of it, or start over with --new")), kind)


def _with_length(config: Experiment, before: Experiment) -> Experiment:
    """The experiment with the steps that its epochs mean for the run to resume, whose data and batches are the same.

    InputError when that run counts steps.
    """
    epochs, earlier = (flat(one).get("training.max_train_epochs") for one in (config, before))
    if epochs is None:
        return config
    if earlier is None:
        raise InputError(tr("training.max_train_epochs: given, but the run to resume counts steps; give max_train_steps"))
    training = config.training.model_copy(update={"max_train_steps": length_of(before) // earlier * epochs})
    return config.model_copy(update={"training": training})


def _refuse_changes(before: Experiment, after: Experiment, *, finished: bool) -> None:
    first, second = flat(before), flat(after)
    free = {one.path for one in settings_of(type(after)) if one.may_change}
    problems = [
        tr(
            "{key}: {get}, but the run to resume has {get_2}; give that, or --new",
            key=key,
            get=second.get(key, tr("not given")),
            get_2=first.get(key, tr("not given")),
        )
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key) and key not in free
    ]
    scheduled = flat(after).get("optimizer.lr_scheduler") != "constant"
    if (
        scheduled and not finished and length_of(after) != length_of(before)
    ):  # some steps would be trained again at another rate
        schedule = flat(after)["optimizer.lr_scheduler"]
        problems.append(
            tr(
                "{length_field}: {length}, but the run to resume has {length_2} and its learning rate follows a "
                "{schedule} schedule over that length; give the same, or --new",
                length_field=after.length_field,
                length=length_of(after),
                length_2=length_of(before),
                schedule=schedule,
            )
        )
    elif length_of(after) < length_of(before):
        was = length_of(before)
        problems.append(
            tr(
                "{length_field}: {length}, but the run to resume has {was}; give {was} or more",
                length_field=after.length_field,
                length=length_of(after),
                was=was,
            )
        )
    if problems:
        raise InputError(problems)


def length_of(config: Experiment) -> int:
    """The steps or epochs of an experiment."""
    return int(flat(config)[config.length_field])
