"""The registry's rows of a StarGAN's evaluation by pair of domains; its evaluation measures them itself."""

from __future__ import annotations

from fashion_ml.metrics.metric import Metric
from fashion_ml.runtime.language import marked

PAIR_KID, PAIR_FID, LPIPS_DIVERSITY, STRUCTURE = "pair_kid", "pair_fid", "lpips_diversity", "structure_distance"
OF_SETS = marked("it is of a whole set of images, and of some dozens its noise is larger than what settings change")

PAIR_ROWS: tuple[Metric, ...] = (
    Metric(
        PAIR_KID,
        unit="",
        range="about ≥ 0",
        better="lower",
        description="distance of images made in a domain, 10 styles a content, from its training images (unbiased MMD²); mean over pairs",
        by=("stargan", "latent"),
        needs=("encoder",),
        cannot_rank=OF_SETS,
        formula="pair_kid",
    ),
    Metric(
        PAIR_FID,
        unit="",
        range="≥ 0",
        better="lower",
        description="the same by Inception's features; absent without its weights (`evaluation.inception`), and large by itself for few images",
        by=("stargan", "latent"),
        needs=("model",),
        setting="inception",
        cannot_rank=OF_SETS,
        formula="fid",
    ),
    Metric(
        LPIPS_DIVERSITY,
        unit="distance",
        range="≥ 0",
        better="higher",
        description="mean LPIPS between 10 styles of a content, where its package and weights are",
        by=("stargan", "latent"),
        needs=("model",),
        cannot_rank=marked("it is measured only where its weights are"),
        formula="lpips",
    ),
    Metric(
        STRUCTURE,
        unit="",
        range="≥ 0",
        better="lower",
        description="difference of the self-similarity of DINOv2's keys from the content's; absent without its weights (`evaluation.dino`)",
        by=("stargan", "latent"),
        needs=("content", "model"),
        setting="dino",
        cannot_rank=marked("evaluation.by_pair may leave it out"),
        formula="structure",
    ),
)
