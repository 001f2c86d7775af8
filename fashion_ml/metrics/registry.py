"""Every metric that an evaluation measures, one row each. Whatever lists metrics is derived from these rows or checked against them.

A new metric is its formula (a module beside this one, with its PARAMETERS), its row here and its test; the evaluations, the run tree, the
fingerprint, reports, comparisons and sweeps then have it. The rows import their formulas when they measure, so that the list alone is light.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from fashion_ml.metrics.control_rows import control_rows
from fashion_ml.metrics.metric import By, Metric, Run

if TYPE_CHECKING:
    import torch

    from fashion_ml.metrics.picture import Picture

ATTRIBUTE = "attribute_"
NEAREST, MEMORISED = "nearest_training_similarity", "memorised"
TOTAL = "weighted_total_loss"
PROMPT_SIMILARITY, PROMPT_RETRIEVAL, DIVERSITY_SEEDS = "prompt_similarity", "prompt_retrieval", "diversity_seeds"


def _ssim(made: Picture, other: Picture, _: Any) -> float:
    from fashion_ml.metrics.ssim import ssim, ssim_of_windows

    if made.image.size != other.image.size:
        return ssim(made.image, other.image)
    return ssim_of_windows(made.windows, other.windows)


def _fashion_similarity(made: Picture, other: Picture, _: Any) -> float | None:
    from fashion_ml.metrics.fashion_clip import cosine

    if made.embedding is None or other.embedding is None:
        return None
    return cosine(made.embedding[None], other.embedding[None])[0]


def _color_correlation(made: Picture, other: Picture, _: Any) -> float:
    from fashion_ml.metrics.color import correlation_of_colors

    return correlation_of_colors(made.colors, other.colors)


def _loss(similarity: str) -> Callable[[Mapping[str, float], Mapping[str, float]], float]:
    def of_row(row: Mapping[str, float], _: Mapping[str, float]) -> float:
        from fashion_ml.metrics.losses import similarity_to_loss

        return similarity_to_loss(row[similarity])

    return of_row


def _total(row: Mapping[str, float], weights: Mapping[str, float]) -> float:
    from fashion_ml.metrics.losses import weighted_total

    return weighted_total({loss: row[loss] for loss in SIMILARITY_OF}, weights)


def _attribute_similarity(made: Picture, other: Picture, _: Any) -> float | None:
    from fashion_ml.metrics.attributes import attribute_similarity

    return attribute_similarity(made.labels, other.labels)[0] if made.labels and other.labels else None


def _same_attributes(made: Picture, other: Picture, _: Any) -> dict[str, float] | None:
    from fashion_ml.metrics.attributes import attribute_similarity

    return attribute_similarity(made.labels, other.labels)[1] if made.labels and other.labels else None


def _color_correlation_masked(made: Picture, other: Picture, _: Any) -> float | None:
    from fashion_ml.metrics.color import color_correlation_masked

    if made.mask is None or other.mask is None:
        return None
    return color_correlation_masked(made.image, other.image, made.mask, other.mask)


def _ciede2000(made: Picture, other: Picture, _: Any) -> float | None:
    from fashion_ml.metrics.ciede2000 import ciede2000

    return None if made.mask is None or other.mask is None else ciede2000(made.image, other.image, made.mask, other.mask)


def _lpips(made: Picture, other: Picture, model: Any) -> float:
    return model.distances([(made.image, other.image)])[0]


def _load_lpips(device: str) -> Any:
    from fashion_ml.metrics.lpips import Lpips

    return Lpips(device)


def _kid(
    made: torch.Tensor, references: torch.Tensor, made_of: torch.Tensor, alike: torch.Tensor, weights: torch.Tensor | None
) -> torch.Tensor | None:
    from fashion_ml.metrics.kid import kernel_inception_distance

    return kernel_inception_distance(made, references, made_of, alike, weights)


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
        of_pair=_ssim,
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
        of_pair=_fashion_similarity,
    ),
    Metric(
        "color_correlation",
        unit="correlation",
        range="[-1, 1]",
        better="higher",
        description="of joint RGB histograms, 32 bins an axis, as OpenCV's HISTCMP_CORREL",
        by=_ALL_BUT_LATENT,
        shown_in="color",
        of_pair=_color_correlation,
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
        of_row=_loss("ssim"),
    ),
    Metric(
        "fashion_clip_loss",
        unit="",
        range="[0, 1]",
        better="lower",
        description=_CLAMPED,
        by=_ALL_BUT_LATENT,
        shown_in="fashion_clip",
        needs=("reference", "encoder"),
        loss_of="fashion_similarity",
        of_row=_loss("fashion_similarity"),
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
        of_row=_loss("color_correlation"),
    ),
    Metric(
        TOTAL,
        unit="",
        range="[0, 1]",
        better="lower",
        description="0.2 visual + 0.6 fashion_clip + 0.2 color; weights in the config",
        by=_ALL_BUT_LATENT,
        needs=("reference", "encoder"),
        of_row=_total,
    ),
    Metric(
        "fashion_attribute_similarity",
        unit="",
        range="[0, 1]",
        better="higher",
        description="zero-shot attributes (type, colour, pattern, …): 0.7 where the top labels agree, 0.3 for equal confidence",
        shown_in="fashion_clip",
        needs=("reference", "encoder", "texts"),
        switch="attributes",
        of_pair=_attribute_similarity,
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
        of_pair=_same_attributes,
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
        of_pair=_color_correlation_masked,
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
        of_pair=_ciede2000,
        formula="ciede2000",
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
        of_pair=_lpips,
        load=_load_lpips,
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
        of_sets=_kid,
        objective=False,
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


def metric_of(name: str) -> Metric:
    """The row of a metric, or of the family of a column such as `attribute_colour`. KeyError when there is none."""
    for metric in METRICS:
        if metric.name == name or (metric.family and name.startswith(metric.name)):
            return metric
    raise KeyError(f"{name}: no metric has this name; the rows are in fashion_ml/metrics/registry.py")


def better(name: str) -> Literal["higher", "lower", ""]:
    """Which way a metric is better; empty where neither is. KeyError for a name that no metric has."""
    return metric_of(name).better


def asked_for(by: Iterable[By], switches: Collection[str], *, encoder: bool) -> tuple[Metric, ...]:
    """The metrics that one of the evaluations `by` measures: those always on and those of the switches, none that needs an
    encoder without one."""
    return tuple(
        metric
        for metric in METRICS
        if not set(by).isdisjoint(metric.by)
        and (not metric.switch or metric.switch in switches)
        and (encoder or "encoder" not in metric.needs)
    )
