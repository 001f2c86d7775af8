"""What a search has not seen is every other reference, drawn once for all."""

from __future__ import annotations

import pytest

from fashion_ml.data.reference_parts import part_of


@pytest.mark.parametrize("count", [0, 1, 2, 7, 24, 32])
def test_two_halves_share_nothing_and_are_everything_in_its_order(count: int):
    items = [f"{i:02d}" for i in range(count)]
    search, held = part_of(items, "search"), part_of(items, "held")
    assert sorted(search + held) == items == part_of(items, "all")
    assert (search, held) == (sorted(search), sorted(held))
    assert 0 <= len(search) - len(held) <= 1


def test_the_halves_are_drawn_and_not_the_first_and_the_last():
    search = part_of(range(24), "search")
    assert search != list(range(12))
    assert 3 <= sum(one < 12 for one in search) <= 9
    assert part_of([chr(97 + i) for i in range(24)], "search") == [chr(97 + one) for one in search]
