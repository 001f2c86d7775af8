"""`fashion-ml evaluate run`, `evaluate images` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashion_ml.cli.options import KEYS, Json, check_json, option, say, table, write_json

if TYPE_CHECKING:
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.runs.compare import Compared

evaluate_app = typer.Typer(help="Measure what a model makes against references.", **KEYS)


def report_evaluation(result: EvaluationResult) -> None:
    """The sentence, then a table as the last lines."""
    from fashion_ml.evaluation.lora import shown
    from fashion_ml.metrics.registry import LOSSES

    say("")
    say(result.sentence)
    rows = []
    for metric in [name for name in LOSSES if name in result.scores]:
        score = result.scores[metric]
        gain = shown(vars(score.gain), "+") if score.gain else ""
        rows.append([metric, shown(vars(score.base)), shown(vars(score.lora)), gain])
    table([f"{result.references} references", "base", "LoRA", "gain (95 % interval)"], rows)


def _evaluation_overrides(**given: str) -> dict[str, Any]:
    """Evaluation settings that were given."""
    return {key: value for key, value in given.items() if value != ""}


_ENCODER_HELP = "embedded, hf-hub:OWNER/NAME, local-dir:FOLDER, ARCHITECTURE@FILE, or a hub id or folder of transformers."
_WITHOUT_HELP = "fashion_clip: no encoder, so no fashion_clip_loss and no weighted_total_loss."
_EXTRA_HELP = "Also measured, by comma: attributes, masked_color, ciede2000, kid, memorisation, lpips."


@evaluate_app.command("run")
def evaluate_run(
    run_id: Annotated[str, typer.Argument(help="Id of a finished training run.")],
    checkpoints: Annotated[str, option("--checkpoints", help="last, best, all, or the name of a kept LoRA file.")] = "last",
    references: Annotated[str, option("--references", help="Folder of reference images with captions.")] = "",
    encoder: Annotated[str, option("--encoder", help=_ENCODER_HELP)] = "",
    without: Annotated[str, option("--without", help=_WITHOUT_HELP)] = "",
    extra_metrics: Annotated[str, option("--extra-metrics", "--signs", help=_EXTRA_HELP)] = "",
    attributes: Annotated[str, option("--attributes", help="YAML of attribute categories.")] = "",
    strengths: Annotated[
        str, option("--strengths", help="LoRA strengths to measure too, such as 0,0.25,0.5,0.75,1,1.25.")
    ] = "",
    seed: Annotated[str, option("--seed", help="First seed of the generated images.")] = "",
    images_per_reference: Annotated[str, option("--images-per-reference", help="Seeds for every reference.")] = "",
    output_dir: Annotated[str, option("--output-dir", help="Folder for the files.")] = "",
    json: Json = "",
) -> None:
    """Evaluate the LoRA or the StarGAN of a training run again, as a new child run; killed and started again, it goes on where it stopped."""
    check_json(json)
    overrides = _evaluation_overrides(
        references=references,
        encoder=encoder,
        without=without,
        extra_metrics=extra_metrics,
        attributes=attributes,
        strengths=strengths,
        seed=seed,
        images_per_reference=images_per_reference,
    )
    from fashion_ml.runs.evaluate import run_evaluation
    from fashion_ml.tracking.store import kind_of

    folder = Path(output_dir).absolute() if output_dir else None
    if kind_of(run_id) == "train_stargan":
        from fashion_ml.cli.train import report_stargan
        from fashion_ml.runs.stargan import evaluate_stargan_again

        result = evaluate_stargan_again(run_id, overrides, folder)
        write_json(json, result.to_dict())
        say(f"Run       {result.run_id}")
        report_stargan(result)
        return
    results = run_evaluation(run_id, overrides, folder, checkpoints or "last")
    plain = [one.to_dict() for one in results]
    write_json(json, {"evaluations": plain} if checkpoints == "all" else plain[0])
    for one in results:
        say(f"Run       {one.run_id}")
        report_evaluation(one)


@evaluate_app.command("images")
def evaluate_images(
    generated: Annotated[str, option("--generated", help="Folder of images made elsewhere.")],
    reference: Annotated[str, option("--reference", help="Folder of the references.")],
    pairs: Annotated[str, option("--pairs", help="CSV with generated,reference; by equal names when not given.")] = "",
    encoder: Annotated[str, option("--encoder", help=_ENCODER_HELP)] = "",
    without: Annotated[str, option("--without", help=_WITHOUT_HELP)] = "",
    extra_metrics: Annotated[str, option("--extra-metrics", "--signs", help=_EXTRA_HELP)] = "",
    attributes: Annotated[str, option("--attributes", help="YAML of attribute categories.")] = "",
    training: Annotated[str, option("--training", help="Training folder (N_class folders), for memorisation.")] = "",
    run: Annotated[str, option("--run", help="Attach to this training run, whose eval/… it becomes.")] = "",
    output_dir: Annotated[str, option("--output-dir", help="Folder for the files.")] = "",
    experiment: Annotated[str, option("--experiment", help="MLflow experiment of a run of its own.")] = "fashion_ml",
    json: Json = "",
) -> None:
    """Measure images made elsewhere (a WebUI, say) against references, paired by file name or by a CSV."""
    check_json(json)
    overrides = _evaluation_overrides(encoder=encoder, without=without, extra_metrics=extra_metrics, attributes=attributes)
    from fashion_ml.errors import InputError
    from fashion_ml.evaluation.lora import shown
    from fashion_ml.runs.compare import run_images

    missing = [
        f"--{name}: is empty; give a folder of images"
        for name, given in (("generated", generated), ("reference", reference))
        if not given
    ]
    if missing:
        raise InputError(missing)
    result = run_images(
        Path(generated),
        Path(reference),
        pairs=Path(pairs) if pairs else None,
        overrides=overrides,
        training=Path(training) if training else None,
        run_id=run,
        folder=Path(output_dir).absolute() if output_dir else None,
        experiment=experiment or "fashion_ml",
    )
    write_json(json, result.to_dict())
    left_out = len(result.found.unreadable), len(result.found.unpaired_generated), len(result.found.unpaired_references)
    say(f"Run       {result.run_id}")
    if any(left_out):
        say("Left out  {} unreadable, {} generated and {} references without a partner".format(*left_out))
    say("")
    say(result.sentence)
    rows = [[name, shown(vars(one))] for name, one in result.aggregates.items()]
    table(["metric", "mean (95 % interval)"], [*rows, *([name, f"{value:.4f}"] for name, value in result.sets.items())])


def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_A RUN_B …", help="Training or evaluation runs.")],
    experiment: Annotated[str, option("--experiment", help="MLflow experiment of the report.")] = "fashion_ml",
    json: Json = "",
) -> None:
    """Compare evaluations, paired on the same references and seeds: every metric's difference to the first with its interval."""
    check_json(json)
    from fashion_ml.runs.compare import run_comparison

    result = run_comparison(run_ids, experiment or "fashion_ml")
    write_json(json, result.to_dict())
    _report_comparison(result)


def _report_comparison(result: Compared) -> None:
    from fashion_ml.evaluation.lora import shown

    say(f"Report    {result.run_id}")
    say(f"A         {result.first.name} ({result.first.run_id})")
    for letter, other in zip("BCDEFGHIJKLMNOPQRSTUVWXYZ", result.others, strict=False):
        say("")
        say(f"{letter}         {other.name} ({other.run_id})")
        rows = [
            [entry.metric, f"{entry.first:.4f}", f"{entry.other:.4f}", shown(vars(entry.gain), "+"), entry.verdict]
            for entry in result.differences[other.run_id]
        ]
        table(["metric", "A", letter, f"gain of {letter} (95 % interval)", ""], rows)
    for line in result.noted:
        say(f"Note: {line}")
