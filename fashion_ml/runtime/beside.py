"""Work on a thread beside the caller's, in the order in which it is given: what is to be done with an image while the next one is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Beside:
    """Hands work to one thread; the error of a piece of work is raised when the next one is given, or at the end."""

    def __init__(self, pool: ThreadPoolExecutor, most: int):
        self._pool, self._most = pool, most
        self._waiting: deque[Future[Any]] = deque()

    def __call__(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Do `work(*args)` after what was given before. Waits where so many pieces are not done yet that another is too many."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= self._most):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(work, *args))
        return self._waiting[-1]

    def end(self) -> None:
        """Wait for all of it."""
        while self._waiting:
            self._waiting.popleft().result()


@contextmanager
def beside(name: str, *, most: int, finishes: bool = False) -> Iterator[Beside]:
    """Inside the block: what hands work to a thread, `most` pieces at once; all of it is done afterwards.

    Where the block is left by an error or Ctrl-C, what has not begun is left out, but where `finishes`.
    """
    with ThreadPoolExecutor(1, name) as pool:
        work = Beside(pool, most)
        try:
            yield work
        except BaseException:
            pool.shutdown(cancel_futures=not finishes)
            raise
        work.end()
