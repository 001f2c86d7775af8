"""`fashion-ml serve` under 200 hostile requests of 20 clients, beside large requests that it accepts, and under connections that are held: good
ones are answered meanwhile, and SIGTERM ends it at once."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.fuzz.requests import GOOD, Asking, as_body, hostile
from tests.runs.command import free_port
from tests.unit.deploy.small_model import small_model

CLIENTS, MOST_SECONDS = 20, 60
"""And what the server gives to one request before it says 504."""
CORES = len(os.sched_getaffinity(0))
SHARED_SECONDS = 0.0 if CORES >= 4 else 0.25
"""What a good request may take longer on a machine of two cores: the twenty clients and whoever measures are on the server's own."""
MOST_BYTES = 1_000_000
"""Of a body that the server reads to its end; it hangs up on whoever sends more, who may still be sending."""


LARGE = {"width": 512, "height": 512}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    yield from serving(tmp_path)


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that may open 1,024 files, and no more."""
    yield from serving(tmp_path, "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)); ")


def serving(tmp_path: Path, first: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    model = small_model(tmp_path)
    port = free_port()
    command = [
        sys.executable,
        "-c",
        f"{first}from fashion_ml.cli import main; main()",
        "serve",
        str(model),
        "--port",
        str(port),
        "--seconds",
        str(MOST_SECONDS),
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        until = time.monotonic() + 180
        while True:
            with suppress(OSError):
                if status_of(port, Asking(as_body(GOOD)), 120) == 200:
                    break
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
            assert time.monotonic() < until
            time.sleep(0.5)
        yield process, port
    finally:
        process.kill()
        process.wait()


def status_of(port: int, asking: Asking, seconds: float = 60) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(
            asking.method, asking.path, asking.body, {name: value for name, value in asking.headers.items() if value}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def seconds_of_a_good_one(port: int) -> float:
    began = time.monotonic()
    assert status_of(port, Asking(as_body(GOOD))) == 200
    return time.monotonic() - began


def middle_of(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def may_be_unanswered(asking: Asking, error: Exception) -> bool:
    """Whether that is an answer to such a request: one that this client cannot even write, or one whose body the server does not read."""
    if isinstance(error, ValueError):  # of http.client, which sends no control characters
        return not asking.path.isprintable() or not all(value.isprintable() for value in asking.headers.values())
    hung_up = isinstance(error, (ConnectionError, http.client.BadStatusLine))
    return hung_up and (len(asking.body) > MOST_BYTES or "Transfer-Encoding" in asking.headers)


def test_good_requests_are_answered_beside_hostile_ones_and_sigterm_ends_it(served: tuple[subprocess.Popen[bytes], int]):
    process, port = served
    alone = middle_of([seconds_of_a_good_one(port) for _ in range(15)])
    waiting, statuses, unanswered, lock = hostile(200), list[int](), list[tuple[Asking, Exception]](), threading.Lock()

    def client() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                asking = waiting.pop()
            try:
                status = status_of(port, asking, 2 * MOST_SECONDS)
            except (OSError, ValueError, http.client.HTTPException) as error:
                with lock:
                    unanswered.append((asking, error))
                continue
            with lock:
                statuses.append(status)

    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]  # these say nothing, and stay
    for one in idle[:3]:
        one.sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    beside = []
    while any(thread.is_alive() for thread in threads):
        beside.append(seconds_of_a_good_one(port))
    for thread in threads:
        thread.join()
    middle, most = middle_of(beside), sorted(beside)[int(0.9 * len(beside))]
    again = middle_of([seconds_of_a_good_one(port) for _ in range(15)])
    sys.stdout.write(
        f"alone {alone:.3f} s, beside {middle:.3f} s (median of {len(beside)}; nine of ten within {most:.3f}), afterwards {again:.3f}; "
        f"{sorted(set(statuses))}, {len(unanswered)} without an answer, {CORES} cores\n"
    )
    wrong = [
        (asking.path[:40], len(asking.body), repr(error))
        for asking, error in unanswered
        if not may_be_unanswered(asking, error)
    ]
    assert wrong == []
    assert len(statuses) + len(unanswered) == 200
    assert {status for status in statuses if status >= 500} <= {503, 504}
    assert len(beside) >= 10
    assert middle <= most < 2 * alone + SHARED_SECONDS
    assert again < 2 * alone
    slow = {**GOOD, "params": {**GOOD["params"], "num_inference_steps": 200, "width": 512, "height": 512}}
    threading.Thread(target=_quietly, args=(port, slow), daemon=True).start()
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert time.monotonic() - began < 5
    for one in idle:
        one.close()


@pytest.mark.parametrize(("clients", "rows", "steps"), [(4, 16, 50), (20, 16, 50), (40, 1, 200), (20, 1, 1)])
def test_good_requests_are_answered_beside_large_ones_that_are_accepted(
    served: tuple[subprocess.Popen[bytes], int], clients: int, rows: int, steps: int
):
    _, port = served
    alone = middle_of([seconds_of_a_good_one(port) for _ in range(15)])
    large = Asking(as_body({"dataframe_records": [{"prompt": "x"}] * rows, "params": {**LARGE, "num_inference_steps": steps}}))
    statuses, over = list[int](), threading.Event()

    def client() -> None:
        while not over.is_set():
            with suppress(OSError, http.client.HTTPException):
                statuses.append(status_of(port, large, 2 * MOST_SECONDS))
            over.wait(1)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    beside = [seconds_of_a_good_one(port) for _ in range(15)]
    over.set()
    sys.stdout.write(
        f"beside {clients} clients of {rows} x {steps} x 512 px: {middle_of(beside):.3f} s, at most {max(beside):.3f}, alone {alone:.3f}; "
        f"{ {status: statuses.count(status) for status in set(statuses)} }\n"
    )
    assert middle_of(beside) < 2 * alone + SHARED_SECONDS
    assert clients <= 25 or 503 in statuses, "of large ones 24 wait, behind the one that computes"


def test_good_requests_are_answered_beside_more_held_connections_than_there_are_files(
    few_files: tuple[subprocess.Popen[bytes], int],
):
    process, port = few_files
    alone, held = middle_of([seconds_of_a_good_one(port) for _ in range(15)]), list[socket.socket]()
    try:
        for number in range(1050):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            with suppress(ConnectionError):
                held[-1].sendall(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nX-a: " * (number % 2))
        beside = [seconds_of_a_good_one(port) for _ in range(15)]
        sys.stdout.write(
            f"beside {len(held)} held connections: {middle_of(beside):.3f} s, at most {max(beside):.3f}, alone {alone:.3f} s\n"
        )
        assert middle_of(beside) < 2 * alone + SHARED_SECONDS
        time.sleep(12)
        assert len(psutil.Process(process.pid).net_connections()) < 50
    finally:
        for one in held:
            one.close()


def _quietly(port: int, tree: object) -> None:
    with suppress(OSError, http.client.HTTPException):
        status_of(port, Asking(as_body(tree)))
