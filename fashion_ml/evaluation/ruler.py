"""The ruler under each score: what other real pictures, a flat colour and noise get, so that a loss of 0.31 says something.

No image is generated for it: the references and training images are there, and what is embedded is embedded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import load_picture
from fashion_ml.evaluation.controls import Controls, losses_of, resized
from fashion_ml.evaluation.encoder_check import EncoderCheck, check_encoder_reads, flat_of, noise_of
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.control_rows import OTHERS
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import metric_of
from fashion_ml.runtime.language import tr

IDENTITY, NEAREST_REAL, MEAN_REAL, FLAT, NOISE = "identity", "nearest_real", "mean_real", "flat", "noise"
_MOST_TRAINING = 32
"""Training images that count as other real pictures, spread over all of them: each is held against every reference."""


@dataclass(frozen=True)
class Ruler:
    """Marks under each loss, and where the LoRA stands between the base and a real picture."""

    marks: Mapping[str, Mapping[str, float]]
    """Loss -> mark -> mean over references: identity (0), nearest_real, mean_real, flat, noise; the sides (`lora`, `base`, or `generated`), and
    as `lora_others` what a side has against other references. What there is not is absent."""
    position: Mapping[str, float]
    """Loss -> (base - lora) / (base - nearest_real): 0 as far as the base, 1 as near as the nearest other real picture."""
    no_position: Mapping[str, str]
    """Loss -> why it has no position."""
    real_pictures: int
    """Other real pictures that each reference was held against, at most: references and training images, without near-duplicates."""
    encoder: EncoderCheck | None
    """None without an encoder."""

    def no_verdict(self) -> dict[str, str]:
        """Metrics on which there is no verdict, and why: an encoder that cannot read these pictures says nothing of them."""
        if self.encoder is None or self.encoder.readable:
            return {}
        return {loss: self.encoder.line for loss in self.marks if "encoder" in metric_of(loss).needs}

    def named(self) -> dict[str, float]:
        """By their names in MLflow: `ruler/<loss>/<mark>`, `position/<loss>`, `encoder_check/<number>`."""
        found = {f"ruler/{loss}/{mark}": value for loss, marks in self.marks.items() for mark, value in marks.items()}
        found |= {f"position/{loss}": value for loss, value in self.position.items()}
        return found | (self.encoder.named() if self.encoder else {})

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "marks": {loss: dict(marks) for loss, marks in self.marks.items()},
            "position": {loss: self.position.get(loss) for loss in self.marks},
            "no_position": dict(self.no_position),
            "real_pictures": self.real_pictures,
            "encoder_check": asdict(self.encoder) if self.encoder else None,
        }


@dataclass(frozen=True)
class RealPictures:
    """References, training images beside them, and which of all of these are near-duplicates."""

    references: Sequence[Picture]
    training: Sequence[CaptionedImage] = ()
    alike: Sequence[int] = ()
    """A number that near-duplicates share: of the references, then of the training images; empty where there are none."""
    _loaded: dict[int, Picture] = field(default_factory=dict)
    _flats: list[Picture] = field(default_factory=list)

    @property
    def of_references(self) -> list[int]:
        """The numbers of the references."""
        return list(self.alike[: len(self.references)]) if self.alike else list(range(len(self.references)))

    def others(self, number: int) -> tuple[list[int], list[int]]:
        """The references, and the training images of the spread, that are no near-duplicates of a reference."""
        groups = list(self.alike) if self.alike else list(range(len(self.references) + len(self.training)))
        first = len(self.references)
        references = [one for one in range(first) if groups[one] != groups[number]]
        return references, [one for one in self._spread() if groups[first + one] != groups[number]]

    def load(self, suite: MetricSuite) -> dict[int, Picture]:
        """The training images of the spread, embedded."""
        if not self._loaded:
            images = {one: load_picture(self.training[one].path) for one in self._spread()}
            for (
                one,
                image,
            ) in images.items():  # one by one, as for memorisation: a batch could change the last digit of an embedding
                self._loaded[one] = suite.unmasked([image])[0]
        return self._loaded

    def flats(self, suite: MetricSuite) -> list[Picture]:
        """By reference a picture of its size in one colour, embedded."""
        if not self._flats:
            self._flats.extend(suite.unmasked([flat_of(picture.image) for picture in self.references]))
        return self._flats

    def _spread(self) -> list[int]:
        seen, distinct = set[int](), list[int]()
        for one in range(len(self.training)):
            group = self.alike[len(self.references) + one] if self.alike else one
            if group not in seen:
                distinct.append(one)
            seen.add(group)
        count = min(len(distinct), _MOST_TRAINING)
        return [distinct[index * len(distinct) // count] for index in range(count)]


def lay_ruler(real: RealPictures, suite: MetricSuite, *, known: bool | None) -> Ruler:
    """Marks of the real pictures, of the flat colour and of noise; the sides come with `with_sides`. `known` as for `check_encoder_reads`."""
    references, training, losses = real.references, real.load(suite), losses_of(suite)
    controls, flats = Controls(references, (), losses), real.flats(suite)
    sizes = list(dict.fromkeys(picture.image.size for picture in references))
    noises = dict(zip(sizes, suite.unmasked([noise_of(size) for size in sizes]), strict=True))
    both_ways: dict[tuple[int, int], dict[str, float]] = {}

    def between(one: int, other: int) -> dict[str, float]:
        size, key = references[one].image.size, (min(one, other), max(one, other))
        if references[other].image.size != size:
            return losses.of(controls.at(other, size), references[one])
        if key not in both_ways:
            both_ways[key] = losses.of(references[other], references[one])
        return both_ways[key]

    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (NEAREST_REAL, MEAN_REAL, FLAT, NOISE)}
    others = [real.others(number) for number in range(len(references))]
    for number, reference in enumerate(references):
        size, (near, far) = reference.image.size, others[number]
        found = [between(number, other) for other in near]
        found += [losses.of(resized(training[other], size), reference) for other in far]
        if found:
            rows[NEAREST_REAL].append({name: min(one[name] for one in found) for name in found[0]})
            rows[MEAN_REAL].append({name: float(np.mean([one[name] for one in found])) for name in found[0]})
        rows[FLAT].append(losses.of(flats[number], reference))
        rows[NOISE].append(losses.of(noises[size], reference))
    marks = {
        loss: {IDENTITY: 0.0} | {mark: float(np.mean([row[loss] for row in some])) for mark, some in rows.items() if some}
        for loss in rows[FLAT][0]
    }
    return Ruler(marks, {}, {}, max(len(near) + len(far) for near, far in others), look_with_encoder(real, suite, known=known))


def look_with_encoder(real: RealPictures, suite: MetricSuite, *, known: bool | None) -> EncoderCheck | None:
    """Whether the encoder can read the pictures; None without one. `known` as for `check_encoder_reads`."""
    if suite.encoder is None:
        return None
    references, training = real.references, real.load(suite)
    others = [real.others(number) for number in range(len(references))]
    pictures = [[*(references[one] for one in near), *(training[one] for one in far)] for near, far in others]
    return check_encoder_reads(references, real.flats(suite), pictures, real.of_references, suite, known=known)


def with_sides(ruler: Ruler, means: Mapping[str, Mapping[str, float]]) -> Ruler:
    """The ruler with what its sides have, by `lora` and `base` or `generated`: metric -> mean over references."""
    marks = {loss: dict(found) for loss, found in ruler.marks.items()}
    for side, of_side in means.items():
        for loss, found in marks.items():
            found |= {side: of_side[loss]} if loss in of_side else {}
            found |= {f"{side}_others": of_side[f"{OTHERS}{loss}"]} if f"{OTHERS}{loss}" in of_side else {}
    position, why = dict[str, float](), dict[str, str]()
    for loss in marks if {"lora", "base"} <= set(means) else ():
        reason = _no_position(loss, marks[loss], ruler.encoder)
        if reason:
            why[loss] = reason
        else:
            base = marks[loss]["base"]
            position[loss] = (base - marks[loss]["lora"]) / (base - marks[loss][NEAREST_REAL])
    return replace(ruler, marks=marks, position=position, no_position=why)


def _no_position(loss: str, marks: Mapping[str, float], encoder: EncoderCheck | None) -> str:
    """Why a loss has no position; empty where it has one."""
    if encoder is not None and not encoder.readable and "encoder" in metric_of(loss).needs:
        return tr("the encoder cannot read these pictures")
    if NEAREST_REAL not in marks:
        return tr("there is no other real picture")
    if not {"lora", "base"} <= set(marks):
        return tr("it was not measured on both sides")
    if marks["base"] <= marks[NEAREST_REAL]:
        return tr(
            "the base ({base:.3f}) is no farther than the nearest other real picture ({marks:.3f})",
            base=marks["base"],
            marks=marks[NEAREST_REAL],
        )
    return ""


def stacked(pictures: Sequence[Picture]) -> torch.Tensor | None:
    """Embeddings (N, D); None where one is missing."""
    found = [picture.embedding for picture in pictures if picture.embedding is not None]
    return torch.stack(found) if found and len(found) == len(pictures) else None
