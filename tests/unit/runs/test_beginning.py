"""What a training's folder is refused for, before anything is written: the same of a dry run, which leaves nothing of the trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fashion_ml.config import LoraExperiment
from fashion_ml.errors import InputError
from fashion_ml.runs.beginning import begun, check_beginning
from fashion_ml.runtime.folder_lock import LOCK, folder_lock


def config(folder: str | None) -> LoraExperiment:
    given: dict[str, Any] = {
        "model": {"base": "embedded"},
        "data": {"train_data_dir": "embedded"},
        "tracking": {"offline": True},
    }
    return LoraExperiment(**given, output={"output_dir": folder})


def real(folder: str | None) -> str:
    with pytest.raises(InputError) as refused, begun(config(folder), resume="", new=False):
        raise AssertionError("it has begun")
    return str(refused.value)


@pytest.mark.parametrize("place", ["/proc/x", "/proc/self/x/y", "/sys/x", "full/x", "a file", "taken"])
def test_a_dry_run_refuses_a_place_that_takes_nothing_in_the_line_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")
    (tmp_path / "full").mkdir(mode=0o500)
    make = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda path, *given, **named: _in_full(path) or make(path, *given, **named))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / LOCK).mkdir()  # in a lock's place is what no lock can be
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as refused:
        check_beginning(config(place), new=False)
    assert str(refused.value).startswith("output.output_dir: ")
    assert str(refused.value) == real(place)
    assert sorted(tmp_path.rglob("*")) == before


def _in_full(path: Path) -> None:
    """A disk that takes no folder, also from root."""
    if "full" in path.parts:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", [None, "new/below", "there"])
def test_a_dry_run_leaves_nothing_where_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str | None):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    check_beginning(config(place), new=False)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_dry_run_is_refused_where_a_training_is_at_work(tmp_path: Path):
    import threading

    refused = list[str]()

    def other() -> None:
        try:
            check_beginning(config(str(tmp_path)), new=True)
        except InputError as error:
            refused.append(str(error))

    with folder_lock(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert "another command is at work in" in refused[0]


@pytest.mark.parametrize("name", ["training_logs", "state", "samples", "data_summary", "deeper/evaluation"])
def test_a_link_that_leads_nowhere_is_refused_before_a_training_has_begun(tmp_path: Path, name: str):
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to("/nowhere/at/all")
    before = sorted(tmp_path.rglob("*"))
    said = real(str(tmp_path / "out"))
    assert said.startswith(f"output.output_dir: '{link}' is a link to '/nowhere/at/all', where nothing is")
    with pytest.raises(InputError) as refused:
        check_beginning(config(str(tmp_path / "out")), new=False)
    assert str(refused.value) == said
    assert sorted(tmp_path.rglob("*")) == before
