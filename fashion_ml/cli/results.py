"""How results end on a terminal: a table, where the report is, the best step, the next command, and what was found as the last three lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fashion_ml.cli.options import say, table
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import near

if TYPE_CHECKING:
    from fashion_ml.evaluation.image_pairs import ImagesResult
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.evaluation.stargan import GanResult
    from fashion_ml.runs.lora import LoraOutcome
    from fashion_ml.runs.stargan import StarganOutcome

_DIGITS = 3
"""Of numbers with intervals here, so that four columns of them fit 80; the report and --json have all."""


def report_lora(outcome: LoraOutcome) -> None:
    """What a LoRA training left, and what its evaluation found."""
    from fashion_ml.reports.loss_log import recent_mean
    from fashion_ml.runtime.duration import duration

    trained, steps = outcome.trained, outcome.trained.total_loss.steps[-1]
    mean, count = recent_mean(trained.total_loss.values)
    say(
        tr(
            "Trained   {steps} steps in {duration}: total_loss {mean:.4f} (mean of the last {count})",
            steps=steps,
            duration=duration(trained.seconds),
            mean=mean,
            count=count,
        )
    )
    say(f"LoRA      {near(trained.path)}")
    _say_run(outcome)
    best = ""
    if trained.best_step:
        best = tr(
            "Best step {best_step} of {steps} by val_loss: {folder}",
            best_step=trained.best_step,
            steps=steps,
            folder=near(outcome.folder / "best.safetensors"),
        )
    if outcome.evaluation is None:
        _not_evaluated(outcome, best)
        return
    report_evaluation(outcome.evaluation, [best, *_next(outcome)])


def report_stargan_training(outcome: StarganOutcome) -> None:
    """What a StarGAN training left, and what its evaluation found."""
    from fashion_ml.runtime.duration import duration

    trained, last = outcome.trained, outcome.trained.epochs[-1]
    losses = tr("d_loss {d_loss:.3f}, g_loss {g_loss:.3f} in the last epoch", d_loss=last["d_loss"], g_loss=last["g_loss"])
    say(
        tr(
            "Trained   {steps} steps in {duration}: {losses}",
            steps=trained.steps,
            duration=duration(trained.seconds),
            losses=losses,
        )
    )
    say(tr("Networks  {path}", path=near(trained.path)))
    _say_run(outcome)
    if outcome.evaluation is None:
        _not_evaluated(outcome, "")
        return
    report_stargan(outcome.evaluation, _next(outcome))


def report_evaluation(result: EvaluationResult, more: list[str] | None = None) -> None:
    """A table, where the files are, `more` lines, then what was found in three lines as the last ones."""
    from fashion_ml.evaluation.aggregate import shown
    from fashion_ml.evaluation.words import word
    from fashion_ml.metrics.registry import LOSSES

    say("")
    rows = []
    for metric in [name for name in LOSSES if name in result.scores]:
        score = result.scores[metric]
        gain = shown(score.gain, "+", _DIGITS) if score.gain else ""
        rows.append([metric, shown(score.base, digits=_DIGITS), shown(score.lora, digits=_DIGITS), gain, word(score.verdict)])
    table(
        [tr("{references} references", references=result.references), tr("base"), "LoRA", tr("gain (95 % interval)"), ""], rows
    )
    say_end(result, ["grid.png"], more)


def report_stargan(result: GanResult, more: list[str] | None = None) -> None:
    """As of a LoRA."""
    from fashion_ml.evaluation.aggregate import shown

    say("")
    names = dict.fromkeys(name.removeprefix("latent_") for name in result.labels())
    rows = [
        [name, *(shown(result.scores[key]) if key in result.scores else "" for key in (name, f"latent_{name}"))]
        for name in names
    ]
    table([tr("{contents} contents", contents=result.contents), tr("by reference"), tr("by latent")], rows)
    say_end(result, ["grid_reference.png", "grid_latent.png"], more)


def say_end(result: EvaluationResult | GanResult | ImagesResult, grids: list[str], more: list[str] | None = None) -> None:
    """Report and grids, `more` lines (else how to look at them), and the three lines."""
    say("")
    if result.folder is not None:
        say(tr("Report    {path}", path=near(result.folder / "report.html")))
        for name in grids:
            say(tr("Grid      {path}", path=near(result.folder / name)))
    for line in (
        [tr("Next      fashion-ml show {short_id}", short_id=short_id(result.run_id))]
        if more is None and result.run_id
        else more or ()
    ):
        if line:
            say(line)
    say("")
    say(result.sentence)


def short_id(run_id: str) -> str:
    """The first digits of a run's id, which every command takes; an id that no store has given is whole."""
    return run_id if run_id.startswith("pending") else run_id[:8]


def _say_run(outcome: LoraOutcome | StarganOutcome) -> None:
    if outcome.run_id:
        say(
            tr("Run       {name} ({run_id})", name=outcome.name, run_id=outcome.run_id)
            if outcome.name
            else tr("Run       {run_id}", run_id=outcome.run_id)
        )


def _next(outcome: LoraOutcome | StarganOutcome) -> list[str]:
    """The command that most people want now."""
    if not outcome.run_id:
        return []
    if outcome.offline:
        return [
            tr("Next      fashion-ml sync {folder}", folder=outcome.folder),
            tr("          (where the tracking store can be reached)"),
        ]
    return [
        tr("Next      fashion-ml show {short_id}", short_id=short_id(outcome.run_id)),
        tr("          fashion-ml ui (did it work, which run is best)"),
    ]


def _not_evaluated(outcome: LoraOutcome | StarganOutcome, best: str) -> None:
    given = str(outcome.folder) if outcome.offline else short_id(outcome.run_id)
    for line in [best, *(_next(outcome) if outcome.offline else [])]:
        if line:
            say(line)
    say(tr("Not evaluated, so there are no image metrics. Next: fashion-ml evaluate run {given}", given=given))
