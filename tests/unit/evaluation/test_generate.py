"""Images are made once: what decides them is in their key, and what they are made for in their order."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage
from fashion_ml.errors import InputError
from fashion_ml.evaluation.generate import ImageFolder, Job, batches_of, generate, generation_key, image_seed, jobs_of
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.text_encoding import TextSettings

JOBS = [Job(number, f"j{number}", f"prompt {number}", 100 + number, (32, 32 + 32 * (number % 2))) for number in range(5)]


def test_everything_that_changes_an_image_changes_the_key():
    def key(jobs: list[Job] = JOBS, model: str = "base", **settings: Any) -> str:
        return generation_key(jobs, Evaluation(**settings), model)

    texts = [TextSettings(150), TextSettings(clip_skip=2), TextSettings(weighted_captions=True)]
    changed = [
        *(generation_key(JOBS, Evaluation(), "base", text) for text in texts),
        key(model="base + lora"),
        key(num_inference_steps=9),
        key(guidance_scale=3.0),
        key(batch_size=2),  # rounding differs with what is computed at once
        *(key([replace(JOBS[0], **part), *JOBS[1:]]) for part in ({"prompt": "x"}, {"seed": 9}, {"size": (64, 32)})),
        key(JOBS[::-1]),
    ]
    assert len({key(), *changed}) == len(changed) + 1
    assert key() == key(resamples=7, seed=3)  # measured otherwise; the jobs hold the seeds
    assert key() == generation_key(JOBS, Evaluation(), "base", TextSettings(75, 1))  # images from before are found again


def test_every_reference_has_its_jobs_with_seeds_of_its_own_name():
    references = [CaptionedImage(Path(name), f"caption of {name}", name) for name in ("a.png", "a.jpg", "b.png")]
    sizes = [(32, 32), (64, 32), (32, 64)]
    jobs = jobs_of(references, Evaluation(images_per_reference=2, seed=5), sizes)
    assert [job.reference for job in jobs] == [0, 0, 1, 1, 2, 2]
    assert len({job.name for job in jobs}) == 6
    assert [job.seed for job in jobs[:2]] == [image_seed(5, "a.png", 0), image_seed(5, "a.png", 1)]
    assert [(job.prompt, job.size) for job in jobs[2::2]] == [("caption of a.jpg", (64, 32)), ("caption of b.png", (32, 64))]


def test_images_are_called_so_that_their_artifacts_can_be_fetched():
    (job,) = jobs_of([CaptionedImage(Path("a.png"), "a", "1_50%_off/a#1.png")], Evaluation(images_per_reference=1), [(8, 8)])
    assert job.name == "1_50~25_off/a~231_0"
    assert job.seed == image_seed(Evaluation().seed, "1_50%_off/a#1.png", 0)  # that of its reference as it is called


def test_a_batch_holds_one_size_and_no_more_than_asked_for():
    assert batches_of(JOBS, 2) == [[0, 2], [4], [1, 3]]


class Pipeline:
    """Paints each prompt's number, and counts."""

    scheduler: Any = None
    tokenizer: Any = None
    vae = SimpleNamespace(decode=None)

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, prompts: list[str], *, height: int, width: int, generator: list[torch.Generator], **options: Any) -> Any:
        assert not torch.is_grad_enabled()
        self.asked.append({"prompts": prompts, "seeds": [draw.initial_seed() for draw in generator], **options})
        return SimpleNamespace(images=[Image.new("RGB", (width, height), (int(p.split()[1]), 0, 0)) for p in prompts])


