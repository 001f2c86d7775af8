"""How a served model's process ends."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from fashion_ml.deploy import serve


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("stopped", [None, KeyboardInterrupt], ids=["SIGTERM", "Ctrl-C"])
def test_it_ends_at_once_behind_its_last_answer(monkeypatch: pytest.MonkeyPatch, stopped: type[BaseException] | None):
    codes = list[int]()

    def run(*_: Any, **__: Any) -> None:
        if stopped:
            raise stopped

    def leave(code: int) -> None:
        codes.append(code)
        raise Ended

    def thread(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: None)

    monkeypatch.setattr(serve, "application", lambda *_: None)
    monkeypatch.setattr(serve.threading, "Thread", thread)
    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(os, "_exit", leave)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Ended):
        serve.serve("models:/x/1", "127.0.0.1", port, lambda _: None, seconds=60.0, most_images=16.0, names=())
    assert codes == [0]
