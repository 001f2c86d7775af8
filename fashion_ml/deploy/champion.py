"""Whether a new version is the champion: better than its base, better than the champion, and as what that is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from fashion_ml.config.recipe import RECIPE, SEED
from fashion_ml.deploy.searched import known_to_a_search
from fashion_ml.deploy.suite_champion import SuiteEntry, against_champions_recipe, champion_is_of
from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import Comparison, compare, shown
from fashion_ml.evaluation.compare import Difference, Evaluated, differences, no_verdict, refuse_different
from fashion_ml.evaluation.recipes import compare_recipes
from fashion_ml.evaluation.verdicts import LEVEL, PRIMARY
from fashion_ml.metrics.crossed import FEWEST_SEEDS
from fashion_ml.metrics.sequential import levels
from fashion_ml.runtime.language import marked, tr, translated

_BASE = "base_"
_SEEN = {
    "true": marked(" The references were the training images."),
    "some": marked(" Some of the references were trained on."),
}
"""What is said of an evaluation by its tag references_seen_in_training."""


@dataclass(frozen=True)
class Judgement:
    """What becomes of a version."""

    champion: bool
    claim: str
    """`this LoRA`, `this file` or `this recipe`; empty where it is no champion."""
    why: str
    """A sentence or two."""


def judge_champion(client: Any, name: str, alias: str, run_id: str, step: int, entry: SuiteEntry | None = None) -> Judgement:
    """Judge the latest evaluation of a training run, which is to be of its networks at `step`, beside that of the champion of a model.

    With an `entry` in a suite only what wins there as a recipe is champion, and it is judged as a recipe.
    """
    from fashion_ml.runs.compare import evaluated
    from fashion_ml.tracking.model_registry import champion_run

    try:
        new = evaluated(client, run_id)
    except InputError:
        return Judgement(False, "", tr("Not evaluated, so it is no champion."))
    tags = client.get_run(new.run_id).data.tags
    if tags.get("algorithm") not in ("lora", "stargan") or tags.get("step", str(step)) != str(step):
        why = tr(
            "Its latest evaluation is not one of these networks at the last step, so it is no champion: "
            "fashion-ml evaluate run."
        )
        return Judgement(False, "", why)
    own = against_base(new)
    if own is None and tags["algorithm"] == "lora":
        why = tr(
            "No champion: without {primary} nothing says whether it is better than its base (evaluation.encoder).",
            primary=PRIMARY,
        )
        return Judgement(False, "", why)
    if own is not None and own.verdict != "better":
        return Judgement(False, "", tr("No champion: {of_base}.", of_base=of_base(own)))
    told = _SEEN.get(tags.get("references_seen_in_training", ""))
    seen = translated(told) if told else ""
    text = (
        tr("This LoRA: {of_base}.{seen}", of_base=of_base(own), seen=seen) if own else tr("It has no base to be better than.")
    )
    before = champion_run(client, name, alias)
    if entry is not None:
        return _of_suite(client, entry, before, run_id, new, text)
    if before is None:
        return Judgement(True, "this LoRA" if own else "this file", tr("The first champion. {text}", text=text))
    try:
        return _against_champion(client, before, run_id, new, text)
    except InputError as error:
        return Judgement(False, "", tr("The champion stays: {problems}", problems=error.problems[0]))


def _of_suite(client: Any, entry: SuiteEntry, before: str | None, run_id: str, new: Evaluated, text: str) -> Judgement:
    """What becomes of a training of a suite: champion where its recipe has won there, and against the champion's recipe."""
    stays = tr("No champion") if before is None else tr("The champion stays")
    if why := entry.why_not_a_winner():
        return Judgement(False, "", f"{stays}: {why}.")
    if searched := known_to_a_search(client, new.facts, client.get_run(run_id)):
        return Judgement(False, "", f"{stays}: {searched}")
    if before is None:
        return Judgement(True, "this recipe", tr("The first champion. {why_won} {text}", why_won=entry.why_won(), text=text))
    if champion_is_of(client, entry, before):
        return Judgement(
            False,
            "",
            tr(
                "{stays}: it is of the same recipe, {recipe}, of which every seed is one draw.",
                stays=stays,
                recipe=entry.recipe,
            ),
        )
    try:
        found = against_champions_recipe(client, entry, before)
        if found is None:  # the suite says nothing of the champion's recipe
            return _against_another_recipe(client, entry, before, run_id, new, text)
    except InputError as error:
        return Judgement(False, "", tr("{stays}: {why}", stays=stays, why=error.problems[0]))
    one = found.primary()[entry.recipe].difference
    line = tr(
        "{recipe} against the champion's recipe, {baseline}: gain {shown} in {metric}: {label}.",
        recipe=entry.recipe,
        baseline=found.baseline,
        shown=shown(one.gain, "+"),
        metric=entry.metric,
        label=one.label,
    )
    if one.verdict != "better":
        return Judgement(False, "", f"{stays}: {line}")
    return Judgement(True, "this recipe", f"{line} {entry.why_won()} {text}")


