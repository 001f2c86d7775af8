"""`fashion-ml compare` and `fashion-ml evaluate images`: runs that measure what is there already."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_ml.config import KINDS, Evaluation, of_evaluation, validate_evaluation
from fashion_ml.config.base import Tracking
from fashion_ml.data.images import CaptionedImage, read_training_folder
from fashion_ml.embedded.collection import folder_of
from fashion_ml.errors import InputError
from fashion_ml.evaluation.instruments import read_metric_suite
from fashion_ml.evaluation.toy import check_encoder, own_references
from fashion_ml.runs.compare_recipes import trained_as
from fashion_ml.runs.evaluate import roll_up
from fashion_ml.runs.run_name import DESCRIBED, comparison_name, told_with
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.folder_lock import folder_lock
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.compare import Difference, Evaluated
    from fashion_ml.evaluation.image_pairs import ImagesResult


@dataclass(frozen=True)
class Compared:
    """Evaluations against the first of them."""

    run_id: str
    """The run that holds the report."""
    first: Evaluated
    others: list[Evaluated]
    differences: dict[str, list[Difference]]
    """By the run id of the other evaluation."""
    noted: list[str]
    """Lines about versions that differ."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        from fashion_ml.evaluation.compare import to_dict

        return {"run_id": self.run_id, **to_dict(self.first, self.differences, self.noted)}


