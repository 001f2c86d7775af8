"""What an evaluation of so many references and seeds easily misses, in the words of the three lines; a comparison says the same."""

from __future__ import annotations

from collections.abc import Mapping

from fashion_ml.metrics.power import Power


def power_sentence(metric: str, power: Power, forms: Mapping[str, str]) -> str:
    """`A difference in visual_loss below 0.0210 is easily missed; to find half of it takes 92 references with 2 seeds each, or 61 with 8 seeds
    each`, without its stop, in a language's forms (`sentence_forms.FORMS`); of one image a reference nothing of seeds."""
    text = forms["power"].format(metric=metric, sees=f"{power.sees:.4f}", half=power.for_half)
    text += forms["power_seeds"].format(seeds=power.seeds) if power.seeds > 1 else ""
    if power.for_half_more_seeds is None:
        return text
    half, seeds = power.for_half_more_seeds
    return text + forms["power_more"].format(half=half, seeds=seeds)
