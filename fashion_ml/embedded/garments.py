"""A procedural world of garments: pictures a person recognises, with captions, deterministic by seed.

The embedded Stable Diffusion and FashionCLIP were trained on this world, and the demo, the tests and the benchmarks draw
their pictures from it. Nothing here needs a download, torch or a GPU.

Coordinates: a garment lives in a unit box, x to the right and y down, both in [-1, 1]; an affine map places it in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fashion_ml.embedded.finishes import COLOURS, FloatArray, background, blur, dip_dye, style, varied_backdrop, vary
from fashion_ml.embedded.shapes import KINDS, Shape, build_shape
from fashion_ml.runtime.language import tr

PATTERNS: tuple[str, ...] = ("plain", "striped", "pinstriped", "dotted", "checked", "zigzag")
FINISHES: tuple[str, ...] = ("studio", "varied", "styled", "dip-dyed")

_IVORY, _SLATE = (246, 240, 226), (96, 100, 112)
_ACCENT = dict.fromkeys(COLOURS, _IVORY) | {"white": _SLATE, "yellow": (150, 92, 30)}
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Garment:
    """Everything that decides a picture; two equal garments render to the same bytes."""

    kind: str
    """One of `KINDS`."""
    colour: str
    """One of `COLOURS`."""
    pattern: str = "plain"
    """One of `PATTERNS`."""
    finish: str = "studio"
    """`studio` is the world that the embedded Stable Diffusion knows; `varied` adds backdrops, edges and dyes of any colour, for the
    FashionCLIP, `styled` does so in colours that `look_of` names; `dip-dyed` is the signature look of the demo's collection."""
    seed: int = 0
    """Cut, size, position, turn, shading and background."""

    def caption(self) -> str:
        """The caption without any style token, such as `a red striped dress` (`plain` is left out)."""
        words = [self.colour, *([] if self.pattern == "plain" else [self.pattern]), self.kind]
        return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def sample_garments(count: int, seed: int, *, kinds: Sequence[str] = KINDS, finish: str = "studio") -> list[Garment]:
    """`count` garments, kind, colour and pattern each uniform; the first n of a longer list are the same list."""
    garments = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        garments.append(
            Garment(
                kind=kinds[int(rng.integers(len(kinds)))],
                colour=list(COLOURS)[int(rng.integers(len(COLOURS)))],
                pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
                finish=finish,
                seed=int(rng.integers(2**31)),
            )
        )
    return garments


