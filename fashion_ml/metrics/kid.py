"""Distance of two sets of pictures by their embeddings."""

from __future__ import annotations

import torch

DEGREE = 3
PARAMETERS = {"kernel": f"(cosine + 1)^{DEGREE}", "estimator": "unbiased MMD^2"}
"""What decides its numbers, beside the encoder."""


def kernel_inception_distance(first: torch.Tensor, second: torch.Tensor) -> float | None:
    """Unbiased squared MMD of L2-normalised embeddings (N, D) and (M, D) under the kernel (cosine + 1)^3; 0 for equal distributions, may be
    slightly negative by chance. None with fewer than two in either set.

    Binkowski et al. 2018, arXiv:1801.01401, equation 4, on this encoder's features instead of Inception's: the cosine takes the place of
    x^T y / d, so values compare between runs with the same encoder only.
    """
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return None
    x, y = first.double(), second.double()
    xx, yy, xy = ((a @ b.T + 1) ** DEGREE for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1)) + (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return float(within - 2 * xy.mean())
