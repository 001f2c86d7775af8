"""Every setting of a sweep: base experiment, search space, objectives, sampler, pruner, trials, storage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fashion_ml.config.base import FileName, Positive, Section, Text
from fashion_ml.config.loading import checked, flat, load_experiment, paths_given, read_yaml
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.config.recipe import SEED
from fashion_ml.config.settings import short_names
from fashion_ml.config.shipped_files import given_or_shipped
from fashion_ml.config.stargan import StarganExperiment
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import marked, tr, translated

Value = bool | int | float | str
Trainer = Literal["lora", "stargan"]
EXPERIMENTS: dict[str, type[Any]] = {"lora": LoraExperiment, "stargan": StarganExperiment}
KINDS: dict[str, type[Any]] = {f"train_{name}": kind for name, kind in EXPERIMENTS.items()}
"""The experiment behind each tag `kind` that a training run has."""
_OF_A_TERM = marked("one term of g_loss, which falls where another one's weight does")
_NOT_RANKING = {
    "total_loss": marked(
        "settings of the loss and the noise change what it measures, and it falls most where training images are learnt by heart"
    ),
    "g_loss": marked("g_loss contains -lambda_ds * ds: searching w_ds on it only buys a bigger weight"),
    "d_loss": marked("it falls where the generator is worse"),
    **dict.fromkeys(("g_adv", "sty", "ds", "cyc", "id"), _OF_A_TERM),
    "r1": marked("it says how steep the discriminator is, not how good the images are"),
    "grad_norm": marked("it says how steep the loss is, not how good the images are"),
}
"""What a training logs, and why trials cannot be ranked by it."""
_FORBIDDEN = marked("use a metric of the evaluation, such as weighted_total_loss")
FEWEST_TO_CONFIRM = 3
"""Training seeds below which nothing is confirmed: what is said of settings needs as many of each."""
QUICK = marked("quick: one seed, not a confirmation")
"""The mark of what `--quick` finds."""
_CONSTRAINT = re.compile(r"\s*([A-Za-z_0-9]+)\s*(<=|>=)\s*([-+0-9.eE]+)\s*")


class Dimension(Section):
    """What one setting may be."""

    type: Literal["categorical", "int", "float"]
    """One of `choices`, or a number from `low` to `high`."""
    choices: Annotated[tuple[Value, ...], Field(min_length=1)] | None = None
    """The values of a categorical one."""
    low: float | None = None
    """Least value of an int or float, itself included."""
    high: float | None = None
    """Greatest value of an int or float, itself included."""
    log: bool = False
    """Search the logarithm."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Distance of the values from low on; for int 1 when not given, for float none."""
    when: Mapping[str, tuple[Value, ...]] = Field(default={})
    """Only searched where the other settings, further up, have one of these values; else the base experiment's value stays."""

    @model_validator(mode="after")
    def _complete(self) -> Dimension:
        if self.type == "categorical":
            if self.choices is None or self.low is not None or self.high is not None or self.log or self.step:
                raise ValueError(tr("a categorical setting takes choices, and neither low, high, log nor step"))
            return self
        if self.choices is not None or self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(tr("{type} takes low and high, with low below high, and no choices", type=self.type))
        if self.log and (self.low <= 0 or self.step):
            raise ValueError(tr("log takes a low above 0 and no step"))
        if self.type == "int" and any(value is not None and value != int(value) for value in (self.low, self.high, self.step)):
            raise ValueError(tr("int takes whole numbers for low, high and step"))
        return self


class Objective(Section):
    """What is to become small or large: a metric of the evaluation, or val_loss."""

    metric: Text
    """Name of the metric, such as `weighted_total_loss`; no loss of the training, whose meaning changes with what is searched."""
    direction: Literal["minimize", "maximize"] | None = None
    """By the metric's meaning when not given."""

    @field_validator("metric")
    @classmethod
    def _measured_fairly(cls, metric: str) -> str:
        if why := translated(_NOT_RANKING.get(metric, "")):
            instead = (
                tr("{forbidden}, or val_loss", forbidden=translated(_FORBIDDEN))
                if metric == "total_loss"
                else translated(_FORBIDDEN)
            )
            raise ValueError(
                tr(
                    "{metric!r} is measured in training and cannot rank trials: {why}; {instead}",
                    metric=metric,
                    why=why,
                    instead=instead,
                )
            )
        return metric


class Sampler(Section):
    """How the next trial's settings are chosen."""

    name: Literal["tpe", "gp", "random", "grid", "cmaes", "nsga2"] = "tpe"
    """`tpe` (Bergstra et al. 2011), `gp` (Gaussian process), `random`, `grid` (every combination), `cmaes`, `nsga2` (several objectives)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of what is drawn at random; each worker, and each continuation, draws on from it differently."""
    startup_trials: Positive = 8
    """Trials at random before a model of the objective decides (tpe, gp, cmaes)."""


