"""Training from Python, the uses of docs/python.md and the notebook, in one process that has no MLflow: importing it raises."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_ml.embedded.garments import render, sample_garments
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

NO_MLFLOW = """
import json, os, sys
sys.modules["mlflow"] = None  # importing it raises
import gc
import fashion_ml.models.stable_diffusion
import fashion_ml.runs.lora
from tests.made_once import made_once
from tests.runs.blank_figures import draw_nothing
draw_nothing()
made_once()
gc.freeze()
"""
SMALL = "STEPS, REFERENCES, SAMPLER_STEPS = 2, 6, 1"
"""Instead of the notebook's own numbers."""
LORA = """
os.chdir("../lora")
from fashion_ml.config import load_config
from fashion_ml.runs.lora import run_lora
given = {"train_data_dir": "embedded", "resolution": 32, "rank": 2, "sample_every": 2, "output_dir": "out"}
given |= {"max_references": 2, "images_per_reference": 1, "num_inference_steps": 1, "performance_check_interval": 4, "resamples": 10}
one = run_lora(load_config({}, {**given, "max_train_steps": 2}), track=False)
two = run_lora(load_config({}, {**given, "max_train_steps": 4}), track=False, resume="latest")
print(json.dumps([one.to_dict(), two.to_dict()]))
"""
STARGAN = """
os.chdir("../stargan")
from fashion_ml.runs.stargan import run_stargan
given = {"latents_dir": "latents", "base_dim": 8, "n_res_blocks": 2, "d_layers": 1, "epochs": 1, "epoch_size": 8, "batch_size": 4}
print(json.dumps([run_stargan(load_config({}, given, kind="stargan"), track=False).to_dict()]))
"""


@dataclass(frozen=True)
class Done:
    """What the process left in its three folders, and said."""

    place: Path
    said: list[str]

    def outcomes(self, line: int) -> list[dict[str, Any]]:
        return list(json.loads(self.said[line]))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, collection: Path) -> Done:
    """The page as it stands, the notebook, two LoRA trainings, then a StarGAN's: one process, for its imports take longest."""
    place = tmp_path_factory.mktemp("untracked")
    for name in ("page", "notebook", "lora"):
        shutil.copytree(collection, place / name / "outputs" / collection.name)
    for folder, side in (("references", 96), ("generated", 64)):
        (place / "page" / folder).mkdir()
        for index, garment in enumerate(sample_garments(6, seed=4)):
            render(garment, 96).resize((side, side)).save(place / "page" / folder / f"look_{index}.png")
    draw = torch.Generator().manual_seed(0)
    for domain in ("a", "b"):
        (place / "stargan" / "latents" / domain).mkdir(parents=True)
        for index in range(8):
            torch.save(torch.randn(4, 8, 8, generator=draw), place / "stargan" / "latents" / domain / f"{index}.pt")
    (place / "script.py").write_text(
        "\n".join([NO_MLFLOW, *uses(), 'os.chdir("../notebook")', *cells(), LORA, STARGAN]), encoding="utf-8"
    )
    ended = subprocess.run(
        [sys.executable, "../script.py"],
        cwd=place / "page",
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert ended.returncode == 0, ended.stderr
    return Done(place, ended.stdout.splitlines())


def uses() -> list[str]:
    page = (PROJECT / "docs" / "python.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def cells() -> list[str]:
    """The code of the notebook in its order, with few steps."""
    notebook = json.loads((PROJECT / "examples" / "first_lora.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [SMALL if "parameters" in cell["metadata"].get("tags", ()) else "".join(cell["source"]) for cell in code]


def test_the_notebook_runs_as_it_stands_and_keeps_no_output(done: Done):
    assert cells().count(SMALL) == 1
    folder = done.place / "notebook" / "looks"
    assert {path.name for path in folder.iterdir()} == {"first", "first_again", "second"}
    assert all((folder / name / "lora.safetensors").is_file() for name in ("first", "second"))
    assert sum("weighted_total_loss" in line and "->" in line for line in done.said) == 1  # the table of gains
    notebook = json.loads((PROJECT / "examples" / "first_lora.ipynb").read_text(encoding="utf-8"))
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]


def test_the_five_uses_of_the_page_run_where_mlflow_cannot_be_imported(done: Done):
    assert len(uses()) == 1 + 5  # the logging, and the uses
    folder = done.place / "page"
    assert "8 0.0" in done.said[0]  # rank, learning rate
    assert any("weighted_total_loss" in line for line in done.said[:-2])
    assert (folder / "looks" / "first" / "lora.safetensors").is_file()
    assert (folder / "scores.csv").is_file()


def test_a_lora_trains_and_goes_on_without_mlflow_and_leaves_all_its_files(done: Done):
    one, two = done.outcomes(-2)
    assert (one["run_id"], one["steps"], two["steps"]) == ("", 2, 4)
    assert "color_loss" in str(two["evaluation"])
    folder = done.place / "lora" / "out"
    assert {"report.html", "per_image.csv", "grid.png"} <= {path.name for path in (folder / "evaluation").iterdir()}
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (note["run_id"], note["tracking_uri"], note["finished"]) == ("", "", True)
    assert json.loads((folder / "facts.json").read_text(encoding="utf-8")) == two
    assert {"config.yaml", "lora.safetensors", "samples", "state", "training_logs"} <= {path.name for path in folder.iterdir()}
    assert {path.name[:11] for path in (folder / "samples").glob("step_*_prompt0.png")} == {
        "step_000000",
        "step_000002",
        "step_000004",
    }


def test_a_stargan_trains_without_mlflow_into_a_folder_of_its_own(done: Done):
    (only,) = done.outcomes(-1)
    folder = Path(str(only["output_dir"]))
    assert (only["run_id"], folder.parent, folder.name[:10]) == (
        *("", done.place / "stargan" / "outputs" / "stargan"),
        "untracked_",
    )
    assert (folder / "stargan.safetensors").is_file()
    assert list((folder / "grids").glob("*.png"))
    assert only["evaluation"]
    assert (folder / "evaluation" / "report.html").is_file()


def test_no_store_is_made_by_any_of_them(done: Done):
    assert not [path for path in done.place.rglob("ml*") if path.name.startswith(("mlflow.db", "mlruns"))]
