"""Images of the class from the base itself: in kohya's layout, gone on with bit for bit, and never mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fashion_ml.cli import app
from fashion_ml.data.images import read_training_folder
from fashion_ml.errors import InputError
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.runs import prior
from fashion_ml.runs.prior import make_prior
from tests.unit.training.setup import experiment, train, write_images

FEW: dict[str, Any] = {"num_inference_steps": 3, "batch_size": 2}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_one_of_regularisation_images_and_trains_as_one(tmp_path: Path):
    made = make_prior("a dress", 3, output=tmp_path / "prior", **FEW)
    items = read_training_folder(made.folder)
    assert [(item.name, item.caption, item.repeats) for item in items] == [
        (f"1_a_dress/0000{i}.png", "a dress", 1) for i in range(3)
    ]
    assert all(item.size == (64, 64) for item in items)
    assert len({(made.folder / item.name).read_bytes() for item in items}) == 3  # each is another picture
    write_images(tmp_path / "images")
    plain = train(experiment(tmp_path / "images"), tmp_path / "a")
    held = train(experiment(tmp_path / "images", data={"reg_data_dir": str(made.folder)}), tmp_path / "b")
    assert held.inputs.prior is not None
    assert [row["total_loss"] for row in plain.rows] != [row["total_loss"] for row in held.rows]


def test_an_image_is_what_the_base_draws_from_a_seed_of_its_own(tmp_path: Path):
    import torch

    from fashion_ml.evaluation.generate import image_seed

    made = make_prior("a dress", 1, output=tmp_path / "prior", num_inference_steps=3, guidance_scale=2.0, seed=5)
    seed = torch.Generator().manual_seed(image_seed(5, "prior", 0))
    plain = load_pipeline("embedded")("a dress", num_inference_steps=3, guidance_scale=2.0, generator=seed).images[0]
    with Image.open(made.folder / "1_a_dress" / "00000.png") as picture:
        assert picture.tobytes() == plain.convert("RGB").tobytes()


def test_what_was_cut_off_goes_on_bit_for_bit_and_nothing_is_drawn_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_prior("a dress", 6, output=tmp_path / "whole", **FEW)
    save, saved = prior._Kept.save, list[str]()

    def cut(self: Any, job: Any, picture: Any) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(job.name)
        save(self, job, picture)

    with monkeypatch.context() as patch:
        patch.setattr(prior._Kept, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            make_prior("a dress", 6, output=tmp_path / "cut", **FEW)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").rglob("*.png")}
    again = make_prior("a dress", 6, output=tmp_path / "cut", **FEW)
    assert (len(there), again.made) == (3, 3)
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert make_prior("a dress", 6, output=tmp_path / "cut", **FEW).made == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": "a shoe"}, "another prompt"),
        ({"seed": 1}, "another seed (0, not 1)"),
        ({"num_inference_steps": 4}, "another num_inference_steps (3, not 4)"),
        ({"resolution": 128}, "another resolution (64, not 128)"),
    ],
)
def test_images_of_something_else_are_never_mixed_in(tmp_path: Path, change: dict[str, Any], says: str):
    make_prior("a dress", 1, output=tmp_path / "prior", **FEW)
    before = files(tmp_path / "prior")
    given: dict[str, Any] = {"prompt": "a dress", "count": 1, "output": tmp_path / "prior", **FEW, **change}
    with pytest.raises(InputError) as error:
        make_prior(**given)
    assert says in str(error.value)
    assert files(tmp_path / "prior") == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompt": " "}, "--prompt: ' ' is not accepted"),
        ({"count": 0}, "--count: 0 is not accepted"),
        ({"base": "nowhere.safetensors"}, "model.base: 'nowhere.safetensors'"),
        ({"guidance_scale": "x"}, "evaluation.guidance_scale: 'x' is not accepted"),
        ({"resolution": 100}, "data.resolution: 100 is not divisible by 32"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, given: dict[str, Any], says: str):
    with pytest.raises(InputError) as error:
        make_prior(**{"prompt": "a dress", "count": 1, "output": tmp_path / "prior", **given})
    assert says in str(error.value)
    assert not (tmp_path / "prior").exists()


@pytest.mark.parametrize(
    ("base", "command"),
    [
        ([], "fashion-ml train lora --config experiments/lora/embedded.yaml --reg-data-dir 'my prior'"),
        (
            ["--base", "a base"],
            "fashion-ml train lora --base 'a base' --train-data-dir lora_train_set --reg-data-dir 'my prior'",
        ),
    ],
)
def test_the_next_command_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], base: list[str], command: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prior, "make_prior", lambda *_, **__: prior.Prior(Path("my prior"), 1, 1))
    app(["prior", "--prompt", "a dress", "--count", "1", "--output", "my prior", *base], standalone_mode=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Next: ")]
    assert line == f"Next: {command}"


def test_a_folder_of_someone_elses_files_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="holds something else; give a new folder"):
        make_prior("a dress", 1, output=tmp_path)
    assert json.loads((tmp_path / "mine.txt").read_text(encoding="utf-8").replace("x", "1")) == 1