class Pruner(Section):
    """What stops a trial early."""

    name: Literal["none", "median", "hyperband", "wilcoxon"] = "none"
    """`median` and `hyperband` look at val_loss while a trial trains; `wilcoxon` at the scores of single images while it is evaluated."""
    startup_trials: Positive = 4
    """Trials that are never stopped (median)."""
    p_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How sure the Wilcoxon signed-rank test has to be that a trial is worse than the best one: with less, fewer trials are stopped."""


class Confirm(Section):
    """Training the best settings and the default again, with fresh training seeds, image seeds and references: the best of many trials is
    optimistic."""

    best: Annotated[int, Field(ge=0)] = 1
    """So many of the best trials; 0 leaves it out."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (101, 102, 103)
    """Training seeds, at least 3, other than those of the trials."""
    image_seed: Annotated[int, Field(ge=0)] = 1001
    """Seed of the images (`evaluation.seed`), other than that of the trials."""
    references: Text | None = None
    """Folder of other references; without one half of the experiment's are held back from the search (`evaluation.references_part`). Of a
    StarGAN it is always half of the latents that are held out (`evaluation.contents_part`)."""
    quick: bool = False
    """Only the first of `seeds` (`--quick`): a look, no confirmation. It has no verdict, and report, settings and run say so."""

    @property
    def trained_with(self) -> tuple[int, ...]:
        """The seeds that are trained with."""
        return self.seeds[:1] if self.quick else self.seeds