def run_comparison(run_ids: Sequence[str], experiment: str = "", settings: Mapping[str, Any] | None = None) -> Compared:
    """Compare the evaluations of runs (training runs, meaning their latest evaluation, or evaluation runs) with the first, and log a report.

    `settings` are evaluation settings that matter to a comparison: `resamples`; the first evaluation's when not given. `experiment` is that of
    the report, else what MLflow's environment says. InputError when a run has no evaluation, when one is named twice, or when they were
    measured differently.
    """
    from fashion_ml.evaluation.compare import difference_table, differences, noted, refuse_different
    from fashion_ml.tracking.run import open_run
    from fashion_ml.tracking.store import open_tracking

    given = validate_evaluation(of_evaluation(settings or {}, Evaluation, "compare", Evaluation.of_comparison))
    client = open_tracking(make=False)
    if len(run_ids) < 2:
        raise InputError(tr("compare: give at least two run ids"))
    evaluations = [evaluated(client, run_id) for run_id in run_ids]
    if len({one.run_id for one in evaluations}) < len(evaluations):
        raise InputError(tr("compare: the same evaluation is named twice; give different runs"))
    refuse_different(evaluations)
    first, *others = evaluations
    resamples = given.resamples if "resamples" in given.model_fields_set else int(first.facts.get("resamples", 2000))
    found = {other.run_id: differences(first, other, resamples=resamples) for other in others}
    tags = {"kind": "comparison", "eval_fingerprint": str(first.facts["fingerprint"])}
    name = comparison_name([one.name for one in evaluations])
    with open_run(name, tags, **report_experiment(experiment)) as run:
        result = Compared(run.run_id, first, others, found, noted(first, others))
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "comparison.json"
            write_text(path, json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
            run.log_file(path)
        tables = [difference_table(entries) for entries in found.values()]
        for run_id, table in zip(found, tables, strict=True):
            table.insert(0, "evaluation", run_id)
        run.log_table(pd.concat(tables), "comparison_table.json")
        run.log_params({"compared.first": first.run_id, "compared.others": ", ".join(found)})
    return result


def run_images(
    generated: Path,
    reference: Path,
    *,
    pairs: Path | None,
    pair_by: str = "",
    overrides: Mapping[str, Any],
    training: Path | None,
    run_id: str,
    folder: Path | None,
    experiment: str,
    name: str = "",
) -> ImagesResult:
    """Measure images made elsewhere against references: a run of its own, or below the run `run_id`, whose `eval/…` it then becomes."""
    from fashion_ml.evaluation.image_pairs import find_pairs, look_for_leakage, measure_images, say_left_out
    from fashion_ml.evaluation.log_evaluation import log_evaluation, log_facts
    from fashion_ml.tracking.environment import experiment_to_use
    from fashion_ml.tracking.run import attach, open_run
    from fashion_ml.tracking.run_ids import find_meant
    from fashion_ml.tracking.store import open_tracking

    settings = validate_evaluation(of_evaluation(overrides, Evaluation, "evaluate images", Evaluation.of_images))
    found = find_pairs(generated, folder_of(reference, "references"), pairs, pair_by=pair_by)
    check_encoder(settings, own_references(str(reference)), refuse=True)
    if not run_id:
        reports = report_experiment(experiment)
        experiment_to_use(reports["experiment"], reports["chosen"])
    known: list[CaptionedImage] = read_training_folder(folder_of(training, "train"), field="--training") if training else []
    suite = read_metric_suite(settings)
    say_left_out(found)
    leakage = look_for_leakage(found, settings, suite, known)
    parent = None
    if run_id:
        client = open_tracking(make=False)
        training_run = find_meant(client, run_id, "--run")
        if training_run.data.tags.get("kind") not in KINDS:
            raise InputError(tr("--run: run {run_id} is no training run; give the id of one", run_id=run_id))
        parent = attach(client, training_run)
    tags = {"kind": "evaluation", "algorithm": "images", "generated": str(generated), "reference": str(reference)}
    tags["references_seen_in_training"] = leakage.tag
    called = name or f"evaluation of images in {generated.absolute().name}"
    with folder_lock(folder, "--output-dir") if folder else nullcontext():  # else it is named after its run
        with open_run(called, tags, parent=parent, adopt=True, **report_experiment(experiment, name)) as run:
            target = folder or (Path("outputs") / "evaluations" / run.run_id).absolute()
            result = measure_images(found, settings, suite, known, leakage)
            log_facts(run, result.facts)
            result = log_evaluation(run, result, target)
            write_text(
                target / "images.json", json.dumps(result.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
            )
            run.log_file(target / "images.json")
        if parent is not None:
            roll_up(parent, result.run_id, result.fingerprint, {**result.headline(), **result.ends()}, None, result.sentence)
    return result


def report_experiment(given: str, name: str = "") -> dict[str, Any]:
    """The experiment of a report of its own, for `open_run`, and which of it and the name was given to the command."""
    chosen = {path for path, value in (("tracking.experiment", given), ("name", name)) if value}
    return {"experiment": given or Tracking().experiment, "chosen": chosen}


def evaluated(client: Any, run_id: str) -> Evaluated:
    """The evaluation of a run (a training run, meaning its latest one, or an evaluation run) as it was logged. InputError without one."""
    from fashion_ml.evaluation.artifacts import FACTS, FREE, PER_IMAGE, REPORT
    from fashion_ml.evaluation.compare import read_evaluated
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.run_ids import find_meant

    run = find_meant(client, run_id)
    run_id = run.info.run_id
    tags = run.data.tags
    evaluation = run_id if tags.get("kind") == "evaluation" else tags.get("eval.run_id", "")
    if not evaluation:
        raise InputError(
            tr("compare: run {run_id} has no evaluation yet; make one: fashion-ml evaluate run {run_id}", run_id=run_id)
        )
    with tempfile.TemporaryDirectory() as temporary:
        for name in (FACTS, PER_IMAGE):
            download(client, evaluation, name, Path(temporary))
        for name in (REPORT, FREE):  # evaluations of earlier versions have no such report, others no free prompts
            with suppress(InputError):
                download(client, evaluation, name, Path(temporary))
        read = read_evaluated(temporary, evaluation)
    params = run.data.params
    known = {short: params[key] for short, key in _NAMED.items() if key in params}
    name = told_with(run.info.run_name or run_id[:8], tags.get(DESCRIBED, ""), known)
    measured = run if evaluation == run_id else client.get_run(evaluation)  # which says of what step it is
    recipe, seed = trained_as(client, measured)
    if recipe is None:
        recipe, seed = trained_as(client, run)
    return replace(read, run_id=evaluation, name=name, recipe=recipe, training_seed=seed)


_NAMED = {
    "rank": "network.rank",
    "lr": "optimizer.learning_rate",
    "steps": "training.max_train_steps",
    "epochs": "training.epochs",
}
