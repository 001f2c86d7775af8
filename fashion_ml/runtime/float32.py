"""What is called float32 is float32 on a GPU too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exact_float32() -> Iterator[None]:
    """Inside the block cuDNN multiplies float32 in float32; it rounds the factors of convolutions to TF32's 10 bits otherwise. The switch is
    the process's, and is as it was afterwards."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
