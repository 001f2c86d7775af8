"""A LoRA of a few steps, saved as the MLflow model that is served."""

from __future__ import annotations

from pathlib import Path

from mlflow.models import Model

from fashion_ml.deploy import lora_model
from tests.unit.training.setup import experiment, train, write_images

SAMPLER = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}


def small_model(place: Path) -> Path:
    """Train, and save the model with `SAMPLER` as its defaults; its folder below `place`."""
    write_images(place / "images")
    path = train(experiment(place / "images"), place / "out").result.path
    lora_model.save_model(
        str(place / "model"),
        Model(),
        adapter_path=path,
        base="embedded",
        text={},
        schedule={},
        defaults=SAMPLER,
        example={"prompt": "a red dress"},
    )
    return place / "model"
