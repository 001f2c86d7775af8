"""What is no file is refused at once, and what is too large before it is read."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_ml.runtime.input_file import check_regular, opened, read_noted, read_utf8, read_whole
from fashion_ml.runtime.language import VARIABLE
from tests.fuzz.by_hand import ODD


@pytest.mark.parametrize(
    ("odd", "number"),
    [
        *(("folder", errno.EISDIR), ("pipe", errno.EINVAL), ("loop", errno.ELOOP), ("endless", errno.EINVAL)),
        *(("socket", errno.ENXIO), ("sparse", errno.EFBIG)),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, odd: str, number: int):
    path = tmp_path / "x"
    ODD[odd](path)
    with pytest.raises(OSError) as raised:
        read_whole(path)
    assert raised.value.errno == number
    if odd != "sparse":
        with pytest.raises(OSError):
            check_regular(path)


def test_a_file_is_read_whole_and_not_beyond_its_limit(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfabc\r\n")
    content, state = read_noted(path, 8)
    assert (content, state.st_size) == (b"\xef\xbb\xbfabc\r\n", 8)
    assert read_utf8(path) == "abc\n"
    with pytest.raises(OSError, match="more than the 7 bytes"):
        read_whole(path, 7)
    with opened(path) as file:
        assert file.read() == content


def test_what_a_shell_pipes_in_is_read(tmp_path: Path):
    code = (
        "from pathlib import Path; from fashion_ml.runtime.input_file import read_whole; print(read_whole(Path('/dev/stdin')))"
    )
    with subprocess.Popen(["sh", "-c", "sleep 0.3; echo late"], stdout=subprocess.PIPE) as late:
        done = subprocess.run([sys.executable, "-c", code], stdin=late.stdout, capture_output=True, text=True, check=True)
    assert done.stdout == "b'late\\n'\n"


def test_why_not_is_said_in_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "zh-TW")
    (tmp_path / "long").write_bytes(bytes(8))
    ODD["pipe"](tmp_path / "pipe")
    with pytest.raises(OSError, match="超過可讀取的 7 個位元組"):
        read_whole(tmp_path / "long", 7)
    with pytest.raises(OSError, match="是管線或裝置，不是檔案"):
        read_whole(tmp_path / "pipe")
