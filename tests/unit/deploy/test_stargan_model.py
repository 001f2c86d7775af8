"""A served StarGAN's pictures: bounded by what their heads tell before any is decoded, and then decoded one after the other, in turns."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from fashion_ml.data import pictures
from fashion_ml.deploy import asked
from fashion_ml.deploy.asked import Asked, LoadedOnce
from fashion_ml.deploy.stargan_model import MOST_OF_ALL, MOST_OF_ONE, StarganModel


def png(width: int, height: int) -> bytes:
    """White, of one bit a pixel."""
    file = io.BytesIO()
    Image.new("1", (width, height), 1).save(file, "PNG")
    return file.getvalue()


def rows(*images: bytes) -> pd.DataFrame:
    return pd.DataFrame({"image": list(images), "domain": ["plain"] * len(images)})


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with pictures, in order, and how many turns are free meanwhile."""
    happened, load = list[str](), pictures.load_picture

    def noted(source: Any) -> Any:
        happened.append(f"decoded, {asked._turns.free} free")
        return load(source)

    monkeypatch.setattr(pictures, "load_picture", noted)
    return happened


@pytest.fixture
def model(tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch) -> StarganModel:
    """Without weights: what it makes is the square that it is given."""
    made = StarganModel(tmp_path / "none.safetensors", "embedded", 64)
    made._parts = LoadedOnce(lambda: (SimpleNamespace(), None, {"domains": ["plain"]}))

    def translated(networks: Any, vae: Any, facts: Any, picture: Image.Image, domain: str, seed: int) -> bytes:
        done.append(f"made of {picture.width} x {picture.height}")
        return b""

    monkeypatch.setattr(made, "_translated", translated)
    return made


def test_each_picture_is_decoded_in_its_turn_and_made_small_before_the_next_one(model: StarganModel, done: list[str]):
    model.predict(rows(png(300, 200), png(70, 90)))
    assert done == ["decoded, 3 free", "made of 64 x 64"] * 2


def test_pictures_that_are_too_large_together_are_refused_by_their_heads(model: StarganModel, done: list[str]):
    image = png(7000, 7000)
    assert len(image) * 5 < 200_000
    with pytest.raises(
        MlflowException, match=r"^image: 245,000,000 pixels of 5 pictures is not accepted; give at most 200,000,000"
    ):
        model.predict(rows(*[image] * 5))
    assert done == []


def test_one_picture_that_is_too_large_is_refused_by_its_head(model: StarganModel, done: list[str]):
    with pytest.raises(MlflowException, match=r"^image: 8000 x 6300 pixels is not accepted; give at most 50,000,000") as caught:
        model.predict(rows(png(8000, 6300)))
    assert (caught.value.get_http_status_code(), done) == (400, [])


def test_photos_of_a_phone_are_within_the_bounds():
    assert MOST_OF_ALL >= 16 * 4032 * 3024
    assert MOST_OF_ONE >= 8160 * 6120


def test_a_picture_that_breaks_off_is_refused_by_its_field_and_gives_its_turn_back(model: StarganModel):
    with pytest.raises(MlflowException, match=r"^image: [0-9,]+ bytes \("):
        model.predict(rows(png(300, 200), png(3000, 3000)[:-600]))
    assert asked._turns.free == 4


def test_large_pictures_are_heavy_so_one_of_them_is_decoded_at_a_time():
    photo, small = Asked(60), Asked(60)
    photo.weigh(1, 64 * 64, decoded=4032 * 3024)
    small.weigh(1, 64 * 64, decoded=512 * 512)
    assert (photo._share.heavy, small._share.heavy) == (True, False)
