"""Every metric that an evaluation measures, one row each. Whatever lists metrics is derived from these rows or checked against them.

A new metric is its formula (a module beside this one, with its PARAMETERS), its row here and its test; the evaluations, the run tree, the
fingerprint, reports, comparisons and sweeps then have it. What the rows measure imports its formulas when it is called (row_values.py), so that
the list alone is light.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal

from fashion_ml.metrics import row_values as of
from fashion_ml.metrics.control_rows import control_rows
from fashion_ml.metrics.metric import By, Metric, Run
from fashion_ml.metrics.pair_rows import OF_SETS, PAIR_ROWS

ATTRIBUTE = "attribute_"
NEAREST, MEMORISED = "nearest_training_similarity", "memorised"
TOTAL = "weighted_total_loss"
PROMPT_SIMILARITY, PROMPT_RETRIEVAL, DIVERSITY_SEEDS = "prompt_similarity", "prompt_retrieval", "diversity_seeds"
ATTRIBUTE_SIMILARITY, FASHION_LOSS = "fashion_attribute_similarity", "fashion_clip_loss"
LEAK, LOOK, EDITABILITY = "leak", "look", "editability"

Score = Literal["cosine", "attributes"]
"""What enters fashion_clip_loss."""
_ALL_BUT_LATENT: tuple[By, ...] = ("lora", "images", "stargan")
_CLAMPED = "1 − the similarity clamped to [0, 1]"

METRICS: tuple[Metric, ...] = (
    Metric(
        "ssim",
        unit="similarity",
        range="[-1, 1]",
        better="higher",
        description="structural similarity on grey, scikit-image, 7 × 7 window",
        by=("lora", "images", "stargan", "latent"),
        shown_in="ssim",
        needs=("content",),
        of_pair=of.ssim,
        formula="ssim",
    ),
    Metric(
        "fashion_similarity",
        unit="cosine",
        range="[-1, 1]",
        better="higher",
        description="of FashionCLIP image embeddings",
        by=_ALL_BUT_LATENT,
        shown_in="fashion_clip",
        needs=("reference", "encoder"),
        of_pair=of.fashion_similarity,
    ),
    Metric(
        "color_correlation",
        unit="correlation",
        range="[-1, 1]",
        better="higher",
        description="of joint RGB histograms, 32 bins an axis, as OpenCV's HISTCMP_CORREL",
        by=_ALL_BUT_LATENT,
        shown_in="color",
        of_pair=of.color_correlation,
        formula="color",
    ),
    Metric(
        "visual_loss",
        unit="",
        range="[0, 1]",
        better="lower",
        description=_CLAMPED,
        by=("lora", "images", "stargan", "latent"),
        shown_in="ssim",
        needs=("content",),
        loss_of="ssim",
        of_row=of.loss("ssim"),
    ),
    Metric(
        FASHION_LOSS,
        unit="",
        range="[0, 1]",
        better="lower",
        description=_CLAMPED,
        by=_ALL_BUT_LATENT,
        shown_in="fashion_clip",
        needs=("reference", "encoder"),
        loss_of="fashion_similarity",
        of_row=of.loss("fashion_similarity"),
    ),
    Metric(
        "color_loss",
        unit="",
        range="[0, 1]",
        better="lower",
        description=_CLAMPED,
        by=_ALL_BUT_LATENT,
        shown_in="color",
        loss_of="color_correlation",
        of_row=of.loss("color_correlation"),
    ),
    Metric(
        TOTAL,
        unit="",
        range="[0, 1]",
        better="lower",
        description="0.2 visual + 0.6 fashion_clip + 0.2 color; weights in the config",
        by=_ALL_BUT_LATENT,
        needs=("reference", "encoder"),
        of_row=of.total,
    ),
    Metric(
        ATTRIBUTE_SIMILARITY,
        unit="",
        range="[0, 1]",
        better="higher",
        description="zero-shot attributes (type, colour, pattern, …): 0.7 where the top labels agree, 0.3 for equal confidence",
        by=_ALL_BUT_LATENT,
        shown_in="fashion_clip",
        needs=("reference", "encoder", "texts"),
        switch="attributes",
        of_pair=of.attribute_similarity,
        formula="attributes",
    ),
    Metric(
        ATTRIBUTE,
        unit="share",
        range="[0, 1]",
        better="higher",
        description="pairs whose top label of that category agrees: which attribute does the LoRA lose?",
        shown_in="fashion_clip",
        needs=("reference", "encoder", "texts"),
        switch="attributes",
        of_pair=of.same_attributes,
        family=True,
        formula="attributes",
    ),
    Metric(
        "color_correlation_masked",
        unit="correlation",
        range="[-1, 1]",
        better="higher",
        description="as color_correlation, over the garments alone; absent where there is no even background",
        shown_in="color",
        needs=("reference", "mask"),
        switch="masked_color",
        of_pair=of.color_correlation_masked,
        formula="color",
    ),
    Metric(
        "ciede2000",
        unit="ΔE00",
        range="≥ 0",
        better="lower",
        description="mean colour difference where both pictures show the garment",
        shown_in="color",
        needs=("reference", "mask"),
        switch="ciede2000",
        of_pair=of.ciede2000,
        formula="ciede2000",
    ),
    Metric(
        "dino_similarity",
        unit="cosine",
        range="[-1, 1]",
        better="higher",
        description="of DINOv2's class tokens, as DreamBooth's DINO-I; absent without a folder of its weights (`evaluation.dino`)",
        by=_ALL_BUT_LATENT,
        shown_in="ssim",
        setting="dino",
        of_pair=of.dino_similarity,
        formula="dino",
    ),
    Metric(
        "lpips",
        unit="distance",
        range="≥ 0",
        better="lower",
        description="LPIPS (AlexNet), where its package and weights are; off unless asked for",
        shown_in="ssim",
        needs=("reference", "model"),
        switch="lpips",
        of_pair=of.lpips,
        load=of.load_lpips,
        formula="lpips",
    ),
    Metric(
        "kid",
        unit="",
        range="about ≥ 0",
        better="lower",
        description="distance of the two sets of embeddings (unbiased MMD²), over pairs of different references and captions",
        needs=("reference", "encoder"),
        switch="kid",
        of_sets=of.kid,
        cannot_rank=OF_SETS,
        version=2,
        formula="kid",
    ),
    Metric(
        NEAREST,
        unit="cosine",
        range="[-1, 1]",
        better="",
        description="with the nearest training image; near 1: the model repeats one",
        shown_in="fashion_clip",
        needs=("encoder", "training"),
        switch="memorisation",
    ),
    Metric(
        PROMPT_SIMILARITY,
        unit="cosine",
        range="[-1, 1]",
        better="higher",
        description="of the image with its prompt without the trigger; beside it the references' own",
        shown_in="fashion_clip",
        needs=("encoder", "prompt"),
        switch="prompts",
        formula="prompt",
    ),
    Metric(
        PROMPT_RETRIEVAL,
        unit="share",
        range="[0, 1]",
        better="higher",
        description="images whose own prompt is the nearest of all prompts of the evaluation; beside it chance and the references' own",
        shown_in="fashion_clip",
        needs=("encoder", "prompt"),
        switch="prompts",
        formula="prompt",
    ),
    Metric(
        DIVERSITY_SEEDS,
        unit="1 - cosine",
        range="[0, 2]",
        better="higher",
        description="mean over pairs of seeds of one prompt; beside it that of different references; absent for one seed",
        shown_in="fashion_clip",
        needs=("encoder",),
        switch="diversity",
    ),
    Metric(
        MEMORISED,
        unit="share",
        range="[0, 1]",
        better="",
        description="images nearer to a training image than 95 % of the held-out references are; about 0.05 where nothing is repeated",
        shown_in="fashion_clip",
        needs=("encoder", "training"),
        switch="memorisation",
    ),
    *control_rows({"visual_loss": "ssim", "fashion_clip_loss": "fashion_clip", "color_loss": "color", TOTAL: None}),
    Metric(
        LEAK,
        unit="cosine",
        range="[-2, 2]",
        better="lower",
        description="free prompts without the trigger: how much nearer to the references than the base's images; 0: the look stays away",
        by=("lora",),
        needs=("encoder", "prompt"),
        setting="prompts",
    ),
    Metric(
        LOOK,
        unit="cosine",
        range="[-2, 2]",
        better="higher",
        description="the same for free prompts with the trigger: what the word brings",
        by=("lora",),
        needs=("encoder", "prompt"),
        setting="prompts",
    ),
    Metric(
        EDITABILITY,
        unit="share",
        range="[0, 1]",
        better="higher",
        description="prompt_retrieval among free prompts of the trigger and something new; beside it chance",
        by=("lora",),
        needs=("encoder", "prompt"),
        setting="prompts",
        formula="prompt",
    ),
    Metric(
        "domain_accuracy",
        unit="share",
        range="[0, 1]",
        better="higher",
        description="images recognised as the domain they were made for, over all and by that domain",
        by=("stargan", "latent"),
        shown_in="fashion_clip",
        needs=("encoder", "texts"),
    ),
    Metric(
        "cycle_l1",
        unit="latent L1",
        range="≥ 0",
        better="lower",
        description="what is lost on the way to another domain and back",
        by=("stargan",),
        shown_in="ssim",
        needs=(),
    ),
    Metric(
        "diversity",
        unit="latent L1",
        range="≥ 0",
        better="higher",
        description="mean pairwise distance over 10 latent styles of a content",
        by=("stargan",),
        shown_in="ssim",
        needs=(),
    ),
    *PAIR_ROWS,
)
"""In the order of reports and tables; a row that is worked out from others comes after them."""

SIMILARITY_OF = {metric.name: metric.loss_of for metric in METRICS if metric.loss_of}
"""Each loss that weighted_total_loss is made of, and the similarity it comes from."""
LOSSES = (*SIMILARITY_OF, TOTAL)
PAIR_METRICS = tuple(metric.name for metric in METRICS if not metric.family and metric.of_sets is None)
"""Every metric of a pair that there can be, but for families; what was not measured is absent."""
METRIC_RUNS: dict[Run, tuple[str, ...]] = {
    run: tuple(metric.name for metric in METRICS if metric.shown_in == run) for run in ("ssim", "fashion_clip", "color")
}
"""The child runs of an evaluation, and what each shows image by image; the first is the one of its histogram."""
SWITCHES = tuple(dict.fromkeys(metric.switch for metric in METRICS if metric.switch))
"""What `evaluation.extra_metrics` may name."""


_ATTRIBUTE_LOSS = replace(
    next(metric for metric in METRICS if metric.name == FASHION_LOSS),
    needs=("reference", "encoder", "texts"),
    loss_of=ATTRIBUTE_SIMILARITY,
    of_row=of.loss(ATTRIBUTE_SIMILARITY),
    formula="attributes",
)


def metric_of(name: str) -> Metric:
    """The row of a metric, or of the family of a column such as `attribute_colour`. KeyError when there is none."""
    for metric in METRICS:
        if metric.name == name or (metric.family and name.startswith(metric.name)):
            return metric
    raise KeyError(f"{name}: no metric has this name; the rows are in fashion_ml/metrics/registry.py")


def better(name: str) -> Literal["higher", "lower", ""]:
    """Which way a metric is better; empty where neither is. KeyError for a name that no metric has."""
    return metric_of(name).better


def asked_for(
    by: Iterable[By], switches: Collection[str], *, encoder: bool, given: Collection[str] = (), score: Score = "cosine"
) -> tuple[Metric, ...]:
    """The metrics that one of the evaluations `by` measures: those always on and those of the switches, none that needs an
    encoder without one, and none whose setting is not among those `given`.

    With the score `attributes` fashion_clip_loss is 1 - fashion_attribute_similarity, which is then among them.
    """
    attributes = score == "attributes"
    return tuple(
        _ATTRIBUTE_LOSS if attributes and metric.name == FASHION_LOSS else metric
        for metric in METRICS
        if not set(by).isdisjoint(metric.by)
        and (not metric.switch or metric.switch in switches or (attributes and metric.name == ATTRIBUTE_SIMILARITY))
        and (not metric.setting or metric.setting in given)
        and (encoder or "encoder" not in metric.needs)
    )
