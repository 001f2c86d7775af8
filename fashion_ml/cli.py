"""The command line: parse, load, call, print. Heavy imports are inside the commands, so that --help answers at once."""

from __future__ import annotations

import errno
import json as json_format
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fashion_ml.errors import InputError

if TYPE_CHECKING:
    from fashion_ml.evaluation.evaluate import EvaluationResult
    from fashion_ml.recipes.comparing import Compared
    from fashion_ml.recipes.lora import LoraOutcome

PROJECT = Path(__file__).parents[1]
_SETTINGS: dict[str, Any] = {
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
}
_KEYS: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": _SETTINGS,
    "add_completion": False,
}

app = typer.Typer(help="Fine-tune image models for fashion, and know whether it worked.", **_KEYS)
train_app = typer.Typer(help="Train a model; evaluation follows.", **_KEYS)
evaluate_app = typer.Typer(help="Measure what a model makes against references.", **_KEYS)
embedded_app = typer.Typer(help="The small world inside the package that needs no download.", **_KEYS)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(embedded_app, name="embedded")

_NOT_SETTINGS = ("context", "config", "no_evaluate", "resume", "new", "set_", "json")
"""Options of `train lora` that are no settings of the experiment."""
_INTERRUPTED = 130
Json = Annotated[str, typer.Option("--json", metavar="FILE", help="Also write the reported facts to FILE.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Any setting of the config; may be repeated.")]


def _option(*names: str, help: str) -> Any:
    return typer.Option(*names, metavar="VALUE", help=help)


@train_app.command("lora", context_settings={**_SETTINGS, "allow_extra_args": True, "ignore_unknown_options": True})
def train_lora(
    context: typer.Context,
    config: Annotated[str, _option("--config", help="Experiment YAML; experiments/lora/embedded.yaml when not given.")] = "",
    base: Annotated[str, _option("--base", "--pretrained-model-name-or-path", help="embedded, diffusers folder, hub id.")] = "",
    train_data_dir: Annotated[str, _option("--train-data-dir", help="Folder of kohya-style N_class folders.")] = "",
    references: Annotated[str, _option("--references", help="Folder of reference images with captions.")] = "",
    resolution: Annotated[str, _option("--resolution", help="Side of the training images, pixels.")] = "",
    rank: Annotated[str, _option("--rank", "--network-dim", help="LoRA rank.")] = "",
    alpha: Annotated[str, _option("--alpha", "--network-alpha", help="LoRA alpha; the rank when not given.")] = "",
    lr: Annotated[str, _option("--lr", "--learning-rate", help="Learning rate.")] = "",
    lr_scheduler: Annotated[str, _option("--lr-scheduler", help="constant, cosine or linear.")] = "",
    lr_warmup_steps: Annotated[str, _option("--lr-warmup-steps", help="Steps of linear warm-up.")] = "",
    steps: Annotated[str, _option("--steps", "--max-train-steps", help="Optimiser steps.")] = "",
    train_batch_size: Annotated[str, _option("--train-batch-size", help="Images in one forward pass.")] = "",
    gradient_accumulation_steps: Annotated[
        str, _option("--gradient-accumulation-steps", help="Forward passes in one optimiser step.")
    ] = "",
    gradient_checkpointing: Annotated[str, _option("--gradient-checkpointing", help="true or false.")] = "",
    mixed_precision: Annotated[str, _option("--mixed-precision", help="no, fp16 or bf16.")] = "",
    max_grad_norm: Annotated[str, _option("--max-grad-norm", help="Gradient norm limit; 0 for none.")] = "",
    min_snr_gamma: Annotated[str, _option("--min-snr-gamma", help="Min-SNR weighting, 5 is usual.")] = "",
    caption_extension: Annotated[str, _option("--caption-extension", help="Ending of caption files.")] = "",
    save_every_n_epochs: Annotated[str, _option("--save-every-n-epochs", help="Keep a LoRA file so often.")] = "",
    seed: Annotated[str, _option("--seed", help="Seed of the training.")] = "",
    output_dir: Annotated[str, _option("--output-dir", help="Folder of this run's files.")] = "",
    output_name: Annotated[str, _option("--output-name", help="The LoRA is <output name>.safetensors.")] = "",
    evaluate: Annotated[str, _option("--evaluate", help="true or false: evaluate after training.")] = "",
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Do not evaluate after training.")] = False,
    resume: Annotated[
        str,
        typer.Option(
            "--resume", metavar="[FOLDER]", help="Go on with the unfinished run there; the latest when no folder is given."
        ),
    ] = "",
    new: Annotated[bool, typer.Option("--new", help="Start over; what is in the output folder is moved aside.")] = False,
    set_: Set = None,
    json: Json = "",
) -> None:
    """Train a LoRA, generate with it and without it, measure both; everything in one MLflow run.

    Every setting has an option of its name, here or not, in either spelling: --flip_aug, --noise-offset 0.05, --save_last_n 3.
    """
    given = {name: str(value) for name, value in locals().items() if name not in _NOT_SETTINGS}
    if no_evaluate:
        if evaluate.lower() in ("true", "1", "yes"):
            raise InputError("evaluate: true and --no-evaluate contradict each other; give one of them")
        given["evaluate"] = "false"
    if resume and new:
        raise InputError("--new: contradicts --resume; give one of them")
    _train_lora(config, {**given, **_extra_options(context.args), **_assignments(set_)}, json, resume, new)


