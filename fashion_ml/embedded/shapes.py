"""Outlines and details of the garments, in the unit box of `garments` (x right, y down, [-1, 1])."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass
class Shape:
    """What the renderer draws for one garment; every array is (n, 2) points in the unit box."""

    outlines: list[Points]
    """Closed polygons that together are the cloth."""
    strokes: list[tuple[Points, float]] = field(default_factory=list)
    """Thick lines that are cloth too, such as a handle: points, width."""
    bands: list[tuple[Points, float]] = field(default_factory=list)
    """Polygons in which the cloth is darker, such as a waistband: points, brightness factor."""
    seams: list[tuple[Points, float, float]] = field(default_factory=list)
    """Lines in which the cloth is darker: points, width, brightness factor."""
    metal: list[Points] = field(default_factory=list)
    """Polygons of bright metal, such as a buckle."""


def _points(*pairs: tuple[float, float]) -> Points:
    return np.array(pairs, dtype=float)


def _mirrored(*half: tuple[float, float]) -> Points:
    """A closed outline from its right half, given from the top centre to the bottom centre, with softened corners."""
    right = _points(*half)
    return _soften(np.concatenate([right, right[::-1] * [-1, 1]]))


def _soften(points: Points, rounds: int = 2, cut: float = 0.12) -> Points:
    """Corner cutting (Chaikin 1974) with a small cut, so that corners stay recognisable."""
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        points = np.stack([points * (1 - cut) + following * cut, points * cut + following * (1 - cut)], 1).reshape(-1, 2)
    return points


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return _points((left, top), (right, top), (right, bottom), (left, bottom))


def _dress(rng: np.random.Generator) -> Shape:
    waist, flare, hem = rng.uniform(0.22, 0.28), rng.uniform(0.55, 0.78), rng.uniform(0.70, 0.96)
    body = _mirrored(
        (0, -0.66),
        (0.13, -0.70),
        (0.19, -0.95),
        (0.30, -0.95),
        (0.29, -0.62),
        (0.34, -0.52),
        (waist, -0.18),
        (flare, hem),
        (0, hem + 0.05),
    )
    belt = _box(-waist - 0.1, -0.22, waist + 0.1, -0.13)
    return Shape([body], bands=[(belt, 0.55)])


def _t_shirt(rng: np.random.Generator) -> Shape:
    width, hem, sleeve = rng.uniform(0.40, 0.48), rng.uniform(0.66, 0.82), rng.uniform(0.80, 0.92)
    body = _mirrored(
        (0, -0.60),
        (0.13, -0.66),
        (0.18, -0.78),
        (0.34, -0.76),
        (sleeve, -0.36),
        (sleeve - 0.20, -0.08),
        (width, -0.26),
        (width, hem),
        (0, hem),
    )
    seams = [(_points((s * (width - 0.02), -0.60), (s * width, -0.26)), 0.05, 0.70) for s in (-1, 1)]
    return Shape([body], seams=seams)


def _long_sleeved(rng: np.random.Generator, neck: float) -> tuple[Points, float, float, float]:
    width, hem, reach = rng.uniform(0.38, 0.45), rng.uniform(0.60, 0.74), rng.uniform(0.76, 0.88)
    body = _mirrored(
        (0, neck),
        (0.14, neck - 0.04),
        (0.18, -0.74),
        (0.36, -0.70),
        (reach, 0.38),
        (reach - 0.21, 0.50),
        (width, -0.12),
        (width, hem),
        (0, hem),
    )
    return body, width, hem, reach


def _sweater(rng: np.random.Generator) -> Shape:
    body, width, hem, reach = _long_sleeved(rng, -0.70)
    collar = _mirrored((0, -0.90), (0.17, -0.90), (0.20, -0.66), (0, -0.64))
    bands = [(_box(-width - 0.1, hem - 0.10, width + 0.1, hem + 0.1), 0.66), (collar, 0.66)]
    bands += [
        (
            _points((s * (reach + 0.1), 0.24), (s * (reach - 0.3), 0.36), (s * (reach - 0.3), 0.6), (s * (reach + 0.1), 0.6)),
            0.66,
        )
        for s in (-1, 1)
    ]
    return Shape([body, collar], bands=bands)


def _jacket(rng: np.random.Generator) -> Shape:
    body, _, hem, _ = _long_sleeved(rng, -0.62)
    opening = rng.uniform(0.05, 0.15)
    lapels = [(_points((s * 0.02, opening), (s * 0.22, -0.74), (s * 0.31, -0.40)), 0.55) for s in (-1, 1)]
    front = _points((0, opening - 0.05), (0, hem))
    pockets = [(_points((s * 0.14, 0.34), (s * 0.32, 0.28)), 0.06, 0.45) for s in (-1, 1)]
    buttons = [_box(0.04, top, 0.11, top + 0.07) for top in (opening + 0.10, opening + 0.30)]
    gap = _points((-0.16, -0.80), (0, opening), (0.16, -0.80))
    return Shape([body], bands=[*lapels, (gap, 0.25)], seams=[(front, 0.06, 0.35), *pockets], metal=buttons)


def _skirt(rng: np.random.Generator) -> Shape:
    waist, flare, hem = rng.uniform(0.26, 0.33), rng.uniform(0.58, 0.82), rng.uniform(0.48, 0.74)
    body = _mirrored((0, -0.62), (waist, -0.62), (waist + 0.05, -0.48), (flare, hem), (flare / 2, hem + 0.07), (0, hem + 0.08))
    pleats = [(_points((x * waist, -0.45), (x * flare, hem)), 0.04, 0.74) for x in (-0.55, 0, 0.55)]
    return Shape([body], bands=[(_box(-0.6, -0.7, 0.6, -0.48), 0.55)], seams=pleats)


def _trousers(rng: np.random.Generator) -> Shape:
    waist, ankle, spread = rng.uniform(0.30, 0.36), rng.uniform(0.20, 0.30), rng.uniform(0.06, 0.14)
    body = _mirrored(
        (0, -0.90),
        (waist, -0.90),
        (waist + 0.08, -0.45),
        (spread + ankle, 0.92),
        (spread, 0.92),
        (0.03, -0.22),
        (0, -0.22),
    )
    fly = (_points((0, -0.8), (0, -0.25)), 0.04, 0.6)
    return Shape([body], bands=[(_box(-0.6, -1, 0.6, -0.79), 0.55)], seams=[fly])


def _shorts(rng: np.random.Generator) -> Shape:
    waist, leg, hem = rng.uniform(0.40, 0.47), rng.uniform(0.58, 0.70), rng.uniform(0.34, 0.50)
    body = _mirrored((0, -0.52), (waist, -0.52), (leg, hem), (0.10, hem + 0.06), (0.03, -0.02), (0, -0.02))
    return Shape([body], bands=[(_box(-0.7, -0.6, 0.7, -0.39), 0.55)], seams=[(_points((0, -0.42), (0, -0.05)), 0.04, 0.6)])


def _hat(rng: np.random.Generator) -> Shape:
    brim, crown = rng.uniform(0.82, 0.95), rng.uniform(0.50, 0.66)
    body = _mirrored(
        (0, -crown),
        (0.28, -crown - 0.04),
        (0.42, -crown + 0.14),
        (0.46, 0.08),
        (brim, 0.18),
        (brim - 0.05, 0.34),
        (0.4, 0.46),
        (0, 0.48),
    )
    ribbon = _points((-0.455, -0.10), (0.455, -0.10), (0.47, 0.10), (-0.47, 0.10))
    return Shape([body], bands=[(ribbon, 0.42)])


def _bag(rng: np.random.Generator) -> Shape:
    top, bottom, drop = rng.uniform(0.50, 0.60), rng.uniform(0.62, 0.74), rng.uniform(0.60, 0.74)
    body = _mirrored((0, -0.12), (top, -0.12), (bottom, drop), (0, drop + 0.02))
    angle = np.linspace(np.pi, 2 * np.pi, 24)
    handle = np.stack([0.34 * np.cos(angle), -0.12 + rng.uniform(0.58, 0.74) * np.sin(angle)], 1)
    flap = _points((-top - 0.02, 0.02), (0, 0.26), (top + 0.02, 0.02))
    return Shape([body], strokes=[(handle, 0.11)], seams=[(flap, 0.06, 0.5)], metal=[_box(-0.07, 0.16, 0.07, 0.32)])


def _boot(rng: np.random.Generator) -> Shape:
    shaft, toe = rng.uniform(-0.92, -0.70), rng.uniform(0.66, 0.80)
    body = _soften(
        _points(
            (-0.42, shaft),
            (0.12, shaft),
            (0.14, 0.10),
            (0.34, 0.26),
            (toe, 0.40),
            (toe + 0.04, 0.66),
            (-0.44, 0.66),
            (-0.38, 0.1),
        )
    )
    sole = _points((-0.45, 0.62), (toe + 0.06, 0.62), (toe + 0.06, 0.78), (-0.05, 0.74), (-0.12, 0.90), (-0.45, 0.90))
    return Shape([body, sole], bands=[(sole, 0.32), (_box(-0.6, shaft - 0.1, 0.3, shaft + 0.12), 0.6)])


_BUILDERS: dict[str, Callable[[np.random.Generator], Shape]] = {
    "dress": _dress,
    "t-shirt": _t_shirt,
    "sweater": _sweater,
    "jacket": _jacket,
    "skirt": _skirt,
    "trousers": _trousers,
    "shorts": _shorts,
    "hat": _hat,
    "bag": _bag,
    "boot": _boot,
}
KINDS: tuple[str, ...] = tuple(_BUILDERS)


def build_shape(kind: str, rng: np.random.Generator) -> Shape:
    """The outline and details of one garment; `rng` decides the cut. KeyError for a kind that is not in `KINDS`."""
    return _BUILDERS[kind](rng)
