"""Every setting of a suite: recipes, the seeds that each is trained with, the baseline, and the metric that decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, field_validator

from fashion_ml.config.base import FileName, Positive, Section, Text
from fashion_ml.config.loading import checked, flat, laid_over, paths_given, read_yaml
from fashion_ml.config.lora import LoraExperiment
from fashion_ml.config.recipe import SEED, recipe_of
from fashion_ml.config.shipped_files import given_or_shipped
from fashion_ml.config.sweep import EXPERIMENTS, Trainer, Value, as_overrides
from fashion_ml.errors import InputError
from fashion_ml.runtime.language import marked, tr, translated

FEWEST_SEEDS = 3
_WHY_SEEDS = marked(
    "another seed alone moves the scores of one recipe, and by how much only several trainings of each can tell; give at least "
    "{fewest_seeds} different ones"
)
_IMAGES_OF_STARGANS = ("model.vae", "data.latents_dir", "data.validation_split", "training.latent_scale")
_REFERENCES = ("data.train_data_dir", "data.subsets", "data.on_bad_image")
"""What the references of a LoRA's evaluation are made of where it has none of its own."""
_MAY_DIFFER = ("model.base", "evaluation.cache_dir")
"""Of what evaluations look at, the model that is judged and where files are kept."""
_OF_WORDS = ("embedding.token", "embedding.init_text")
"""By which the base's prompts differ, unless it goes without the trigger that holds the word."""
_TRAINS_NOTHING = ("output.", "tracking.")
Settings = Mapping[str, Value | tuple[Value, ...] | None]
RecipeName = Annotated[str, StringConstraints(pattern=r"^\S([^\n\r\t]*\S)?$", max_length=60)]


class SuiteRecipe(Section):
    """One recipe: what is trained with every seed."""

    experiment: Text | None = None
    """YAML of its experiment, as the suite's; the suite's when not given."""
    settings: Settings = Field(default={})
    """What this recipe has different, such as `network.rank: 8`, over the suite's `settings`."""


