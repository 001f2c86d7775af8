"""What training.mixed_precision: auto is on a machine, and of a run that goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_ml.config import EXPERIMENTS, StarganExperiment, flat, load_config, load_experiment, shipped_files
from fashion_ml.config.recipe import recipe_of
from fashion_ml.errors import InputError
from fashion_ml.evaluation.instruments import device_of_evaluation
from fashion_ml.runs.lora import check_mixed_precision
from fashion_ml.runs.resume import find_run_to_resume
from fashion_ml.runs.run_folder import RunFolder, write_run_folder
from fashion_ml.runs.settled_precision import MEASURED_IN, precision_here, settled_among, with_settled_precision
from fashion_ml.runs.stargan_inputs import with_precision


def asked(precision: str) -> Any:
    return load_config({"data.train_data_dir": "photos", "training.mixed_precision": precision})


@pytest.mark.parametrize(("capability", "found"), [(None, "no"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_bf16_where_it_is_in_hardware_else_fp16_and_no_on_a_cpu_and_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capability: tuple[int, int] | None, found: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    with caplog.at_level(logging.INFO, "fashion_ml"):
        assert with_settled_precision(asked("auto")) == asked(found)
    (told,) = caplog.messages
    assert told.startswith(f"training.mixed_precision: auto is {found} here")


@pytest.mark.parametrize(("said", "found"), [("true", "no"), ("1", "no"), ("false", "bf16"), (None, "bf16")])
def test_auto_is_that_of_a_cpu_where_accelerate_is_told_to_train_on_one(
    monkeypatch: pytest.MonkeyPatch, said: str | None, found: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    if said is not None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    assert with_settled_precision(asked("auto")) == asked(found)
    assert device_of_evaluation() == ("cpu" if found == "no" else "cuda")
    if found == "no":
        with pytest.raises(InputError, match=r"^training\.mixed_precision: fp16 needs a CUDA GPU"):
            check_mixed_precision(asked("fp16"))


@pytest.mark.parametrize(("capability", "lora", "gan"), [(None, "no", "no"), ((7, 5), "fp16", "no"), ((9, 0), "bf16", "bf16")])
def test_what_auto_is_where_images_are_measured(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, lora: str, gan: str
):
    """A StarGAN's evaluation lowers a VAE alone, which overflows in fp16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert [precision_here(MEASURED_IN, "auto", EXPERIMENTS[name]) for name in ("lora", "stargan")] == [lora, gan]
    device = "cuda" if capability else "cpu"
    assert with_precision(StarganExperiment().evaluation, device).precision == gan


def test_experiments_that_all_say_auto_stay_as_they_are_and_beside_another_precision_auto_is_what_it_is_here():
    assert settled_among({"a": asked("auto"), "b": asked("auto")}) == {"a": asked("auto"), "b": asked("auto")}
    assert settled_among({"a": asked("auto"), "b": asked("bf16")}) == {"a": asked("no"), "b": asked("bf16")}


@pytest.mark.parametrize("given", ["no", "fp16", "bf16"])
def test_what_is_not_auto_stays_as_it_is_and_nothing_is_said(caplog: pytest.LogCaptureFixture, given: str):
    with caplog.at_level(logging.INFO, "fashion_ml"):
        assert with_settled_precision(asked(given)) == asked(given)
    assert not caplog.messages


def test_on_a_cpu_auto_has_the_recipe_of_a_training_without_the_setting():
    plain = load_config({"data.train_data_dir": "photos"})
    recipes = [recipe_of(type(one), flat(one), "data") for one in (with_settled_precision(asked("auto")), plain)]
    assert recipes[0] == recipes[1]


@pytest.mark.parametrize("begun", ["bf16", "fp16", "no"])
def test_a_run_goes_on_in_the_precision_that_it_began_in_whatever_this_machine_would_take(tmp_path: Path, begun: str):
    write_run_folder(RunFolder(tmp_path, "id", "sqlite:///runs.db", "digest", finished=False), asked(begun))
    earlier = find_run_to_resume(str(tmp_path), asked("auto"))
    assert with_settled_precision(asked("auto"), earlier) == asked(begun)


def test_a_run_in_fp16_is_refused_in_one_line_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_run_folder(RunFolder(tmp_path, "id", "sqlite:///runs.db", "digest", finished=False), asked("fp16"))
    config = with_settled_precision(asked("auto"), find_run_to_resume(str(tmp_path), asked("auto")))
    with pytest.raises(InputError, match=r"^training\.mixed_precision: fp16 needs a CUDA GPU"):
        check_mixed_precision(config)


def test_a_named_precision_that_is_not_the_runs_is_refused(tmp_path: Path):
    write_run_folder(RunFolder(tmp_path, "id", "sqlite:///runs.db", "digest", finished=False), asked("bf16"))
    with pytest.raises(InputError, match=r"training\.mixed_precision: no, but the run to resume has bf16"):
        find_run_to_resume(str(tmp_path), asked("no"))


@pytest.mark.parametrize("name", ["lora/sd15_fashion", "lora/sd15_8gb", "lora/sdxl_fashion", "stargan/sd15_latent"])
def test_the_recipes_for_stable_diffusion_take_what_the_card_can(name: str):
    path = shipped_files.shipped(f"experiments/{name}.yaml")
    assert path is not None
    assert load_experiment(path, {}, EXPERIMENTS[name.partition("/")[0]]).training.mixed_precision == "auto"
