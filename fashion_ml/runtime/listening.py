"""A port of this machine that a server answers at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The port, taken at once, so that two that start together do not both think that it is free. InputError when it cannot be had."""
    if not 1 <= port <= 65535:
        raise InputError(tr("--port: {port!r} is not accepted; give a number from 1 to 65535", port=port))
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(256)
        except PermissionError:
            raise InputError(
                tr("--port: {port} is for the administrator alone; give one above 1023, such as 5000", port=port)
            ) from None
        except (OSError, ValueError, TypeError) as error:
            if not isinstance(error, OSError) or isinstance(error, socket.gaierror):
                raise InputError(tr("--host: {host!r} is no address of this machine; use 127.0.0.1", host=host)) from None
            other = port + 1 if port < 65535 else port - 1
            raise InputError(
                tr("--port: {port} is in use; give another one, such as --port {other}", port=port, other=other)
            ) from None
        yield sock
    finally:
        sock.close()
