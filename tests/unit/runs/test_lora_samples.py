"""Sample images: files that say step and prompt, and none made twice."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_ml.config import LoraExperiment
from fashion_ml.data.images import CaptionedImage
from fashion_ml.runs import lora_samples
from fashion_ml.runs.inputs import Sources


class Pipeline:
    device = torch.device("cpu")
    config = {"cross_attention_dim": 768}  # noqa: RUF012

    def __init__(self):
        self.unet = self.vae = self.text_encoder = self

    def to(self, device: Any) -> None:
        pass


class Accelerator:
    device = torch.device("cpu")
    num_processes = 1

    def autocast(self):
        return torch.no_grad()


class Run:
    """As a resumed run knows its images."""

    def __init__(self, *there: tuple[str, int]):
        self.there, self.logged = set(there), []

    def has_image(self, key: str, step: int) -> bool:
        return (key, step) in self.there

    def log_image(self, picture: Image.Image, key: str, step: int) -> None:
        self.logged.append((key, step))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call has made."""
    counts: list[int] = []

    def generate(pipeline: Any, jobs: Any, *_: Any, **__: Any) -> Any:
        counts.append(len(jobs))
        yield list(range(len(jobs))), [Image.new("RGB", (8, 8), "teal") for _ in jobs]

    monkeypatch.setattr("fashion_ml.evaluation.generate.generate", generate)
    monkeypatch.setattr("fashion_ml.models.half_precision.as_evaluated", lambda *_: nullcontext())
    return counts


def sample(folder: Path, run: Run | None, step: int) -> None:
    training = {"sample_every": 3, "sample_prompts": ["a dress", "a hat"]}
    config = LoraExperiment.model_validate({"data": {"train_data_dir": "embedded"}, "training": training})
    sources = Sources([CaptionedImage(folder / "a.png", "a coat", "a")], [], [], None)
    hook = lora_samples.sampler(config, Pipeline(), sources, run, folder, Accelerator())  # type: ignore[arg-type]
    assert hook is not None
    hook(step)


def test_a_sample_is_a_file_that_says_step_and_prompt_and_an_image_of_the_run(tmp_path: Path, made: list[int]):
    run = Run()
    sample(tmp_path, run, 6)
    assert {path.name for path in (tmp_path / "samples").glob("*.png")} == {
        "step_000006_prompt0.png",
        "step_000006_prompt1.png",
    }
    assert run.logged == [("sample_0", 6), ("sample_1", 6)]


def test_a_resumed_run_makes_no_image_of_a_step_again_that_it_has(tmp_path: Path, made: list[int]):
    sample(tmp_path, run := Run(("sample_0", 6), ("sample_1", 6)), 6)
    assert (made, run.logged) == ([], [])
    sample(tmp_path, run := Run(("sample_0", 6)), 6)
    assert run.logged == [("sample_1", 6)]


@pytest.mark.parametrize("name", ["step_000006_prompt{}.png", "sample_{}_00000006.png"])
def test_without_tracking_the_files_say_what_there_is_by_their_older_names_too(tmp_path: Path, made: list[int], name: str):
    (tmp_path / "samples").mkdir()
    for prompt in range(2):
        (tmp_path / "samples" / name.format(prompt)).touch()
    sample(tmp_path, None, 6)
    assert made == []
    sample(tmp_path, None, 9)
    assert made == [2]
