"""What a training says of its base: pictures of another size than its own, and a noise schedule that is not the usual one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from diffusers import DDIMScheduler
from diffusers.configuration_utils import FrozenDict
from safetensors.torch import save_file

from fashion_ml.config import load_config
from fashion_ml.config.shipped_files import default_experiment
from fashion_ml.models.families.known import FAMILIES, named
from fashion_ml.models.single_file import CONFIGS
from fashion_ml.training.base_lines import base_lines

SDXL = "experiments/lora/sdxl_fashion.yaml"
SD1 = "experiments/lora/sd15_fashion.yaml"


def base(family: str, **schedule: Any) -> SimpleNamespace:
    """All that is asked of a pipeline, in the family's own configuration."""
    facts = FrozenDict(json.loads((CONFIGS / family / "unet" / "config.json").read_bytes()))
    vae = SimpleNamespace(config=SimpleNamespace(block_out_channels=(1, 1, 1, 1)))
    return SimpleNamespace(unet=SimpleNamespace(config=facts), vae=vae, scheduler=DDIMScheduler(**schedule))


def said(pipeline: Any, **settings: Any) -> list[str]:
    return base_lines(load_config({"train_data_dir": "x", "base": "x/y", **settings}), pipeline)


@pytest.mark.parametrize(
    ("family", "resolution", "title", "side", "experiment"),
    [
        ("sdxl", 512, "Stable Diffusion XL", 1024, f" ({SDXL} is for such a base)"),
        ("sd1", 1024, "Stable Diffusion 1.x", 512, f" ({SD1} is for such a base)"),
        ("sd2", 512, "Stable Diffusion 2.x", 768, ""),
    ],
)
def test_pictures_of_another_size_than_the_bases_are_said(family: str, resolution: int, title: str, side: int, experiment: str):
    assert said(base(family), resolution=resolution) == [
        f"data.resolution is {resolution} px, and this base ({title}) was made for {side} px; "
        f"data.resolution {side} is its own size{experiment}"
    ]
    assert said(base(family), resolution=side) == []


def test_of_a_single_file_only_the_usual_size_of_its_family_is_said(tmp_path: Path):
    """A 2.1 base of 512 px has the configuration of 768 px that comes with the package."""
    file = tmp_path / "v2-1_512.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    (line,) = said(base("sd2"), base=str(file), resolution=512)
    assert line == (
        "data.resolution is 512 px; most bases of Stable Diffusion 2.x were made for 768 px, and a single file does not say for which"
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_familys_experiment_has_its_resolution(family: Any):
    tree = yaml.safe_load(default_experiment(family.experiment).read_text(encoding="utf-8"))
    assert tree["data"]["resolution"] == family.resolution == named(family.name).resolution


@pytest.mark.parametrize(
    ("names", "metadata", "why"),
    [
        (("v_pred", "ztsnr"), {}, "its file holds v_pred"),
        (("ztsnr",), {"modelspec.prediction_type": "v"}, "its file's metadata say modelspec.prediction_type"),
        (("ztsnr",), {}, "its file says nothing of it, and most of its family do"),
    ],
)
def test_a_file_that_predicts_v_and_ends_in_pure_noise_is_said_with_what_says_so(
    names: tuple[str, ...], metadata: dict[str, str], why: str, tmp_path: Path
):
    file = tmp_path / "noob.safetensors"
    save_file({name: torch.zeros(1) for name in (*names, "x")}, file, metadata)
    pipeline = base("sdxl", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    given = {"base": str(file), "resolution": 1024}
    by_v = (
        f"The base predicts v, not noise ({why}); model.prediction_type epsilon with model.zero_terminal_snr false changes it"
    )
    to_noise = (
        "The base's noise schedule ends in pure noise, zero terminal SNR (its file holds ztsnr); "
        "model.zero_terminal_snr false changes it"
    )
    assert said(pipeline, **given) == [by_v, to_noise]
    assert said(pipeline, **given, **{"model.prediction_type": "v_prediction"}) == [to_noise]
    assert said(pipeline, **given, **{"model.zero_terminal_snr": True}) == [by_v]


def test_a_folder_says_it_by_its_scheduler_and_a_usual_base_says_nothing():
    by_v = base("sd1", prediction_type="v_prediction")
    assert said(by_v) == [
        "The base predicts v, not noise (its scheduler's configuration says so); model.prediction_type epsilon changes it"
    ]
    assert said(base("sd1")) == []
