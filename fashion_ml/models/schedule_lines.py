"""What a base says of its noise schedule that is not usual, or leaves unsaid, with the setting that changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_ml.models.single_file import stated_prediction_type
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import unwrapped
from fashion_ml.runtime.weight_files import is_safetensors, read_header


def schedule_lines(base: str, scheduler: Any, prediction_type: str | None, zero_terminal_snr: bool | None) -> list[str]:
    """A line where the UNet predicts v, and one where the schedule ends in pure noise, by the base alone: none where a setting says it.

    `scheduler` is that of the loaded pipeline, `base`, `prediction_type` and `zero_terminal_snr` are the settings of `model`.
    """
    path = Path(base).expanduser()
    of_file = _of_file(path) if is_safetensors(path) and path.is_file() else None
    by_v, ends_in_noise = scheduler.config.prediction_type == "v_prediction", scheduler.config.get("rescale_betas_zero_snr")
    lines = []
    if by_v and prediction_type is None:
        why = tr("its scheduler's configuration says so")
        if of_file is not None:
            why = of_file.get("v") or tr("its file says nothing of it, and most of its family do")
        also = tr(" with model.zero_terminal_snr false") if ends_in_noise else ""
        lines.append(
            tr("The base predicts v, not noise ({why}); model.prediction_type epsilon{also} changes it", why=why, also=also)
        )
    if ends_in_noise and zero_terminal_snr is None:
        why = tr("its scheduler's configuration says so") if of_file is None else of_file.get("noise", "")
        lines.append(
            tr(
                "The base's noise schedule ends in pure noise, zero terminal SNR ({why}); model.zero_terminal_snr false changes it",
                why=why,
            )
        )
    return lines


def _of_file(path: Path) -> dict[str, str]:
    """In words what says in a single file that it predicts v, and that its schedule ends in pure noise, where something does."""
    header = read_header(path, "model.base")
    names = {unwrapped(name) for name in header.shapes}
    found = {}
    if "v_pred" in names:
        found["v"] = tr("its file holds {name}", name="v_pred")
    elif stated_prediction_type({}, header.metadata) == "v_prediction":
        found["v"] = tr("its file's metadata say modelspec.prediction_type")
    if "ztsnr" in names:
        found["noise"] = tr("its file holds {name}", name="ztsnr")
    return found