def _against_another_recipe(client: Any, entry: SuiteEntry, before: str, run_id: str, new: Evaluated, text: str) -> Judgement:
    """As a recipe against that of a champion outside the suite, by what the store has of both; never as a file, for a suite has many to choose
    from. Bonferroni's correction is over the recipes that the suite could have sent, at the strictest bound of its looks."""
    from fashion_ml.runs.compare import evaluated

    old = evaluated(client, before)
    refuse_different([old, new])
    one, said = _recipes_compared(client, before, run_id, old, new)
    if one is None:
        why = tr("The champion stays: its recipe is not in the suite; put it into a suite as the baseline.")
        return Judgement(False, "", f"{why} {said}".rstrip())
    count, looks = len(entry.found["recipes"]), entry.found.get("looks", ())
    level = min(levels(looks)) if looks else LEVEL
    if one.verdict == "better" and one.p is not None and count * one.p < level:
        return Judgement(True, "this recipe", f"{_line(tr('This recipe'), one)} {entry.why_won()} {text}")
    chosen = (
        tr(
            " That is no verdict on one of {count} recipes (p {p:.4f}, not below {level:.4f}).",
            count=count,
            p=one.p,
            level=level / count,
        )
        if one.verdict == "better"
        else ""
    )
    return Judgement(False, "", tr("The champion stays: {line}{chosen}", line=_line("this recipe", one), chosen=chosen))


def against_base(new: Evaluated) -> Comparison | None:
    """The primary metric of a LoRA against its base, by its table; None without a base or without the metric."""
    if f"{_BASE}{PRIMARY}" not in new.table or PRIMARY not in new.table:
        return None
    base = pd.DataFrame({PRIMARY: new.table[f"{_BASE}{PRIMARY}"]})
    reference = [str(one) for one in new.table["reference"]]
    forbidden = no_verdict([new])
    return compare(base, new.table[[PRIMARY]], reference, resamples=new.resamples, no_verdict=forbidden).get(PRIMARY)


def of_base(own: Comparison) -> str:
    """What came out against the base."""
    assert own.gain is not None
    label = own.verdict or tr("no verdict, {why}", why=own.why)
    return tr(
        "{primary} {mean:.4f}, the base has {mean_2:.4f}; gain {shown}: {label}",
        primary=PRIMARY,
        mean=own.lora.mean,
        mean_2=own.base.mean,
        shown=shown(own.gain, "+"),
        label=label,
    )


def _against_champion(client: Any, before: str, run_id: str, new: Evaluated, text: str) -> Judgement:
    from fashion_ml.runs.compare import evaluated

    old = evaluated(client, before)
    refuse_different([old, new])
    found = [one for one in differences(old, new, resamples=2000) if one.metric == PRIMARY]
    if not found:
        return Judgement(False, "", tr("The champion stays: without {primary} there is nothing to compare.", primary=PRIMARY))
    recipe, said = _as_recipe(client, before, run_id, old, new)
    if recipe is not None and recipe.verdict == "better":
        return Judgement(True, "this recipe", f"{_line(tr('This recipe'), recipe)} {text}")
    file = _line(tr("This file"), found[0])
    if recipe is not None:
        said = tr("Of its recipe that is not shown: {line}", line=_line("this recipe", recipe))
    if found[0].verdict != "better":
        return Judgement(False, "", tr("The champion stays: {file} {said}", file=file, said=said))
    return Judgement(
        True, "this file", tr("{file} This is said of this file alone. {said} {text}", file=file, said=said, text=text)
    )


def _line(what: str, one: Difference) -> str:
    return tr(
        "{what} has {primary} {other:.4f}, the champion {first:.4f}; gain {shown}: {label}.",
        what=what,
        primary=PRIMARY,
        other=one.other,
        first=one.first,
        shown=shown(one.gain, "+"),
        label=one.label,
    )


def _as_recipe(client: Any, before: str, run_id: str, old: Evaluated, new: Evaluated) -> tuple[Difference | None, str]:
    """The recipes of two trainings compared, where the store has enough of each; else why not."""
    if old.recipe is None or new.recipe is None:
        return None, ""
    if old.recipe == new.recipe:
        return None, tr("Both are of one recipe.")
    if searched := known_to_a_search(client, new.facts):
        return None, searched
    return _recipes_compared(client, before, run_id, old, new)


def _recipes_compared(client: Any, before: str, run_id: str, old: Evaluated, new: Evaluated) -> tuple[Difference | None, str]:
    """The recipes of two trainings compared by all trainings of both that the store has; else why not."""
    sides = [_trainings(client, one, str(new.facts.get("fingerprint"))) for one in (before, run_id)]
    fewest = min(len(side) for side in sides)
    if fewest < FEWEST_SEEDS:
        return None, (
            tr(
                "Of recipes something can be said from {fewest_seeds} training seeds of each on, measured in the "
                "same way; here are {count} of the champion's and {count_2} of this one.",
                fewest_seeds=FEWEST_SEEDS,
                count=len(sides[0]),
                count_2=len(sides[1]),
            )
        )
    try:
        found = compare_recipes(sides[0], sides[1])
    except InputError as error:
        return None, tr("As recipes they cannot be compared: {problems}.", problems=error.problems[0])
    return next((one for one in found.differences if one.metric == PRIMARY), None), ""


def _trainings(client: Any, run_id: str, fingerprint: str) -> list[Evaluated]:
    """The trainings of a run's recipe, one a seed, whose latest evaluations have a fingerprint; its own first."""
    from fashion_ml.runs.compare import evaluated

    own = client.get_run(run_id)
    recipe = own.data.tags.get(RECIPE, "")
    query = f"tags.{RECIPE} = '{recipe}' and tags.`eval.fingerprint` = '{fingerprint}' and attributes.status = 'FINISHED'"
    there = client.search_runs([own.info.experiment_id], query, max_results=1000) if recipe else []
    by_seed: dict[str, str] = {}
    for run in [own, *there]:
        by_seed.setdefault(run.data.params.get(SEED, ""), run.info.run_id)
    return [evaluated(client, one) for one in by_seed.values()]