def even_garments(count: int, seed: int, *, finish: str = "studio") -> list[Garment]:
    """`count` garments, each kind, colour and pattern as often as any other, but for one where they do not divide `count`; up to 72 no colour
    comes twice in one pattern."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.resize(np.array(KINDS), count)).tolist()
    seeds = rng.integers(2**31, size=count).tolist()
    colours, patterns = list(COLOURS), PATTERNS
    return [
        Garment(
            kind=kinds[index],
            colour=colours[index % len(colours)],
            pattern=patterns[(index + index // len(colours)) % len(patterns)],
            finish=finish,
            seed=seeds[index],
        )
        for index in range(count)
    ]


def render(garment: Garment, size: int = 64) -> Image.Image:
    """An RGB picture of size x size pixels.

    Raises ValueError for an unknown kind, colour, pattern or finish.
    """
    _check(garment)
    rng = np.random.default_rng(garment.seed)
    shape = build_shape(garment.kind, rng)
    scale, turn = rng.uniform(0.80, 0.98), np.deg2rad(rng.uniform(-6, 6))
    centre = np.array([rng.uniform(-0.06, 0.06), rng.uniform(-0.04, 0.04)])
    side = size * _SUPERSAMPLING

    x, y = _garment_coordinates(side, scale, turn, centre)
    mask, trim = _draw_shape(shape, side, scale, turn, centre)
    main = _jitter(np.array(COLOURS[garment.colour], float), rng)
    accent = _jitter(np.array(_ACCENT[garment.colour], float), rng)
    amount = _pattern_field(garment.pattern, x, y, rng)[..., None]
    cloth = main * (1 - amount) + accent * amount
    cloth = cloth * trim["tone"][..., None]
    cloth = cloth * (1 - trim["metal"][..., None]) + np.array([226, 214, 178.0]) * trim["metal"][..., None]

    backdrop = background(side, rng)
    if garment.finish == "dip-dyed":
        cloth, backdrop = dip_dye(cloth, mask, y, side, rng)
    elif garment.finish == "varied":
        cloth, backdrop = vary(cloth, mask, y, side, rng)
    elif garment.finish == "styled":
        cloth, backdrop = style(cloth, mask, y, side, garment.seed)
    light = _shading(mask, x, y, side, rng)
    cloth = np.clip(cloth * light[..., None] + 22 * np.clip(light - 1, 0, 1)[..., None], 0, 255)
    backdrop = backdrop * (1 - 0.32 * _shadow(mask, side))[..., None]
    pixels = backdrop * (1 - mask[..., None]) + cloth * mask[..., None]
    picture = Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8), "RGB")
    return picture.resize((size, size), Image.Resampling.BOX)


def render_backdrop(finish: str, seed: int, size: int = 64) -> Image.Image:
    """A picture of `size` x `size` pixels without any garment, on a `studio` or a `varied` backdrop."""
    rng = np.random.default_rng(seed)
    pixels = varied_backdrop(size, rng) if finish == "varied" else background(size, rng)
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8), "RGB")


def _check(garment: Garment) -> None:
    for field, value, known in (
        ("kind", garment.kind, KINDS),
        ("colour", garment.colour, tuple(COLOURS)),
        ("pattern", garment.pattern, PATTERNS),
        ("finish", garment.finish, FINISHES),
    ):
        if value not in known:
            raise ValueError(
                tr("{field}: {value!r} is not known; choose one of {names}", field=field, value=value, names=", ".join(known))
            )


def _garment_coordinates(side: int, scale: float, turn: float, centre: FloatArray) -> tuple[FloatArray, FloatArray]:
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    px, py = np.meshgrid(axis - centre[0], axis - centre[1])
    return (px * np.cos(turn) + py * np.sin(turn)) / scale, (-px * np.sin(turn) + py * np.cos(turn)) / scale


def _draw_shape(
    shape: Shape, side: int, scale: float, turn: float, centre: FloatArray
) -> tuple[FloatArray, dict[str, FloatArray]]:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def place(points: FloatArray) -> list[tuple[float, float]]:
        placed = ((points * scale) @ rotation.T + centre + 1) / 2 * side
        return [(float(px), float(py)) for px, py in placed]

    mask, tone, metal = (Image.new("L", (side, side), fill) for fill in (0, 255, 0))
    for outline in shape.outlines:
        ImageDraw.Draw(mask).polygon(place(outline), fill=255)
    for line, width in shape.strokes:
        ImageDraw.Draw(mask).line(place(line), fill=255, width=round(width * side * scale / 2), joint="curve")
    for band, value in shape.bands:
        ImageDraw.Draw(tone).polygon(place(band), fill=round(255 * value))
    for line, width, value in shape.seams:
        ImageDraw.Draw(tone).line(place(line), fill=round(255 * value), width=max(round(width * side * scale / 2), 1))
    for patch in shape.metal:
        ImageDraw.Draw(metal).polygon(place(patch), fill=255)
    soft = [np.asarray(layer.filter(ImageFilter.GaussianBlur(side / 256)), float) / 255 for layer in (mask, tone, metal)]
    return soft[0], {"tone": soft[1], "metal": soft[2]}


def _jitter(colour: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.clip(colour * rng.uniform(0.94, 1.06) + rng.uniform(-7, 7, 3), 0, 255)


def _pattern_field(pattern: str, x: FloatArray, y: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How much of the accent colour shows, in [0, 1], at garment coordinates x, y."""
    period, phase = rng.uniform(0.27, 0.34), rng.uniform(0, 1, 2)
    u, v = (x / period + phase[0]) % 1, (y / period + phase[1]) % 1
    if pattern == "striped":
        field = v < 0.42
    elif pattern == "pinstriped":
        field = (x / (0.62 * period) + phase[0]) % 1 < 0.30
    elif pattern == "dotted":
        shifted = (x / period + phase[0] + 0.5 * (np.floor(y / period + phase[1]) % 2)) % 1
        field = np.hypot(shifted - 0.5, v - 0.5) < 0.31
    elif pattern == "checked":
        return 0.5 * (u < 0.45) + 0.5 * (v < 0.45)
    elif pattern == "zigzag":
        field = (y / period + phase[1] + 0.62 * np.abs(((x / (1.5 * period) + phase[0]) % 1) * 2 - 1)) % 1 < 0.42
    else:
        return np.zeros_like(x)
    return field.astype(float)


def _shading(mask: FloatArray, x: FloatArray, y: FloatArray, side: int, rng: np.random.Generator) -> FloatArray:
    """Brightness factor around 1: a padded surface under one lamp, a few folds and a darker edge."""
    height = blur(mask, side * 0.045)
    gy, gx = np.gradient(height)
    lamp = np.deg2rad(rng.uniform(200, 340))
    relief = (gx * np.cos(lamp) + gy * np.sin(lamp)) * side * 0.045
    folds = np.sin(x * rng.uniform(5, 9) + np.sin(y * rng.uniform(2, 4) + rng.uniform(0, 6)) * 1.2 + rng.uniform(0, 6))
    edge = np.clip((mask - blur(mask, side * 0.012)) * 2, 0, 1)
    strength = rng.uniform(0.35, 0.65)
    return np.clip(1 - strength * relief + 0.05 * folds - 0.45 * edge, 0.35, 1.35)


def _shadow(mask: FloatArray, side: int) -> FloatArray:
    shift = round(side * 0.025)
    return blur(np.roll(mask, (shift, shift), (0, 1)), side * 0.03) * (1 - mask)


def with_finish(garment: Garment, finish: str) -> Garment:
    """The same cut, size and position in another finish."""
    return replace(garment, finish=finish)
