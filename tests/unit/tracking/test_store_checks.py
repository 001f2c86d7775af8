"""What a store that cannot be used says, and how soon."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fashion_ml.errors import InputError
from fashion_ml.tracking import store_checks
from fashion_ml.tracking.store import open_tracking
from fashion_ml.tracking.store_checks import check_answers, check_uri, what_is_wrong


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """The port of a server whose queue is full: a connection to it is not even refused, as behind a firewall."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as server:
        port, waiting = server.getsockname()[1], list[socket.socket]()
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield port
        for one in waiting:
            one.close()


@pytest.mark.parametrize("server", [silent, full], ids=["says nothing", "cannot be reached"])
def test_a_database_that_does_not_answer_is_told_in_its_time(
    monkeypatch: pytest.MonkeyPatch, server: type[contextmanager[int]]
):
    pytest.importorskip("psycopg")
    monkeypatch.setattr(store_checks, "_SECONDS", 2)
    start = time.monotonic()
    with (
        server() as port,
        pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI: 'postgresql\+psycopg://.* does not let us in"),
    ):
        check_uri(f"postgresql+psycopg://u:secret@127.0.0.1:{port}/x")
    assert time.monotonic() - start < 3 + 2


def test_all_addresses_of_a_host_together_take_ten_seconds_at_most(monkeypatch: pytest.MonkeyPatch):
    waited: list[float] = []

    def slow(_: object, timeout: float) -> None:
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", slow)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (f"10.0.0.{n}", 1)) for n in range(4)])
    with pytest.raises(InputError, match=r"--storage: .* does not let us in .*timed out.*; start that server, or take a file"):
        check_answers("postgresql+psycopg://u:secret@host/x", "--storage", "take a file")
    assert len(waited) == 4
    assert sum(waited) <= 25  # each gets its share of what is left, and takes none of it here
    assert waited[0] == pytest.approx(2.5, abs=0.1)


def test_what_is_read_only_is_named_the_file_or_the_folder_of_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, writable = tmp_path / "mlflow.db", set[Path]()
    file.touch()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) in writable)
    error = sqlite3.OperationalError("attempt to write a readonly database")
    assert what_is_wrong(f"sqlite:///{file}", error) == f"{str(file)!r} is read-only; make it writable, or give another path"
    writable.add(file)
    assert (
        what_is_wrong(f"sqlite:///{file}", error) == f"{str(tmp_path)!r} is read-only; make it writable, or give another path"
    )


def test_a_store_that_another_writer_holds_is_waited_for(workdir: Path):
    """MLflow's own 20 seconds are set to more in each of its sessions."""
    client = open_tracking()
    seen: list[int] = []
    with client._tracking_client.store.ManagedSessionMaker() as session:
        from sqlalchemy import text

        seen.append(session.execute(text("PRAGMA busy_timeout")).scalar())
    assert seen == [90000]
    writer = sqlite3.connect(workdir / "mlflow.db", check_same_thread=False, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    released = threading.Timer(1.0, lambda: writer.execute("COMMIT"))
    released.start()
    start = time.monotonic()
    client.create_run("0")
    assert time.monotonic() - start > 0.8
    writer.close()
