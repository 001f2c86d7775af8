"""Offline nothing is asked of the Hugging Face hub either: what is in its cache is read, and other hub ids are refused at once."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_ml.errors import InputError
from fashion_ml.runs.warm_start import is_there
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.config import LoraExperiment, StarganExperiment

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_VARIABLE = "HF_HUB_OFFLINE"
_set_here: list[str] = []


def check_hub(config: LoraExperiment | StarganExperiment) -> None:
    """With tracking.offline keep this process, and those it starts, from asking the hub, as HF_HUB_OFFLINE does; else as the user has it.

    InputError with every hub id that is not in the hub's cache on this machine.
    """
    keep_off_the_hub(config.tracking.offline)
    if not config.tracking.offline:
        return
    model, evaluation = config.model, config.evaluation
    given = {f"model.{name}": getattr(model, name, "") for name in ("base", "vae")}
    checks = getattr(config.training, "performance_check_interval", None) is not None
    if (evaluation.enabled or checks) and "fashion_clip" not in evaluation.without:
        given["evaluation.encoder"] = evaluation.encoder
    if (evaluation.enabled or checks) and evaluation.vae:
        given["evaluation.vae"] = evaluation.vae
    refuse_unknown(given)


def refuse_unknown(given: dict[str, str]) -> None:
    """InputError for each setting whose value is a hub id that is not in the cache."""
    problems = [
        tr(
            "{field}: {value!r} is a hub id that is not in this machine's hub cache, and offline nothing is "
            "fetched; fetch it where there is a network (hf download {id_of}), or give a folder or a file",
            field=field,
            value=value,
            id_of=_id_of(value),
        )
        for field, value in given.items()
        if _id_of(value) and not _is_cached(_id_of(value))
    ]
    if problems:
        raise InputError(problems)


def keep_off_the_hub(wanted: bool) -> None:
    """Set HF_HUB_OFFLINE, for libraries that have read it already too, or take back what an earlier training of this process set."""
    if wanted and not _set_here and not os.environ.get(_VARIABLE):
        os.environ[_VARIABLE] = "1"
        _set_here.append(_VARIABLE)
    elif not wanted and _set_here:
        os.environ.pop(_set_here.pop(), None)
    else:
        return
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        vars(constants)[_VARIABLE] = wanted


def _id_of(value: str) -> str:
    """The hub id that a setting's value means; empty for what is a folder, a file or neither."""
    if value.startswith("hf-hub:"):
        return value.removeprefix("hf-hub:").partition("@")[0]
    return value if _HUB_ID.fullmatch(value) and not is_there(value) else ""


def _is_cached(hub_id: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    return any(any(one.iterdir()) for one in snapshots.glob("*") if one.is_dir())
