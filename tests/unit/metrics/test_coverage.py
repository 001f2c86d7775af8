"""Two-level intervals cover 95 % of what they should, whatever scatters; simulated from normal data with every interaction."""

from __future__ import annotations

import numpy as np
import pytest

from fashion_ml.metrics.crossed import scatter_of_difference, scatter_of_mean

TRIALS = 6000
"""With a standard error of 0.003."""
SCATTER = {
    "references alone": (0.0, 1.0, 0.5),
    "hardly any seeds": (0.05, 1.0, 0.5),
    "some seeds": (0.2, 1.0, 0.5),
    "as much of both in the mean": (0.5, 1.0, 0.5),
    "seeds and references": (1.0, 1.0, 0.5),
    "seeds": (1.0, 0.2, 0.5),
    "nothing but noise": (0.0, 0.0, 1.0),
    "noise and a little of both": (0.2, 0.3, 1.0),
    "noise and references": (0.0, 0.6, 1.0),
}
"""Standard deviations: between seeds; between references (of a difference: how much better a reference suits one recipe); of one image."""


def values(rng: np.random.Generator, seeds: int, references: int, name: str) -> np.ndarray:
    """(TRIALS, seeds, references) of recipes whose true mean is 0."""
    of_seeds, of_references, noise = SCATTER[name]
    found = rng.normal(0, of_references, (TRIALS, 1, references)) + rng.normal(0, of_seeds, (TRIALS, seeds, 1))
    return found + rng.normal(0, noise, (TRIALS, seeds, references))


@pytest.mark.parametrize("references", [12, 32])
@pytest.mark.parametrize("seeds", [3, 4, 6])
def test_the_interval_of_a_recipes_mean_covers_93_to_97_percent(seeds: int, references: int):
    rng, covered = np.random.default_rng(seeds * references), {}
    for name in SCATTER:
        found = values(rng, seeds, references, name)
        covered[name] = float((np.abs(found.mean(axis=(1, 2))) <= scatter_of_mean(found).reach()).mean())
    assert {name: share for name, share in covered.items() if not 0.93 <= share <= 0.97} == {}


@pytest.mark.parametrize("references", [12, 32])
@pytest.mark.parametrize("seeds", [(3, 3), (3, 5), (4, 4), (6, 6)])
def test_the_interval_of_a_difference_covers_93_to_97_percent(seeds: tuple[int, int], references: int):
    """References are harder or easier for both, by far more than anything else: that must not matter."""
    rng, covered = np.random.default_rng(sum(seeds) * references), {}
    for name in SCATTER:
        hard = rng.normal(0, 10, (TRIALS, 1, references))
        first, second = (hard + values(rng, count, references, name) for count in seeds)
        mean = second.mean(axis=(1, 2)) - first.mean(axis=(1, 2))
        covered[name] = float((np.abs(mean) <= scatter_of_difference(first, second).reach()).mean())
    assert {name: share for name, share in covered.items() if not 0.93 <= share <= 0.97} == {}


def test_it_covers_as_much_where_one_recipe_scatters_three_times_as_much_between_seeds():
    rng = np.random.default_rng(9)
    first, second = values(rng, 3, 12, "some seeds"), values(rng, 3, 12, "some seeds")
    second = second + rng.normal(0, 0.57, (TRIALS, 3, 1))  # 0.6 in all, three times 0.2
    mean = second.mean(axis=(1, 2)) - first.mean(axis=(1, 2))
    assert 0.93 <= (np.abs(mean) <= scatter_of_difference(first, second).reach()).mean() <= 0.97
