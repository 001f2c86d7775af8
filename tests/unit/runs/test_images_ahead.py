"""Which images other processes look at before a training reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fashion_ml.config import LoraExperiment, validate
from fashion_ml.data.image_index import looked_at, noted
from fashion_ml.runs import images_ahead
from fashion_ml.runs.inputs import read_sources


class Fake:
    """Looks at images in this process."""

    def __init__(self, paths: Sequence[Path]):
        self.paths, self.stopped = list(paths), False

    def found(self) -> dict[str, Any]:
        return {str(path): noted(state, found) for path in self.paths for found, state in (looked_at(path),)}

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture(autouse=True)
def _ahead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images_ahead, "LookAhead", Fake)
    monkeypatch.setattr(images_ahead, "_MANY", 3)
    monkeypatch.setattr(images_ahead, "cores", lambda: 2)


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (16, 16)).save(folder / name)
    return folder


def experiment(**data: Any) -> LoraExperiment:
    return validate({"data": data, "evaluation": {"enabled": False}})


def looked(config: LoraExperiment) -> list[str] | None:
    with images_ahead.images_ahead(config) as ahead:
        found = None if ahead is None else [f"{path.parent.name}/{path.name}" for path in ahead.paths]
    assert ahead is None or ahead.stopped
    return found


def test_those_of_training_prior_and_subsets_are(tmp_path: Path):
    write(tmp_path / "train" / "2_hat", "a.png", "b.png")
    write(tmp_path / "train" / "others", "c.png")
    write(tmp_path / "prior" / "1_hat", "d.png")
    (tmp_path / "prior" / "1_hat" / "d.txt").write_text("a hat", encoding="utf-8")
    subset = {"image_dir": str(write(tmp_path / "subset", "e.png"))}
    given = {"train_data_dir": str(tmp_path / "train"), "reg_data_dir": str(tmp_path / "prior"), "subsets": [subset]}
    assert looked(experiment(**given)) == ["2_hat/a.png", "2_hat/b.png", "1_hat/d.png", "subset/e.png"]


def test_few_none_and_those_that_a_cache_knows_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "train" / "2_hat", "a.png", "b.png")
    folder, cache = str(tmp_path / "train"), tmp_path / "cache"
    assert looked(experiment(train_data_dir=folder)) is None
    monkeypatch.setattr(images_ahead, "_MANY", 2)
    assert looked(experiment(train_data_dir=folder, cache_dir=str(cache))) == ["2_hat/a.png", "2_hat/b.png"]
    cache.mkdir()
    (cache / "images.json").write_text("{}", encoding="utf-8")
    assert looked(experiment(train_data_dir=folder, cache_dir=str(cache))) is None
    assert looked(experiment(train_data_dir="embedded")) is None
    assert looked(experiment(train_data_dir=str(tmp_path / "missing"))) is None
    monkeypatch.setattr(images_ahead, "cores", lambda: 1)
    assert looked(experiment(train_data_dir=folder)) is None


def test_what_was_looked_at_ahead_is_not_looked_at_again_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "train" / "2_hat", "a.png", "b.png", "c.png")
    monkeypatch.setattr("fashion_ml.data.image_index._COARSE_SECONDS", -1.0)
    config = experiment(train_data_dir=str(tmp_path / "train"))
    here = read_sources(config).items
    monkeypatch.setattr("fashion_ml.data.images.looked_at", lambda path: pytest.fail(f"{path} is looked at again"))
    with images_ahead.images_ahead(config) as ahead:
        assert ahead is not None
        assert read_sources(config, ahead=ahead).items == here
