from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import load_config
from fashion_ml.data.images import CaptionedImage
from fashion_ml.training.first_lines import lora_lines, step_plan
from tests.unit.training.setup import experiment, train, write_images


def images(*sizes: tuple[int, int], repeats: int = 10) -> list[CaptionedImage]:
    return [CaptionedImage(Path(f"{i}.png"), "x", f"{i}.png", repeats, size) for i, size in enumerate(sizes)]


def said(settings: dict[str, Any], items: list[CaptionedImage], processes: int = 1) -> str:
    return "\n".join(lora_lines(load_config({"train_data_dir": "x", **settings}), items, 8, processes))


def test_a_run_says_what_decides_it_and_how_many_epochs_its_steps_are():
    settings = {
        "base": "/models/sd15.safetensors",
        "encoder": "hf-hub:a/b",
        "rank": 8,
        "feed_forward": True,
        "lr": 1e-4,
        "lr_warmup_steps": 20,
        "lr_scheduler": "cosine",
        "gradient_accumulation_steps": 4,
        "steps": 100,
    }
    # 6 images x 10 repeats = 60; 1 x 2 processes = 2 in a forward pass, 30 passes, 4 in a step: 8 steps; 100 / 8 = 12.5
    assert said(settings, images(*[(512, 512)] * 6), processes=2).splitlines() == [
        "Base      /models/sd15.safetensors; encoder hf-hub:a/b",
        "LoRA      rank 8, alpha 8 (scale 1) on attention, feed_forward",
        "Rates     adamw, learning rate 0.0001, cosine, 20 steps of warm-up",
        "Images    6 at 512 px; batch 1 x 4 accumulated x 2 processes = 8; precision no; seed 0",
        "Steps     100 = 12.5 epochs of 8 steps",
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 32, "alpha": 16}, "rank 32, alpha 16 (scale 0.5)"),
        ({"rank": 16, "use_rslora": True}, "rank 16, alpha 16 (scale 4)"),
        ({"rank": 16, "init": "olora"}, "rank 16, alpha 16 (scale 1), started as OLoRA"),
        ({"init": "pissa", "block_ranks": "0,2,4"}, "ranks 0, 2, 4 by block, started as PiSSA"),
        ({"rank": 16, "use_dora": True}, "DoRA, rank 16, alpha 16 (scale 1)"),
        ({"train_text_encoder": True, "text_encoder_lr": 1e-5}, "learning rate 5e-05 (text encoder 1e-05), constant"),
        (
            {"train_text_encoder": True, "text_encoder_2_lr": 1e-6},
            "learning rate 5e-05 (text encoders 5e-05 and 1e-06), constant",
        ),
        ({"evaluation.enabled": False}, "encoder none (not evaluated)"),
        ({"without": "fashion_clip"}, "encoder none (without fashion_clip)"),
        ({"enable_bucket": True}, "512 px in buckets; batch 1;"),
        ({"validation_split": 0.5, "steps": 40}, "40 = about 4 epochs of about 10 steps"),
    ],
)
def test_what_is_special_is_said(settings: dict[str, Any], words: str):
    assert words in said(settings, images((512, 512), (512, 512)))


def test_the_steps_of_an_epoch_are_those_that_the_loop_counts(tmp_path: Path):
    config = experiment(
        tmp_path, data={"enable_bucket": True, "min_bucket_reso": 32}, training={"train_batch_size": 2, "max_train_steps": 1}
    )
    items = write_images(tmp_path, count=3)
    from PIL import Image

    with Image.open(items[0].path) as picture:
        picture.resize((96, 48)).save(items[0].path)
    trained = train(config, tmp_path / "out")
    counted = step_plan(config, trained.inputs.images.items, 4, 1)
    assert counted.steps_per_epoch == trained.inputs.plan.steps_per_epoch == 3  # 1 x 2 in one bucket, 2 x 2 in the other
