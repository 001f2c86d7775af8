"""The encoder and the metrics that settings ask for, loaded onto the device of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_ml.config import Evaluation
from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.measure import MetricSuite
    from fashion_ml.metrics.dino import Dino
    from fashion_ml.metrics.fashion_clip import FashionClip


def device_of_evaluation() -> str:
    """`cuda` where there is a GPU, else `cpu`; `cpu` too where `accelerate launch --cpu`, or ACCELERATE_USE_CPU, has trainings there."""
    import torch
    from accelerate.utils import parse_flag_from_env

    return "cuda" if torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU") else "cpu"


def read_metric_suite(settings: Evaluation, cache_dir: str | None = None) -> MetricSuite:
    """The instruments of an evaluation. InputError when the encoder, the attributes or the weights of LPIPS cannot be had."""
    from fashion_ml.evaluation.measure import make_metric_suite

    encoder = read_encoder(settings.encoder, settings.without)
    suite = make_metric_suite(settings, encoder, device_of_evaluation(), cache_dir, read_dino(settings.dino))
    suite.leave_gpu()  # it has read the attributes' texts; a training may come first
    return suite


def read_dino(folder: str | None) -> Dino | None:
    """The DINOv2 of `evaluation.dino`, None where none is given. InputError as `load_dino`."""
    from fashion_ml.metrics.dino import load_dino

    return load_dino(Path(folder).expanduser(), device_of_evaluation()) if folder else None


def read_encoder(name: str, without: Sequence[str]) -> FashionClip | None:
    """The encoder of an evaluation, None when it is left out. InputError when it cannot be had."""
    if "fashion_clip" in without:
        return None
    try:
        return load_encoder(name)
    except InputError as error:
        raise InputError(
            [tr("{problem} (or measure without: --without fashion_clip)", problem=problem) for problem in error.problems]
        ) from error


def load_encoder(name: str) -> FashionClip:
    """The encoder of that name, `embedded` among them. InputError when it cannot be had."""
    from fashion_ml.metrics.fashion_clip import embedded_source, load_fashion_clip

    source = embedded_source(EMBEDDED_DIR) if name == "embedded" else name
    return load_fashion_clip(name, source, device_of_evaluation())
