"""What both trainers' runs share: where the files go, known to all processes, how long these wait, and TensorBoard files."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashion_ml.errors import InputError
from fashion_ml.resuming import Experiment


def run_folder(config: Experiment, run_id: str) -> Path:
    """The given output_dir, else `outputs/<output_name>/<run id>`."""
    given = config.output.output_dir
    return (Path(given).expanduser() if given else Path("outputs") / config.output.output_name / run_id).absolute()


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
