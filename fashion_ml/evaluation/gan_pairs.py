"""A StarGAN's evaluation by pair of domains, after the paper's protocol: several styles of each content, by reference and by latent.

Choi et al. 2020, arXiv:1912.01865, section 4 and appendix: each held-out content in every other domain by ten references and ten latents; the
images of a pair of domains against training images of the target (FID; here KID too), and those of one content against each other (LPIPS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from PIL import Image

from fashion_ml.config.stargan import GanEvaluation
from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.evaluation.gan_grids import LATENT, REFERENCE, Row
from fashion_ml.evaluation.gan_instruments import GanInstruments
from fashion_ml.evaluation.gan_styles import noise_of, references_of
from fashion_ml.metrics.fid import frechet_distance
from fashion_ml.metrics.pair_kid import REALS, pair_kid
from fashion_ml.metrics.pair_rows import LPIPS_DIVERSITY, PAIR_FID, PAIR_KID, STRUCTURE
from fashion_ml.metrics.structure import self_similarity, structure_distance
from fashion_ml.models.stargan import Networks
from fashion_ml.models.vae import decode_latents
from fashion_ml.runtime.console import bar, say
from fashion_ml.runtime.language import tr

_AT_ONCE = 32
PREFIX = {REFERENCE: "", LATENT: "latent_"}
_FEATURES = {PAIR_KID: "embeddings", PAIR_FID: "inception"}


@dataclass(frozen=True)
class ByPair:
    """What was measured by pair of domains; empty where nothing was asked for."""

    columns: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """By way of guiding and metric, a value for each measured row."""
    sets: Mapping[tuple[int, int], Mapping[str, float]] = field(default_factory=dict)
    """By source and target domain, `pair_kid`, `latent_pair_kid` and so on."""

    def means(self) -> dict[str, float]:
        """Of the metrics of sets over the pairs of domains that have them, as the paper reports them."""
        names = dict.fromkeys(name for values in self.sets.values() for name in values)
        return {name: fmean(values[name] for values in self.sets.values() if name in values) for name in names}

    def table(self, tables: Mapping[str, pd.DataFrame], rows: Sequence[Row], domains: Sequence[str]) -> pd.DataFrame:
        """A row for each pair of domains: how many contents, the mean of every column of the tables, and the metrics of sets."""
        pairs = pd.Series([(source, target) for (source, _), target, _ in rows])
        found = []
        for pair in dict.fromkeys(pairs):
            own = (pairs == pair).to_numpy()
            line: dict[str, Any] = {"source": domains[pair[0]], "target": domains[pair[1]], "contents": int(own.sum())}
            for who, table in tables.items():
                line |= {f"{PREFIX[who]}{name}": value for name, value in table[own].mean().items()}
            found.append({**line, **self.sets.get(pair, {})})
        return pd.DataFrame(found)


@torch.no_grad()
def measure_by_pair(
    n: Networks,
    inputs: GanInputs,
    held: Sequence[Sequence[int]],
    rows: Sequence[Row],
    vae: Any,
    scale: float,
    instruments: GanInstruments,
    settings: GanEvaluation,
) -> ByPair:
    """Make the styles of every measured row (contents in order) and measure them; pictures are let go of row by row. What cannot be measured is
    said; nothing is where `evaluation.by_pair` is off."""
    if not settings.by_pair:
        return ByPair()
    if lacking := missing(instruments):
        say(tr("Not measured by pair of domains: {lacking}", lacking=lacking))
    if not any((instruments.encoder, instruments.inception, instruments.lpips, instruments.dino)):
        return ByPair()
    made: dict[tuple[int, int], dict[str, list[tuple[int, Mapping[str, torch.Tensor]]]]] = {}
    columns: dict[str, dict[str, list[float]]] = {who: {} for who in PREFIX}
    numbers = _numbers(held, settings)
    with bar(tr("measure by pair of domains"), len(rows)) as progress:
        for content, target, _ in rows:
            x, number = inputs.scaled([content]), numbers[content]
            (shown,), kept = decode_latents(vae, x / scale), n.g.encode(x)
            for who, s in _styles(n, content, number, target, inputs, held, settings).items():
                pictures = decode_latents(vae, n.g.decode(kept.expand(len(s), -1, -1, -1), s) / scale)
                for name, value in _of_styles(pictures, shown, instruments).items():
                    columns[who].setdefault(name, []).append(value)
                own = made.setdefault((content[0], target), {}).setdefault(who, [])
                own.append((number, _features(pictures, instruments)))
            progress.advance()
    real = {target: _real(inputs, target, vae, scale, instruments) for target in dict.fromkeys(target for _, target in made)}
    sets = {pair: _of_sets(ways, real[pair[1]]) for pair, ways in made.items()}
    if few := sum(PAIR_KID not in values for values in sets.values()) if instruments.encoder else 0:
        say(
            tr(
                "pair_kid is not measured for {few} of {count} pairs of domains, which have one held-out content: "
                "use a larger data.validation_split or evaluation.contents_per_domain",
                few=few,
                count=len(sets),
            )
        )
    return ByPair(columns, sets)


def missing(instruments: GanInstruments) -> str:
    """What is not measured by pair, and what would have it measured; empty where nothing is missing."""
    wants = (
        (PAIR_KID, instruments.encoder, tr("leave evaluation.without out")),
        (PAIR_FID, instruments.inception, tr("evaluation.inception FILE")),
        (LPIPS_DIVERSITY, instruments.lpips, tr("pip install 'fashion-ml[lpips]' and torchvision's AlexNet in TORCH_HOME")),
        (STRUCTURE, instruments.dino, tr("evaluation.dino FOLDER")),
    )
    return tr("; ").join(f"{name} ({how})" for name, there, how in wants if there is None)


def _numbers(held: Sequence[Sequence[int]], settings: GanEvaluation) -> dict[tuple[int, int], int]:
    """Of the contents, in the order in which they are translated."""
    contents = [(y, index) for y in range(len(held)) for index in held[y][: settings.contents_per_domain]]
    return {content: number for number, content in enumerate(contents)}


def _styles(
    n: Networks,
    content: tuple[int, int],
    number: int,
    target: int,
    inputs: GanInputs,
    held: Sequence[Sequence[int]],
    settings: GanEvaluation,
) -> dict[str, torch.Tensor]:
    """Style codes (N, style_dim) by way of guiding, of which the first is that of the evaluation's own row."""
    references = references_of(content, number, target, inputs, held, settings.styles)
    x_ref = inputs.scaled(references)
    z = noise_of(number, target, settings.seed, settings.styles, n.f.latent_dim).to(x_ref.device)
    y = torch.full((max(len(references), len(z)),), target, device=x_ref.device)
    return {REFERENCE: n.e(x_ref, y[: len(references)]), LATENT: n.f(z, y[: len(z)])}


