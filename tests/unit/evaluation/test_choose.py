"""Choosing a checkpoint and a strength: what it costs, what it finds, what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from fashion_ml.evaluation.choose import Candidate, Choice, Score, choose, most_measured
from fashion_ml.evaluation.choose_images import batch_of_choosing

GRID = [Candidate(f"{step}.safetensors", step, strength) for step in (100, 200, 300, 400) for strength in (0.6, 0.8, 1.0)]
PAIRS = [[2 * number, 2 * number + 1] for number in range(12)]
"""24 references, two generated together."""


def scores(means: Mapping[Candidate, float], noise: float, seed: int = 0) -> tuple[dict[Candidate, np.ndarray], Score]:
    """Losses of 24 references: hard and easy ones, and noise of each candidate's own."""
    draw = np.random.default_rng(seed)
    hard = draw.normal(0, 0.1, 24)
    whole = {one: mean + hard + draw.normal(0, noise, 24) for one, mean in means.items()}
    return whole, lambda who, references: {index: float(whole[who][index]) for index in references}


def test_a_grid_of_twelve_costs_half_where_all_are_alike():
    choice = choose(GRID, PAIRS, lambda who, references: dict.fromkeys(references, 0.4))
    assert (choice.measured, choice.whole) == (12 * 6 + 6 * 6 + 3 * 12, 12 * 24)
    assert [(one.references, len(one.means), len(one.dropped)) for one in choice.rounds] == [(6, 12, 6), (12, 6, 3)]
    assert choice.winner == GRID[0]


def test_what_it_costs_at_most_is_known_beforehand():
    """A grid of twelve 144 and the base 12 in the final; of two settings nothing can be saved."""
    assert most_measured(GRID, PAIRS) == 144 + 12
    assert most_measured(GRID[:2], PAIRS) == 2 * 24 + 24
    for seed in range(5):
        choice = choose(GRID, PAIRS, scores(dict.fromkeys(GRID, 0.4), 0.05, seed)[1])
        assert choice.measured + len(choice.final_references) <= most_measured(GRID, PAIRS)


def test_a_clear_best_wins_and_costs_less():
    means = {one: 0.4 + 0.05 * (one != GRID[7]) for one in GRID}
    choice = choose(GRID, PAIRS, scores(means, 0.01)[1])
    assert choice.winner == choice.best == GRID[7]
    assert choice.tied == [GRID[7]]
    assert choice.measured == 12 * 6 + 2 * 6 + 2 * 12
    assert choice.lead is not None
    assert choice.lead.mean == pytest.approx(0.05, abs=0.02)
    assert "is chosen: it is best by visual_loss; 108 of 288 measurements of the full grid (38%)" in choice.sentence(
        "visual_loss"
    )


def test_the_final_is_on_references_that_the_halving_has_not_seen():
    seen: list[tuple[Candidate, int]] = []
    means = {one: 0.4 + 0.05 * (one != GRID[7]) for one in GRID}
    _, score = scores(means, 0.01)

    def noted(who: Candidate, references: Sequence[int]) -> Mapping[int, float]:
        seen.extend((who, index) for index in references)
        return score(who, references)

    choice = choose(GRID, PAIRS, noted)
    raced = {index for who, index in seen if str(who) in choice.rounds[0].dropped}
    assert choice.held_back
    assert not raced & set(choice.final_references)
    assert len(seen) == len(set(seen)) == choice.measured


def test_of_settings_that_cannot_be_told_apart_the_earliest_weakest_wins():
    means = dict.fromkeys(GRID, 0.6) | {GRID[2]: 0.4, GRID[4]: 0.4, GRID[11]: 0.399}
    choice = choose(GRID, PAIRS, scores(means, 0.03)[1])
    assert choice.winner == GRID[2]
    assert len(choice.tied) > 1
    assert "indistinguishable by visual_loss: the earliest, weakest of them is taken" in choice.sentence("visual_loss")


def test_whoever_is_worse_by_wilcoxon_goes_before_the_half_is_reached():
    """Two good ones; the third best is worse on every reference: p = 1/64 of six."""
    means = dict.fromkeys(GRID, 0.5) | {GRID[0]: 0.3, GRID[1]: 0.3}
    choice = choose(GRID, PAIRS, scores(means, 0.001)[1])
    assert set(choice.finals) == {str(GRID[0]), str(GRID[1])}
    assert choice.measured < 144


def test_of_few_references_none_are_held_back_and_that_is_said():
    _, score = scores(dict.fromkeys(GRID, 0.4), 0.01)
    choice = choose(GRID, [[0, 1], [2, 3], [4, 5]], score)
    assert not choice.held_back
    assert choice.final_references == [0, 1, 2, 3, 4, 5]
    assert "With fewer than 12 references none could be held back" in choice.sentence("visual_loss")
    (alone,) = {len(values.finals) for values in (choose(GRID[:2], [[0]], score),)}
    assert alone == 2


def regret(choice: Choice, whole: Mapping[Candidate, np.ndarray]) -> float:
    """How much worse the winner is than the full grid's best, in standard errors of that difference over the references."""
    best = min(whole, key=lambda one: whole[one].mean())
    gaps = whole[choice.winner] - whole[best]
    return 0.0 if choice.winner == best else float(gaps.mean() / (gaps.std(ddof=1) / np.sqrt(len(gaps))))


def test_what_is_chosen_is_within_noise_of_the_full_grids_best_nearly_always():
    """A grid like the demo's: losses fall with steps and strength and rise again; 100 draws of the noise."""
    means = {one: 0.36 + 0.02 * abs(one.step - 300) / 100 + 0.05 * abs(one.strength - 0.8) for one in GRID}
    found = []
    for seed in range(100):
        whole, score = scores(means, 0.04, seed)
        found.append(regret(choose(GRID, PAIRS, score, resamples=300), whole))
    assert np.mean([one < 2.07 for one in found]) >= 0.9  # t(0.975, 23)


@pytest.mark.parametrize(
    ("batch", "seeds", "references", "expected"), [(4, 2, 24, 4), (16, 2, 24, 4), (16, 2, 200, 16), (1, 2, 24, 1), (3, 4, 9, 2)]
)
def test_what_is_generated_at_once_is_of_whole_references_or_a_part_of_one(
    batch: int, seeds: int, references: int, expected: int
):
    assert batch_of_choosing(batch, seeds, references) == expected
