"""Which MLflow models are served: those that this package registers, whose code is its own. Any other brings code with it, and is a program."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from fashion_ml.deploy.lora_model import MODEL_FILE
from fashion_ml.deploy.model_facts import wrong
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.links import leads_out
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.yaml_file import parsed, read_bytes, what_is_wrong

_FLAVOR = "python_function"
_LOADERS = ("fashion_ml.deploy.lora_model", "fashion_ml.deploy.stargan_model")
_WRITTEN = ("loader_module", "code", "data", "env", "python_version", "streamable")
"""What MLflow writes of such a model; `code`, a folder that Python would look into, only as none."""


def own_folder(model: str) -> Path:
    """A model's folder on this machine, brought here where it is elsewhere. InputError for one whose code is not this package's; OSError,
    ValueError and MLflow's own for one that cannot be brought or read."""
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=model))
    try:
        note = parsed(read_bytes(folder / MODEL_FILE))
    except yaml.YAMLError as error:
        raise ValueError(f"{MODEL_FILE}: {what_is_wrong(error)}") from None
    _check_inside(folder)
    try:
        flavor = dict(note["flavors"][_FLAVOR])
    except (KeyError, TypeError, ValueError, IndexError):
        raise ValueError(tr("{file} names no {flavor}", file=MODEL_FILE, flavor=_FLAVOR)) from None
    if foreign := _foreign(flavor):
        raise InputError(
            tr(
                "MODEL: {model!r} is a program: its code is not this package's ({foreign}), and serve runs no other; give a model that "
                "fashion-ml register has made, or, where you trust it, mlflow models serve",
                model=model,
                foreign=foreign[:200],
            )
        )
    _check_note(folder / MODEL_FILE, note)
    return folder


def _check_note(file: Path, note: Any) -> None:
    """InputError where what MLflow reads beside the flavors is not of its kind."""
    from mlflow.models import ModelSignature

    for key in ("metadata", "signature"):
        if not isinstance(note.get(key) or {}, dict):
            raise wrong(file, key, repr(note[key])[:80], tr("it is no mapping"))
    if not (said := note.get("signature")):
        return
    try:
        ModelSignature.from_dict(said)
    except Exception as error:  # it holds what it likes, and so do the errors of what reads it
        raise wrong(file, "signature", repr(said)[:80], first_line(error)[:160]) from None


def _check_inside(folder: Path) -> None:
    """ValueError where a model's folder holds a link to what is outside it."""
    for path in folder.rglob("*"):
        if path.is_symlink() and leads_out(path, folder):
            raise ValueError(tr("{path!r} is a link out of its folder", path=str(path.relative_to(folder))))


def _foreign(flavor: dict[Any, Any]) -> str:
    """What a model has that none of this package has, as `key: value`; empty where there is nothing."""
    for key, value in flavor.items():
        inside = key != "data" or (isinstance(value, str) and _is_below(value))
        if key not in _WRITTEN or (key in ("code", "streamable") and value) or not inside:
            return f"{_FLAVOR}.{key}: {value!r}"
    loader = flavor.get("loader_module")
    return "" if loader in _LOADERS else f"{_FLAVOR}.loader_module: {loader!r}"


def _is_below(path: str) -> bool:
    """Whether a path, as MLflow writes it, leads to something below its folder."""
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts
