"""`--dry-run`: all that a training checks, what it would do, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_ml.config import load_config
from fashion_ml.errors import InputError
from fashion_ml.runs.dry_run import dry_run_lora
from fashion_ml.runs.dry_run_plan import kept_files, measured_lora
from fashion_ml.runs.dry_run_time import Sizes, Timing
from tests.runs.command import fashion_ml


def dry(place: Path, kind: str, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, output and facts of a dry run in a working folder of its own, and that the folder stays empty."""
    work = place / "work"
    work.mkdir()
    facts = place / "facts.json"
    uri = f"sqlite:///{work / 'mlflow.db'}"
    done = fashion_ml("train", kind, "--dry-run", "--json", str(facts), *arguments, cwd=work, uri=uri)
    assert not list(work.iterdir()), "nothing is written: no run, no store, no collection"
    return done.returncode, done.stdout + done.stderr, json.loads(facts.read_text("utf-8")) if facts.exists() else {}


def test_a_dry_run_says_what_a_training_would_do_and_leaves_no_file(tmp_path: Path, collection: Path):
    images = collection
    code, said, facts = dry(
        tmp_path, "lora", "--config", "experiments/lora/embedded.yaml", "--train-data-dir", str(images / "train"), "--references",
        str(images / "references"), "--steps", "100", "--train-batch-size", "2", "--validation-split", "0.1", "--save-every-n-steps", "30",
        "--save-last-n", "2", "--output-dir", "kept", "--cache-dir", "cache",
    )  # fmt: skip
    assert code == 0, said
    assert facts["data"]["training"]["images"] == 72
    held = facts["measured"]["validation"]["images"]
    assert 1 <= held <= 10
    assert facts["steps_per_epoch"] == (72 - held) * 10 // 2  # ten repeats, batches of two
    assert facts["kept"] == {
        "final": "lora.safetensors",
        "best": "best.safetensors",
        "between": 3,
        "stay": 2,
        "state_minutes": 5.0,
    }
    assert facts["measured"]["evaluation"]["references"] == 24
    assert 2 <= facts["time"]["steps"] + 1 <= 8
    assert facts["time"]["training_seconds"] == pytest.approx(100 * facts["time"]["step_seconds"])
    assert 0 < facts["memory"]["weights_gib"] < facts["memory"]["peak_gib"] < 1
    assert "3 files in between, of which the latest 2 stay (training.save_last_n)" in said
    assert "Nothing was trained and nothing written (--dry-run)" in said


def test_a_stargan_is_dry_run_too(tmp_path: Path):
    """On latents of one's own; that the embedded ones are made in passing is looked at in tests/full."""
    draw = torch.Generator().manual_seed(0)
    for domain in ("dotted", "plain", "striped"):
        (tmp_path / "latents" / domain).mkdir(parents=True)
        for index in range(8):
            torch.save(torch.randn(4, 16, 16, generator=draw), tmp_path / "latents" / domain / f"{index}.pt")
    own = ("--latents-dir", str(tmp_path / "latents"), "--vae", "embedded", "--base_dim", "8", "--batch_size", "4")
    code, said, facts = dry(tmp_path, "stargan", *own, "--epochs", "4", "--grid-every-n-epochs", "2")
    assert code == 0, said
    assert facts["steps"] == 4 * facts["steps_per_epoch"]
    assert facts["measured"]["grids"] == 3
    assert facts["data"]["latents"] == {"dotted": 8, "plain": 8, "striped": 8}
    assert 0 < facts["memory"]["peak_gib"] < 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resume"], "--dry-run: contradicts --resume"),
        (["--train-data-dir", "none"], "data.train_data_dir: 'none' does not exist"),
        (["--pretrained-model-name-or-path", "a/b.safetensors"], "model.base: 'a/b.safetensors' is not there"),
        (["--resolution", "72"], "data.resolution: 72 is not divisible by 32"),
        (["--optimizer-type", "nowhere.Adam"], "optimizer.optimizer_type: nowhere.Adam needs nowhere, which is not installed"),
    ],
)
def test_what_a_training_refuses_a_dry_run_refuses(arguments: list[str], says: str, tmp_path: Path, collection: Path):
    own = ("--train-data-dir", str(collection / "train"), "--references", str(collection / "references"))
    code, said, _ = dry(tmp_path, "lora", "--config", "experiments/lora/embedded.yaml", *own, *arguments)
    assert code == 2
    assert says in said
    assert "Traceback" not in said


def test_an_output_folder_is_checked_and_stays_as_it_is(tmp_path: Path):
    place = tmp_path / "out"
    place.mkdir()
    (place / "lora.safetensors").write_bytes(b"mine")
    config = load_config("experiments/lora/embedded.yaml", {"output.output_dir": str(place)})
    with pytest.raises(ValueError, match=r"output\.output_dir: .*lora\.safetensors"):
        dry_run_lora(config)
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("lora.safetensors", b"mine")]
    shutil.rmtree(place)


