"""The images of a training, if they are many, looked at by other processes before they are read here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashion_ml.config import LoraExperiment
from fashion_ml.data.class_folders import CLASS_FOLDER
from fashion_ml.data.folder_listing import list_folder
from fashion_ml.data.look_ahead import LookAhead
from fashion_ml.runs.warm_start import is_main
from fashion_ml.runtime.cores import cores

_MANY = 2000
"""Images from which on starting other processes costs less than it saves."""


@contextmanager
def images_ahead(config: LoraExperiment) -> Iterator[LookAhead | None]:
    """Around the beginning of a training: the processes that look at its images. None for few images, on one core, where a note in
    data.cache_dir knows images already, and where nothing can be started or a folder cannot be read, which whoever reads it says."""
    ahead = _started(config) if is_main() else None
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.stop()


def _started(config: LoraExperiment) -> LookAhead | None:
    with suppress(OSError, RuntimeError, ValueError):  # a name that is too long, an unknown ~user, one that no file can have
        cache = config.data.cache_dir
        if cores() == 1 or (cache and (Path(cache).expanduser() / "images.json").exists()):
            return None
        paths = [path for folder in _folders(config) for path in list_folder(folder).images]
        return LookAhead(paths) if len(paths) >= _MANY else None
    return None


def _folders(config: LoraExperiment) -> Iterator[Path]:
    """Those that hold images."""
    data = config.data
    for given in (data.train_data_dir, data.reg_data_dir):
        if given and given != "embedded":
            below = list_folder(Path(given).expanduser(), read_below=True).folders
            yield from (path for path in below if CLASS_FOLDER.fullmatch(path.name))
    yield from (Path(one.image_dir).expanduser() for one in data.subsets)
