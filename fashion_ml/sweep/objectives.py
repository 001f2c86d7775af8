"""What a sweep may choose its trials by: which metrics rank, which way, and which can be confirmed."""

from __future__ import annotations

import difflib
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fashion_ml.config import SweepSpec, read_constraint
from fashion_ml.errors import InputError
from fashion_ml.metrics.registry import METRICS, metric_of
from fashion_ml.runtime.language import tr, translated

if TYPE_CHECKING:
    from fashion_ml.metrics.metric import Metric


def measured(trainer: str) -> list[str]:
    """What an objective or a constraint may name, for one kind of training; attribute columns of a LoRA come beside."""
    rows = [metric for metric in METRICS if metric.objective and not metric.family]
    own = [metric.name for metric in rows if trainer in metric.by]
    latent = [f"latent_{metric.name}" for metric in rows if "latent" in metric.by] if trainer == "stargan" else []
    return [*own, *latent, *(["val_loss"] if trainer == "lora" else []), "parameters", "training_seconds"]


def why_not(name: str, trainer: str) -> str:
    """Why trials of a trainer cannot be chosen, nor recipes compared, by what is called `name`; empty where they can."""
    known, row = measured(trainer), row_of(name)
    if name in known or (row is not None and row.family and trainer in row.by):
        return ""
    if row is not None and not row.objective and trainer in row.by:
        return tr(
            "{name!r} is measured and cannot rank: {cannot_rank}; take weighted_total_loss or a loss",
            name=name,
            cannot_rank=translated(row.cannot_rank),
        )
    near = difflib.get_close_matches(name, known, n=1)
    fix = tr("did you mean {near}?", near=near[0]) if near else tr("there are {names}", names=", ".join(known))
    return tr("{name!r} is no metric of train {trainer}; {fix}", name=name, trainer=trainer, fix=fix)


def directions_of(spec: SweepSpec) -> list[str]:
    """`minimize` or `maximize` for each objective, by the metric's meaning where the file does not say.

    InputError for a metric that there is not, also in a constraint, one of which neither more nor less is better, and one that cannot be
    confirmed.
    """
    found, problems = [], []
    reasons = [why_not(read_constraint(text)[0], spec.trainer) for text in spec.constraints]
    problems += [tr("constraints: {why}", why=why) for why in reasons if why]
    for objective in spec.objectives:
        row = row_of(objective.metric.removeprefix("latent_"))
        way = row.better if row else "lower"
        if why := why_not(objective.metric, spec.trainer) or _why_no_objective(
            objective.metric, alone=len(spec.objectives) == 1
        ):
            problems.append(tr("objectives: {why}", why=why))
        elif not way and objective.direction is None:
            problems.append(
                tr("objectives: of {metric!r} neither more nor less is better; give its direction", metric=objective.metric)
            )
        if spec.confirm.best and (why := _why_not_confirmed(objective.metric)):
            problems.append(tr("confirm.best: {metric} {why}; set it to 0", metric=objective.metric, why=why))
        found.append(objective.direction or {"lower": "minimize", "higher": "maximize"}.get(way, ""))
    if spec.sampler.name == "cmaes" and find_spec("cmaes") is None:
        problems.append(tr("sampler.name: cmaes is not installed; pip install 'fashion-ml[sweeps]', or use tpe"))
    if problems:
        raise InputError(problems)
    return found


def _why_no_objective(name: str, *, alone: bool) -> str:
    """Why no trial is to be chosen by what may yet bind it; empty where it may."""
    if name == "training_seconds":
        return tr(
            "{name!r} cannot rank: it is the time of one training on a machine that does other work too; bind "
            "trials by it instead (constraints: training_seconds <= 600)",
            name=name,
        )
    if name == "parameters" and alone:
        return tr(
            "{name!r} cannot rank alone: the settings give it without any training, and the smallest wins; add "
            "weighted_total_loss",
            name=name,
        )
    return ""


def _why_not_confirmed(name: str) -> str:
    """Why the best trials by a metric cannot be confirmed over references; empty where they can."""
    row = row_of(name)
    if name.startswith("latent_"):
        return tr("is of latent-guided images, and what is compared are those guided by references")
    if row is not None and row.setting == "prompts":
        return tr("is of free prompts, which have no references")
    return "" if row is not None and row.of_sets is None and row.better else tr("is not compared image by image")


def row_of(name: str) -> Metric | None:
    """The registry's row of a metric; None of what a training measures, and of what there is not."""
    try:
        return metric_of(name)
    except KeyError:
        return None
