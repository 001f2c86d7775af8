"""Training from Python in a process that has no MLflow: importing it raises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

LORA = """
import json, sys
sys.modules["mlflow"] = None
from fashion_ml.config import load_config
from fashion_ml.runs.lora import run_lora
given = {"train_data_dir": "embedded", "resolution": 64, "rank": 2, "sample_every": 2, "output_dir": "out"}
given |= {"max_references": 2, "images_per_reference": 1, "num_inference_steps": 1, "performance_check_interval": 2, "resamples": 10}
one = run_lora(load_config({}, {**given, "max_train_steps": 2}), track=False)
two = run_lora(load_config({}, {**given, "max_train_steps": 4}), track=False, resume="latest")
print(json.dumps([one.to_dict(), two.to_dict()]))
"""
STARGAN = """
import json, sys
sys.modules["mlflow"] = None
from fashion_ml.config import load_config
from fashion_ml.runs.stargan import run_stargan
given = {"latents_dir": "latents", "base_dim": 8, "n_res_blocks": 2, "d_layers": 1, "epochs": 1, "epoch_size": 8, "batch_size": 4}
print(json.dumps([run_stargan(load_config({}, given, kind="stargan"), track=False).to_dict()]))
"""


def outcomes(script: str, folder: Path) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=os.environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_lora_trains_and_goes_on_without_mlflow_and_leaves_all_its_files(tmp_path: Path):
    one, two = outcomes(LORA, tmp_path)
    assert (one["run_id"], one["steps"], two["steps"]) == ("", 2, 4)
    assert "color_loss" in str(two["evaluation"])
    folder = tmp_path / "out"
    assert {"report.html", "per_image.csv", "grid.png"} <= {path.name for path in (folder / "evaluation").iterdir()}
    note = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert (note["run_id"], note["tracking_uri"], note["finished"]) == ("", "", True)
    assert json.loads((folder / "facts.json").read_text(encoding="utf-8")) == two
    assert {"config.yaml", "lora.safetensors", "samples", "state", "training_logs"} <= {path.name for path in folder.iterdir()}
    assert len(list((folder / "samples").glob("sample_0_*.png"))) == 2
    assert not list(tmp_path.glob("ml*"))


def test_a_stargan_trains_without_mlflow_into_a_folder_of_its_own(tmp_path: Path):
    draw = torch.Generator().manual_seed(0)
    for domain in ("a", "b"):
        (tmp_path / "latents" / domain).mkdir(parents=True)
        for index in range(8):
            torch.save(torch.randn(4, 8, 8, generator=draw), tmp_path / "latents" / domain / f"{index}.pt")
    (only,) = outcomes(STARGAN, tmp_path)
    folder = Path(str(only["output_dir"]))
    assert (only["run_id"], folder.parent, folder.name[:10]) == ("", tmp_path / "outputs" / "stargan", "untracked_")
    assert (folder / "stargan.safetensors").is_file()
    assert list((folder / "grids").glob("*.png"))
    assert only["evaluation"]
    assert (folder / "evaluation" / "report.html").is_file()