def _of_styles(pictures: Sequence[Image.Image], content: Image.Image, instruments: GanInstruments) -> dict[str, float]:
    found: dict[str, float] = {}
    if instruments.lpips:
        found[LPIPS_DIVERSITY] = instruments.lpips.between_all(pictures) if len(pictures) > 1 else float("nan")
    if instruments.dino:
        alike = self_similarity(instruments.dino.keys([content, *pictures]))
        found[STRUCTURE] = float(structure_distance(alike[1:], alike[:1]).mean())
    return found


def _features(pictures: Sequence[Image.Image], instruments: GanInstruments) -> dict[str, torch.Tensor]:
    """What sets are compared by, (N, D) each."""
    found = {}
    if instruments.encoder:
        found["embeddings"] = instruments.encoder.embed_images(pictures)
    if instruments.inception:
        found["inception"] = instruments.inception.features(pictures)
    return found


def _real(inputs: GanInputs, domain: int, vae: Any, scale: float, instruments: GanInstruments) -> dict[str, torch.Tensor]:
    """Features of training images of a domain, evenly taken over them."""
    own = inputs.training[domain]
    places = [(domain, own[one * len(own) // min(len(own), REALS)]) for one in range(min(len(own), REALS))]
    parts = range(0, len(places), _AT_ONCE) if instruments.encoder or instruments.inception else ()
    found = [
        _features(decode_latents(vae, inputs.scaled(places[first : first + _AT_ONCE]) / scale), instruments) for first in parts
    ]
    return {name: torch.cat([one[name] for one in found]) for name in (found[0] if found else {})}


def _of_sets(
    ways: Mapping[str, Sequence[tuple[int, Mapping[str, torch.Tensor]]]], real: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Of the images of a pair of domains, by way of guiding, against real ones."""
    found: dict[str, float] = {}
    for who, rows in ways.items():
        for name, features in _FEATURES.items():
            if features not in real:
                continue
            images = torch.cat([one[features] for _, one in rows])
            of = torch.tensor([number for number, one in rows for _ in one[features]])
            enough = min(len(images), len(real[features])) > 1
            value = pair_kid(images, of, real[features]) if name == PAIR_KID else None
            if name == PAIR_FID and enough:
                value = frechet_distance(images, real[features])
            if value is not None:
                found[f"{PREFIX[who]}{name}"] = value
    return found
