"""What measures pairs of pictures: every metric that an evaluation asks for, over pictures that were made or found."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.evaluation.aggregate import ATTRIBUTE
from fashion_ml.metrics.attributes import (
    AttributeReader,
    Attributes,
    Labels,
    attribute_similarity,
    default_attributes,
    read_attributes,
)
from fashion_ml.metrics.ciede2000 import ciede2000
from fashion_ml.metrics.color import color_correlation, color_correlation_masked
from fashion_ml.metrics.fashion_clip import FashionClip, cosine
from fashion_ml.metrics.garment_mask import Mask, garment_mask
from fashion_ml.metrics.losses import losses_of
from fashion_ml.metrics.lpips import Lpips
from fashion_ml.metrics.ssim import ssim
from fashion_ml.runtime.parent_process import report


@dataclass(frozen=True)
class Picture:
    """A picture with everything about it that metrics need, so that it is worked out once."""

    image: Image.Image
    embedding: torch.Tensor | None
    """(D,), L2-normalised; None without an encoder."""
    labels: Labels | None
    mask: Mask | None
    """None where masks are not asked for, or there is no even background."""


@dataclass
class MetricSuite:
    """The instruments of one evaluation; None for what was left out."""

    encoder: FashionClip | None
    weights: dict[str, float]
    masked_color: bool
    difference: bool
    """CIEDE2000."""
    kid: bool
    memorisation: bool
    reader: AttributeReader | None
    lpips: Lpips | None
    cache: TensorCache = field(default_factory=TensorCache)
    """Embeddings by content: references and training images come again in every evaluation."""

    def __post_init__(self) -> None:
        self._structure = self.encoder.structure_sha256 if self.encoder else ""

    @property
    def attributes(self) -> Attributes | None:
        """The categories that are read."""
        return self.reader.attributes if self.reader else None

    def look_at(self, images: Sequence[Image.Image], *, keep: bool = False) -> list[Picture]:
        """Embed, label and mask pictures. With `keep` embeddings are cached by the pictures' content."""
        if not images:
            return []
        embeddings = self._embed(images, keep) if self.encoder else None
        labels = self.reader.read(embeddings) if self.reader and embeddings is not None else None
        masks = [garment_mask(image) if self.masked_color or self.difference else None for image in images]
        return [
            Picture(
                image, embeddings[i] if embeddings is not None else None, labels[i] if labels is not None else None, masks[i]
            )
            for i, image in enumerate(images)
        ]

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """L2-normalised embeddings (N, D), cached by content."""
        return self._embed(images, keep=True)

    def measure(self, pictures: Sequence[Picture], references: Sequence[Picture]) -> pd.DataFrame:
        """A row for every pair with the similarities, the losses, the weighted total and the extra metrics; NaN where there is no value."""
        distances: list[float] | None = None
        if self.lpips:
            distances = self.lpips.distances([(p.image, r.image) for p, r in zip(pictures, references, strict=True)])
        rows = []
        for index, (picture, reference) in enumerate(zip(pictures, references, strict=True)):
            row = self._pair(picture, reference)
            if distances is not None:
                row["lpips"] = distances[index]
            rows.append(row)
        return pd.DataFrame(rows)

    def _pair(self, picture: Picture, reference: Picture) -> dict[str, float]:
        measured = {
            "ssim": ssim(picture.image, reference.image),
            "color_correlation": color_correlation(picture.image, reference.image),
        }
        if picture.embedding is not None and reference.embedding is not None:
            measured["fashion_similarity"] = cosine(picture.embedding[None], reference.embedding[None])[0]
        row = measured | losses_of(measured, self.weights)
        if picture.labels is not None and reference.labels is not None:
            row["fashion_attribute_similarity"], same = attribute_similarity(picture.labels, reference.labels)
            row |= {f"{ATTRIBUTE}{name}": value for name, value in same.items()}
        both = picture.mask is not None and reference.mask is not None
        pair = (picture.image, reference.image, picture.mask, reference.mask)
        if self.masked_color:
            row["color_correlation_masked"] = color_correlation_masked(*pair) if both else math.nan  # type: ignore[arg-type]
        if self.difference:
            value = ciede2000(*pair) if both else None  # type: ignore[arg-type]
            row["ciede2000"] = math.nan if value is None else value
        return row

    def _embed(self, images: Sequence[Image.Image], keep: bool) -> torch.Tensor:
        assert self.encoder is not None
        if not keep:
            return self.encoder.embed_images(images)
        keys = [self._key(image) for image in images]
        new = [index for index, key in enumerate(keys) if key not in self.cache]
        made = self.encoder.embed_images([images[index] for index in new]) if new else None
        for row, index in enumerate(new):
            assert made is not None
            self.cache.put(keys[index], {"embedding": made[row]})
        found: list[Any] = [self.cache.get(key) for key in keys]
        if None in found:  # a damaged file
            return self.encoder.embed_images(images)
        return torch.stack([entry["embedding"] for entry in found])

    def _key(self, image: Image.Image) -> str:
        assert self.encoder is not None
        pixels = hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
        encoder = self.encoder
        return key_of(
            pixels=pixels,
            size=image.size,
            encoder=encoder.weights_sha256,
            structure=self._structure,
            transform=encoder.transform,
            precision=encoder.precision,
        )


