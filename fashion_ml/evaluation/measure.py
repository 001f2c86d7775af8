"""What measures pairs of pictures: every metric that an evaluation asks for, over pictures that were made or found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.tensor_cache import TensorCache, key_of
from fashion_ml.metrics.attributes import AttributeReader, Attributes, default_attributes, read_attributes
from fashion_ml.metrics.dino import Dino
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.garment_mask import garment_mask
from fashion_ml.metrics.metric import Metric, measure_pair
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import TOTAL, asked_for
from fashion_ml.runtime.beside import beside
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.parent_process import report

if TYPE_CHECKING:
    from fashion_ml.evaluation.controls import Controls

_UNMEASURED = 16
"""Batches that may wait for being measured: no more pictures lie in memory, and an error is found while images are made."""


@dataclass
class MetricSuite:
    """The instruments of one evaluation; None for what was left out."""

    encoder: FashionClip | None
    weights: dict[str, float]
    """Shares of the losses in weighted_total_loss."""
    metrics: tuple[Metric, ...]
    """What is measured."""
    reader: AttributeReader | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    """What metrics loaded for themselves, by their names."""
    cache: TensorCache = field(default_factory=TensorCache)
    """Embeddings by content: references and training images come again in every evaluation."""
    dino: Dino | None = None

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
        masked = any("mask" in metric.needs for metric in self.metrics)
        masks = [garment_mask(image) if masked else None for image in images]
        tokens = self.dino.embed(images) if self.dino else None
        return [
            Picture(
                image,
                embeddings[i] if embeddings is not None else None,
                labels[i] if labels is not None else None,
                masks[i],
                tokens[i] if tokens is not None else None,
            )
            for i, image in enumerate(images)
        ]

    def unmasked(self, images: Sequence[Image.Image]) -> list[Picture]:
        """Embed and label pictures of which only the losses are measured, cached by their content."""
        embeddings = self._embed(images, keep=True) if self.encoder and images else None
        labels = self.reader.read(embeddings) if self.reader and embeddings is not None else None
        return [
            Picture(image, embeddings[i] if embeddings is not None else None, labels[i] if labels is not None else None)
            for i, image in enumerate(images)
        ]

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """L2-normalised embeddings (N, D), cached by content."""
        return self._embed(images, keep=True)

    def measure(self, pictures: Sequence[Picture], references: Sequence[Picture]) -> pd.DataFrame:
        """A row for every pair with the similarities, the losses, the weighted total and the extra metrics; NaN where there is no value."""
        pairs = zip(pictures, references, strict=True)
        return pd.DataFrame(
            [
                measure_pair(self.metrics, picture, {"reference": other, "content": other}, self.weights, self.models)
                for picture, other in pairs
            ]
        )

    def leave_gpu(self) -> None:
        """Send the encoder, the DINOv2 and the metrics' models to the CPU, until they compute again."""
        for model in (self.encoder, self.dino, *self.models.values()):
            if model is not None:
                model.leave_gpu()

    def measures(self, name: str) -> bool:
        """Whether a metric is measured."""
        return any(metric.name == name for metric in self.metrics)

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
    settings: Evaluation,
    encoder: FashionClip | None,
    device: str,
    cache_dir: str | None = None,
    dino: Dino | None = None,
) -> MetricSuite:
    """The instruments that `settings` ask for. InputError when the attribute file or the weights of LPIPS cannot be had."""
    on = [name for name, given in (("prompts", settings.prompts != "none"), ("dino", dino is not None)) if given]
    score, switches = settings.fashion_clip_score, settings.extra_metrics
    metrics = asked_for(("lora", "images"), switches, encoder=encoder is not None, given=on, score=score)
    reader = None
    if encoder is not None and any("texts" in metric.needs for metric in metrics):
        reader = attribute_reader(settings.attributes, encoder)
    return MetricSuite(
        encoder=encoder,
        weights=settings.weights.model_dump(),
        metrics=metrics,
        reader=reader,
        models={metric.name: metric.load(device) for metric in metrics if metric.load is not None},
        cache=TensorCache(Path(cache_dir).expanduser() if cache_dir else None),
        dino=dino,
    )


def attribute_reader(given: str, encoder: FashionClip) -> AttributeReader:
    """What reads the attributes of `evaluation.attributes`. InputError as `read_attributes`."""
    path = default_attributes(encoder.name) if given == "default" else Path(given).expanduser()
    return AttributeReader(read_attributes(path), encoder)


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
    controls: Controls | None = None,
) -> Arm:
    """Measure batches of (job indices, pictures) as they come, in a thread of its own; `of_job` is each job's reference.

    With `controls` each picture is measured against other references too. With `watched` a sweep is told each image's weighted_total_loss, so
    that it can stop an evaluation that will not win.
    """

    def measure(batch: list[int], pictures: list[Image.Image]) -> tuple[list[int], pd.DataFrame, list[torch.Tensor | None]]:
        looked = suite.look_at(pictures)
        of = [of_job[index] for index in batch]
        table = suite.measure(looked, [references[number] for number in of])
        if controls is not None:
            table = table.join(controls.measure(looked, of, table))
        if watched and TOTAL in table:
            for index, value in zip(batch, table[TOTAL], strict=True):
                report("image", index, float(value))
        return batch, table, [picture.embedding for picture in looked]

    with beside(tr("measure images"), most=_UNMEASURED) as measuring:
        waiting = [measuring(measure, batch, pictures) for batch, pictures in batches]
    done = [future.result() for future in waiting]
    table = pd.concat([part.set_axis(batch, axis=0) for batch, part, _ in done]).sort_index()
    by_job = {index: one for batch, _, embeddings in done for index, one in zip(batch, embeddings, strict=True)}
    found = [embedding for index in sorted(by_job) if (embedding := by_job[index]) is not None]
    return Arm(table, torch.stack(found) if len(found) == len(by_job) else None)
