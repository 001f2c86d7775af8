"""What is said of the best settings beside the default, from evaluations of both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fashion_ml.errors import InputError
from fashion_ml.sweep.confirmed import difference_of
from tests.unit.evaluation.test_recipes import RANK_4, RANK_8, side

TOTAL = "weighted_total_loss"


def test_the_objective_alone_has_a_verdict_whatever_metric_it_is():
    found = difference_of(side(0.5, RANK_4), side(0.4, RANK_8), TOTAL)
    assert (found.verdict, found.why) == ("better", "")


def test_what_an_encoder_that_cannot_read_the_pictures_says_confirms_nothing():
    best = side(0.4, RANK_8)
    best[1] = replace(best[1], unread="the encoder cannot read these pictures")
    found = difference_of(side(0.5, RANK_4), best, TOTAL)
    assert (found.verdict, found.why) == ("", "the encoder cannot read these pictures")
    assert difference_of(side(0.5, RANK_4), best, "color_loss").verdict == "not shown"  # which takes no encoder


def test_best_settings_that_are_the_defaults_are_no_better_than_it():
    found = difference_of(side(0.5, RANK_4), side(0.4, RANK_4), TOTAL)
    assert (found.verdict, found.why) == ("", "these are the default's own settings")


def test_an_objective_that_the_held_back_references_do_not_have_is_one_line():
    with pytest.raises(
        InputError, match=r"objectives: ciede2000 was not measured on the references that confirm \(12 references\)"
    ):
        difference_of(side(0.5, RANK_4), side(0.4, RANK_8), "ciede2000")
