"""`fashion-ml compare A1,A2,A3 B1,B2,B3`: two recipes, by several trainings of each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import KINDS
from fashion_ml.config.recipe import SEED, recipe_of
from fashion_ml.errors import InputError
from fashion_ml.runs.run_name import comparison_name
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.recipes import RecipeComparison

BETWEEN = ","
"""What stands between the runs of one side."""


@dataclass(frozen=True)
class RecipesCompared:
    """Two recipes, and the run that holds the report."""

    run_id: str
    comparison: RecipeComparison

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"run_id": self.run_id, **self.comparison.to_dict()}


def sides_of(given: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """The runs of the two sides; None where single runs are given. InputError for lists that are not two."""
    if not any(BETWEEN in one for one in given):
        return None
    if len(given) != 2:
        raise InputError(tr("compare: lists of runs are two recipes; give two, such as compare A1,A2,A3 B1,B2,B3"))
    first, second = ([run_id.strip() for run_id in one.split(BETWEEN) if run_id.strip()] for one in given)
    twice = sorted({one for one in [*first, *second] if [*first, *second].count(one) > 1})
    if twice:
        raise InputError(tr("compare: {twice} is named twice; give different runs", twice=twice[0]))
    return first, second


def run_recipe_comparison(
    first: Sequence[str], second: Sequence[str], experiment: str = "", settings: Mapping[str, Any] | None = None
) -> RecipesCompared:
    """Compare two recipes, each by training runs (meaning their latest evaluation) or evaluation runs of it, and log a report.

    InputError when a side has fewer than 3 trainings, is not one recipe with different seeds, when they were measured differently, and for any
    of the `settings` that comparing files takes: here nothing is resampled.
    """
    if settings:
        raise InputError(
            [
                tr("{name}: decides nothing where recipes are compared, by Student's t; leave it out", name=name)
                for name in settings
            ]
        )
    from fashion_ml.evaluation.recipes import compare_recipes
    from fashion_ml.runs.compare import evaluated, report_experiment
    from fashion_ml.tracking.run import open_run
    from fashion_ml.tracking.store import open_tracking

    client = open_tracking(make=False)
    sides = [[evaluated(client, run_id) for run_id in side] for side in (first, second)]
    comparison = compare_recipes(sides[0], sides[1])
    fingerprint = str(comparison.first[0].facts.get("fingerprint"))
    tags = {"kind": "comparison", "eval_fingerprint": fingerprint}
    name = comparison_name([f"{len(side)} of {side[0].name}" for side in (comparison.first, comparison.second)])
    with open_run(name, tags, **report_experiment(experiment)) as run:
        result = RecipesCompared(run.run_id, comparison)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "comparison.json"
            write_text(path, json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
            run.log_file(path)
        run.log_table(comparison.table, "comparison_table.json")
        names = {"first": comparison.first, "second": comparison.second}
        run.log_params({f"compared.{name}": ", ".join(one.run_id for one in side) for name, side in names.items()})
        run.note(comparison.sentence)
    return result


def trained_as(client: Any, run: Any) -> tuple[dict[str, str] | None, str | None]:
    """The recipe and the seed of the training that a run is, or is an evaluation of; None where there was none."""
    training, step = run, ""
    if run.data.tags.get("kind") == "evaluation":
        step = run.data.tags.get("step", "")
        parent = run.data.tags.get("mlflow.parentRunId", "")
        training = client.get_run(parent) if parent else None
    kind = KINDS.get(training.data.tags.get("kind", "")) if training is not None else None
    if kind is None or training is None:
        return None, None
    params: Mapping[str, str] = training.data.params
    recipe = recipe_of(kind, params, training.data.tags.get("data_digest", ""))
    length = params.get(kind.length_field, "")
    return {**recipe, **({"measured at step": step} if step and step != length else {})}, params.get(SEED)
