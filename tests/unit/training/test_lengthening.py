"""A finished training that goes on for longer is the longer training, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training import test_stargan_loop as gan
from tests.unit.training.setup import experiment, train, write_images


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    draw = torch.Generator().manual_seed(0)
    for domain in "ab":
        (tmp_path / "latents" / domain).mkdir(parents=True)
        for index in range(6):
            torch.save(torch.randn(4, 8, 8, generator=draw), tmp_path / "latents" / domain / f"{index}.pt")
    return tmp_path / "latents"


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_lora(tmp_path: Path):
    write_images(tmp_path / "images")
    two, four = (experiment(tmp_path / "images", training={"max_train_steps": steps}) for steps in (2, 4))
    whole = train(four, tmp_path / "whole").result.path
    short = train(two, tmp_path / "parts").result.path
    assert not same(whole, short)
    assert same(whole, train(four, tmp_path / "parts", resume=True).result.path)


def test_a_stargan(latents: Path, tmp_path: Path):
    two, three = (gan.experiment(latents, training={"epochs": epochs}) for epochs in (2, 3))
    gan.train(three, latents, tmp_path / "whole")
    gan.train(two, latents, tmp_path / "parts")
    gan.train(three, latents, tmp_path / "parts", resume=True)
    assert same(*(tmp_path / part / "stargan.safetensors" for part in ("whole", "parts")))
    assert gan.log_of(tmp_path / "whole") == gan.log_of(tmp_path / "parts")
