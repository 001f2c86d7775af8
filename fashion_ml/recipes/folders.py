"""Where a run's files go, known to all processes, and its TensorBoard files."""

from __future__ import annotations

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


def tensorboard(log_with: str, folder: Path) -> Any:
    """A TensorBoard writer for `<folder>/tensorboard`, or None when it is not asked for. InputError when it is not installed."""
    if log_with != "tensorboard":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "tracking.log_with: tensorboard is not installed; pip install 'fashion-ml[tensorboard]', or leave it at mlflow"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
