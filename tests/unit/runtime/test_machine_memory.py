"""What a process may take is what its control group may, where that is less than the machine has: a container's, a cluster job's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fashion_ml.errors import InputError
from fashion_ml.runs import doctor
from fashion_ml.runtime import machine_memory
from fashion_ml.runtime.machine_memory import free_memory_left, refuse_too_large, total_memory

GIB = 1 << 30
NO_LIMIT = 9223372036854771712
"""What version 1 writes where there is none: the largest number of pages."""


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine of 16 GiB, 10 of them free, whose /proc/self/cgroup has some lines and whose groups have some files."""

    def make(own: str, files: dict[str, str]) -> None:
        for name, content in files.items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(content)
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(machine_memory, "_ROOT", tmp_path / "groups")
        monkeypatch.setattr(machine_memory, "_OWN", tmp_path / "own")
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB, available=10 * GIB))

    return make


JOB = "slice/job_7"
CASES = {
    "no groups": ("", {}, 16, 10),
    "version 2, in a container: the root of what it sees": (
        "0::/\n",
        {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n", "memory.stat": f"anon 5\ninactive_file {2 * GIB}\n"},
        4,
        3,
    ),
    "version 2, of a job inside a bounded one": (
        f"0::/{JOB}\n",
        {
            f"{JOB}/memory.max": "max\n",
            f"{JOB}/memory.current": f"{GIB}\n",
            f"{JOB}/memory.stat": "inactive_file 0\n",
            "slice/memory.max": f"{2 * GIB}\n",
            "slice/memory.current": f"{GIB}\n",
            "slice/memory.stat": "anon 7\n",
        },
        2,
        1,
    ),
    "version 1, and another controller's path": (
        f"5:cpu:/elsewhere\n4:memory:/{JOB}\n",
        {
            f"memory/{JOB}/memory.limit_in_bytes": f"{8 * GIB}\n",
            f"memory/{JOB}/memory.usage_in_bytes": f"{9 * GIB}\n",
            f"memory/{JOB}/memory.stat": f"inactive_file 3\ntotal_inactive_file {2 * GIB}\n",
        },
        8,
        1,
    ),
    "version 1 without a limit": (
        "4:memory:/\n",
        {
            "memory/memory.limit_in_bytes": str(NO_LIMIT),
            "memory/memory.usage_in_bytes": str(GIB),
            "memory/memory.stat": "",
        },
        16,
        10,
    ),
    "version 1, in a container whose own path is not there": (
        "4:memory:/docker/0123\n",
        {
            "memory/memory.limit_in_bytes": f"{GIB}\n",
            "memory/memory.usage_in_bytes": f"{2 * GIB}\n",
            "memory/memory.stat": "",
        },
        1,
        0,
    ),
    "more than the machine has": (
        "0::/\n",
        {"memory.max": f"{64 * GIB}\n", "memory.current": f"{GIB}\n", "memory.stat": ""},
        16,
        10,
    ),
    "damaged": ("nothing\n0::\n", {"memory.max": "much\n"}, 16, 10),
}


@pytest.mark.parametrize(("own", "files", "total", "free"), CASES.values(), ids=CASES.keys())
def test_the_smallest_limit_counts(group: Callable[..., None], own: str, files: dict[str, str], total: int, free: int):
    group(own, files)
    assert total_memory() == total * GIB
    assert free_memory_left() == free * GIB


def test_what_is_refused_says_whose_limit_it_is(group: Callable[..., None]):
    group("0::/\n", {"memory.max": f"{3 * GIB // 2}", "memory.current": "0", "memory.stat": ""})
    refuse_too_large("data.resolution", "a step", 3 * GIB // 2, "use less")
    with pytest.raises(
        InputError,
        match=r"^data\.resolution: a step needs some 2\.0 GiB, and this container or job may take 1\.5 GiB; use less$",
    ):
        refuse_too_large("data.resolution", "a step", 2 * GIB, "use less")
    group("", {})
    with pytest.raises(
        InputError, match=r"^data\.resolution: a step needs some 17\.0 GiB, and this machine has 16\.0 GiB; use less$"
    ):
        refuse_too_large("data.resolution", "a step", 17 * GIB, "use less")


def test_doctor_tells_what_the_group_has_left(group: Callable[..., None]):
    group("0::/\n", {"memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}", "memory.stat": ""})
    found = doctor._memory()
    assert (found.state, found.found[:19]) == ("wrong", "1.0 of 4.0 GiB free")
