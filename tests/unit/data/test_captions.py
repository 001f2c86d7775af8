from __future__ import annotations

from collections import Counter

import torch

from fashion_ml.data.captions import seen_caption

CAPTION = "zarya style, a red dress, long, studio"


def seen(seed: int, **settings: float) -> str:
    chosen = {"shuffle": False, "keep_tokens": 0, "dropout_rate": 0.0, **settings}
    return seen_caption(CAPTION, generator=torch.Generator().manual_seed(seed), **chosen)  # type: ignore[arg-type]


def test_without_any_switch_the_caption_stays_as_it_is():
    assert {seen(seed) for seed in range(5)} == {CAPTION}


def test_shuffling_keeps_the_first_parts_in_place_and_loses_none():
    results = {seen(seed, shuffle=True, keep_tokens=1) for seed in range(40)}
    assert len(results) == 6  # 3! orders of the other three
    assert all(result.startswith("zarya style, ") for result in results)
    assert {frozenset(result.split(", ")) for result in results} == {frozenset(CAPTION.split(", "))}


def test_keeping_more_parts_than_there_are_changes_nothing():
    assert seen(3, shuffle=True, keep_tokens=9) == CAPTION


def test_dropout_empties_about_its_share():
    counts = Counter(seen(seed, dropout_rate=0.25) for seed in range(400))
    assert set(counts) == {"", CAPTION}
    assert 70 < counts[""] < 130  # 100 expected, standard deviation 8.7
