"""A port that cannot be had, and an address that is none, are one line."""

from __future__ import annotations

import socket

import pytest

from fashion_ml.errors import InputError
from fashion_ml.runtime.listening import listening


@pytest.mark.parametrize("port", [-1, 0, 65536, 70000, 10**30])
def test_a_port_that_is_none_is_refused(port: int):
    with (
        pytest.raises(InputError, match=f"--port: {port} is not accepted; give a number from 1 to 65535"),
        listening("127.0.0.1", port),
    ):
        pass


@pytest.mark.parametrize("host", ["a" * 300, "a\0b", "\ud800", "300.1.1.1.1", "\u2024.\u2024"])
def test_a_host_that_is_none_is_refused(host: str):
    with pytest.raises(InputError, match=r"--host: .* is no address of this machine"), listening(host, 5001):
        pass


def test_a_port_in_use_is_told_with_another():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        with pytest.raises(InputError, match=f"--port: {port} is in use; give another one"), listening("127.0.0.1", port):
            pass
