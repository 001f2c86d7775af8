"""A run's output folder: where it is, whose it is, whether it is unfinished, and how it makes way for another."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment, StarganExperiment, to_yaml
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.folder_lock import LOCK
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed_mapping
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import LONGEST_WAIT

Experiment = LoraExperiment | StarganExperiment
NOTE, CONFIG = "run.json", "config.yaml"
"""Whose folder it is, and the resolved experiment."""
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
    length: int = 0
    """The steps or epochs that it was finished with; 0 where that is not noted, as before its end. The experiment beside it may be a longer
    one already, which a kill has kept from beginning."""


def has_note(folder: Path) -> bool:
    """Whether something is where a run's note would be, also what is no file, or a link to nowhere: reading it says so."""
    return os.path.lexists(folder / NOTE)


def read_run_folder(path: Path, field: str = "output.output_dir", fix: str = "") -> RunFolder | None:
    """What is in a folder that stands in `field`; None when no run has begun there. InputError with a `fix` when its note is damaged."""
    note = path / NOTE
    if not has_note(path):
        return None
    try:
        content = parsed_mapping(read_whole(note))
        known = {key: content[key] for key in ("run_id", "tracking_uri", "data_digest", "finished")}
        return RunFolder(path, **known, length=int(content.get("length", 0)))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(
            tr(
                "{field}: {note!r} is damaged ({error}); {fix}",
                field=field,
                note=str(note),
                error=error,
                fix=fix or tr("start over with --new"),
            )
        ) from None


def write_run_folder(folder: RunFolder, config: Experiment | None = None) -> None:
    """Note whose folder it is, and with a config the resolved experiment, without the folder, so that it can be run again.

    Of a new run the note comes first: `--resume` begins the run that it names where a kill came between the two.
    """
    facts: dict[str, Any] = {
        key: value for key, value in asdict(folder).items() if key != "path" and (value or key != "length")
    }
    note, texts = json.dumps(facts, indent=2) + "\n", dict[str, str]()
    if config is not None:
        output = config.output.model_copy(update={"output_dir": None})
        texts[CONFIG] = to_yaml(config.model_copy(update={"output": output}))
    for name, text in ({**texts, NOTE: note} if (folder.path / NOTE).exists() else {NOTE: note, **texts}).items():
        write_text(folder.path / name, text)


def has_only_begun(folder: Path) -> bool:
    """Whether a training began in a folder, and was killed before both its note and its experiment were there: nothing is trained yet."""
    there = [(folder / name).is_file() for name in (NOTE, CONFIG)]
    return any(there) and not all(there) and not (folder / "training_logs").exists() and not any(folder.glob("*.safetensors"))


def check_output_folder(config: Experiment, new: bool) -> None:
    """InputError, naming the ways on, when something that a run would write over is in a given output_dir and `new` is off."""
    folder = given_folder(config)
    if folder is None:
        return
    try:
        is_there = folder.exists()
    except OSError as error:  # a name that is too long, say
        raise InputError(
            tr(
                "output.output_dir: {folder!r} cannot be used ({strerror}); give another path",
                folder=str(folder),
                strerror=error.strerror,
            )
        ) from error
    if is_there and not folder.is_dir():
        raise InputError(tr("output.output_dir: {folder!r} is a file; give the path of a folder", folder=str(folder)))
    above = next(one for one in folder.absolute().parents if one.exists())
    if not is_there and not (above.is_dir() and os.access(above, os.W_OK)):
        why = "read-only" if above.is_dir() else "a file"
        raise InputError(
            tr(
                "output.output_dir: {folder!r} cannot be made, {above!r} is {why}; give another path",
                folder=str(folder),
                above=str(above),
                why=why,
            )
        )
    if new:
        return
    found = read_run_folder(folder)
    if found and not found.finished:
        raise InputError(
            tr(
                "output.output_dir: {folder!r} holds an unfinished run; go on with it by --resume, or start over by "
                "--new (what is there is moved aside)",
                folder=str(folder),
            )
        )
    patterns = (
        NOTE,
        CONFIG,
        "training_logs",
        "evaluation*",
        "state",
        "best.safetensors",
        f"{config.output.output_name}*.safetensors",
    )
    there = sorted({path.name for pattern in patterns for path in folder.glob(pattern)})
    if there:
        raise InputError(
            tr(
                "output.output_dir: {folder!r} already holds {names}; choose another folder, or add --new (what is "
                "there is moved aside)",
                folder=str(folder),
                names=", ".join(there[:3]),
            )
        )


def move_aside(config: Experiment) -> Path | None:
    """Rename a given output_dir that holds anything, so that it is free; returns where to."""
    folder = given_folder(config)
    if folder is None or not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir()):
        return None
    folder = folder.absolute()  # "." has no name
    aside = folder.with_name(f"{folder.name}.{datetime.now():%Y%m%d_%H%M%S}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise InputError(
            tr(
                "output.output_dir: {folder!r} cannot be moved aside ({strerror}); choose another folder",
                folder=str(folder),
                strerror=error.strerror,
            )
        ) from None
    return aside


def given_folder(config: Experiment) -> Path | None:
    """The output_dir that was given; None where the folder is named after its run."""
    given = config.output.output_dir
    return Path(given).expanduser() if given else None


def run_folder(config: Experiment, run_id: str) -> Path:
    """The given output_dir, else `outputs/<output_name>/<run id>`."""
    return (given_folder(config) or Path("outputs") / config.output.output_name / run_id).absolute()


def shared_folder(folder: Path | None, accelerator: Any) -> Path:
    """The main process's folder, known to all processes."""
    from accelerate.utils import broadcast_object_list

    (path,) = broadcast_object_list([str(folder)]) if accelerator.num_processes > 1 else [str(folder)]
    return Path(path)


def long_waits() -> Any:
    """For the Accelerator: processes wait for the main one for up to a day, while it encodes, evaluates or draws."""
    from accelerate import InitProcessGroupKwargs

    return InitProcessGroupKwargs(timeout=LONGEST_WAIT)


def check_tensorboard(log_with: str) -> None:
    """InputError when TensorBoard is asked for and not installed."""
    if log_with == "tensorboard" and find_spec("tensorboard") is None:
        raise InputError(
            tr("tracking.log_with: tensorboard is not installed; pip install 'fashion-ml[tensorboard]', or leave it at mlflow")
        )


def tensorboard(log_with: str, folder: Path, after: int) -> Any:
    """A TensorBoard writer for `<folder>/tensorboard`, or None when it is not asked for; points behind `after` are measured again."""
    if log_with != "tensorboard":
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)
