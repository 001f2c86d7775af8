"""What is called float32 is float32 on a GPU too, and TF32 only where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exact_float32(*, tf32: bool = False) -> Iterator[None]:
    """Inside the block a GPU multiplies float32 in float32; cuDNN rounds the factors of convolutions to TF32's 10 bits otherwise.

    With `tf32` those of convolutions and of matrix products are rounded so. The switches are the process's, and are as they were afterwards.
    """
    import torch

    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32
    cudnn.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32 = before
