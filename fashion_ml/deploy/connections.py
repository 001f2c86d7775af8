"""Connections of a served model: as many as there are files to open for them, and none that is held without a request for long."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS, READ_SECONDS = 10.0, 60.0
"""How long the head of a request may take to come, and how long a client may leave its answer unread."""
BACKLOG = 96
"""Connections that the system takes before the server does, and asyncio at once; four times as many are there before one is given up."""
_FILES, _OTHERS, _MOST, _LEAST = 8192, 128, 4096, 16
"""Files that this process asks for, those that it needs for other things, and bounds of the connections."""


def most_connections() -> int:
    """How many connections there are files for, once the process may open as many as it is let, up to some thousands."""
    try:
        import resource
    except ImportError:  # such as Windows, which has no such limit
        return _MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):  # what it has is enough for fewer
            pass
    files = _FILES if soft == resource.RLIM_INFINITY else soft
    return max(_LEAST, min(files - 4 * BACKLOG - _OTHERS, _MOST))


class Bounded(H11Protocol):
    """A connection, with a time for whatever its client is to do next."""

    most: int
    """Connections that the server holds."""
    idle: dict[Bounded, None]
    """Those without a request, the one that has been so longest first."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and give up another where it is one too many."""
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self.most:
            next(iter(self.idle)).give_up()

    def data_received(self, data: bytes) -> None:
        """Take what came; a request's head ends the time for it."""
        super().data_received(data)
        if not self._is_idle():
            self.idle.pop(self, None)
            if not self.flow.write_paused:  # else its client does not read the answer before
                self._stop()
        elif self not in self.idle:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._expect_nothing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the client time to read what was sent."""
        super().pause_writing()
        self._within(READ_SECONDS)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if self not in self.idle:
            self._stop()

    def on_response_complete(self) -> None:
        """Give it time to read the rest."""
        super().on_response_complete()
        if self._is_idle() and self.transport.get_write_buffer_size():
            self._within(READ_SECONDS)

    def give_up(self) -> None:
        """End it at once, whatever is left to be read of it."""
        self._expect_nothing()
        self.connections.discard(self)
        self.transport.abort()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect_head(self) -> None:
        self.idle[self] = None
        self._within(HEAD_SECONDS)

    def _expect_nothing(self) -> None:
        self.idle.pop(self, None)
        self._stop()

    def _within(self, seconds: float) -> None:
        self._stop()
        self._timer = self.loop.call_later(seconds, self.give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded_protocol(most: int) -> type[Bounded]:
    """A protocol for uvicorn, of at most so many connections; behind that the one that has been without a request longest is given up."""
    return type("Bounded", (Bounded,), {"most": most, "idle": {}})
