"""Distance of what was made in a domain from real pictures of it, by their embeddings."""

from __future__ import annotations

import torch

DEGREE = 3
REALS = 200
"""Training images of a domain that its images are held against, at most; evenly taken."""
PARAMETERS = {
    "kernel": f"(cosine + 1)^{DEGREE}",
    "estimator": "unbiased MMD^2, without pairs of pictures made of one content",
    "training_images": REALS,
}
"""What decides its numbers, beside the encoder."""


def pair_kid(made: torch.Tensor, made_of: torch.Tensor, real: torch.Tensor) -> float | None:
    """Unbiased squared MMD of L2-normalised embeddings (N, D) and (M, D) under the kernel (cosine + 1)^3; 0 for equal distributions, may be
    slightly negative by chance. None for fewer than two contents or real pictures.

    `made_of` (N,) is the content that each picture was made of: several styles of one content are no independent draws, so their pairs are
    left out. Binkowski et al. 2018, arXiv:1801.01401, equation 4, on this encoder's features in place of Inception's.
    """
    apart, others = made_of[:, None] != made_of[None], ~torch.eye(len(real), dtype=torch.bool)
    if not apart.any() or not others.any():
        return None
    return float(_kernel(made, made)[apart].mean() + _kernel(real, real)[others].mean() - 2 * _kernel(made, real).mean())


def _kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first.double() @ second.double().T + 1) ** DEGREE
