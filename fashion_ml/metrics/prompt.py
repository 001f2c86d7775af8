"""Does a picture show what was asked for, and do several seeds of one prompt differ? By FashionCLIP's embeddings of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fashion_ml.metrics.fashion_clip import cosine

PARAMETERS = {"text": "the caption without the trigger and without weights", "ties": "shared"}
"""What decides its numbers, beside the encoder and the trigger."""


def prompt_similarity(pictures: torch.Tensor, texts: torch.Tensor) -> list[float]:
    """Cosine of each picture with its own text, in [-1, 1]; embeddings (N, D) and (N, D). Hessel et al. 2021, arXiv:2104.08718, unscaled."""
    return cosine(pictures, texts)


def prompt_retrieval(pictures: torch.Tensor, texts: torch.Tensor, own: Sequence[int]) -> list[float]:
    """For each picture (N, D) whether its own text is the nearest of all texts (M, D): 1 or 0; of k texts that are equally near 1 / k.

    `own` is each picture's text, an index. The texts differ, so chance is 1 / M. R-precision in Xu et al. 2018, arXiv:1711.10485.
    """
    near = pictures.double() @ torch.nn.functional.normalize(texts.double(), dim=1).T
    first = near == near.max(1, keepdim=True).values
    return [float(row[mine]) / int(row.sum()) for row, mine in zip(first, own, strict=True)]


def diversity_of_seeds(pictures: torch.Tensor, prompt: Sequence[str]) -> list[float]:
    """For each picture (N, D) the mean of 1 - cosine to the other pictures of its prompt, in [0, 2]; NaN where there is no other.

    The mean over the pictures of a prompt is that over all its pairs.
    """
    found = []
    for index, name in enumerate(prompt):
        others = [other for other, same in enumerate(prompt) if same == name and other != index]
        near = cosine(pictures[index].expand(len(others), -1), pictures[others]) if others else []
        found.append(1 - sum(near) / len(near) if near else float("nan"))
    return found


def diversity_of_set(pictures: torch.Tensor) -> float | None:
    """Mean of 1 - cosine over all pairs of different pictures (N, D), in [0, 2]; None for fewer than two."""
    values = diversity_of_seeds(pictures, [""] * len(pictures))
    return sum(values) / len(values) if len(values) > 1 else None
