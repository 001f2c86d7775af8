"""A file is opened where there is a desktop, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashion_ml.runtime.opener import desktop_opener, open_file


@pytest.fixture
def bin_folder(tmp_path: Path) -> str:
    for name in ("xdg-open", "open", "gio"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    return str(tmp_path)


def test_without_a_desktop_there_is_no_opener(bin_folder: str):
    assert desktop_opener({"PATH": bin_folder}, "linux") is None
    assert desktop_opener({"PATH": bin_folder, "DISPLAY": ":0"}, "linux") == ["xdg-open"]
    assert desktop_opener({"PATH": bin_folder, "WAYLAND_DISPLAY": "wayland-0"}, "linux") == ["xdg-open"]
    assert desktop_opener({"PATH": bin_folder}, "darwin") == ["open"]
    assert desktop_opener({"PATH": bin_folder, "SSH_CONNECTION": "a"}, "darwin") is None
    assert desktop_opener({"PATH": "/nowhere", "DISPLAY": ":0"}, "linux") is None


def test_gio_opens_where_xdg_open_is_missing(bin_folder: str):
    (Path(bin_folder) / "xdg-open").unlink()
    assert desktop_opener({"PATH": bin_folder, "DISPLAY": ":0"}, "linux") == ["gio", "open"]


def test_a_file_is_given_to_the_opener(bin_folder: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("PATH", f"{bin_folder}:/bin:/usr/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    assert open_file(Path("report.html"))
    import time

    opened = Path(bin_folder) / "opened"
    end = time.monotonic() + 10
    while not (opened.is_file() and opened.read_text(encoding="utf-8")) and time.monotonic() < end:
        time.sleep(0.02)
    assert opened.read_text(encoding="utf-8").strip() == "report.html"
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not open_file(Path("report.html"))
