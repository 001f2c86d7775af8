"""Evaluations as runs: below a training run, again for a finished one, over its checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, evaluated_again, flat
from fashion_ml.data.images import data_digest
from fashion_ml.errors import InputError
from fashion_ml.runs.evaluation_note import Ends, EvaluationNote, abandoned
from fashion_ml.runs.inputs import Sources, read_sources, references_folder, training_folder
from fashion_ml.runs.newer_evaluation import tell_on_page
from fashion_ml.runs.offline_hub import check_hub
from fashion_ml.runs.run_name import evaluation_name
from fashion_ml.runs.trained_run import TrainedRun, config_of, trained_run
from fashion_ml.runtime.atomic_files import remove_leftovers
from fashion_ml.runtime.console import say, warn
from fashion_ml.runtime.folder_lock import folder_lock
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.evaluation.lora_plan import Plan
    from fashion_ml.tracking.run import TrackedRun

BEST_MEASURED = "best_measured"
"""The file that `evaluate choose` has chosen, a copy of one of the others."""


def evaluate_trained(
    config: LoraExperiment,
    lora: Path,
    inputs: Sources,
    training: TrackedRun | None,
    folder: Path,
    step: int,
    *,
    base_folder: Path | None = None,
    adopt: bool = False,
    free: bool = True,
    name: str = "",
    trained: Any = None,
    only: bool = False,
    ends: Ends | None = None,
) -> EvaluationResult:
    """The evaluation run below a training run; only once it has succeeded do its means appear on the training run as `eval/…`.

    Without `free` no images of free prompts are made; the rest is measured alike, so the fingerprint is that of an evaluation with them.
    An evaluation of the same weights and settings that was killed in `folder` goes on: its run, and the images it had made.
    Without a training run there is none for the evaluation either: its files are in `folder`. `trained` is the pipeline of a training that goes
    on, as in `plan_evaluation`. With `only` there is one evaluation of these weights and settings: one that has ended is told again by its run.
    What notes that it has ended is added to `ends`, where that is given, for whoever has more to do: killed before, it goes on.

    Where half precision gives NaN that run fails with what it says, and another measures in float32. InputError where that gives NaN too.
    """
    from fashion_ml.models.finite import NotFiniteError

    measured = partial(
        _evaluated,
        lora=lora,
        inputs=inputs,
        training=training,
        folder=folder,
        step=step,
        base_folder=base_folder or folder.parent / "evaluation_base",
        free=free,
        name=name,
        trained=trained,
        only=only,
        ends=ends,
    )
    try:
        return measured(config, adopt=adopt)
    except NotFiniteError as error:
        if not error.in_half:
            raise
        warn(tr("{error}; all is measured anew in float32, as with evaluation.precision no", error=error))
    settings = config.evaluation.model_copy(update={"precision": "no"})
    return measured(config.model_copy(update={"evaluation": settings}), adopt=False)


def _evaluated(
    config: LoraExperiment,
    lora: Path,
    inputs: Sources,
    training: TrackedRun | None,
    folder: Path,
    step: int,
    *,
    base_folder: Path,
    adopt: bool,
    free: bool,
    name: str,
    trained: Any,
    only: bool,
    ends: Ends | None,
) -> EvaluationResult:
    from fashion_ml.evaluation.lora import measure_lora

    plan = _plan(config, lora, inputs, trained)
    plan = plan if free else replace(plan, free=None)
    if training is None:
        return _written(measure_lora(plan, folder, base_folder), folder)
    from fashion_ml.evaluation.log_evaluation import log_facts, log_lora
    from fashion_ml.tracking.queries import delete_children
    from fashion_ml.tracking.run import open_run

    digest = data_digest(inputs.references)
    tags = {
        "kind": "evaluation",
        "algorithm": "lora",
        "base_model": config.model.base,
        "data_digest": digest,
        "step": str(step),
        "checkpoint": lora.name,
        "references_seen_in_training": plan.leakage.tag,
    }
    source = references_folder(config) or training_folder(config)
    note = EvaluationNote(folder, plan.fingerprint, plan.key)
    earlier = note.to_go_on_with(training.client if training.offline else None, ended=only) or abandoned(training, tags)
    called, chosen = name or evaluation_name(training.name, tr("step {step}", step=step)), {"name"} if name else ()
    with open_run(called, tags, parent=training, adopt=adopt, resume=earlier, chosen=chosen) as run:
        if earlier:
            say(tr("Going on with evaluation {earlier}", earlier=earlier))
            delete_children(run)
        note.write(run.run_id, finished=False)
        run.log_params(flat(config))
        run.log_dataset(source, digest, "evaluation", len(inputs.references))
        log_facts(run, plan.facts)
        result = log_lora(run, measure_lora(plan, folder, base_folder), folder)
    numbers = {**result.headline(), **result.ends()}
    roll_up(training, run.run_id, result.fingerprint, numbers, step, result.sentence, result.verdict)
    note.finish(run.run_id, ends)
    return result


def _plan(config: LoraExperiment, lora: Path, inputs: Sources, trained: Any) -> Plan:
    from fashion_ml.evaluation.instruments import device_of_evaluation
    from fashion_ml.evaluation.lora_plan import plan_evaluation

    assert inputs.suite is not None
    return plan_evaluation(config, lora, inputs.references, inputs.items, inputs.suite, device_of_evaluation(), trained)


def _written(result: EvaluationResult, folder: Path) -> EvaluationResult:
    from fashion_ml.evaluation.artifacts import write_evaluation

    write_evaluation(result, folder)
    return replace(result, folder=folder)


def roll_up(
    training: TrackedRun,
    run_id: str,
    fingerprint: str,
    numbers: Mapping[str, float],
    step: int | None,
    sentence: str,
    verdict: str = "",
) -> None:
    """Copy an evaluation's headline onto the training run, under `eval/`, with what identifies it and its verdict; all else stays below.

    What the training run has already, which was more once, goes on with it. Not for a step before one that was evaluated already, and not
    where the training run has an `eval/` value that this evaluation did not measure: MLflow would go on showing the old number beside the
    new fingerprint. `step` None means the last step there is.
    """
    from fashion_ml.metrics.headline import headline
    from fashion_ml.tracking.queries import without_what_is_there
    from fashion_ml.tracking.ui_views import DIGITS, NO_VERDICT, SHORT, VERDICT

    there, last = training.latest_points("eval/")
    kept = headline(numbers)
    values = {f"eval/{key}": value for key, value in numbers.items() if key in kept or f"eval/{key}" in there}
    stale = sorted(there - set(values))
    at = (last or training.latest_points("")[1] or 0) if step is None else step
    if stale or (last is not None and at < last):
        why = (
            tr("it has {stale}, which was not measured now", stale=stale[0])
            if stale
            else tr("step {last} has been evaluated, this is step {at}", last=last, at=at)
        )
        say(tr("The numbers stay on evaluation {run_id} and are not copied to the training run: {why}", run_id=run_id, why=why))
        return
    training.log_metrics(without_what_is_there(training, values, at), step=at)
    identity = {"eval.run_id": run_id, "eval.fingerprint": fingerprint, SHORT: fingerprint[:DIGITS]}
    training.set_tags({**identity, f"eval.{VERDICT}": verdict or NO_VERDICT})
    training.conclude(sentence)
    tell_on_page(training, run_id, sentence)
    training.flush()


def run_evaluation(
    run_id: str, overrides: Mapping[str, Any], folder: Path | None, checkpoints: str = "last", name: str = ""
) -> list[EvaluationResult]:
    """Evaluate LoRA files of a training run again, as new children of it; `overrides` change its evaluation settings, by name or path.

    `checkpoints` is `last`, `best`, a file's name, or `all`: then the best by weighted_total_loss is tagged on the training run, and its
    report shows the three image losses over the checkpoints' steps.
    """
    with ExitStack() as held, tempfile.TemporaryDirectory() as temporary, trained_run(run_id) as training:
        place, run = Path(temporary), training.run
        if training.kind != "train_lora":
            kind = training.kind or "none"
            raise InputError(
                tr(
                    "run_id: run {run_id} is no LoRA training (its tag kind is {kind}); give the id of a training run",
                    run_id=run_id,
                    kind=kind,
                )
            )
        root = evaluation_folder(run, folder)
        held.enter_context(folder_lock(root, "--output-dir"))
        remove_leftovers(root)
        config: LoraExperiment = evaluated_again(config_of(training, place), overrides, LoraExperiment)
        check_hub(config)
        files = checkpoints_of(training, config, checkpoints, place)
        inputs = read_sources(config, training_images=config.evaluation.references is None)
        results: dict[int, EvaluationResult] = {}
        ends = Ends()
        for number, (step, path) in enumerate(files, 1):
            if len(files) > 1:
                say(
                    tr(
                        "Checkpoint {number} of {count}: {name}, step {step}",
                        number=number,
                        count=len(files),
                        name=path.name,
                        step=step,
                    )
                )
            results[step] = evaluate_trained(
                config,
                path,
                inputs,
                run,
                root / path.stem,
                step,
                base_folder=root / ".base_images",
                adopt=len(files) == 1,
                name=f"{name}, step {step}" if name and len(files) > 1 else name,
                ends=ends,
            )
        if checkpoints == "all":
            _tag_best(run, files, results)
        logs = _report_folder(training, place)
        if logs is not None:
            complete_training_report(run, logs, results)
        for end in ends:
            end()
    return list(results.values())


def evaluation_folder(run: TrackedRun, given: Path | None) -> Path:
    """Where an evaluation of a run that is there already puts its files: the given folder, else one below `outputs/evaluations`."""
    return given or (Path("outputs") / "evaluations" / run.run_id).absolute()


def complete_training_report(run: TrackedRun | None, logs: Path, results: Mapping[int, EvaluationResult]) -> None:
    """Draw what evaluations measured, by step, into the newest JSON report of a training and its curves, and log both again, with a run."""
    from fashion_ml.reports.loss_log import IMAGE_LOSSES
    from fashion_ml.reports.training_report import Series, complete_report

    reports = sorted(logs.glob("lora_detailed_training_report_*.json"))
    if not reports:
        return
    series = {}
    for name in IMAGE_LOSSES:
        points = {step: result.scores[name].lora.mean for step, result in sorted(results.items()) if name in result.scores}
        base = next((result.scores[name].base.mean for result in results.values() if name in result.scores), None)
        series[name] = Series(list(points), list(points.values()), base)
    fingerprint = next(iter(results.values())).fingerprint
    for path in complete_report(reports[-1], series, fingerprint):
        if run:
            run.log_file(path, "training_logs")


def checkpoints_of(training: TrainedRun, config: LoraExperiment, wanted: str, place: Path) -> list[tuple[int, Path]]:
    """The LoRA files to evaluate and their steps, in the order of these, one for each step."""
    from fashion_ml.models.ema import EMA
    from fashion_ml.models.kohya_format import read_metadata

    last = config.output.output_name
    if wanted != "all":
        name = {"last": last, "best": "best"}.get(wanted, wanted.removesuffix(".safetensors"))
        path = training.bring(f"lora/{name}.safetensors", place)
        return [(_step(read_metadata(path), config), path)]
    folder = training.bring("lora", place)
    others = (BEST_MEASURED, f"{last}{EMA}", config.embedding.token)
    kept = [path for path in folder.glob("*.safetensors") if path.stem not in others]
    files = sorted(kept, key=lambda path: (path.stem != "best", path.stem == last))
    by_step = {_step(read_metadata(path), config): path for path in files}  # best gives way to the file of the same step
    return sorted(by_step.items())


def _step(metadata: Mapping[str, str], config: LoraExperiment) -> int:
    text = metadata.get("ss_steps", "")
    return int(text) if text.isdigit() else config.training.max_train_steps


def _tag_best(run: TrackedRun, files: list[tuple[int, Path]], results: Mapping[int, EvaluationResult]) -> None:
    scored = {
        step: result.scores["weighted_total_loss"].lora.mean
        for step, result in results.items()
        if "weighted_total_loss" in result.scores
    }
    if scored:
        step = min(scored, key=lambda one: scored[one])
        run.set_tags({"best_checkpoint": dict(files)[step].name, "best_checkpoint_step": str(step)})
        say(
            tr(
                "Best by weighted_total_loss: {name} (step {step}, {scored:.4f}); whether that can be told from the "
                "others says fashion-ml evaluate choose",
                name=dict(files)[step].name,
                step=step,
                scored=scored[step],
            )
        )


def _report_folder(training: TrainedRun, place: Path) -> Path | None:
    """Where the training's newest JSON report is, to be completed: its own folder offline, else a copy; None when the run has none."""
    names = sorted(name for name in training.files("training_logs") if name.endswith(".json"))
    if not names:
        return None
    path = training.bring(f"training_logs/{names[-1]}", place)
    if training.run.offline:
        return path.parent
    logs = place / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    path.replace(logs / path.name)
    return logs