class SuiteSpec(Section):
    """One suite: recipes compared over training seeds."""

    kind: ClassVar[str] = "suite"

    name: FileName
    """Name of the suite and of its study."""
    trainer: Trainer
    """Which command the experiments are for: `train lora` or `train stargan`."""
    experiment: Text
    """YAML of the experiment that recipes change; a relative path is meant from the suite file, else from what came with the package."""
    settings: Settings = Field(default={})
    """Settings of every training laid over the experiment, such as `training.max_train_steps: 150`."""
    recipes: Mapping[RecipeName, SuiteRecipe] = Field(default={})
    """By name; two or more in all, those of `grid` among them."""
    grid: Mapping[str, Annotated[tuple[Value, ...], Field(min_length=1)]] = Field(default={})
    """Settings and their values, such as `network.rank: [4, 8, 16]`: a recipe for each value (`rank 4`), or for each combination of several
    settings' values (`rank 4, learning_rate 0.001`)."""
    baseline: Text | None = None
    """Name of the recipe that the others are compared with; the first when not given."""
    metric: Text = "weighted_total_loss"
    """The metric of the evaluation that decides; it alone has verdicts."""
    compare: tuple[Text, ...] = ()
    """Metrics that the report shows beside it; all when not given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds, at least 3: every recipe is trained once with each."""
    max_seeds: Positive | None = None
    """Seeds are added, one at a time for every recipe that is not decided and for the baseline, until each has so many; none when not given."""
    storage: Text | None = None
    """Where the study is kept, as of a sweep; a file in the suite's folder when not given."""
    timeout_minutes: Annotated[float, Field(gt=0)] | None = None
    """No training begins later than this after the command began."""
    heartbeat_seconds: Positive = 15
    """How often a worker says that its training lives; one silent for four times that is gone on with by another."""

    @field_validator("recipes", mode="before")
    @classmethod
    def _named(cls, recipes: Any) -> Any:
        """YAML reads `on:` and `4:` as no texts, and a recipe that has nothing different as nothing."""
        if not isinstance(recipes, Mapping):
            return recipes
        if other := [name for name in recipes if not isinstance(name, str)]:
            raise ValueError(
                tr("{other!r} is no text, as YAML reads on, off, yes, no and numbers; put the name in quotes", other=other[0])
            )
        return {name: {} if recipe is None else recipe for name, recipe in recipes.items()}

    def all_recipes(self) -> dict[str, dict[str, Any]]:
        """The settings of each recipe, by name, without the suite's own: those that are written out, then those of the grid."""
        found = {name: dict(recipe.settings) for name, recipe in self.recipes.items()}
        return found | {name: settings for name, settings in self._of_grid() if name not in found}

    def against(self) -> str:
        """The baseline's name."""
        return self.baseline or next(iter(self.all_recipes()))

    def every_seed(self) -> tuple[int, ...]:
        """The seeds, and those that may be added: the next whole numbers after the greatest."""
        first = max(self.seeds) + 1
        return (*self.seeds, *range(first, first + max((self.max_seeds or 0) - len(self.seeds), 0)))

    def _of_grid(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self.grid:
            return
        last = [path.rpartition(".")[2] for path in self.grid]
        shown = [name if last.count(name) == 1 else path for name, path in zip(last, self.grid, strict=True)]
        for values in itertools.product(*self.grid.values()):
            texts = as_overrides(dict(zip(shown, values, strict=True)))
            yield ", ".join(f"{name} {text}" for name, text in texts.items()), dict(zip(self.grid, values, strict=True))


def load_suite(path: str | Path, overrides: Mapping[str, Any]) -> tuple[SuiteSpec, dict[str, Any]]:
    """A suite and the checked experiment of each of its recipes, by name.

    InputError with every problem at once: of the suite, then of its recipes.
    """
    spec = suite_spec(path, overrides)
    return spec, suite_experiments(spec, Path(path))


def suite_spec(path: str | Path, overrides: Mapping[str, Any]) -> SuiteSpec:
    """The suite of a file, its recipes not looked into yet. InputError with every problem of its form at once."""
    tree = {
        **read_yaml(Path(path), "suite"),
        **{key: value for key, value in overrides.items() if value not in ("", None)},
    }
    return checked(tree, SuiteSpec)


def suite_experiments(
    spec: SuiteSpec, path: Path, settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda experiments: experiments
) -> dict[str, Any]:
    """The checked experiment of each recipe, by name. InputError with every problem of the suite and of its recipes at once.

    They are compared as `settle` gives them: it knows what settings that say auto are on this machine.
    """
    problems, found = _wrong(spec), {}
    files: dict[str, Any] = {}
    said: dict[str, list[str]] = {}
    for name, settings in spec.all_recipes().items():
        recipe = spec.recipes.get(name, SuiteRecipe())
        experiment = recipe.experiment or spec.experiment
        try:
            if experiment not in files:
                files[experiment] = read_yaml(given_or_shipped(Path(experiment).expanduser(), path.parent))
            found[name] = _experiment(spec, files[experiment], settings)
        except InputError as error:
            said[name] = list(error.problems)
    everywhere = [one for one in next(iter(said.values()), []) if len(said) > 1 and all(one in each for each in said.values())]
    problems += everywhere
    problems += [f"recipes.{name}: {one}" for name, each in said.items() for one in each if one not in everywhere]
    if found and not said:
        settled = settle(found)
        problems += [*_measured_alike(spec, settled), *_twice(spec, settled)]
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return found


def _experiment(spec: SuiteSpec, tree: Mapping[str, Any], settings: Settings) -> Any:
    kind = EXPERIMENTS[spec.trainer]
    return checked(laid_over(laid_over(tree, as_overrides(spec.settings), kind), as_overrides(settings), kind), kind)


def differing(experiments: Mapping[str, Any], baseline: str) -> dict[str, dict[str, Any]]:
    """By recipe the settings in which it differs from the baseline, with its values; None where it does not have one."""
    trees = {name: flat(one) for name, one in experiments.items()}
    own = trees[baseline]
    return {
        name: {key: tree.get(key) for key in dict.fromkeys((*tree, *own)) if tree.get(key) != own.get(key)}
        for name, tree in trees.items()
    }


def _wrong(spec: SuiteSpec) -> list[str]:
    """What is wrong with a suite, whatever its recipes are."""
    recipes, problems = spec.all_recipes(), []
    if len(recipes) < 2:
        there = tr("only {next!r}", next=next(iter(recipes))) if recipes else tr("none")
        problems.append(tr("recipes: there is {there}; give at least two, here or by grid", there=there))
    if both := [name for name, _ in spec._of_grid() if name in spec.recipes]:
        problems.append(tr("recipes: {both!r} is a recipe of the grid too; call it otherwise, or leave it out", both=both[0]))
    if spec.baseline is not None and spec.baseline not in recipes:
        problems.append(
            tr(
                "baseline: {baseline!r} is no recipe; there are {value}",
                baseline=spec.baseline,
                value=", ".join(recipes) or tr("none"),
            )
        )
    if len(set(spec.seeds)) < len(spec.seeds):
        twice = next(seed for seed in spec.seeds if spec.seeds.count(seed) > 1)
        problems.append(tr("seeds: {twice} is given twice, and one seed trains the same twice; give others", twice=twice))
    elif len(spec.seeds) < FEWEST_SEEDS:
        problems.append(
            tr(
                "seeds: {seeds} are fewer than {fewest_seeds}: {why_seeds}",
                seeds=list(spec.seeds),
                fewest_seeds=FEWEST_SEEDS,
                why_seeds=translated(_WHY_SEEDS, fewest_seeds=FEWEST_SEEDS),
            )
        )
    if spec.seeds and min(spec.seeds) < 0:
        problems.append(tr("seeds: {seeds} is below 0; give whole numbers from 0 on", seeds=min(spec.seeds)))
    if spec.max_seeds is not None and spec.max_seeds < len(spec.seeds):
        problems.append(
            tr(
                "max_seeds: {max_seeds} is fewer than the {count} seeds; raise it, or leave it out",
                max_seeds=spec.max_seeds,
                count=len(spec.seeds),
            )
        )
    kind = EXPERIMENTS[spec.trainer]
    given: dict[str, Settings] = {"settings": spec.settings, "grid": dict.fromkeys(spec.grid, 0)}
    given |= {f"recipes.{name}.settings": recipe.settings for name, recipe in spec.recipes.items()}
    for where, settings in given.items():
        paths = paths_given(settings, kind)
        if SEED in paths:
            problems.append(
                tr(
                    "{where}: {seed} is no part of a recipe: the best seed is luck; every recipe trains with `seeds`",
                    where=where,
                    seed=SEED,
                )
            )
        if where != "settings" and (idle := sorted(one for one in paths if one.startswith(_TRAINS_NOTHING))):
            problems.append(
                tr(
                    "{where}: {idle} does not change what is trained; put it into the suite's settings",
                    where=where,
                    idle=idle[0],
                )
            )
    return problems


def _measured_alike(spec: SuiteSpec, experiments: Mapping[str, Any]) -> list[str]:
    """What makes the evaluations of recipes such as cannot be compared, and the evaluation that none has."""
    (first, own), *others = experiments.items()
    problems = []
    if not all(one.evaluation.enabled for one in experiments.values()):
        problems.append(
            tr("evaluation.enabled: false, and recipes are compared by their evaluations; set it to true in settings")
        )
    if any(one.tracking.offline for one in experiments.values()):
        problems.append(tr("tracking.offline: true, but a suite needs its store to go on; set it to false in settings"))
    beside = getattr(type(own), "of_images", _IMAGES_OF_STARGANS)
    own_data = isinstance(own, LoraExperiment) and own.evaluation.references is None
    trees = {name: flat(one) for name, one in experiments.items()}
    for name, _ in others:
        for key in dict.fromkeys((*trees[first], *trees[name])):
            counts = key.startswith("evaluation.") or any(f"{key}.".startswith(f"{path}.") for path in beside)
            here, there = trees[first].get(key), trees[name].get(key)
            if key in _OF_WORDS and here != there and not trees[first]["evaluation.token_free_base"]:
                problems.append(
                    tr(
                        "recipes.{name}: {key} is {there} and that of {first} is {here}, so the base would be given other "
                        "prompts; set evaluation.token_free_base to true in the suite's settings",
                        name=name,
                        key=key,
                        there=there,
                        first=first,
                        here=here,
                    )
                )
            data = (
                own_data and not key.endswith(".num_repeats") and any(f"{key}.".startswith(f"{path}.") for path in _REFERENCES)
            )
            if data and here != there:
                problems.append(
                    tr(
                        "recipes.{name}: {key} is {there} and that of {first} is {here}, and without evaluation.references "
                        "each is measured by the images that it is trained on, so they could not be compared; set "
                        "evaluation.references in the suite's settings",
                        name=name,
                        key=key,
                        there=there,
                        first=first,
                        here=here,
                    )
                )
            if counts and key not in _MAY_DIFFER and here != there:
                problems.append(
                    tr(
                        "recipes.{name}: {key} is {there} and that of {first} is {here}, so their evaluations could not be "
                        "compared; recipes are measured in one way: put it into the suite's settings",
                        name=name,
                        key=key,
                        there=there,
                        first=first,
                        here=here,
                    )
                )
    return problems


def _twice(spec: SuiteSpec, experiments: Mapping[str, Any]) -> list[str]:
    """Recipes that train the same under two names."""
    known = [(name, recipe_of(type(one), flat(one), "")) for name, one in experiments.items()]
    pairs: Sequence[tuple[str, str]] = [
        (earlier, name) for n, (name, recipe) in enumerate(known) for earlier, other in known[:n] if other == recipe
    ]
    return [
        tr("recipes.{name}: trains just what {earlier} does; change one of them, or leave it out", name=name, earlier=earlier)
        for earlier, name in pairs
    ]
