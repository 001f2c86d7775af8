"""One process at a time works in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fashion_ml.errors import InputError
from fashion_ml.runtime.folder_lock import LOCK, folder_lock, is_locked, lock_again, refuse_locked
from tests.fuzz.by_hand import ODD

HOLD = "import sys, time; from pathlib import Path; from fashion_ml.runtime.folder_lock import folder_lock\n" + (
    "with folder_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(120)\n"
)
RACE = """
import sys; from pathlib import Path
from fashion_ml.errors import InputError
from fashion_ml.runtime.folder_lock import folder_lock
folder, done = Path(sys.argv[1]), 0
while done < 40:
    try:
        with folder_lock(folder):
            with (folder / "inside").open("x"):
                pass
            (folder / "inside").unlink()
            done += 1
    except InputError:
        pass
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_until_the_first_one_ends_also_by_a_kill(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    process = holder(folder)
    assert is_locked(folder)
    with pytest.raises(
        InputError, match=rf"^OUT: another command is at work in '.*b' \(process {process.pid}\); wait for its end"
    ):
        refuse_locked(folder, "OUT")
    with pytest.raises(InputError, match="another command"), folder_lock(folder):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / LOCK).exists()
    assert not is_locked(folder)
    with folder_lock(folder):
        assert not is_locked(folder), "its own"
    assert not (folder / LOCK).exists()


def test_four_processes_are_never_inside_together(tmp_path: Path):
    command = [sys.executable, "-c", RACE, str(tmp_path / "x" / "folder")]
    together = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(one.communicate(timeout=60)[1], one.returncode) for one in together] == [("", 0)] * 4
    assert not list(tmp_path.rglob(LOCK))


def test_a_folder_that_was_made_for_nothing_is_gone_again(tmp_path: Path):
    with folder_lock(tmp_path / "x" / "y"):
        pass
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path / "x" / "y"):
        (tmp_path / "x" / "y" / "file").write_text("")
    assert [path.name for path in (tmp_path / "x" / "y").iterdir()] == ["file"]


def test_a_thread_may_take_it_twice_and_another_may_not(tmp_path: Path):
    refused: list[str] = []

    def other() -> None:
        try:
            with folder_lock(tmp_path, "OUT"):
                pass
        except InputError as error:
            refused.extend(error.problems)

    with folder_lock(tmp_path):
        with folder_lock(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_a_folder_that_is_moved_aside_leaves_the_lock_to_the_new_one_of_its_name(tmp_path: Path):
    folder, aside = tmp_path / "out", tmp_path / "aside"
    with folder_lock(folder):
        folder.rename(aside)
        lock_again(folder, aside)
        assert oct((folder / LOCK).stat().st_mode & 0o777) == "0o600"
        with pytest.raises(InputError, match="another command"), _in_other_process(folder):
            pass
        assert list(aside.iterdir()) == []
    assert not folder.exists()


class _in_other_process:  # noqa: N801 (reads as a function)
    """A process that tries to take a lock; InputError where it is refused."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self) -> None:
        code = "import sys; from pathlib import Path; from fashion_ml.runtime.folder_lock import refuse_locked\n"
        ended = subprocess.run(
            [sys.executable, "-c", code + "refuse_locked(Path(sys.argv[1]))", str(self._folder)], capture_output=True, text=True
        )
        if ended.returncode:
            raise InputError(ended.stderr.splitlines()[-1])

    def __exit__(self, *_: object) -> None:
        return


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"), folder_lock(tmp_path / "x"):
        pass


def test_a_file_in_its_place_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), folder_lock(tmp_path / "file" / "x"):
        pass


@pytest.mark.parametrize("odd", ["link", "link to nothing", "folder", "pipe", "endless", "loop"])
def test_a_lock_that_is_none_is_refused_and_what_a_link_leads_to_is_left_alone(tmp_path: Path, odd: str):
    """A folder may come from anywhere; the number of a process was written over the file that a link led to."""
    folder, theirs = tmp_path / "out", tmp_path / "theirs"
    folder.mkdir()
    if odd.startswith("link"):
        (folder / LOCK).symlink_to(theirs)
        if odd == "link":
            theirs.write_text("theirs")
    else:
        ODD[odd](folder / LOCK)
    assert not is_locked(folder)
    with pytest.raises(InputError, match=r"cannot be written|nothing is that can be reached"), folder_lock(folder):
        pass
    assert theirs.read_text() == "theirs" if odd == "link" else not theirs.exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder that takes no folders")
def test_a_place_where_no_folder_can_be_made_is_not_called_busy():
    with (
        pytest.raises(InputError, match=r"'/proc/none' cannot be written \(.*\); choose another folder"),
        folder_lock(Path("/proc/none")),
    ):
        pass
