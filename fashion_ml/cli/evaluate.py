"""`fashion-ml evaluate run`, `evaluate images` and `compare`."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fashion_ml.cli.options import KEYS, Json, Set, assignments, check_json, option, say, table, write_json
from fashion_ml.cli.results import report_evaluation, report_stargan, say_end
from fashion_ml.cli.setting_options import Offered, settings_command
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.evaluation.stargan import GanResult
    from fashion_ml.runs.choose import Chosen
    from fashion_ml.runs.compare import Compared
    from fashion_ml.runs.compare_recipes import RecipesCompared

Name = Annotated[str, option("--name", help="Name of the evaluation's run; by what it measures when not given.")]
_Result = TypeVar("_Result", "EvaluationResult", "GanResult")

evaluate_app = typer.Typer(help="Measure what a model makes against references.", **KEYS)


def _of_runs() -> list[Offered]:
    """What both evaluations have, then what only a LoRA's or only a StarGAN's has."""
    from fashion_ml.config import Evaluation, LoraExperiment, evaluation_settings, settings_of
    from fashion_ml.config.stargan import GanEvaluation

    beside = [one for one in settings_of(LoraExperiment) if one.path in LoraExperiment.of_images]
    lora, stargan = evaluation_settings(Evaluation), evaluation_settings(GanEvaluation)
    shared = {one.key for one in lora} & {one.key for one in stargan}
    return [
        *(Offered(one, "evaluation", has_default=False) for one in lora if one.key in shared),
        *(Offered(one, "evaluation of a LoRA", has_default=False) for one in lora if one.key not in shared),
        *(Offered(one, "images of a LoRA", has_default=False) for one in beside),
        *(Offered(one, "evaluation of a StarGAN", has_default=False) for one in stargan if one.key not in shared),
    ]


def _of_files() -> list[Offered]:
    from fashion_ml.runs.evaluate_file import settings_of_file

    return [Offered(one, one.section) for one in settings_of_file()]


def _of_choices() -> list[Offered]:
    from fashion_ml.config import Evaluation, evaluation_settings

    return [Offered(one, "evaluation", has_default=False) for one in evaluation_settings(Evaluation) if one.key != "strengths"]


def _of_images() -> list[Offered]:
    from fashion_ml.config import Evaluation

    return _among(Evaluation.of_images)


def _of_comparisons() -> list[Offered]:
    from fashion_ml.config import Evaluation

    return [replace(one, has_default=False) for one in _among(Evaluation.of_comparison)]


def _among(keys: Sequence[str]) -> list[Offered]:
    from fashion_ml.config import Evaluation, evaluation_settings

    return [Offered(one, "evaluation") for one in evaluation_settings(Evaluation, keys)]


ComparisonCommand = settings_command(_of_comparisons)
"""The class of `compare`, which stands at the top."""


@evaluate_app.command("run", cls=settings_command(_of_runs))
def evaluate_run(
    context: typer.Context,
    run_id: Annotated[
        str, typer.Argument(help="Finished training: id, its first digits, name, latest, or its folder, which may be offline.")
    ],
    checkpoints: Annotated[
        str, option("--checkpoints", help="last, best (of a LoRA), all, or the name of a kept file.")
    ] = "last",
    output_dir: Annotated[str, option("--output-dir", help="Folder for the files.")] = "",
    name: Name = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Evaluate the LoRA or the StarGAN of a training run again, as a new child run; killed and started again, it goes on where it stopped.

    Settings that are not given are those of the training.
    """
    check_json(json)
    overrides = {**context.obj, **assignments(set_)}
    from fashion_ml.runs.evaluate import run_evaluation
    from fashion_ml.runs.trained_run import training_meant

    folder = Path(output_dir).absolute() if output_dir else None
    kind, run_id = training_meant(run_id)
    if kind == "train_stargan":
        from fashion_ml.runs.stargan import evaluate_stargan_again

        translated = evaluate_stargan_again(run_id, overrides, folder, checkpoints or "last", name)
        _report_each(translated, report_stargan, json, several=checkpoints == "all")
        return
    results = run_evaluation(run_id, overrides, folder, checkpoints or "last", name)
    _report_each(results, report_evaluation, json, several=checkpoints == "all")


def _report_each(results: Sequence[_Result], report: Callable[[_Result], None], json: str, *, several: bool) -> None:
    """Write the facts of the evaluations, as a list where several were asked for, and say what each found."""
    plain = [one.to_dict() for one in results]
    write_json(json, {"evaluations": plain} if several else plain[0])
    for one in results:
        say(tr("Run       {run_id}", run_id=one.run_id))
        report(one)


