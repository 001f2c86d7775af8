"""Distance of two sets of pictures by their embeddings."""

from __future__ import annotations

import torch

DEGREE = 3
PARAMETERS = {"kernel": f"(cosine + 1)^{DEGREE}", "estimator": "unbiased MMD^2 over pairs of different references and captions"}
"""What decides its numbers, beside the encoder."""


def kernel_inception_distance(
    made: torch.Tensor,
    references: torch.Tensor,
    made_of: torch.Tensor,
    alike: torch.Tensor,
    weights: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Unbiased squared MMD of L2-normalised embeddings (N, D) and (M, D) under the kernel (cosine + 1)^3, (1,) float64; 0 for equal
    distributions, may be slightly negative by chance. None where one of the three means has no pair.

    `made_of` (N,) is the reference that each picture was made for, `alike` (M,) a number that references of one caption share. Pairs that share
    a reference or a caption are left out of all three means: such a picture is no other draw of what it is held against, so that copies of the
    references would be nearer to them than real pictures are. Copies of the references are at 0, however many of each.

    With `weights` (B, M), how often each reference counts in each of B resamples, it is their values (B,), NaN where one holds no such pair.

    Binkowski et al. 2018, arXiv:1801.01401, equation 4, on this encoder's features instead of Inception's: the cosine takes the place of
    x^T y / d, so values compare between runs with the same encoder only.
    """
    count = len(references)
    if weights is None:
        weights = torch.ones(1, count)
    weights = weights.double()
    one_each = torch.arange(count)
    means = [
        _mean_kernel(first, second, alike, weights)
        for first, second in (
            ((made, made_of), (made, made_of)),
            ((references, one_each), (references, one_each)),
            ((made, made_of), (references, one_each)),
        )
    ]
    if any(mean is None for mean in means):
        return None
    of_made, of_references, across = (mean for mean in means if mean is not None)
    return of_made + of_references - 2 * across


def _mean_kernel(
    first: tuple[torch.Tensor, torch.Tensor],
    second: tuple[torch.Tensor, torch.Tensor],
    alike: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor | None:
    """The weighted mean of the kernel over the pairs that share nothing, (B,); None where there is no pair."""
    (x, of_x), (y, of_y) = first, second
    counts = (alike[of_x][:, None] != alike[of_y][None]).double()
    if not counts.any():
        return None
    kernel = (x.double() @ y.double().T + 1) ** DEGREE * counts
    count = len(alike)
    rows, columns = (torch.nn.functional.one_hot(of, count).double() for of in (of_x, of_y))
    sums, pairs = rows.T @ kernel @ columns, rows.T @ counts @ columns  # (M, M), by reference
    return ((weights @ sums) * weights).sum(1) / ((weights @ pairs) * weights).sum(1)
