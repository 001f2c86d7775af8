"""Images that other processes look at are known as if they had been looked at here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from fashion_ml.data import image_index, look_ahead, pictures
from fashion_ml.data.image_index import KnownImages, looked_at
from fashion_ml.data.images import read_training_folder
from fashion_ml.data.look_ahead import LookAhead


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(look_ahead, "cores", lambda: 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images that were written so long ago that another change could be told."""
    place = tmp_path_factory.mktemp("images") / "2_dress"
    place.mkdir()
    for number in range(5):
        Image.linear_gradient("L").rotate(20 * number).resize((9 + number, 12)).save(place / f"{number} é.png")
    (place / os.fsdecode(b"\xff.png")).write_bytes((place / "0 é.png").read_bytes())
    time.sleep(image_index._COARSE_SECONDS + 0.1)
    return place.parent


def images_of(folder: Path) -> list[Path]:
    return sorted((folder / "2_dress").iterdir())


def test_what_other_processes_found_is_what_is_found_here_and_nothing_is_decoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    here = read_training_folder(folder)
    ahead, decoded = LookAhead(images_of(folder)), list[int]()
    assert len(ahead._parts) == 2
    plain = image_index.open_picture
    monkeypatch.setattr(image_index, "open_picture", lambda source: decoded.append(1) or plain(source))
    assert read_training_folder(folder, known=KnownImages(coming=ahead.found)) == here
    assert decoded == []
    assert ahead._parts == []


def test_what_none_can_read_or_has_just_changed_is_left_to_the_reader(folder: Path, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(tmp_path / "new.png")
    known = images_of(folder)[0]
    ahead = LookAhead([tmp_path / "missing.png", tmp_path / "broken.png", tmp_path / "new.png", known])
    assert list(ahead.found()) == [str(known)]


def test_a_process_knows_the_formats_of_plugins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A .heic of a phone is a format that Pillow has from another package: it is read where that is asked for and there."""
    known = list[str]()
    monkeypatch.setattr(pictures, "_has_plugin", lambda module: known.append(module) or True)
    monkeypatch.setattr(look_ahead, "looked_at", lambda path: looked_at(images_of(folder)[0]))
    assert look_ahead._look(tmp_path / "a.HEIC") is not None
    assert look_ahead._look(tmp_path / "a.jxl") is not None
    assert known == ["pillow_heif", "pillow_jxl"]


def test_of_processes_that_are_killed_what_they_have_said_counts(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(look_ahead, "cores", lambda: 2)
    ahead = LookAhead(images_of(folder))
    (part,) = ahead._parts
    part.process.wait()
    part.file.truncate(os.fstat(part.file.fileno()).st_size - 20)
    found = ahead.found()
    assert list(found) == [str(path) for path in images_of(folder)[:-1]]
    known = KnownImages(coming=lambda: found)
    assert read_training_folder(folder, known=known) == read_training_folder(folder)


def test_stopped_nothing_is_left(folder: Path):
    ahead = LookAhead(images_of(folder) * 1000)
    processes = [part.process for part in ahead._parts]
    ahead.stop()
    assert all(process.returncode is not None for process in processes)


def test_where_nothing_can_be_started_it_is_an_os_error(folder: Path, monkeypatch: pytest.MonkeyPatch):
    started = list[int]()

    def popen(*_: object, **__: object) -> None:
        started.append(1)
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError, match="no more processes"):
        LookAhead(images_of(folder))
    assert started


def test_a_machine_of_one_core_starts_none(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(look_ahead, "cores", lambda: 1)
    ahead = LookAhead(images_of(folder))
    assert ahead._parts == []
    assert ahead.found() == {}


def test_modules_of_the_working_folder_are_not_taken_for_others(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert len(LookAhead(images_of(folder)).found()) == 6


def test_a_process_that_has_stopped_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(look_ahead, "_PATIENCE", 0.3)
    ahead = LookAhead(images_of(folder) * 1000)
    processes = [part.process for part in ahead._parts]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    ahead.found()
    assert all(process.returncode is not None for process in processes)


def test_processes_whose_parent_was_killed_end_before_the_next_image(folder: Path):
    given = b"".join(os.fsencode(path) + b"\0" for path in images_of(folder))
    command = [sys.executable, "-m", "fashion_ml.data.look_ahead", "1"]  # of another parent than this one
    assert subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout == b""
