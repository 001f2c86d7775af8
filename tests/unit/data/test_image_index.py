from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from fashion_ml.data import image_index, images
from fashion_ml.data.image_index import KnownImages
from fashion_ml.data.images import read_training_folder

OLD = 1_600_000_000


def make(folder: Path, name: str, color: str = "red", side: int = 9) -> Path:
    place = folder / "2_dress"
    place.mkdir(parents=True, exist_ok=True)
    path = place / name
    Image.new("RGB", (side, side + 1), color).save(path)
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files had been made a minute ago."""
    now = time.time
    monkeypatch.setattr("fashion_ml.data.image_index.time.time", lambda: now() + 60)


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count = list[int]()
    plain = image_index.open_picture
    monkeypatch.setattr(image_index, "open_picture", lambda source: count.append(1) or plain(source))
    return count


@pytest.mark.usefixtures("later")
def test_a_second_reading_decodes_nothing_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.png", "b.png"):
        make(tmp_path / "set", name)
    first = read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    count = decoded(monkeypatch)
    assert read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache")) == first
    assert count == []
    assert [item.size for item in first] == [(9, 10)] * 2


@pytest.mark.usefixtures("later")
def test_an_edited_file_is_looked_at_again_even_with_its_old_time(tmp_path: Path):
    path = make(tmp_path / "set", "a.bmp", "red")
    os.utime(path, (OLD, OLD))
    (before,) = read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    size = path.stat().st_size
    time.sleep(0.05)  # ticks of a file system's clock are some milliseconds long
    make(tmp_path / "set", "a.bmp", "blue")
    os.utime(path, (OLD, OLD))
    (after,) = read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    assert (path.stat().st_size, path.stat().st_mtime) == (size, OLD)
    assert before.sha256 != after.sha256


def test_a_file_that_was_just_written_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An edit within the same tick of the file system's clock could not be told."""
    changed = make(tmp_path / "set", "a.png").stat().st_ctime
    monkeypatch.setattr("fashion_ml.data.image_index.time.time", lambda: changed + 1)
    read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    assert not (tmp_path / "cache" / "images.json").exists()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("note", ["", "[]", "{}", '{"version": 2, "images": 3}', '{"version": 1, "images": {}}', "{broken"])
def test_a_damaged_note_counts_as_empty(tmp_path: Path, note: str):
    make(tmp_path / "set", "a.png")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "images.json").write_text(note, encoding="utf-8")
    (item,) = read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    assert item.size == (9, 10)
    assert KnownImages(tmp_path / "cache").get(item.path) == ((9, 10), item.sha256, item.hashes, False)


@pytest.mark.usefixtures("later")
def test_a_damaged_entry_is_looked_at_again(tmp_path: Path):
    path = make(tmp_path / "set", "a.png")
    read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    note = tmp_path / "cache" / "images.json"
    note.write_text(note.read_text(encoding="utf-8").replace(", 9, 10, ", ", "), encoding="utf-8")
    assert KnownImages(tmp_path / "cache").get(path) is None
    assert read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))[0].size == (9, 10)


@pytest.mark.usefixtures("later")
def test_two_trainings_at_once_keep_what_each_has_noted(tmp_path: Path):
    for name in ("one", "two"):
        make(tmp_path / name, "a.png")
    notes = [KnownImages(tmp_path / "cache") for _ in range(2)]
    for name, known in zip(("one", "two"), notes, strict=True):
        read_training_folder(tmp_path / name, known=known)
    both = KnownImages(tmp_path / "cache")
    assert all(both.get(tmp_path / name / "2_dress" / "a.png") for name in ("one", "two"))


@pytest.mark.usefixtures("later")
def test_where_the_note_cannot_be_written_everything_goes_on_without_it(tmp_path: Path):
    make(tmp_path / "set", "a.png")
    (tmp_path / "cache").write_text("a file, so that no folder can be made here", encoding="utf-8")
    (item,) = read_training_folder(tmp_path / "set", known=KnownImages(tmp_path / "cache"))
    assert item.size == (9, 10)


def test_checking_many_images_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "fashion_ml")
    for name in ("a.png", "b.png"):
        make(tmp_path / "set", name)
    read_training_folder(tmp_path / "set")
    assert "check images" not in caplog.text
    monkeypatch.setattr(images, "_MANY", 2)
    read_training_folder(tmp_path / "set")
    assert "check images: 2/2" in caplog.text