def test_images_come_with_their_jobs_and_are_made_by_the_settings(tmp_path: Path):
    pipeline, settings = Pipeline(), Evaluation(num_inference_steps=3, guidance_scale=2.0, batch_size=2)
    kept = ImageFolder(tmp_path / "images", "key")
    made = {
        i: picture
        for batch, pictures in generate(pipeline, JOBS, settings, kept)
        for i, picture in zip(batch, pictures, strict=True)
    }
    assert [made[i].getpixel((0, 0))[0] for i in range(5)] == [0, 1, 2, 3, 4]
    assert [made[i].size for i in range(5)] == [job.size for job in JOBS]
    assert pipeline.asked[0] == {
        "prompts": ["prompt 0", "prompt 2"],
        "seeds": [100, 102],
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
    }
    again = Pipeline()
    found = [i for batch, _ in generate(again, JOBS, settings, ImageFolder(tmp_path / "images", "key")) for i in batch]
    assert (sorted(found), again.asked) == ([0, 1, 2, 3, 4], [])
    (tmp_path / "images" / "j2.png").unlink()
    list(generate(again, JOBS, settings, ImageFolder(tmp_path / "images", "key")))
    assert [call["prompts"] for call in again.asked] == [["prompt 0", "prompt 2"]]  # a whole batch, as the first time


class Slow:
    """Keeps an image only once the pipeline has been asked for the batch behind it."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self.kept = pipeline, list[str]()

    def load(self, job: Job) -> None:
        return None

    def save(self, job: Job, picture: Image.Image) -> None:
        until, batches = time.monotonic() + 20, 1 + (len(self.kept) > 0)
        while len(self.pipeline.asked) < min(batches + 1, 3):
            assert time.monotonic() < until, "the next batch waits for this image"
            time.sleep(0.01)
        self.kept.append(job.name)


def test_images_are_kept_while_the_next_ones_are_made_and_all_of_them_also_when_no_more_are_asked_for():
    pipeline = Pipeline()
    kept = Slow(pipeline)
    for number, _ in enumerate(generate(pipeline, JOBS, Evaluation(batch_size=1), kept), 1):
        if number == 3:
            break
    gc.collect()
    assert kept.kept == ["j0", "j2", "j4"]
    assert len(pipeline.asked) == 3


def test_an_image_that_cannot_be_kept_ends_it(tmp_path: Path):
    class Full(Slow):
        def save(self, job: Job, picture: Image.Image) -> None:
            raise InputError("output.output_dir: the disk is full")

    pipeline = Pipeline()
    with pytest.raises(InputError, match="disk is full"):
        list(generate(pipeline, JOBS, Evaluation(batch_size=5), Full(pipeline)))


def test_images_of_another_key_are_cleared_and_files_of_others_are_not(tmp_path: Path):
    first = ImageFolder(tmp_path / "images", "key")
    first.save(JOBS[0], Image.new("RGB", (32, 32)))
    assert ImageFolder(tmp_path / "images", "key").load(JOBS[0]) is not None
    assert ImageFolder(tmp_path / "images", "other").load(JOBS[0]) is None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"x")
    with pytest.raises(InputError, match="holds files that no evaluation made"):
        ImageFolder(tmp_path / "mine", "key")
    assert (tmp_path / "mine" / "photo.png").exists()


def test_other_lengths_and_clip_skip_make_other_images_of_the_same_prompts_and_seeds():
    """Two of one size at once; the same as if the pipeline got the embeddings by hand."""
    pipeline, settings, jobs = load_pipeline("embedded"), Evaluation(num_inference_steps=2, guidance_scale=3.0), JOBS[:3]
    texts = [TextSettings(), TextSettings(150), TextSettings(clip_skip=2)]
    made = [[p.tobytes() for _, part in generate(pipeline, jobs, settings, text=text) for p in part] for text in texts]
    assert len({tuple(images) for images in made}) == 3
    assert made[0] == [p.tobytes() for _, part in generate(pipeline, jobs, settings, text=TextSettings(75, 1)) for p in part]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bin", b"", b"[]", b'{"mine": 1}', b"{" * 100_000], ids=repr)
def test_a_folder_whose_note_is_none_of_ours_is_refused_and_nothing_in_it_is_removed(tmp_path: Path, content: bytes):
    (tmp_path / "generation.json").write_bytes(content)
    (tmp_path / "mine.png").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"^output_dir: .* holds files that no evaluation made; move them, or give another folder"
    ):
        ImageFolder(tmp_path, "key")
    assert (tmp_path / "generation.json").read_bytes() == content
    assert (tmp_path / "mine.png").is_file()


def test_a_pipe_in_the_place_of_the_note_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "generation.json")
    with pytest.raises(InputError, match="holds files that no evaluation made"):
        ImageFolder(tmp_path, "key")
