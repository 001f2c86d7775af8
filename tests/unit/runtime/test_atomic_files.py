from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fashion_ml.cli.options import check_json
from fashion_ml.errors import InputError
from fashion_ml.runtime.atomic_files import atomic_path, is_device, remove_leftovers, write_text


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "good")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text(encoding="utf-8") == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_the_last_good_file_is_intact(tmp_path: Path):
    """A process that may write 10 kB only: the operating system itself refuses the rest."""
    path = tmp_path / "lora.safetensors"
    write_text(path, "good")
    code = f"""
import resource, signal
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.errors import InputError
try:
    with atomic_path(Path({str(path)!r})) as temporary:
        temporary.write_bytes(b"x" * 100_000)
except InputError as error:
    print("InputError", error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.startswith("InputError output.output_dir: lora.safetensors")
    assert path.read_text(encoding="utf-8") == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_its_owners_alone_until_it_has_its_name_and_its_usual_mode(tmp_path: Path):
    (tmp_path / "usual").write_text("")
    with atomic_path(tmp_path / "x") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("good")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_a_dead_writer_has_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path):
    code = "import os, sys; from pathlib import Path; from fashion_ml.runtime.atomic_files import atomic_path\n"
    code += "with atomic_path(Path(sys.argv[1])) as temporary: temporary.write_text('half'); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "sub" / "x")], check=False)
    assert ended.returncode == 9
    (left,) = (tmp_path / "sub").iterdir()
    other = left.with_name(left.name.replace(".tmp", ".txt"))
    other.write_text("no temporary file")
    elsewhere = left.with_name(f".y.{'0' * 6}-{left.name.split('-')[1]}-1.tmp")
    elsewhere.write_text("another machine's")
    with atomic_path(tmp_path / "z") as living:
        living.write_text("a living process's")
        assert remove_leftovers(tmp_path, None, tmp_path / "none") == 1
        assert living.exists()
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == sorted([other.name, elsewhere.name])


@pytest.mark.parametrize("number", [28, 122])
def test_no_space_left_is_told_as_such(tmp_path: Path, number: int):
    with pytest.raises(InputError, match=r"output\.output_dir: the disk of .* is full"), atomic_path(tmp_path / "x"):
        raise OSError(number, "No space left on device")


def test_a_folder_that_is_a_file_is_told(tmp_path: Path):
    (tmp_path / "x").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "x" / "y", "z")


def test_safetensors_that_do_not_fit_are_one_line_and_the_file_before_stays(tmp_path: Path):
    """A real failed write: files may have 100,000 bytes at most, as on a full disk."""
    from safetensors.torch import save_file

    path = tmp_path / "state.safetensors"
    path.write_bytes(b"before")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with (
            pytest.raises(InputError, match=r"output\.output_dir: state\.safetensors is larger than"),
            atomic_path(path) as temporary,
        ):
            save_file({"x": torch.zeros(100_000)}, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_full_disk_is_told_also_where_only_the_text_says_so(tmp_path: Path):
    with pytest.raises(InputError, match="is full"), atomic_path(tmp_path / "x"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(("sync", "expected"), [(True, ["file", "folder"]), (False, [])])
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool, expected: list[str]
):
    """Else a machine that stops leaves an empty file under the name, or the old one."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        assert (tmp_path / "x").exists() == is_folder
        synced.append("folder" if is_folder else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_path(tmp_path / "x", sync=sync) as temporary:
        temporary.write_text("good", encoding="utf-8")
    assert synced == expected


@pytest.mark.parametrize("link", [False, True], ids=["itself", "by a link"])
def test_a_pipe_is_refused_and_stays_one(link: bool, tmp_path: Path):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    with pytest.raises(InputError, match=r"is a device or a pipe, whose place a file would take; give a file"):
        write_text(path, "{}")
    with pytest.raises(InputError, match=r"--json: .* cannot be written"):
        check_json(str(path))
    assert pipe.is_fifo()
    assert path.is_symlink() == link
    assert {one.name for one in tmp_path.iterdir()} == {pipe.name, path.name}


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout"])
def test_devices_are_known_by_any_name(name: str):
    assert is_device(Path(name))


def test_files_folders_and_what_is_not_there_are_no_devices(tmp_path: Path):
    (tmp_path / "a.json").touch()
    (tmp_path / "b.json").symlink_to(tmp_path / "a.json")
    (tmp_path / "c.json").symlink_to(tmp_path / "none")
    assert [is_device(tmp_path / name) for name in (".", "a.json", "b.json", "c.json", "d.json")] == [False] * 5