def test_a_step_of_many_forward_passes_is_told_by_a_few(collection: Path, monkeypatch: pytest.MonkeyPatch):
    """Passes of one size take a second each: a step of 100 of them 100 s, of which none is taken."""
    passes = list[int]()

    def fake(config: Any, pipeline: Any, inputs: Any, accelerator: Any, steps: Any) -> Any:
        for step in steps:
            passes.append(len(inputs.shapes(step)))
            yield step, float(passes[-1])

    monkeypatch.setattr("fashion_ml.training.lora_timing.timed_steps", fake)
    given = {"train_data_dir": str(collection / "train"), "base": "embedded", "resolution": 64, "evaluation.enabled": False}
    found = dry_run_lora(load_config({**given, "gradient_accumulation_steps": 100, "max_train_steps": 3}))
    assert set(passes) == {4}
    assert (found.timing.step_seconds, found.timing.training_seconds) == (pytest.approx(100), pytest.approx(300))


def test_time_is_that_of_the_steps_after_the_warm_up():
    """The first of 9 s does not count: the median of 1, 3 and 2 s is 2 s; with 0.5 s for the penalty 100 steps are 250 s."""
    timing = Timing.of([9.0, 1.0, 3.0, 2.0], 100, "cpu", 0.5)
    assert (timing.steps, timing.step_seconds, timing.training_seconds) == (3, 2.5, 250.0)


def test_time_is_weighted_by_how_often_each_size_comes():
    """Sizes 100 take 1 s and 300 take 3 s (the first of each does not count): 200 lies between, 400 is a third more than 300. Of four steps of
    these sizes one takes (1 + 2 + 3 + 4) / 4 = 2.5 s in the mean, and 40 of them 100 s."""
    timing = Timing.over({300: [9.0, 3.0], 100: [9.0, 1.0]}, [100, 200, 300, 400], 40, "cpu")
    assert (timing.step_seconds, timing.training_seconds, timing.steps, timing.sizes) == (2.5, 100.0, 2, 2)
    assert Timing.over({100: [1.0]}, [50, 50], 2, "cpu").training_seconds == 1.0


def test_a_step_near_the_mean_the_largest_and_the_smallest_are_timed():
    assert Sizes([5, 9, 6, 1, 9], (1, 4, 1, 1)).spread() == [3, 2, 4]
    assert Sizes([5, 5], (1, 4, 1, 1)).spread() == [1]


def pictures(place: Path, sizes: list[tuple[int, int]]) -> Path:
    """A training folder of one class, named in this order."""
    (place / "1_dress").mkdir(parents=True)
    for number, size in enumerate(sizes):
        Image.effect_noise(size, 60).convert("RGB").save(place / "1_dress" / f"{number:02}.png")
    return place


def test_memory_is_that_of_the_largest_bucket_wherever_its_images_stand(tmp_path: Path):
    """Twelve small pictures come first; at 128 px one of 128 x 128 has 16 times as many cells as each of them, one alone in its bucket makes a
    batch of one, and all sizes have their part in the time."""
    images = pictures(tmp_path / "images", [(32, 32)] * 12 + [(128, 128)] * 3 + [(96, 128)])
    common = ("--set", "data.enable_bucket=true", "--set", "data.bucket_no_upscale=true", "--no-evaluate", "--steps", "30",
              "--config", "experiments/lora/embedded.yaml", "--resolution", "128", "--train-data-dir", str(images))  # fmt: skip
    code, said, facts = dry(tmp_path, "lora", *common, "--train-batch-size", "2")
    assert code == 0, said
    assert "largest batch, 2 latents 4 x 32 x 32; adamw" in said
    assert facts["time"]["sizes"] == 3
    assert "weighted by how often each comes" in said


def test_what_stays_on_the_gpu_in_a_training_is_counted_and_said(collection: Path, tmp_path: Path):
    place = ("--config", "experiments/lora/embedded.yaml", "--train-data-dir", str(collection / "train"), "--no-evaluate")
    drawn = ("--set", "data.shuffle_caption=true", "--set", "data.cache_latents=false")
    code, said, _ = dry(tmp_path, "lora", *place, *drawn)
    assert code == 0, said
    assert " beside the text encoder and the VAE; " in said


def test_a_dry_run_says_in_one_line_what_does_not_fit_into_a_gpus_memory(collection: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> Timing:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("fashion_ml.runs.dry_run.timed", full)
    config = load_config(
        "experiments/lora/embedded.yaml",
        {"data.train_data_dir": str(collection / "train"), "evaluation.enabled": False, "train_batch_size": 4},
    )
    with pytest.raises(
        InputError, match=r"^training.train_batch_size: with 4 a step does not fit into the GPU's memory; use 1 with"
    ):
        dry_run_lora(config)


def test_files_are_counted_as_the_checkpoint_manager_keeps_them():
    """Of 100 steps of 10 an epoch: epochs 3, 6 and 9 end at 30, 60 and 90; every 25 steps at 25, 50 and 75, for 100 is the last; checks every
    50 write the file of step 50, which is there already."""
    config = load_config(
        {
            "data": {"train_data_dir": "embedded"},
            "training": {"max_train_steps": 100, "save_every_n_epochs": 3, "save_every_n_steps": 25},
        }
    )
    assert kept_files(config, 100, 10)["between"] == 6
    checked = load_config(
        {
            "data": {"train_data_dir": "embedded"},
            "training": {"max_train_steps": 100, "save_every_n_epochs": None, "performance_check_interval": 50},
        }
    )
    assert kept_files(checked, 100, 10)["between"] == 1
    assert measured_lora(checked, 3, 0, 10)["performance_checks"] == 1  # at the last step the evaluation measures
