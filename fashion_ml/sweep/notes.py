"""What is to be known of a sweep before it begins: refused, or said in a line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion_ml.config import LoraExperiment, SweepSpec, short_names
from fashion_ml.data.images import count_images
from fashion_ml.evaluation.toy import EMBEDDED, check_encoder, own_of_lora, own_of_stargan
from fashion_ml.metrics.bootstrap import FEWEST
from fashion_ml.runtime.console import warn


def check_base(spec: SweepSpec, base: Any) -> None:
    """InputError when its trials would be measured by a toy encoder that nobody asked for; a warning for an alpha that stands still while
    ranks are compared."""
    check_experiment(base)
    if spec.confirm.best and not spec.confirm.references and isinstance(base, LoraExperiment):
        _say_few_held(base)
    names = short_names(type(base))
    searched = {names.get(name, name) for name in spec.search_space}
    if "network.rank" in searched and "network.alpha" not in searched and base.network.alpha_is_given:
        warn(
            f"network.alpha: is fixed at {base.network.alpha:g} while network.rank is searched, so the scale alpha / rank differs between "
            "trials and ranks are not compared alone; leave alpha out of the experiment and of settings, and it follows the rank"
        )


def check_experiment(base: Any) -> None:
    """InputError when trainings of an experiment would be measured by a toy encoder that nobody asked for."""
    if isinstance(base, LoraExperiment):
        own, model = own_of_lora(base), base.model.base
    else:
        own, model = own_of_stargan(base), base.model.vae
    if base.evaluation.enabled:
        check_encoder(base.evaluation, own, refuse=model != EMBEDDED)


def _say_few_held(base: LoraExperiment) -> None:
    """A warning where the half of the references that is held back can give no verdict; of training images as references nothing."""
    folder = Path(base.evaluation.references or "").expanduser()
    if base.evaluation.references in (None, EMBEDDED) or not folder.is_dir():
        return
    held = min(count_images(folder), base.evaluation.max_references) // 2
    if held < FEWEST:
        warn(
            f"confirm.references: {held} references are held back to confirm by, fewer than the {FEWEST} that a verdict takes; give more "
            "evaluation.references (and max_references), a folder of others as confirm.references, or set confirm.best to 0"
        )
