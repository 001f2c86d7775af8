"""What `split` names as next trains as it stands: with the recipe that its images are for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fashion_ml.cli.data import split
from fashion_ml.embedded.collection import write_collection


@pytest.mark.parametrize(
    ("own", "recipe"),
    [(False, "embedded.yaml "), (True, "sd15_fashion.yaml --base CHECKPOINT ")],
    ids=["the demo's", "own images"],
)
def test_the_next_command_names_a_recipe_that_is_for_the_images(
    own: bool, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = write_collection(tmp_path / "photos") / "train"
    if own:
        folder = shutil.copytree(folder, tmp_path / "mine" / "train")
    split(folder, references="12", dry_run=True)
    said = capsys.readouterr()
    assert f"Next: fashion-ml train lora --config experiments/lora/{recipe}--train-data-dir " in said.out + said.err
    assert ("CHECKPOINT: your Stable Diffusion 1.5" in said.out + said.err) == own
