"""What a StarGAN's evaluation measures with: the encoder, and what its settings add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.evaluation.instruments import device_of_evaluation, read_dino, read_encoder
from fashion_ml.evaluation.measure import attribute_reader
from fashion_ml.metrics import lpips
from fashion_ml.metrics.attributes import AttributeReader
from fashion_ml.metrics.dino import Dino
from fashion_ml.metrics.fashion_clip import FashionClip
from fashion_ml.metrics.fid import Inception, load_inception
from fashion_ml.metrics.lpips import Lpips
from fashion_ml.metrics.metric import By, Metric
from fashion_ml.metrics.pair_rows import LPIPS_DIVERSITY, PAIR_ROWS
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import Score, asked_for


@dataclass(frozen=True)
class GanInstruments:
    """None for what was left out."""

    encoder: FashionClip | None
    reader: AttributeReader | None = None
    """Where attributes enter fashion_clip_loss."""
    dino: Dino | None = None
    lpips: Lpips | None = None
    inception: Inception | None = None
    score: Score = "cosine"
    by_pair: bool = True
    """Whether pairs of domains are measured."""

    def metrics(self, *by: By) -> tuple[Metric, ...]:
        """What one of the ways of guiding is measured by."""
        given = [name for name, there in (("dino", self.dino), ("inception", self.inception)) if there]
        asked = asked_for(by, (), encoder=self.encoder is not None, given=given, score=self.score)
        left_out = {row.name for row in PAIR_ROWS} if not self.by_pair else {LPIPS_DIVERSITY} if self.lpips is None else set()
        return tuple(row for row in asked if row.name not in left_out)

    def look_at(self, images: Sequence[Image.Image], embeddings: torch.Tensor | None) -> list[Picture]:
        """Pictures with what metrics need of them."""
        labels = self.reader.read(embeddings) if self.reader and embeddings is not None else None
        tokens = self.dino.embed(images) if self.dino else None
        return [
            Picture(
                image,
                embedding=None if embeddings is None else embeddings[place],
                labels=None if labels is None else labels[place],
                dino=None if tokens is None else tokens[place],
            )
            for place, image in enumerate(images)
        ]

    def leave_gpu(self) -> None:
        """Send the models to the CPU, until they compute again."""
        for model in (self.encoder, self.dino, self.lpips, self.inception):
            if model is not None:
                model.leave_gpu()

    def facts(self) -> dict[str, Any]:
        """What decides numbers beside the encoder and the metrics."""
        return {
            "fashion_clip_score": self.score,
            "dino": self.dino.facts() if self.dino else None,
            "inception": self.inception.weights_sha256 if self.inception else None,
        }


def read_gan_instruments(settings: GanEvaluation) -> GanInstruments:
    """InputError when the encoder, the attribute file, the folder of the DINOv2 or Inception's file cannot be had.

    LPIPS is measured where its package and weights are.
    """
    encoder = read_encoder(settings.encoder, settings.without)
    counts = encoder is not None and settings.fashion_clip_score == "attributes"
    reader = attribute_reader(settings.attributes, encoder) if encoder is not None and counts else None
    device, by_pair = device_of_evaluation(), settings.by_pair
    instruments = GanInstruments(
        encoder,
        reader,
        read_dino(settings.dino),
        lpips.Lpips(device) if by_pair and lpips.is_there() else None,
        load_inception(Path(settings.inception).expanduser(), device) if by_pair and settings.inception else None,
        settings.fashion_clip_score,
        by_pair,
    )
    instruments.leave_gpu()  # the training comes first
    return instruments
