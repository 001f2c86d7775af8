"""Prompts and variety by hand: unit vectors in the plane whose cosines are known."""

from __future__ import annotations

import math

import pytest
import torch

from fashion_ml.metrics.prompt import diversity_of_seeds, diversity_of_set, prompt_retrieval, prompt_similarity

EAST, NORTH, BETWEEN = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]


def test_prompt_similarity_is_the_cosine_with_the_pictures_own_text():
    """(0.6, 0.8) with (1, 0) is 0.6, (1, 0) with itself 1, (0, 1) with (1, 0) is 0."""
    pictures, texts = torch.tensor([BETWEEN, EAST, NORTH]), torch.tensor([EAST, EAST, EAST])
    assert prompt_similarity(pictures, texts) == pytest.approx([0.6, 1, 0])


def test_prompt_retrieval_is_whether_the_own_text_is_first_and_equal_ones_share_it():
    """(0.6, 0.8) is nearer to north (0.8) than to east (0.6): with east its own it is 0, with north 1. Two texts that an encoder cannot tell
    apart are both first, so each is right in half of the cases."""
    pictures, texts = torch.tensor([BETWEEN, BETWEEN, EAST]), torch.tensor([EAST, NORTH])
    assert prompt_retrieval(pictures, texts, [0, 1, 0]) == [0, 1, 1]
    assert prompt_retrieval(pictures, torch.tensor([NORTH, NORTH, EAST]), [0, 1, 0]) == [0.5, 0.5, 0]


def test_diversity_of_seeds_is_the_mean_over_pairs_of_one_prompt_alone():
    """Of the prompt a: cosines 0.6 (1-2), 0 (1-3), 0.8 (2-3), so 1 - cosine is 0.4, 1, 0.2 the mean of its pairs 1.6 / 3; b has one seed."""
    pictures = torch.tensor([EAST, NORTH, BETWEEN, NORTH])
    found = diversity_of_seeds(pictures, ["a", "b", "a", "a"])
    assert found[0] == pytest.approx((0.4 + 1) / 2)
    assert math.isnan(found[1])
    assert sum(value for value in found if value == value) / 3 == pytest.approx(1.6 / 3)
    assert diversity_of_set(pictures[[0, 2, 3]]) == pytest.approx(1.6 / 3)
    assert diversity_of_set(pictures[:1]) is None
