"""Can the encoder read these pictures? Other real pictures must be nearer to the references than noise and a flat colour, and a reference that
was changed a little must find its original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageEnhance

from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.picture import Picture
from fashion_ml.runtime.language import tr

GRAINS = (1, 2, 4, 8)
"""Pixels of noise a side: encoders shrink pictures to their own size, and what is left of fine noise then is a grey."""
FOUND = 0.9
"""The share of changed references that must find their original first."""
_CROP, _BRIGHTER = 0.9, 1.15


@dataclass(frozen=True)
class EncoderCheck:
    """What the encoder makes of real pictures, of noise and of a flat colour; cosines with the references, means over these."""

    readable: bool
    line: str
    """That it cannot read them, and why; empty where it can, or where one picture alone shows nothing."""
    real: float | None
    """Of other real pictures, no near-duplicates; None where there is none."""
    by: Literal["mean", "nearest"]
    """Of all other real pictures, or of the nearest one to each reference."""
    noise: float
    """Of the noise that is nearest, of several grains."""
    flat: float
    """Of the reference's own mean colour."""
    found: float | None
    """Share of references, cropped to 90 % or brighter by 15 %, whose nearest reference is the original; None with one reference."""

    def named(self) -> dict[str, float]:
        """By their names in MLflow."""
        found = {
            "noise": self.noise,
            "flat": self.flat,
            "real": self.real,
            "found": self.found,
            "readable": float(self.readable),
        }
        return {f"encoder_check/{name}": value for name, value in found.items() if value is not None}


def check_encoder_reads(
    references: Sequence[Picture],
    flats: Sequence[Picture],
    other_real: Sequence[Sequence[Picture]],
    alike: Sequence[int],
    suite: MetricSuite,
    *,
    known: bool | None,
) -> EncoderCheck:
    """Check an encoder on references (embedded), the `flats` of their mean colours and, of each, other real pictures.

    `alike` gives references that are near-duplicates one number. `known` is what is known beforehand (`known_to_read`): the embedded encoder
    sets two of its own garments farther apart than a garment and noise, and reads them all the same; there the nearest real picture counts,
    not the mean of all. Elsewhere it cannot read, whatever comes out: some photographs are nearer to each other than noise, others not.
    """
    embedded = _embeddings(references)
    cosines = [one @ _embeddings(others).T for one, others in zip(embedded, other_real, strict=True) if others]
    real = float(np.mean([float(row.max() if known else row.mean()) for row in cosines])) if cosines else None
    noises = _embeddings(suite.unmasked([noise_of(references[0].image.size, grain) for grain in GRAINS]))
    noise = float((embedded @ noises.T).mean(0).max())
    flat = float((embedded * _embeddings(flats)).sum(1).mean())
    found = _found(references, embedded, alike, suite) if len(set(alike)) > 1 else None
    line = _line(real, noise, flat, found, known, len(references))
    return EncoderCheck(not line, line, real, "nearest" if known else "mean", noise, flat, found)


def _line(real: float | None, noise: float, flat: float, found: float | None, known: bool | None, count: int) -> str:
    """That the encoder cannot read the pictures and why, or that they are too few for one that knows such; empty where it can."""
    why = []
    if known and real is not None and real <= max(noise, flat):
        return tr(
            "{count} references are too few for the encoder to tell them from {what} (cosine {value:.3f}, the nearest other real "
            "picture {real:.3f})",
            count=count,
            what=tr("noise") if noise >= flat else tr("a flat colour"),
            value=max(noise, flat),
            real=real,
        )
    if known is False:
        why.append(tr("it is the embedded one, made for the drawings of the embedded collection alone"))
    if real is not None and real <= max(noise, flat):
        what, value = (tr("noise"), noise) if noise >= flat else (tr("a flat colour"), flat)
        why.append(
            tr(
                "{what} is nearer to the references (cosine {value:.3f}) than other real pictures are ({real:.3f})",
                what=what,
                value=value,
                real=real,
            )
        )
    elif found is not None and found < FOUND:
        why.append(
            tr("of references that are cropped or brightened a little only {found:.0%} find their original first", found=found)
        )
    return tr("the encoder cannot read these pictures: {names}", names=tr(", and ").join(why)) if why else ""


def _found(references: Sequence[Picture], embedded: torch.Tensor, alike: Sequence[int], suite: MetricSuite) -> float:
    numbers = torch.tensor(list(alike))
    hits = []
    for change in (cropped, brighter):
        changed = _embeddings(suite.unmasked([change(picture.image) for picture in references]))
        hits.append((numbers[(changed @ embedded.T).argmax(1)] == numbers).double().mean())
    return float(torch.stack(hits).mean())


def cropped(picture: Image.Image) -> Image.Image:
    """The middle 90 % of a picture, at its own size."""
    width, height = picture.size
    x, y = width * (1 - _CROP) / 2, height * (1 - _CROP) / 2
    return picture.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, width - x, height - y))


def brighter(picture: Image.Image) -> Image.Image:
    """A picture with 15 % more light."""
    return ImageEnhance.Brightness(picture).enhance(_BRIGHTER)


def noise_of(size: tuple[int, int], grain: int = 1) -> Image.Image:
    """Uniform noise of a fixed seed, width x height pixels, in squares of `grain` pixels."""
    width, height = (-(-side // grain) for side in size)
    values = np.random.default_rng(grain).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values.repeat(grain, axis=0).repeat(grain, axis=1)[: size[1], : size[0]])


def flat_of(picture: Image.Image) -> Image.Image:
    """The mean colour of an RGB picture, over all of it."""
    red, green, blue = (round(value) for value in np.asarray(picture, dtype=np.float64).reshape(-1, 3).mean(axis=0).tolist())
    return Image.new("RGB", picture.size, (red, green, blue))


def _embeddings(pictures: Sequence[Picture]) -> torch.Tensor:
    return torch.stack([picture.embedding for picture in pictures if picture.embedding is not None])
