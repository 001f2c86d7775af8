"""Experiments, sweeps and suites that come with an installation, found by the path that they have in the repository.

In a checkout the folders stand beside the package; a wheel puts them into `share/fashion-ml` of the environment, which is above the package
however it was installed: in a venv, with conda, `--user`, `--prefix` or `--target`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fashion_ml.errors import InputError
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr

FOLDERS = ("experiments", "sweeps", "suites")
_SHARE = Path("share") / "fashion-ml"
_LEVELS = 5
"""From the package up to its environment: site-packages, python3.11, lib, the environment; one to spare."""


def shipped(path: str | Path) -> Path | None:
    """The file that came with the package under a path such as `sweeps/lora_rank_lr.yaml`, absolute; None when none did."""
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or relative.parts[0] not in FOLDERS:
        return None
    above = Path(__file__).resolve().parents[2 : 2 + _LEVELS]
    places = (above[0], *(folder / _SHARE for folder in above))
    with suppress(OSError):  # too long a name
        return next((place / relative for place in places if (place / relative).is_file()), None)
    return None


def given_or_shipped(path: str | Path, folder: Path | None = None) -> Path:
    """A path meant from `folder` (the working folder) where it is there, else the file of that path that came with the package, which is said.

    What is neither comes back as the path from `folder`: reading it tells what is wrong.
    """
    given, found = (Path(path) if folder is None else folder / path), shipped(path)
    if found is None or given.exists():
        return given
    say(
        tr(
            "{path}: not in {value}, so it is the one that came with fashion_ml, {found}",
            path=path,
            value=folder or tr("the working folder"),
            found=found,
        )
    )
    return found


def default_experiment(path: str) -> Path:
    """The experiment of a command that was given none, such as `experiments/lora/embedded.yaml`: always the one that came with the package."""
    found = shipped(path)
    if found is None:
        raise InputError(tr("--config: {path} did not come with this installation; give a YAML file", path=path))
    return found
