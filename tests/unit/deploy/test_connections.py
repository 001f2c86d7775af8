"""Connections that are held without a request, or whose answer nobody reads, are given up, and never keep others out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from fashion_ml.deploy import connections
from fashion_ml.deploy.connections import bounded_protocol, most_connections

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    size = 50_000_000 if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


def served(most: int, act: Callable[[int, uvicorn.Server], Awaitable[None]]) -> None:
    """Let a client act on a port where such a server answers."""

    async def both() -> None:
        config = uvicorn.Config(app, http=bounded_protocol(most), lifespan="off", log_level="error", ws="none")
        server = uvicorn.Server(config)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            serving = asyncio.create_task(server._serve([sock]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                await asyncio.wait_for(act(sock.getsockname()[1], server), 30)
            finally:
                server.should_exit = server.force_exit = True
                await serving

    asyncio.run(both())


async def good(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    answer = await asyncio.wait_for(reader.read(15), 5)
    writer.close()
    return answer


def test_good_requests_are_answered_beside_more_idle_connections_than_are_let_in():
    async def act(port: int, server: uvicorn.Server) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        for _, writer in held:
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nX-a: ")
        for _ in range(3):
            assert (await good(port)).startswith(b"HTTP/1.1 200")
        assert len(server.server_state.connections) <= 20
        for _, writer in held:
            writer.close()

    served(20, act)


def test_half_a_head_is_given_up_in_time_and_what_was_answered_before_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)

    async def act(port: int, server: uvicorn.Server) -> None:
        one, two = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        one[1].write(GET[:-2])
        two[1].write(GET)
        assert b"200" in await two[0].readuntil(b"xx")
        await asyncio.sleep(0.7)
        assert b"X" not in await asyncio.wait_for(_rest(one[0]), 5)
        two[1].write(GET)  # it was kept alive
        assert b"200" in await asyncio.wait_for(two[0].readuntil(b"xx"), 5)
        two[1].write(GET[:9])
        await asyncio.sleep(0.7)
        assert len(server.server_state.connections) == 0

    served(20, act)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize("again", [b"", GET])
def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch, again: bytes):
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)

    async def act(port: int, server: uvicorn.Server) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(GET.replace(b"/ ", b"/large ") + again)
            await asyncio.sleep(0.2)
            assert len(server.server_state.connections) == 1
            for _ in range(50):
                await asyncio.sleep(0.1)
                if not server.server_state.connections:
                    return
            pytest.fail("it is held")

    served(20, act)


def test_there_are_fewer_connections_than_files(monkeypatch: pytest.MonkeyPatch):
    resource = pytest.importorskip("resource")
    limits = [(1024, 1024), (256, 256), (256, 4096), (1024, resource.RLIM_INFINITY), (20_000, 20_000)]
    found = []
    for limit in limits:
        now = [limit]
        monkeypatch.setattr(resource, "getrlimit", lambda _, now=now: now[0])
        monkeypatch.setattr(resource, "setrlimit", lambda _, given, now=now: now.append(given))
        found.append((most_connections(), now[-1][0]))
    assert found == [(512, 1024), (16, 256), (3584, 4096), (4096, 8192), (4096, 20_000)]
