"""`fashion-ml serve` under 200 hostile requests of 20 clients: good ones are answered meanwhile, and SIGTERM ends it at once."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fuzz.requests import GOOD, Asking, as_body, hostile
from tests.runs.command import free_port
from tests.unit.deploy.small_model import small_model

CLIENTS = 20


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    model = small_model(tmp_path)
    port = free_port()
    command = [sys.executable, "-m", "fashion_ml", "serve", str(model), "--port", str(port), "--seconds", "60"]
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


def test_good_requests_are_answered_beside_hostile_ones_and_sigterm_ends_it(served: tuple[subprocess.Popen[bytes], int]):
    process, port = served
    alone = sorted(seconds_of_a_good_one(port) for _ in range(7))[3]
    waiting, statuses, lock = hostile(200), list[int](), threading.Lock()

    def client() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                asking = waiting.pop()
            try:
                status = status_of(port, asking)
            except (OSError, ValueError, http.client.HTTPException):  # it was hung up on, or could not even be sent
                status = 400
            with lock:
                statuses.append(status)

    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]  # these say nothing, and stay
    for one in idle[:3]:
        one.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    beside = []
    while any(thread.is_alive() for thread in threads):
        beside.append(seconds_of_a_good_one(port))
    for thread in threads:
        thread.join()
    middle = sorted(beside)[len(beside) // 2]
    sys.stdout.write(f"alone {alone:.2f} s, beside {middle:.2f} s (median of {len(beside)}), {sorted(set(statuses))}\n")
    assert len(statuses) == 200
    assert {status for status in statuses if status >= 500} <= {503, 504}
    assert sorted(seconds_of_a_good_one(port) for _ in range(7))[3] < 2 * alone + 0.2
    assert middle < 2 * alone + 0.5
    slow = {**GOOD, "params": {**GOOD["params"], "num_inference_steps": 200, "width": 512, "height": 512}}
    threading.Thread(target=_quietly, args=(port, slow), daemon=True).start()
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    assert time.monotonic() - began < 5
    for one in idle:
        one.close()


def _quietly(port: int, tree: object) -> None:
    with suppress(OSError, http.client.HTTPException):
        status_of(port, Asking(as_body(tree)))
