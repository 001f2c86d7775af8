"""What is called float32 is float32 on a GPU too, and TF32 only where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_guard = Lock()
_asked: list[object] = []
"""What was asked for by the blocks that are not left yet, of all threads; the last one holds."""
_wishes: dict[object, tuple[bool, bool]] = {}
"""cuDNN's switch and that of products, by block; under None as they were before the first."""


@contextmanager
def exact_float32(*, tf32: bool = False) -> Iterator[None]:
    """Inside the block a GPU multiplies float32 in float32; cuDNN rounds the factors of convolutions to TF32's 10 bits otherwise.

    With `tf32` those of convolutions and of matrix products are rounded so. The switches are the process's, and are as they were afterwards;
    blocks of several threads may begin and end in any order.
    """
    import torch

    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    block = object()
    with _guard:
        if not _asked:
            _wishes[None] = cudnn.allow_tf32, products.allow_tf32
        _asked.append(block)
        _wishes[block] = tf32, tf32
        cudnn.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        with _guard:
            _asked.remove(block)
            del _wishes[block]
            cudnn.allow_tf32, products.allow_tf32 = _wishes[_asked[-1] if _asked else None]
