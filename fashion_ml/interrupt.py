"""Stopping cleanly: the first Ctrl-C or SIGTERM asks for a stop between steps, a second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fashion_ml.progress import say


class StopRequest:
    """Whether someone asked to stop."""

    requested = False

    def check(self, accelerator: Any = None) -> None:
        """Raise KeyboardInterrupt if a stop was asked for; call it where the state is whole.

        With an accelerator of several processes all of them stop at the same step as soon as one of them was asked.
        """
        requested = self.requested
        if accelerator is not None and accelerator.num_processes > 1:
            import torch

            flag = torch.tensor(float(requested), device=accelerator.device)
            requested = bool(accelerator.reduce(flag, reduction="sum").item())
        if requested:
            raise KeyboardInterrupt


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Inside the block SIGINT and SIGTERM only set the request; the earlier handlers come back afterwards."""
    request = StopRequest()

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.requested:
            raise KeyboardInterrupt
        request.requested = True
        say("Stopping after this step; the weights so far will be saved. Once more stops at once.")

    try:
        earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def interrupt_on_sigterm() -> None:
    """SIGTERM acts as Ctrl-C does, so that a run is marked KILLED and not left RUNNING."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, handle)
