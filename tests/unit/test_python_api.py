"""`import fashion_ml as fm`: what is there, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import fashion_ml as fm
from fashion_ml.config import LoraExperiment
from fashion_ml.runs.python_api import _config


def test_everything_that_is_promised_is_there_and_says_what_it_does():
    for name in fm.__all__:
        assert getattr(fm, name).__doc__ or name == "__version__", name
    assert fm.__version__ == version("fashion-ml")
    assert set(fm.__all__) <= set(dir(fm))
    assert not hasattr(fm, "nothing_of_that_name")


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, fashion_ml; print({'torch', 'mlflow', 'pydantic', 'numpy', 'typer', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "set()"


def test_settings_over_a_config_give_what_they_give_over_its_source():
    source = {"data": {"train_data_dir": "embedded"}, "network": {"rank": 16}, "training": {"seed": 3}}
    over_config = _config(fm.load_config(source), {"rank": 8}, "out", LoraExperiment)
    assert over_config == fm.load_config(source, {"rank": 8, "output_dir": "out"})
    assert over_config.network.alpha == 8  # alpha follows the rank
    given = {**source, "network": {"rank": 16, "alpha": 4}}
    assert _config(fm.load_config(given), {"rank": 8}, None, LoraExperiment).network.alpha == 4
    assert fm.load_config(fm.load_config(source), {"rank": 8}).network.alpha == 8


def test_an_experiment_of_another_kind_is_refused_in_one_line():
    with pytest.raises(fm.InputError, match="experiment: a StarganExperiment is none; give a LoraExperiment"):
        fm.train_lora(fm.load_config({}, kind="stargan"))  # type: ignore[arg-type]
    with pytest.raises(fm.InputError, match="experiment: a NoneType is none"):
        fm.train_lora(None)  # type: ignore[arg-type]


def test_going_on_and_starting_over_contradict_each_other():
    with pytest.raises(fm.InputError, match="new: contradicts resume"):
        fm.train_lora({"train_data_dir": "embedded"}, folder="out", resume=True, new=True)