class SweepSpec(Section):
    """One sweep."""

    kind: ClassVar[str] = "sweep"

    name: FileName
    """Name of the study."""
    trainer: Trainer
    """Which command the base experiment is for: `train lora` or `train stargan`."""
    experiment: Text
    """YAML of the base experiment; a relative path is meant from the sweep file, else from what came with the package."""
    settings: Mapping[str, Value | tuple[Value, ...] | None] = Field(default={})
    """Settings of every trial laid over the experiment, such as `training.max_train_steps: 150`."""
    search_space: Annotated[dict[str, Dimension], Field(min_length=1)]
    """By dotted name, such as `network.rank`."""
    objectives: Annotated[tuple[Objective, ...], Field(max_length=4)]
    """One to four; with several the report has a Pareto front."""
    constraints: tuple[Text, ...] = ()
    """Such as `parameters <= 5e6`: a trial that breaks one is never the best."""
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    trials: Positive = 16
    """Trials in all, whatever becomes of them; those that are there already count. A grid has all its combinations when not given."""
    timeout_minutes: Annotated[float, Field(gt=0)] | None = None
    """No trial begins later than this after the command began."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    """A trial trains once with each; its value is the mean."""
    confirm: Confirm = Confirm()
    storage: Text | None = None
    """Where the study is kept: a SQLAlchemy URL, `sqlite:///…` on one machine, `postgresql://…` across machines; a file in the study's folder
    when not given."""
    heartbeat_seconds: Positive = 15
    """How often a worker says that its trial lives; a trial silent for four times that is retried by another."""

    @field_validator("constraints")
    @classmethod
    def _readable(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        for text in constraints:
            read_constraint(text)
        return constraints

    @model_validator(mode="after")
    def _possible(self) -> SweepSpec:
        if not self.objectives:
            raise ValueError(tr("objectives: give at least one, such as - metric: weighted_total_loss"))
        if len(self.objectives) > 1 and self.pruner.name != "none":
            raise ValueError(
                tr(
                    "pruner.name: {name} needs one objective and there are {count}; use none",
                    name=self.pruner.name,
                    count=len(self.objectives),
                )
            )
        if self.pruner.name == "wilcoxon" and self.objectives[0].metric != "weighted_total_loss":
            raise ValueError(
                tr(
                    "pruner.name: wilcoxon compares weighted_total_loss, not {metric}; use none",
                    metric=self.objectives[0].metric,
                )
            )
        if len(self.objectives) > 1 and self.sampler.name == "cmaes":
            raise ValueError(tr("sampler.name: cmaes takes one objective; use tpe, gp or nsga2"))
        if self.sampler.name == "grid" and any(
            dimension.when or (dimension.type == "float" and not dimension.step) for dimension in self.search_space.values()
        ):
            raise ValueError(tr("sampler.name: grid takes choices, whole numbers, or floats with a step, and no conditions"))
        if self.confirm.best and len(self.objectives) > 1:
            raise ValueError(
                tr(
                    "confirm.best: {count} objectives have a Pareto front and no single best to confirm; set it to 0",
                    count=len(self.objectives),
                )
            )
        if self.confirm.best:
            self._check_confirm()
        self._check_conditions()
        for field, seeds in (("seeds", self.seeds), ("confirm.seeds", self.confirm.seeds)):
            if twice := [seed for number, seed in enumerate(seeds) if seed in seeds[:number]]:
                form = marked("{field}: {twice} is given twice, and one seed trains the same twice; give others")
                raise ValueError(translated(form, field=field, twice=twice[0]))
        return self

    def _check_conditions(self) -> None:
        seen: dict[str, Dimension] = {}
        for name, dimension in self.search_space.items():
            for other, values in dimension.when.items():
                if other not in seen:
                    raise ValueError(
                        tr(
                            "search_space.{name}.when: {other!r} is not searched further up; move it there",
                            name=name,
                            other=other,
                        )
                    )
                choices = seen[other].choices
                if choices is not None and not set(values) <= set(choices):
                    never = next(value for value in values if value not in choices)
                    raise ValueError(
                        tr(
                            "search_space.{name}.when: {other} is never {never}; its choices are {choices}",
                            name=name,
                            other=other,
                            never=never,
                            choices=list(choices),
                        )
                    )
            seen[name] = dimension

    def _check_confirm(self) -> None:
        seeds = self.confirm.seeds
        if self.confirm.references and self.trainer != "lora":
            raise ValueError(
                tr("confirm.references: a StarGAN is confirmed by half of the latents that are held out; leave it out")
            )
        if len(set(seeds)) < FEWEST_TO_CONFIRM and not self.confirm.quick:
            raise ValueError(
                tr(
                    "confirm.seeds: {seeds} are fewer than {fewest_to_confirm}, and of settings something can be said "
                    "from {fewest_to_confirm} trainings on; give at least {fewest_to_confirm} different ones, set "
                    "confirm.best to 0, or look with --quick, which confirms nothing",
                    seeds=list(seeds),
                    fewest_to_confirm=FEWEST_TO_CONFIRM,
                )
            )
        if used := sorted(set(seeds) & set(self.seeds)):
            raise ValueError(tr("confirm.seeds: {used} is one of the search's seeds; give others", used=used[0]))


def read_constraint(text: str) -> tuple[str, str, float]:
    """`name <= number` or `name >= number` in its parts; ValueError for another form."""
    match = _CONSTRAINT.fullmatch(text)
    try:
        if match:
            return match[1], match[2], float(match[3])
    except ValueError:
        pass
    raise ValueError(
        tr("{text!r} is no constraint; write NAME <= NUMBER or NAME >= NUMBER, such as parameters <= 5e6", text=text)
    )


def load_sweep(path: str | Path, overrides: Mapping[str, Any], *, quick: bool = False) -> tuple[SweepSpec, Any]:
    """A sweep and its base experiment; `quick` is confirm.quick. InputError with every problem at once: of the sweep, then of the experiment
    and the space."""
    place = Path(path)
    tree = {**read_yaml(place, "sweep"), **{key: value for key, value in overrides.items() if value not in ("", None)}}
    if quick and isinstance(tree.get("confirm", {}), Mapping):
        tree["confirm"] = {**tree.get("confirm", {}), "quick": True}
    spec = checked(tree, SweepSpec)
    return spec, base_experiment(spec, place)


def base_experiment(spec: SweepSpec, path: Path) -> Any:
    """The experiment that trials change, with the sweep's own settings; InputError when a searched setting is none, or cannot be its values."""
    kind = EXPERIMENTS[spec.trainer]
    where = given_or_shipped(Path(spec.experiment).expanduser(), path.parent)
    settings = as_overrides(spec.settings)
    base = load_experiment(where, settings, kind)
    problems = []
    for name, dimension in spec.search_space.items():
        ends = dimension.choices or tuple(
            int(v) if dimension.type == "int" else v for v in (dimension.low, dimension.high) if v is not None
        )
        for value in ends:
            try:
                load_experiment(where, {**settings, name: _text(value)}, kind)
            except InputError as error:
                problems += [f"search_space.{name}: {problem}" for problem in error.problems]
    names = short_names(kind)
    searched = {name: names.get(name, name) for name in spec.search_space}
    problems += [
        tr("search_space.{name}: trials train with `seeds`; the best seed is luck, search something else", name=name)
        for name, path in searched.items()
        if path == SEED
    ]
    if SEED in paths_given(spec.settings, kind):
        problems.append(tr("settings: {seed} is that of no trial; give `seeds`", seed=SEED))
    if any(path.startswith(("evaluation.", "output.", "tracking.")) for path in searched.values()):
        problems.append(
            tr("search_space: settings of evaluation, output and tracking do not change what is trained; search others")
        )
    if not base.evaluation.enabled and any(objective.metric != "val_loss" for objective in spec.objectives):
        problems.append(tr("objectives: the experiment does not evaluate; set evaluation.enabled to true, or use val_loss"))
    if spec.confirm.best and base.evaluation.enabled and base.evaluation.seed == spec.confirm.image_seed:
        problems.append(
            tr(
                "confirm.image_seed: {image_seed} is the search's evaluation.seed; give another",
                image_seed=spec.confirm.image_seed,
            )
        )
    uses_val_loss = any(o.metric == "val_loss" for o in spec.objectives) or spec.pruner.name in ("median", "hyperband")
    if uses_val_loss and (spec.trainer != "lora" or not flat(base)["data.validation_split"]):
        problems.append(tr("objectives: val_loss needs a LoRA and a data.validation_split above 0"))
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return base


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return json.dumps(list(value), ensure_ascii=False)  # which is YAML too, and quotes what holds commas
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_overrides(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as they are written on the command line of a training."""
    return {key: _text(value) for key, value in settings.items()}
