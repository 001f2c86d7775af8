"""docs/python.md is run as it stands, in a process in which importing MLflow raises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fashion_ml.embedded.garments import render, sample_garments

PROJECT = Path(__file__).parents[2]
NO_MLFLOW = 'import sys\n\nsys.modules["mlflow"] = None  # importing it raises\n'


def test_the_five_uses_of_the_page_run_where_mlflow_cannot_be_imported(tmp_path: Path):
    page = (PROJECT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1 + 5  # the logging, and the uses
    for folder, side in (("references", 96), ("generated", 64)):
        (tmp_path / folder).mkdir()
        for index, garment in enumerate(sample_garments(6, seed=4)):
            render(garment, 96).resize((side, side)).save(tmp_path / folder / f"look_{index}.png")
    (tmp_path / "page.py").write_text("\n".join([NO_MLFLOW, *blocks]), encoding="utf-8")
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "8 0.0" in done.stdout.splitlines()[0]  # rank, learning rate
    assert "weighted_total_loss" in done.stdout
    assert (tmp_path / "looks" / "first" / "lora.safetensors").is_file()
    assert (tmp_path / "scores.csv").is_file()
    assert not list(tmp_path.glob("mlflow.db*"))
    assert not (tmp_path / "mlruns").exists()
