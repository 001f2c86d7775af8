"""Stopping cleanly: the first Ctrl-C, SIGTERM or SIGHUP asks for a stop between steps, a second one stops at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.processes import InAnyProcess

_SAME_REQUEST_SECONDS = 5.0


class StopRequest:
    """Whether someone asked to stop."""

    def __init__(self, accelerator: Any = None):
        self.requested = False
        self._anywhere = InAnyProcess(lambda: self.requested, accelerator)

    def check(self, *, last: bool = False) -> None:
        """Raise KeyboardInterrupt if a stop was asked for; call it where the state is whole.

        Of an accelerator's several processes all stop behind the same step as soon as one of them was asked: one step later than by itself, for
        they tell each other while that one computes; at the `last` step they wait for that.
        """
        if not self._anywhere.heard():
            self._anywhere.tell()
            if not (last and self._anywhere.heard()):
                return
        raise KeyboardInterrupt


class StopNow(KeyboardInterrupt):
    """Asked for a second time: stop at once, wherever the work is."""


@contextmanager
def stop_between_steps(accelerator: Any = None) -> Iterator[StopRequest]:
    """Inside the block the signals only set the request, of all the accelerator's processes; the earlier handlers come back afterwards.

    A second signal raises StopNow, but for one within five seconds of the first: `mlflow run` passes Ctrl-C on as SIGINT and SIGTERM.
    """
    request, asked = StopRequest(accelerator), 0.0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not request.requested:
            request.requested, asked = True, time.monotonic()
            say(tr("Stopping after this step; the weights so far will be saved. Once more, after five seconds, stops at once."))
        elif time.monotonic() - asked > _SAME_REQUEST_SECONDS:
            raise StopNow

    with _handled_by(handle):
        yield request


@contextmanager
def not_interrupted() -> Iterator[None]:
    """Inside the block, which must be short, the signals do nothing: what ends a run is not cut off itself."""
    with _handled_by(signal.SIG_IGN):
        yield


def interrupt_on_signals() -> None:
    """SIGTERM and a closed terminal act as Ctrl-C does, so that a run is marked KILLED and not left RUNNING."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in _stop_signals():
        if number != signal.SIGINT:
            signal.signal(number, handle)


def _stop_signals() -> list[signal.Signals]:
    """Those of this system; a SIGHUP that is ignored already, as under nohup, stays ignored."""
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    try:
        earlier = {number: signal.signal(number, handler) for number in _stop_signals()}
    except ValueError:  # not the main thread: signals go elsewhere
        yield
        return
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)