def make_metric_suite(
    settings: Evaluation, encoder: FashionClip | None, device: str, cache_dir: str | None = None
) -> MetricSuite:
    """The instruments that `settings` ask for. InputError when the attribute file or the weights of LPIPS cannot be had."""
    extra = set(settings.extra_metrics)
    reader = None
    if encoder is not None and "attributes" in extra:
        given = settings.attributes
        path = default_attributes(encoder.name) if given == "default" else Path(given).expanduser()
        reader = AttributeReader(read_attributes(path), encoder)
    return MetricSuite(
        encoder=encoder,
        weights=settings.weights.model_dump(),
        masked_color="masked_color" in extra,
        difference="ciede2000" in extra,
        kid="kid" in extra and encoder is not None,
        memorisation="memorisation" in extra and encoder is not None,
        reader=reader,
        lpips=Lpips(device) if "lpips" in extra else None,
        cache=TensorCache(Path(cache_dir).expanduser() if cache_dir else None),
    )


@dataclass(frozen=True)
class Arm:
    """The scores of the LoRA, of the base, or of images from elsewhere, in the order of the jobs."""

    table: pd.DataFrame
    embeddings: torch.Tensor | None
    """(N, D), L2-normalised; None without an encoder."""


def measure_arm(
    batches: Iterable[tuple[list[int], list[Image.Image]]],
    references: Sequence[Picture],
    of_job: Sequence[int],
    suite: MetricSuite,
    *,
    watched: bool = False,
) -> Arm:
    """Measure batches of (job indices, pictures) as they come, in a thread of its own; `of_job` is each job's reference.

    With `watched` a sweep is told each image's weighted_total_loss, so that it can stop an evaluation that will not win.
    """

    def measure(batch: list[int], pictures: list[Image.Image]) -> tuple[list[int], pd.DataFrame, list[torch.Tensor | None]]:
        looked = suite.look_at(pictures)
        table = suite.measure(looked, [references[of_job[index]] for index in batch])
        if watched and "weighted_total_loss" in table:
            for index, value in zip(batch, table["weighted_total_loss"], strict=True):
                report("image", index, float(value))
        return batch, table, [picture.embedding for picture in looked]

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(measure, batch, pictures) for batch, pictures in batches]
        done = [future.result() for future in waiting]
    table = pd.concat([part.set_axis(batch, axis=0) for batch, part, _ in done]).sort_index()
    by_job = {index: one for batch, _, embeddings in done for index, one in zip(batch, embeddings, strict=True)}
    found = [embedding for index in sorted(by_job) if (embedding := by_job[index]) is not None]
    return Arm(table, torch.stack(found) if len(found) == len(by_job) else None)
