"""A run's output folder: whose it is, whether it is unfinished, and how it goes on or makes way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from fashion_ml.config import LoraExperiment, StarganExperiment, checked, flat, settings_of, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text

Experiment = LoraExperiment | StarganExperiment

_RUN, _CONFIG = "run.json", "config.yaml"

FACTS = "facts.json"
"""What `--json` says of a finished run, in the run's own folder: written before the run is noted as finished."""


@dataclass(frozen=True)
class RunFolder:
    """An output folder that a run has begun in."""

    path: Path
    run_id: str
    tracking_uri: str
    data_digest: str
    finished: bool


def read_run_folder(path: Path) -> RunFolder | None:
    """What is in a folder; None when no run has begun there. InputError when its note is damaged."""
    note = path / _RUN
    if not note.is_file():
        return None
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return RunFolder(path, **{key: content[key] for key in ("run_id", "tracking_uri", "data_digest", "finished")})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"output.output_dir: {str(note)!r} is damaged ({error}); start over with --new") from None


def write_run_folder(folder: RunFolder, config: Experiment | None = None) -> None:
    """Note whose folder it is, and with a config the resolved experiment, without the folder, so that it can be run again."""
    if config is not None:
        output = config.output.model_copy(update={"output_dir": None})
        free = config.model_copy(update={"output": output})
        write_text(folder.path / _CONFIG, to_yaml(free))
    facts: dict[str, Any] = {key: value for key, value in asdict(folder).items() if key != "path"}
    write_text(folder.path / _RUN, json.dumps(facts, indent=2) + "\n")


def find_run_to_resume(resume: str, config: Experiment) -> RunFolder:
    """The folder that `--resume` means: a path, or `latest`: the output_dir, else the newest unfinished run of this output_name.

    InputError when there is none, when it is finished with as many steps as are asked for, or when a setting that decides what is
    learnt has changed.
    """
    given = config.output.output_dir
    if resume != "latest":
        path = Path(resume).expanduser()
        path = path.parents[1] if path.is_file() and path.parent.name == "state" else path
    elif given:
        path = Path(given).expanduser()
    else:
        path = _newest_unfinished(Path("outputs") / config.output.output_name)
    found = read_run_folder(path.absolute())
    if found is None:
        raise InputError(f"resume: no run has begun in {str(path)!r}; give the output folder of one, or leave --resume out")
    before = _config_of(found.path, type(config))
    if found.finished and _length(before) >= _length(config):
        field = config.length_field.rpartition(".")[2]
        raise InputError(
            f"resume: the run in {str(path)!r} is finished; give more {field} than {_length(before)}, or leave --resume out"
        )
    _refuse_changes(before, config, finished=found.finished)
    return found


def check_output_folder(config: Experiment, new: bool) -> None:
    """InputError, naming the ways on, when something that a run would write over is in a given output_dir and `new` is off."""
    folder = _given_folder(config)
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output.output_dir: {str(folder)!r} is a file; give the path of a folder")
    if new:
        return
    found = read_run_folder(folder)
    if found and not found.finished:
        raise InputError(
            f"output.output_dir: {str(folder)!r} holds an unfinished run; go on with it by --resume, or start over by --new "
            "(what is there is moved aside)"
        )
    patterns = (
        _RUN,
        _CONFIG,
        "training_logs",
        "evaluation*",
        "state",
        "best.safetensors",
        f"{config.output.output_name}*.safetensors",
    )
    there = sorted({path.name for pattern in patterns for path in folder.glob(pattern)})
    if there:
        raise InputError(
            f"output.output_dir: {str(folder)!r} already holds {', '.join(there[:3])}; choose another folder, or add --new "
            "(what is there is moved aside)"
        )


def move_aside(config: Experiment) -> Path | None:
    """Rename a given output_dir that holds anything, so that it is free; returns where to."""
    folder = _given_folder(config)
    if folder is None or not folder.is_dir() or not any(folder.iterdir()):
        return None
    folder = folder.absolute()  # "." has no name
    aside = folder.with_name(f"{folder.name}.{datetime.now():%Y%m%d_%H%M%S}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise InputError(
            f"output.output_dir: {str(folder)!r} cannot be moved aside ({error.strerror}); choose another folder"
        ) from None
    return aside


def _given_folder(config: Experiment) -> Path | None:
    given = config.output.output_dir
    return Path(given).expanduser() if given else None


def _newest_unfinished(folder: Path) -> Path:
    notes = sorted(folder.glob(f"*/{_RUN}"), key=lambda note: note.stat().st_mtime, reverse=True)
    for note in notes:
        found = read_run_folder(note.parent)
        if found and not found.finished:
            return note.parent
    raise InputError(
        f"resume: there is no unfinished run below {str(folder)!r}; give the output folder of one, or leave --resume out"
    )


def _config_of(folder: Path, kind: type[Experiment]) -> Experiment:
    try:
        return checked(yaml.safe_load((folder / _CONFIG).read_text(encoding="utf-8")), kind)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"resume: {str(folder / _CONFIG)!r} cannot be read ({error}); start over with --new") from None


def _refuse_changes(before: Experiment, after: Experiment, *, finished: bool) -> None:
    first, second = flat(before), flat(after)
    free = {one.path for one in settings_of(type(after)) if one.may_change}
    problems = [
        f"{key}: {second.get(key, 'not given')}, but the run to resume has {first.get(key, 'not given')}; give that, or --new"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key) and key not in free
    ]
    scheduled = flat(after).get("optimizer.lr_scheduler") != "constant"
    if scheduled and not finished and _length(after) != _length(before):  # some steps would be trained again at another rate
        schedule = flat(after)["optimizer.lr_scheduler"]
        problems.append(
            f"{after.length_field}: {_length(after)}, but the run to resume has {_length(before)} and its learning rate follows a {schedule} "
            "schedule over that length; give the same, or --new"
        )
    elif _length(after) < _length(before):
        was = _length(before)
        problems.append(f"{after.length_field}: {_length(after)}, but the run to resume has {was}; give {was} or more")
    if problems:
        raise InputError(problems)


def _length(config: Experiment) -> int:
    return int(flat(config)[config.length_field])


def run_folder(config: Experiment, run_id: str) -> Path:
    """The given output_dir, else `outputs/<output_name>/<run id>`."""
    return (_given_folder(config) or Path("outputs") / config.output.output_name / run_id).absolute()


def shared_folder(folder: Path | None, accelerator: Any) -> Path:
    """The main process's folder, known to all processes."""
    from accelerate.utils import broadcast_object_list

    (path,) = broadcast_object_list([str(folder)]) if accelerator.num_processes > 1 else [str(folder)]
    return Path(path)


def long_waits() -> Any:
    """For the Accelerator: processes wait for the main one for up to a day, while it encodes, evaluates or draws."""
    from accelerate import InitProcessGroupKwargs

    return InitProcessGroupKwargs(timeout=timedelta(days=1))


def check_tensorboard(log_with: str) -> None:
    """InputError when TensorBoard is asked for and not installed."""
    if log_with == "tensorboard" and find_spec("tensorboard") is None:
        raise InputError(
            "tracking.log_with: tensorboard is not installed; pip install 'fashion-ml[tensorboard]', or leave it at mlflow"
        )


def tensorboard(log_with: str, folder: Path, after: int) -> Any:
    """A TensorBoard writer for `<folder>/tensorboard`, or None when it is not asked for; points behind `after` are measured again."""
    if log_with != "tensorboard":
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)