@app.command("demo")
def demo(
    seed: Annotated[str, _option("--seed", help="Seed of the training.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """See the whole thing work: train a LoRA on the embedded default, measure it, show the run tree."""
    _train_lora("", {"seed": seed, **_assignments(set_)}, json)


def _train_lora(config: str, overrides: dict[str, str], json: str, resume: str = "", new: bool = False) -> None:
    from fashion_ml.config import load_config
    from fashion_ml.progress import say

    _check_json(json)
    path = Path(config) if config else PROJECT / "experiments" / "lora" / "embedded.yaml"
    experiment = load_config(path, overrides)
    say(f"Loading {experiment.model.base} …")
    from fashion_ml.recipes.lora import run_lora

    outcome = run_lora(experiment, resume=resume, new=new)
    if outcome is None:  # a process beside the main one, under accelerate launch
        return
    _write_json(json, outcome.facts())
    _report_lora(outcome)


def _report_lora(outcome: LoraOutcome) -> None:
    series, trained = outcome.trained.total_loss, outcome.trained
    _print(f"Trained {series.steps[-1]} steps in {trained.seconds:.0f} s: total_loss {series.values[-1]:.4f} at the last step")
    _print(f"LoRA      {trained.path}")
    _print(f"Run       {outcome.run_id}")
    _print("See it    fashion-ml ui        (or: mlflow ui), then open the experiment's runs")
    if outcome.evaluation is None:
        _print(f"Not evaluated, so there are no image metrics. Next: fashion-ml evaluate run {outcome.run_id}")
        return
    _print(f"Grid      {outcome.folder / 'evaluation' / 'grid.png'}")
    _report_evaluation(outcome.evaluation)


def _report_evaluation(result: EvaluationResult) -> None:
    """The sentence, then a table as the last lines."""
    from fashion_ml.evaluation.evaluate import shown
    from fashion_ml.evaluation.scores import LOSSES

    _print("")
    _print(result.sentence)
    rows = []
    for metric in [name for name in LOSSES if name in result.scores]:
        score = result.scores[metric]
        gain = shown(vars(score.gain), "+") if score.gain else ""
        rows.append([metric, shown(vars(score.base)), shown(vars(score.lora)), gain])
    _table([f"{result.references} references", "base", "LoRA", "gain (95 % interval)"], rows)


def _table(heads: list[str], rows: list[list[str]], left: int = 1) -> None:
    """Columns side by side, the first `left` to the left."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=None, box=None, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=140, highlight=False, markup=False).print(table)


def _evaluation_overrides(**given: str) -> dict[str, Any]:
    """Evaluation settings that were given; comma-separated lists where the setting is one."""
    lists = ("without", "strengths", "signs")
    return {
        key: [part.strip() for part in value.split(",")] if key in lists else value
        for key, value in given.items()
        if value != ""
    }


_ENCODER_HELP = "embedded, hf-hub:OWNER/NAME, local-dir:FOLDER, ARCHITECTURE@FILE, or a hub id or folder of transformers."
_WITHOUT_HELP = "fashion_clip: no encoder, so no fashion_clip_loss and no weighted_total_loss."
_SIGNS_HELP = "Also measured, by comma: attributes, masked_color, ciede2000, kid, memorisation, lpips."


@evaluate_app.command("run")
def evaluate_run(
    run_id: Annotated[str, typer.Argument(help="Id of a finished training run.")],
    checkpoints: Annotated[str, _option("--checkpoints", help="last, best, all, or the name of a kept LoRA file.")] = "last",
    references: Annotated[str, _option("--references", help="Folder of reference images with captions.")] = "",
    encoder: Annotated[str, _option("--encoder", help=_ENCODER_HELP)] = "",
    without: Annotated[str, _option("--without", help=_WITHOUT_HELP)] = "",
    signs: Annotated[str, _option("--signs", help=_SIGNS_HELP)] = "",
    attributes: Annotated[str, _option("--attributes", help="YAML of attribute categories.")] = "",
    strengths: Annotated[
        str, _option("--strengths", help="LoRA strengths to measure too, such as 0,0.25,0.5,0.75,1,1.25.")
    ] = "",
    seed: Annotated[str, _option("--seed", help="First seed of the generated images.")] = "",
    images_per_reference: Annotated[str, _option("--images-per-reference", help="Seeds for every reference.")] = "",
    output_dir: Annotated[str, _option("--output-dir", help="Folder for the files.")] = "",
    json: Json = "",
) -> None:
    """Evaluate the LoRA of a training run again, as a new child run; killed and started again, it goes on where it stopped."""
    _check_json(json)
    overrides = _evaluation_overrides(
        references=references,
        encoder=encoder,
        without=without,
        signs=signs,
        attributes=attributes,
        strengths=strengths,
        seed=seed,
        images_per_reference=images_per_reference,
    )
    from fashion_ml.recipes.evaluation import run_evaluation

    results = run_evaluation(run_id, overrides, Path(output_dir).absolute() if output_dir else None, checkpoints or "last")
    plain = [result.as_plain() for result in results]
    _write_json(json, {"evaluations": plain} if checkpoints == "all" else plain[0])
    for result in results:
        _print(f"Run       {result.run_id}")
        _report_evaluation(result)


@evaluate_app.command("images")
def evaluate_images(
    generated: Annotated[Path, typer.Option("--generated", metavar="DIR", help="Folder of images made elsewhere.")],
    reference: Annotated[Path, typer.Option("--reference", metavar="DIR", help="Folder of the references.")],
    pairs: Annotated[str, _option("--pairs", help="CSV with generated,reference; by equal names when not given.")] = "",
    encoder: Annotated[str, _option("--encoder", help=_ENCODER_HELP)] = "",
    without: Annotated[str, _option("--without", help=_WITHOUT_HELP)] = "",
    signs: Annotated[str, _option("--signs", help=_SIGNS_HELP)] = "",
    attributes: Annotated[str, _option("--attributes", help="YAML of attribute categories.")] = "",
    training: Annotated[str, _option("--training", help="Training folder (N_class folders), for memorisation.")] = "",
    run: Annotated[str, _option("--run", help="Attach to this training run, whose eval/… it becomes.")] = "",
    output_dir: Annotated[str, _option("--output-dir", help="Folder for the files.")] = "",
    experiment: Annotated[str, _option("--experiment", help="MLflow experiment of a run of its own.")] = "fashion_ml",
    json: Json = "",
) -> None:
    """Measure images made elsewhere (a WebUI, say) against references, paired by file name or by a CSV."""
    _check_json(json)
    overrides = _evaluation_overrides(encoder=encoder, without=without, signs=signs, attributes=attributes)
    from fashion_ml.evaluation.evaluate import shown
    from fashion_ml.recipes.comparing import run_images

    result = run_images(
        generated,
        reference,
        pairs=Path(pairs) if pairs else None,
        overrides=overrides,
        training=Path(training) if training else None,
        run_id=run,
        folder=Path(output_dir).absolute() if output_dir else None,
        experiment=experiment or "fashion_ml",
    )
    _write_json(json, result.as_plain())
    left_out = len(result.found.unreadable), len(result.found.unpaired_generated), len(result.found.unpaired_references)
    _print(f"Run       {result.run_id}")
    if any(left_out):
        _print("Left out  {} unreadable, {} generated and {} references without a partner".format(*left_out))
    _print("")
    _print(result.sentence)
    rows = [[name, shown(vars(one))] for name, one in result.aggregates.items()]
    _table(["metric", "mean (95 % interval)"], rows if result.kid is None else [*rows, ["kid", f"{result.kid:.4f}"]])


@app.command("compare")
def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_A RUN_B …", help="Training or evaluation runs.")],
    experiment: Annotated[str, _option("--experiment", help="MLflow experiment of the report.")] = "fashion_ml",
    json: Json = "",
) -> None:
    """Compare evaluations, paired on the same references and seeds: every metric's difference to the first with its interval."""
    _check_json(json)
    from fashion_ml.recipes.comparing import run_comparison

    result = run_comparison(run_ids, experiment or "fashion_ml")
    _write_json(json, result.as_plain())
    _report_comparison(result)


def _report_comparison(result: Compared) -> None:
    from fashion_ml.evaluation.evaluate import shown

    _print(f"Report    {result.run_id}")
    _print(f"A         {result.first.name} ({result.first.run_id})")
    for letter, other in zip("BCDEFGHIJKLMNOPQRSTUVWXYZ", result.others, strict=False):
        _print("")
        _print(f"{letter}         {other.name} ({other.run_id})")
        rows = [
            [entry.metric, f"{entry.first:.4f}", f"{entry.other:.4f}", shown(vars(entry.gain), "+"), entry.verdict]
            for entry in result.differences[other.run_id]
        ]
        _table(["metric", "A", letter, f"gain of {letter} (95 % interval)", ""], rows)


@app.command("export")
def export(
    run_id: Annotated[str, typer.Argument(help="Id of a training run.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A new file, or a new folder for diffusers and merged.")],
    form: Annotated[str, _option("--format", help="kohya, diffusers, or merged (base and LoRA in one).")] = "kohya",
    checkpoint: Annotated[str, _option("--checkpoint", help="last, best, or the name of a kept file.")] = "last",
    json: Json = "",
) -> None:
    """Write the LoRA of a run for other programs."""
    _check_json(json)
    from fashion_ml.exporting import export_lora

    path = export_lora(run_id, form, checkpoint, output)
    _write_json(json, {"run_id": run_id, "format": form, "checkpoint": checkpoint, "path": str(path)})
    _print(f"{path}: {form}")


@app.command("inspect")
def inspect(file: Annotated[Path, typer.Argument(help="A LoRA .safetensors file.")], json: Json = "") -> None:
    """Say what a LoRA file holds: rank, alpha, what it trains, size, metadata."""
    _check_json(json)
    from fashion_ml.exporting import inspect_lora

    facts = inspect_lora(file)
    _write_json(json, facts)
    targets = ", ".join(f"{count} {group}" for group, count in sorted(facts["targets"].items()))
    _print(f"{file}: {facts['bytes'] / 2**20:.2f} MiB, {facts['parameters']:,} numbers, {', '.join(facts['dtype'])}")
    _print(f"rank      {_list(facts['rank'])}")
    _print(f"alpha     {_list(facts['alpha'])}")
    _print(f"modules   {facts['modules']}: {targets}" + ("; DoRA" if facts["dora"] else ""))
    for key, value in sorted(facts["metadata"].items()):
        _print(f"{key} = {value if len(value) <= 120 else value[:117] + '...'}")


@embedded_app.command("collection")
def embedded_collection(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")], json: Json = ""
) -> None:
    """Write the demo's collection: a signature look in kohya folder layout, with held-out references."""
    _check_json(json)
    from fashion_ml.embedded.collection import TOKEN, write_collection

    folder = write_collection(directory)
    train, references = (sorted((folder / part).rglob("*.png")) for part in ("train", "references"))
    facts = {"folder": str(folder), "train": len(train), "references": len(references), "token": TOKEN}
    _write_json(json, facts)
    _print(f"{folder}: {len(train)} training images in {train[0].parent}, {len(references)} held-out references")
    _print(f"Next: fashion-ml train lora --train-data-dir {folder / 'train'} --references {folder / 'references'}")


@app.command("doctor")
def doctor(json: Json = "") -> None:
    """Look at Python, torch, memory, packages, the tracking store and the model files; say what is wrong and how to mend it."""
    _check_json(json)
    from fashion_ml.doctor import examine

    findings = examine()
    _write_json(json, {"ok": not any(f.state == "wrong" for f in findings), "findings": [vars(f) for f in findings]})
    for finding in findings:
        mark = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}[finding.state]
        _print(f"{mark} {finding.name:<16} {finding.found}" + (f"; {finding.fix}" if finding.fix else ""))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command("ui")
def ui(
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on this machine only, and print the link to the runs."""
    from fashion_ml.ui import serve

    serve(port, _print)


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "none"


def _extra_options(arguments: list[str]) -> dict[str, str]:
    """Options without a line of their own in --help, by the name of their setting; one without a value means true."""
    import difflib

    from fashion_ml.config import SHORT_NAMES

    result, rest = {}, list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--"):
            raise InputError(f"{option}: was not expected here; options begin with -- (--help shows them)")
        if name not in SHORT_NAMES and "." not in name:
            near = difflib.get_close_matches(name, SHORT_NAMES, n=1)
            raise InputError(
                f"{option}: no such option; {f'did you mean --{near[0]}?' if near else '--help shows what there is'}"
            )
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        result[name] = value
    return result


def _assignments(pairs: list[str] | None) -> dict[str, str]:
    result = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--set: {pair!r} is not of the form a.b=c; write for example --set network.rank=8")
        result[name] = value
    return result


def _check_json(path: str) -> None:
    if path and (not Path(path).absolute().parent.is_dir() or Path(path).is_dir()):
        raise InputError(f"--json: {path!r} cannot be written; give a file in an existing folder")


def _write_json(path: str, facts: dict[str, Any]) -> None:
    if path:
        from fashion_ml.checkpoint import write_text

        write_text(Path(path), json_format.dumps(facts, indent=2, allow_nan=False) + "\n")


def _print(text: str) -> None:
    typer.echo(text)


def _with_latest(arguments: list[str]) -> list[str]:
    """`--resume` without a folder means the latest run."""
    result = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        result.append(argument)
        if argument == "--resume" and following.startswith("-"):
            result.append("latest")
    return result


def main() -> None:
    """Run the command; a problem the user can mend is one line each and exit code 2, Ctrl-C is 130."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    command = typer.main.get_command(app)
    arguments = _with_latest(sys.argv[1:])
    from fashion_ml.interrupt import interrupt_on_signals

    interrupt_on_signals()
    try:
        code = command.main(arguments, standalone_mode=False)
        if code == _INTERRUPTED:  # typer makes an exit code of Ctrl-C
            raise KeyboardInterrupt
    except InputError as error:
        for problem in error.problems:
            typer.echo(f"error: {' '.join(problem.split())}", err=True)
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("Stopped. A run that had begun is marked KILLED; its log and files are kept.", err=True)
        code = _INTERRUPTED
    except Exception as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            typer.echo(f"error: {error}: the disk is full; free space, what was written before is intact", err=True)
            sys.exit(2)
        if not hasattr(error, "format_message"):  # not a usage error of the command line
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())
            sys.exit(0)
        typer.echo(f"error: {error.format_message()} (--help shows what there is)", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
