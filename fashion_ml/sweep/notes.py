"""What is to be known of a sweep or suite before it begins: refused, or said in a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fashion_ml.config import LoraExperiment, SuiteSpec, SweepSpec, differing, read_constraint, short_names
from fashion_ml.errors import InputError
from fashion_ml.evaluation.toy import EMBEDDED, check_encoder, own_of_lora, own_of_stargan
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.sweep.objectives import row_of

_STILL = marked(
    "network.{alpha}: is fixed at {value} while network.{rank} {changes}, so the scale {alpha} / {rank} differs too and ranks are not "
    "compared alone; leave {alpha} out of the experiment and of settings, and it follows the {rank}"
)


def check_base(spec: SweepSpec, base: Any) -> None:
    """InputError when its trials would be measured by a toy encoder that nobody asked for, and when what they are chosen by is not measured;
    a warning for an alpha that stands still while ranks are compared."""
    check_experiment(base)
    named = [("objectives", one.metric) for one in spec.objectives]
    named += [("constraints", read_constraint(text)[0]) for text in spec.constraints]
    if problems := [f"{field}: {why}" for field, name in named if (why := _why_not_measured(name, base.evaluation))]:
        raise InputError(problems)
    names = short_names(type(base))
    _warn_of_scales({names.get(name, name) for name in spec.search_space}, base, tr("is searched"))


def _warn_of_scales(searched: set[str], base: Any, changes: str) -> None:
    """A warning for each alpha that stands still while its rank is one of the settings that are searched, or compared: how it `changes`."""
    if not isinstance(base, LoraExperiment):
        return
    network = base.network
    if "network.rank" in searched and "network.alpha" not in searched and network.alpha_is_given:
        warn(translated(_STILL, alpha="alpha", value=f"{network.alpha:g}", rank="rank", changes=changes))
    rank = "rank" if network.conv_rank is None and "network.conv_rank" not in searched else "conv_rank"
    if f"network.{rank}" in searched and "network.conv_alpha" not in searched and network.conv_alpha is not None:
        warn(translated(_STILL, alpha="conv_alpha", value=f"{network.conv_alpha:g}", rank=rank, changes=changes))


def check_suite(spec: SuiteSpec, experiments: Mapping[str, Any]) -> None:
    """InputError where the experiments, which are all measured in one way, do not measure what they are compared by, and as of
    `check_experiment`; a warning for an alpha that stands still while recipes differ in rank."""
    first = next(iter(experiments.values()))
    for one in {_read_by(one): one for one in experiments.values()}.values():
        check_experiment(one)
    named = [("metric", spec.metric), *(("compare", name) for name in spec.compare)]
    if problems := [f"{field}: {why}" for field, name in named if (why := _why_not_measured(name, first.evaluation))]:
        raise InputError(problems)
    different = {key for each in differing(experiments, spec.against()).values() for key in each}
    fixed = [one for one in experiments.values() if isinstance(one, LoraExperiment) and one.network.alpha_is_given]
    _warn_of_scales(different, fixed[0] if fixed else first, tr("is compared"))


def _read_by(experiment: Any) -> str:
    """What of an experiment decides whether its encoder knows what it sees."""
    if isinstance(experiment, LoraExperiment):
        return f"{experiment.model.base}, {experiment.data.train_data_dir}, {experiment.data.subsets}"
    return f"{experiment.model.vae}, {experiment.data.latents_dir}"


def check_experiment(base: Any) -> None:
    """InputError when trainings of an experiment would be measured by a toy encoder that nobody asked for."""
    if isinstance(base, LoraExperiment):
        own, model = own_of_lora(base), base.model.base
    else:
        own, model = own_of_stargan(base), base.model.vae
    if base.evaluation.enabled:
        check_encoder(base.evaluation, own, refuse=model != EMBEDDED)


def _why_not_measured(name: str, settings: Any) -> str:
    """Why these evaluations have no such metric, though there is one; empty where they have it."""
    row = row_of(name.removeprefix("latent_"))
    if row is None or not settings.enabled:
        return ""
    if row.switch and row.switch not in getattr(settings, "extra_metrics", (row.switch,)):
        return tr(
            "{name!r} is not measured by this experiment; add {switch} to evaluation.extra_metrics, or take another",
            name=name,
            switch=row.switch,
        )
    if row.setting and getattr(settings, row.setting) in (None, "none"):
        return tr(
            "{name!r} is not measured by this experiment; give evaluation.{setting}, or take another",
            name=name,
            setting=row.setting,
        )
    if "encoder" in row.needs and "fashion_clip" in settings.without:
        return tr("{name!r} is not measured without an encoder; leave evaluation.without out, or take another", name=name)
    return ""