@evaluate_app.command("choose", cls=settings_command(_of_choices))
def evaluate_choose(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(help="Finished LoRA training: id, its first digits, name, latest, or its folder.")],
    checkpoints: Annotated[str, option("--checkpoints", help="all, or names of kept files with commas between.")] = "all",
    strengths: Annotated[str, option("--strengths", help="Strengths with commas between.")] = "0.6,0.8,1.0",
    output_dir: Annotated[str, option("--output-dir", help="Folder for the files.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Choose a kept file and a strength: halving over references, then a final on references that it has not seen.

    The winner is tagged on the training run and copied to best_measured.safetensors. What cannot be told apart is said, and the earliest,
    weakest of it taken. Stopped and started again, it goes on with the images that are there.
    """
    check_json(json)
    from fashion_ml.evaluation.choose import told
    from fashion_ml.runs.choose import choose_setting

    folder = Path(output_dir).absolute() if output_dir else None
    values = _strengths(strengths or "1.0")
    settings = {**context.obj, **assignments(set_)}
    result = choose_setting(run_id, settings, folder, checkpoints or "all", values)
    write_json(json, result.to_dict())
    say(tr("Run       {run_id}", run_id=result.run_id))
    say(tr("File      {path}, for strength {strength:g}", path=result.path, strength=result.choice.winner.strength))
    say("")
    say(result.sentence)
    table([tr("final"), result.metric], [[told(name), f"{mean:.4f}"] for name, mean in result.choice.finals.items()])
    say(
        tr(
            "Its whole evaluation: fashion-ml evaluate run {whole_evaluation}",
            whole_evaluation=_whole_evaluation(run_id, result, settings),
        )
    )


def _whole_evaluation(run_id: str, result: "Chosen", settings: Mapping[str, str]) -> str:
    """The arguments that measure the winner as it was chosen: the same training, whatever `latest` is by then, and the same settings."""
    winner = result.choice.winner
    parts = [run_id if Path(run_id).is_dir() else result.training, "--checkpoints", winner.file]
    parts += [] if winner.strength == 1 else ["--strengths", f"{winner.strength:g}"]
    own = {name: value for name, value in settings.items() if value != "" and not name.endswith("batch_size")}
    parts += [part for name, value in own.items() for part in ("--set", f"{name}={value}")]
    return shlex.join([*parts, "--batch-size", str(result.batch_size)])


def _strengths(text: str) -> list[float]:
    """InputError unless the text is numbers from above 0 to 4 with commas between."""
    from fashion_ml.errors import InputError

    try:
        values = [float(part) for part in text.split(",") if part.strip()]
        good = bool(values) and all(0 < value <= 4 for value in values)
    except ValueError:
        good = False
    if not good:
        raise InputError(
            tr(
                "--strengths: {text!r} is not accepted; give numbers above 0 and up to 4 with commas between, such "
                "as 0.6,0.8,1",
                text=text,
            )
        )
    return values


@evaluate_app.command("lora", cls=settings_command(_of_files))
def evaluate_lora(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="LoRA of kohya's trainers (LoRA, LoCon, LoHa, LoKr), diffusers, PEFT or LyCORIS.")
    ],
    training: Annotated[str, option("--training", help="Training folder (N_class folders), for memorisation.")] = "",
    output_dir: Annotated[str, option("--output-dir", help="Folder for the files; below outputs/evaluations by default.")] = "",
    experiment: Annotated[str, option("--experiment", help="MLflow experiment of the run; fashion_ml by default.")] = "",
    name: Name = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Measure a LoRA file that was trained anywhere against its base, in a run of its own; killed and started again, it goes on.

    What the file's metadata say of its training (resolution, clip skip) counts where nothing else is given. What cannot be applied whole is
    refused by name.
    """
    check_json(json)
    from fashion_ml.runs.evaluate_file import evaluate_file

    settings = {**context.obj, **assignments(set_)}
    folder = Path(output_dir).absolute() if output_dir else None
    result = evaluate_file(file.expanduser(), settings, training=training, folder=folder, experiment=experiment, name=name)
    write_json(json, result.to_dict())
    say(tr("Run       {run_id}", run_id=result.run_id))
    report_evaluation(result)


@evaluate_app.command("images", cls=settings_command(_of_images))
def evaluate_images(
    context: typer.Context,
    generated: Annotated[str, option("--generated", help="Folder of images made elsewhere.")],
    reference: Annotated[str, option("--reference", help="Folder of the references.")],
    pairs: Annotated[str, option("--pairs", help="CSV with generated,reference; by equal names when not given.")] = "",
    pair_by: Annotated[str, option("--pair-by", help="stem, csv, order, or prompt (in a WebUI's picture).")] = "",
    training: Annotated[str, option("--training", help="Training folder (N_class folders), for memorisation.")] = "",
    run: Annotated[
        str, option("--run", help="Attach to this training run (id, first digits, name, latest), whose eval/… it becomes.")
    ] = "",
    output_dir: Annotated[str, option("--output-dir", help="Folder for the files.")] = "",
    experiment: Annotated[
        str, option("--experiment", help="MLflow experiment of a run of its own; fashion_ml by default.")
    ] = "",
    name: Name = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Measure images made elsewhere (a WebUI, say) against references, paired by file name, CSV, order or prompt."""
    check_json(json)
    from fashion_ml.errors import InputError
    from fashion_ml.evaluation.aggregate import shown, table_names
    from fashion_ml.runs.compare import run_images

    missing = [
        tr("--{name}: is empty; give a folder of images", name=name)
        for name, given in (("generated", generated), ("reference", reference))
        if not given
    ]
    if missing:
        raise InputError(missing)
    result = run_images(
        Path(generated),
        Path(reference),
        pairs=Path(pairs) if pairs else None,
        pair_by=pair_by,
        overrides={**context.obj, **assignments(set_)},
        training=Path(training) if training else None,
        run_id=run,
        folder=Path(output_dir).absolute() if output_dir else None,
        experiment=experiment,
        name=name,
    )
    write_json(json, result.to_dict())
    left_out = len(result.found.unreadable), len(result.found.unpaired_generated), len(result.found.unpaired_references)
    say(tr("Run       {run_id}", run_id=result.run_id))
    if any(left_out):
        say(tr("Left out  {} unreadable, {} generated and {} references without a partner").format(*left_out))
    say("")
    names = table_names(result.scores, result.pairs.tables["generated"], result.pairs.references)
    rows = [[label, shown(result.scores[name])] for name, label in names.items()]
    table([tr("metric"), tr("mean (95 % interval)")], [*rows, *([name, shown(one)] for name, one in result.sets.items())])
    say_end(result, ["grid.png"])


def compare(
    context: typer.Context,
    run_ids: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_A RUN_B …",
            help="Training or evaluation runs: ids, their first digits, names, or latest; lists by commas are recipes.",
        ),
    ],
    experiment: Annotated[str, option("--experiment", help="MLflow experiment of the report; fashion_ml by default.")] = "",
    set_: Set = None,
    json: Json = "",
) -> None:
    """Compare evaluations, paired on the same references and seeds: every metric's difference to the first with its interval.

    What is said is of these files. Two lists, as in compare A1,A2,A3 B1,B2,B3, are two recipes: at least 3 trainings of each, with other
    seeds. Settings that are not given are those of the first evaluation.
    """
    check_json(json)
    from fashion_ml.runs.compare import run_comparison
    from fashion_ml.runs.compare_recipes import run_recipe_comparison, sides_of

    sides, settings = sides_of(run_ids), {**context.obj, **assignments(set_)}
    if sides is not None:
        recipes = run_recipe_comparison(*sides, experiment, settings)
        write_json(json, recipes.to_dict())
        _report_recipes(recipes)
        return
    result = run_comparison(run_ids, experiment, settings)
    write_json(json, result.to_dict())
    _report_comparison(result)


def _report_recipes(result: "RecipesCompared") -> None:
    from fashion_ml.evaluation.aggregate import shown
    from fashion_ml.evaluation.compare import labelled
    from fashion_ml.evaluation.words import word

    found = result.comparison
    say(tr("Report    {run_id}", run_id=result.run_id))
    for letter, side in (("A", found.first), ("B", found.second)):
        say(
            tr(
                "{letter}         {name}; training seeds {names}",
                letter=letter,
                name=side[0].name,
                names=", ".join(one.training_seed or "?" for one in side),
            )
        )
    for name, (a, b) in found.settings.items():
        say(f"          {name}: A {a}, B {b}")
    say("")
    say(found.sentence)
    rows = [
        [label, f"{entry.first:.4f}", f"{entry.other:.4f}", shown(entry.gain, "+"), word(entry.verdict)]
        for label, entry in labelled(found.differences)
    ]
    table([tr("metric"), "A", "B", tr("gain of B (95 % interval)"), ""], rows)
    for line in found.noted:
        say(tr("Note: {line}", line=line))


def _report_comparison(result: "Compared") -> None:
    from fashion_ml.evaluation.aggregate import shown
    from fashion_ml.evaluation.compare import labelled, sentence
    from fashion_ml.evaluation.words import word

    say(tr("Report    {run_id}", run_id=result.run_id))
    say(f"A         {result.first.name} ({result.first.run_id})")
    for number, other in enumerate(result.others):
        letter = "BCDEFGHIJKLMNOPQRSTUVWXYZ"[number] if number < 25 else str(number + 2)
        say("")
        say(f"{letter}         {other.name} ({other.run_id})")
        found = result.differences[other.run_id]
        say(sentence(found, tr("This file ({letter})", letter=letter), "A"))
        rows = [
            [label, f"{entry.first:.4f}", f"{entry.other:.4f}", shown(entry.gain, "+"), word(entry.verdict)]
            for label, entry in labelled(found)
        ]
        table([tr("metric"), "A", letter, tr("gain of {letter} (95 % interval)", letter=letter), ""], rows)
    for line in result.noted:
        say(tr("Note: {line}", line=line))
