"""Distance of what was made in a domain from real pictures of it, by their embeddings."""

from __future__ import annotations

import torch

DEGREE = 3
REALS = 200
"""Training images of a domain that its images are held against, at most; evenly taken."""
_ROWS = 1024
"""Rows of pairs that are looked at together."""
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
    own, real_own = _mean_of_pairs(made, made_of), _mean_of_pairs(real, torch.arange(len(real)))
    if own is None or real_own is None:
        return None
    between = sum(float(_kernel(part, real).sum()) for part in made.split(_ROWS)) / (len(made) * len(real))
    return own + real_own - 2 * between


def _mean_of_pairs(features: torch.Tensor, groups: torch.Tensor) -> float | None:
    """The kernel's mean over the pairs (N, D) of two groups (N,); None without any. In parts: all pairs of 10,000 would take gigabytes."""
    total, count = 0.0, 0
    for part, own in zip(features.split(_ROWS), groups.split(_ROWS), strict=True):
        apart = own[:, None] != groups[None]
        total += float(_kernel(part, features)[apart].sum())
        count += int(apart.sum())
    return total / count if count else None


def _kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first.double() @ second.double().T + 1) ** DEGREE
