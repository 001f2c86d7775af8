"""Where a training goes on from: the file of its state, and the step that it is of. Without torch, for those who only ask."""

from __future__ import annotations

from pathlib import Path

from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.json_file import parsed

STATE = Path("state") / "training_state.safetensors"
"""Below a run's output folder."""


def state_step(path: Path) -> int:
    """The step of a state, from its header alone; 0 when there is none, or it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        with safe_open(path, framework="np") as file:
            return int(parsed((file.metadata() or {})["state"])["step"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, OverflowError):
        return 0
