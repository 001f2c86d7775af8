"""DINO-I: how near two pictures are by the class token of a DINOv2, from a folder in transformers' form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fashion_ml.errors import InputError
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.gpu_memory import leave, visiting
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import check_finite
from fashion_ml.runtime.redact import first_line
from fashion_ml.runtime.weight_files import find_weights, not_there, read_json
from fashion_ml.runtime.weights_hash import weights_sha256

PARAMETERS = {"token": "class, after the last layer norm"}
"""What decides its numbers, beside the weights and the preprocessing."""
_FIELD = "evaluation.dino"
_STEMS = ("model", "pytorch_model")
_KEYS = ("k_proj", "key")
"""What versions of transformers call the layer that makes the keys."""
_USUAL = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_convert_rgb": True,
}
"""DINOv2's preprocessor_config.json, for folders without one."""


@dataclass(frozen=True)
class Dino:
    """A loaded DINOv2. Ruiz et al. 2022, arXiv:2208.12242, section 4.2 (there DINO's ViT-S/16); Oquab et al. 2023, arXiv:2304.07193."""

    model: Any
    processor: Any
    preprocessing: dict[str, Any]
    weights_sha256: str
    gpu: str = ""
    """Where it goes for computing, such as `cuda`, until it is sent away by `leave_gpu`; empty where it stays where it is."""

    def leave_gpu(self) -> None:
        """Make room for what else needs the GPU's memory, until it computes again."""
        if self.gpu:
            leave(self.model)

    @torch.no_grad()
    @exact_float32()
    def embed(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> torch.Tensor:
        """L2-normalised class tokens (N, D), float32, on the CPU; in batches, as transformers' processor prepares the pictures."""
        found = []
        for first in range(0, len(pictures), batch_size):
            batch = [picture.convert("RGB") for picture in pictures[first : first + batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt").pixel_values
            with visiting(self.model, self.gpu):
                found.append(self.model(pixels.to(self.model.device)).last_hidden_state[:, 0].float().cpu())
        return torch.nn.functional.normalize(torch.cat(found), dim=1)

    @torch.no_grad()
    @exact_float32()
    def keys(self, pictures: Sequence[Image.Image], batch_size: int = 32) -> torch.Tensor:
        """Keys of the last layer's attention, all heads side by side and the class token first, (N, T, D), float32, on the CPU."""
        found: list[torch.Tensor] = []
        last = [one for name, one in self.model.named_modules() if name.rsplit(".", 1)[-1] in _KEYS][-1]
        hook = last.register_forward_hook(lambda module, given, keys: found.append(keys.float().cpu()))
        try:
            self.embed(pictures, batch_size)
        finally:
            hook.remove()
        return torch.cat(found)

    def facts(self) -> dict[str, Any]:
        """What decides its numbers."""
        return {"weights_sha256": self.weights_sha256, "preprocessing": self.preprocessing}


def load_dino(folder: Path, device: str = "cpu") -> Dino:
    """The DINOv2 of a folder with config.json and weights; without preprocessor_config.json it is prepared as DINOv2's own.

    It lies on the CPU and goes to the device when it computes.

    InputError, naming what is wrong, when there is no such folder, it holds another model, or weights are missing.
    """
    from safetensors import SafetensorError
    from transformers import BitImageProcessor, Dinov2Model

    if not folder.is_dir():
        raise not_there(str(folder), _FIELD)
    what = f"{_FIELD}: {str(folder)!r}"
    config = read_json(folder / "config.json", _FIELD)
    if config.get("model_type") != "dinov2":
        raise InputError(
            tr(
                "{what} is no DINOv2 in transformers' form (model_type {get!r}); give one's folder",
                what=what,
                get=config.get("model_type"),
            )
        )
    prepared = folder / "preprocessor_config.json"
    given = read_json(prepared, _FIELD) if prepared.is_file() else _USUAL
    preprocessing = {key: value for key, value in given.items() if key in _USUAL}
    find_weights(folder, _STEMS, _FIELD)  # which says what lies there instead
    try:
        processor = BitImageProcessor(**preprocessing)
        with _quiet():
            model, told = Dinov2Model.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(
            tr("{what} cannot be read ({first_line}); give the folder of a DINOv2", what=what, first_line=first_line(error))
        ) from error
    if missing := sorted(told["missing_keys"]):  # transformers fills them with random numbers
        raise InputError(
            tr(
                "{what} lacks {count} weights (first {missing}); give all files of one model",
                what=what,
                count=len(missing),
                missing=missing[0],
            )
        )
    check_finite(model.state_dict(), what)
    preprocessing = json.loads(json.dumps(preprocessing, sort_keys=True))
    return Dino(model.eval(), processor, preprocessing, weights_sha256(model), "" if device == "cpu" else device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and tables of weights."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
