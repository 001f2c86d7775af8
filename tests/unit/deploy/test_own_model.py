"""A served folder runs no code of its own: only models whose code is this package's are loaded, and any other is one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow.models import Model
from mlflow.pyfunc import PythonModel
from mlflow.pyfunc import save_model as save_python_model
from safetensors.torch import save_file

from fashion_ml.deploy import stargan_model
from fashion_ml.deploy.own_model import own_folder
from fashion_ml.deploy.serve import Served, application
from fashion_ml.errors import InputError

LORA = "fashion_ml.deploy.lora_model"


def folder_with(place: Path, flavor: Any, code: str = "code") -> Path:
    """A model whose module writes a file where it runs."""
    (place / code).mkdir(parents=True, exist_ok=True)
    for name in ("evilmod.py", "lycoris.py"):
        (place / code / name).write_text(f"open({str(place / 'ran')!r}, 'w').close()\n", encoding="utf-8")
    (place / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}), encoding="utf-8")
    return place


@pytest.mark.parametrize(
    "flavor",
    [
        {"loader_module": "evilmod", "code": "code"},
        {"loader_module": "evilmod", "code": "code", "data": ".", "python_version": "3.11.7"},
        {"loader_module": LORA, "code": "code"},
        {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl", "cloudpickle_version": "3.0.0"},
        {"loader_module": "mlflow.pyfunc.model", "model_code_path": "code/evilmod.py"},
        {"loader_module": "mlflow.sklearn", "model_path": "model.pkl"},
        {"loader_module": LORA, "predict_fn": "_load"},
        {"loader_module": LORA, "model_config": {"base": "x"}},
        {"loader_module": LORA, "data": "../elsewhere"},
        {"loader_module": LORA, "data": "/etc"},
        {"loader_module": [LORA]},
        {"loader_module": f"{LORA} "},
        {1: LORA},
        {},
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_model_that_brings_code_is_refused_in_a_line_and_runs_none(
    tmp_path: Path, flavor: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = folder_with(tmp_path / "served", flavor)
    with pytest.raises(InputError, match="is a program: its code is not this package's") as caught:
        application(f"{scheme}{folder}", Served(30))
    assert "\n" not in caught.value.problems[0]
    assert not (folder / "ran").exists()
    assert str(folder / "code") not in sys.path


def test_a_pickled_python_model_is_refused(tmp_path: Path):
    class Mine(PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: list[str]) -> list[str]:
            return model_input

    save_python_model(str(tmp_path / "model"), python_model=Mine(), pip_requirements=[])
    with pytest.raises(InputError, match=r"loader_module: 'mlflow\.pyfunc\.model'|cloudpickle|python_model"):
        application(str(tmp_path / "model"), Served(30))


@pytest.mark.parametrize(
    "text", ["[]", "flavors: []", "flavors: {python_function: x}", "a: &a [*a]", "a: 1\na: 2", "x" * 2_000_001]
)
def test_a_note_that_is_no_models_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "MLmodel").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        application(str(tmp_path), Served(30))
    assert "\n" not in caught.value.problems[0]


def test_a_stargan_as_it_is_registered_is_this_packages_own(tmp_path: Path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    stargan_model.save_model(
        str(tmp_path / "model"),
        Model(),
        networks=tmp_path / "x.safetensors",
        vae="embedded",
        size=64,
        example={"image": b"x", "domain": "a"},
    )
    assert own_folder(str(tmp_path / "model")) == tmp_path / "model"
