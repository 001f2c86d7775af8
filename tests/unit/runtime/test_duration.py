from __future__ import annotations

import pytest

from fashion_ml.runtime.duration import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.949, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (3569, "59 min"),
        (3571, "1 h"),
        (10620, "2 h 57 min"),
        (86369, "23 h 59 min"),
        (86371, "1 d"),
        (200_000, "2 d 8 h"),
    ],
)
def test_a_span_has_two_units_and_never_sixty_of_one(seconds: float, words: str):
    assert duration(seconds) == words
