"""MLflow's scoring application behind a guard: bounded bodies that come in time, names that it knows, and an end where the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fashion_ml.deploy.asked import MOST_IMAGES, Asked, current
from fashion_ml.deploy.request_checks import JSON, Known

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_BODY_SECONDS, _THREADS, _AT_ONCE, _COMING = 20.0, 64, 48, 256
"""How long a body may take to come, how many requests are answered, or wait, at the same time, and how many more may still be coming: behind
that the one that has been coming longest is given up."""
_HELD = 1 << 30
"""Bytes of all bodies that are there at the same time; pictures of a StarGAN have 64 MB."""
_AGAIN = (b"retry-after", b"5")
"""Seconds after which one that was too many may ask again."""


class _NoRoomError(Exception):
    """Bodies of others leave no room for this one."""


class Guarded:
    """An ASGI application."""

    def __init__(self, app: Any, seconds: float, most_bytes: int, known: Known, most_images: float = MOST_IMAGES):
        """`seconds` is the most that a request takes, `most_bytes` that a body has, `most_images` that it asks for (`Asked.weigh`)."""
        self._app, self._seconds, self._most, self._open = app, seconds, most_bytes, 0
        self._known, self._images = known, most_images
        self._threads, self._held = False, 0
        self._coming = dict[asyncio.Future[bytes | None], None]()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, or pass on to MLflow."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._threads:  # MLflow computes in the loop's own threads, of which there are few
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="asked"))
            self._threads = True
        if wrong := self._known.wrong_place(scope):
            await _refuse(send, *wrong)
            return
        held = list[int]()
        try:
            await self._take(scope, receive, send, held)
        finally:
            self._held -= sum(held)

    async def _take(self, scope: Mapping[str, Any], receive: Receive, send: Send, held: list[int]) -> None:
        """Read a body, whose sizes go into `held`, and answer."""
        try:
            body = await self._in_time(scope, receive, held)
        except _NoRoomError:
            await _refuse(send, 503, f"{_HELD:,} bytes of requests are being answered; ask again in a moment")
            return
        except TimeoutError:
            await _refuse(
                send, 408, f"body: it did not come within {_BODY_SECONDS:g} seconds, or {_COMING} others came after it"
            )
            return
        except ValueError as error:
            await _refuse(send, 413, str(error))
            return
        if body is None:
            return
        if self._open >= _AT_ONCE:
            await _refuse(send, 503, f"{_AT_ONCE} requests are being answered; ask again in a moment")
            return
        self._open += 1
        try:
            await self._answer(scope, body, receive, send)
        finally:
            self._open -= 1

    async def _answer(self, scope: Mapping[str, Any], body: bytes, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and (wrong := await asyncio.to_thread(self._known.wrong_body, scope, body)):
            await _refuse(send, *wrong)
            return
        await self._pass_on(scope, body, receive, send)

    async def _in_time(self, scope: Mapping[str, Any], receive: Receive, held: list[int]) -> bytes | None:
        """As `_body`. TimeoutError for one that does not come, or takes longer than many others."""
        coming = asyncio.ensure_future(self._body(scope, receive, held))
        if len(self._coming) >= _COMING:
            longest = next(iter(self._coming))
            del self._coming[longest]
            longest.cancel()
        self._coming[coming] = None
        try:
            await asyncio.wait({coming}, timeout=_BODY_SECONDS)
            if not coming.done() or coming.cancelled():
                raise TimeoutError
            return coming.result()
        finally:
            self._coming.pop(coming, None)
            coming.cancel()

    async def _body(self, scope: Mapping[str, Any], receive: Receive, held: list[int]) -> bytes | None:
        """All of it; None where the client has left. ValueError for one that is too large, _NoRoomError where others are."""
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or len(told) > 15 or int(told) > self._most:
            raise ValueError(f"body: {told[:20].decode('latin-1')} bytes, more than {self._most:,}; send less")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            held.append(len(parts[-1]))
            self._held += held[-1]
            if size > self._most:
                raise ValueError(f"body: more than {self._most:,} bytes; send less")
            if self._held > _HELD:
                raise _NoRoomError
            if not message.get("more_body"):
                return b"".join(parts)

    async def _pass_on(self, scope: Mapping[str, Any], body: bytes, receive: Receive, send: Send) -> None:
        asked, left, given = Asked(self._seconds, self._images), asyncio.Event(), False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send_on(message: Message) -> None:
            if message.get("status") == 503:
                message["headers"] = [*message.get("headers", ()), _AGAIN]
            await send(message)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            asked.gone.set()
            left.set()

        token = current.set(asked)
        watching = asyncio.create_task(watch())
        try:
            await self._app(scope, replay, send_on)
        finally:
            watching.cancel()
            current.reset(token)


async def _refuse(send: Send, status: int, text: str) -> None:
    content = json.dumps({"error_code": "BAD_REQUEST", "message": text}).encode()
    headers = [(b"content-type", JSON.encode()), (b"content-length", str(len(content)).encode()), (b"connection", b"close")]
    headers += [_AGAIN] if status == 503 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
