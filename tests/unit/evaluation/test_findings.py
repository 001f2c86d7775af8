"""What the three lines tell is what was measured: no number takes the place of another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from fashion_ml.evaluation.aggregate import Comparison
from fashion_ml.evaluation.findings import of_images, of_lora, of_stargan
from fashion_ml.evaluation.free_prompts import FreePrompts
from fashion_ml.evaluation.three_lines import Beside, Gan, three_lines
from fashion_ml.metrics.bootstrap import Interval


def alone(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01, 8)


def against(base: float, lora: float, gain: float) -> Comparison:
    return Comparison(alone(base), alone(lora), alone(gain))


SCORES = {
    "weighted_total_loss": against(0.50, 0.41, 0.09),
    "others_weighted_total_loss": against(0.60, 0.53, 0.07),
    "specific_weighted_total_loss": against(0.10, 0.12, 0.02),
    "prompt_similarity": against(0.30, 0.31, 0.011),
    "prompt_retrieval": against(0.20, 0.25, 0.05),
    "diversity_seeds": against(0.45, 0.35, -0.101),
    "attribute_colour": against(1.0, 0.94, -0.06),
    "fashion_attribute_similarity": against(0.99, 0.95, -0.04),
    "memorised": Comparison(alone(0.06), alone(0.75), None),
}
HELD = {
    "reference_prompt_similarity": alone(0.33),
    "reference_prompt_retrieval": alone(0.9),
    "prompt_retrieval_chance": Interval(0.125, None, None),
    "reference_diversity": Interval(0.65, None, None),
}
FREE = FreePrompts(alone(0.021), alone(0.22), against(0.81, 0.71, -0.102), 0.16, pd.DataFrame())


def test_of_a_lora_its_own_numbers_stand_first_and_then_the_bases_the_references_and_chance():
    found = of_lora(SCORES, HELD, {}, references=8, free=FREE)
    assert found.obedience == {
        "prompt_similarity": Beside(0.31, 0.30, alone(0.011), 0.33),
        "prompt_retrieval": Beside(0.25, 0.20, alone(0.05), 0.9, 0.125),
    }
    assert found.variety == Beside(0.35, 0.45, alone(-0.101), 0.65)
    assert found.garments == {"attribute_colour": Beside(0.94, 1.0, alone(-0.06))}
    assert found.likeness == Beside(0.95, 0.99, alone(-0.04))
    assert (found.leak, found.editability) == (alone(0.021), Beside(0.71, 0.81, alone(-0.102), None, 0.16))
    assert (found.memorised, found.n, found.references) == (0.75, 8, 8)
    gain = found.gains["weighted_total_loss"]
    assert (gain.own, gain.others, gain.specific) == (alone(0.09), alone(0.07), alone(0.02))


def test_of_images_there_is_no_base_and_what_they_are_held_against_is_the_same():
    scores = {name: one.lora for name, one in SCORES.items()}
    found = of_images(scores, HELD, {}, pairs=16, references=8)
    assert found.alone == ("weighted_total_loss", alone(0.41))
    assert found.obedience == {
        "prompt_similarity": Beside(0.31, None, None, 0.33),
        "prompt_retrieval": Beside(0.25, None, None, 0.9, 0.125),
    }
    assert (found.variety, found.memorised, found.pairs, found.n) == (Beside(0.35, references=0.65), 0.75, 16, 8)


def test_of_a_stargan_reference_and_latent_and_what_they_lie_between_keep_their_places():
    scores = {"ssim": alone(0.7), "diversity": alone(0.1), "domain_accuracy": alone(0.9), "latent_domain_accuracy": alone(0.8)}
    by_target = {"domain_accuracy_unchanged": 0.15, "domain_accuracy_real": 0.95}
    ruler: Any = SimpleNamespace(encoder=None, no_verdict=dict)
    found = of_stargan(scores, by_target, 8, 3, {}, ruler)
    assert found.gan == Gan(3, 0.1, reference=0.9, latent=0.8, floor=0.15, ceiling=0.95)
    assert "in 90% by reference and 80% by latent (contents as they are 15%, real ones 95%)" in three_lines(found, "en")


def test_where_a_loss_is_raised_the_smaller_end_stands_first():
    raised = {"weighted_total_loss": Comparison(alone(0.5), alone(0.6), Interval(-0.1, -0.13, -0.08, 8))}
    assert three_lines(of_lora(raised, {}, {}), "en").startswith(
        "This LoRA raises weighted_total_loss by 0.100 [0.080, 0.130] "
    )


def test_six_references_are_enough_to_say_something_and_five_are_not():
    for n, few in ((6, False), (5, True)):
        found = of_lora({"weighted_total_loss": Comparison(alone(0.5), alone(0.4), Interval(0.1, 0.08, 0.13, n))}, {}, {})
        assert ("No verdict: " in three_lines(found, "en")) == few
