"""Whether a training is of a recipe that wins in a suite: better than its baseline, and than the champion's recipe where that is in it too."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashion_ml.config.recipe import RECIPE
from fashion_ml.errors import InputError
from fashion_ml.evaluation.compare import Evaluated
from fashion_ml.evaluation.suites import SuiteComparison, compare_suite
from fashion_ml.runtime.json_file import read_mapping
from fashion_ml.runtime.language import tr

_REPORT = "report/suite.json"
_PARENT = "mlflow.parentRunId"
_KINDS = ("suite",)


@dataclass(frozen=True)
class SuiteEntry:
    """A training in a suite, and what the suite has found."""

    suite: str
    """The suite's run."""
    recipe: str
    """The recipe's name in it."""
    found: Mapping[str, Any]
    """`suite.json`."""

    @property
    def metric(self) -> str:
        """The primary one of the suite."""
        return str(self.found["metric"])

    def failed(self, recipe: str) -> int:
        """How many trainings of a recipe failed for good."""
        return int(self.found.get("failed", {}).get(recipe, 0))

    def why_not_a_winner(self) -> str:
        """Why this recipe has not won against the others; empty where it has.

        A recipe wins that is better than the baseline; the baseline wins where every other recipe is worse. Neither wins before every training
        of the suite has ended, nor by those of its trainings that did not fail.
        """
        if left := int(self.found.get("left", 0)):
            return (
                tr("1 training of the suite is left; end it by fashion-ml suite")
                if left == 1
                else tr("{left} trainings of the suite are left; end them by fashion-ml suite", left=left)
            )
        if failed := self.failed(self.recipe):
            return tr(
                "{trainings} of its recipe {recipe!r} failed, and those that did not are no fair draw of it",
                trainings=_trainings(failed),
                recipe=self.recipe,
            )
        name, baseline = self.recipe, str(self.found["baseline"])
        primary = {
            other: own[self.metric]["difference"] for other, own in self.found["differences"].items() if self.metric in own
        }
        if name == baseline:
            rest = [other for other, one in primary.items() if one["verdict"] != "worse"] + list(self.found["not_measured"])
            return (
                tr(
                    "it is the suite's baseline {name!r}, than which {names} is not shown to be worse",
                    name=name,
                    names=", ".join(rest),
                )
                if rest
                else ""
            )
        if name not in primary:
            return tr("its recipe {name!r} is not in the suite's comparison", name=name)
        one = primary[name]
        if one["verdict"] == "better":
            return ""
        said = one["verdict"] or tr("no verdict, {why}", why=one["why"])
        return tr(
            "its recipe {name!r} against the suite's {baseline!r}: gain {gain} in {metric}: {said}",
            name=name,
            baseline=baseline,
            gain=_gain(one),
            metric=self.metric,
            said=said,
        )

    def why_won(self) -> str:
        """What the suite has shown of it."""
        name, baseline = self.recipe, str(self.found["baseline"])
        if name == baseline:
            return tr("In the suite every other recipe is worse than {name} in {metric}.", name=name, metric=self.metric)
        one = self.found["differences"][name][self.metric]["difference"]
        better = [other for other in self.found["winners"] if other != name]
        also = (
            ""
            if not better
            else tr(" Better than {baseline} is {name} too.", baseline=baseline, name=better[0])
            if len(better) == 1
            else tr(" Better than {baseline} are {names} too.", baseline=baseline, names=", ".join(better))
        )
        return tr(
            "In the suite {name} is better than {baseline}: gain {gain} in {metric}.{also}",
            name=name,
            baseline=baseline,
            gain=_gain(one),
            metric=self.metric,
            also=also,
        )


def suite_entry(client: Any, run: Any, suite: str) -> SuiteEntry:
    """A training run in a suite that is given by its run. InputError when that is no finished suite with a report, or not of this training."""
    from fashion_ml.tracking.queries import download
    from fashion_ml.tracking.run_ids import find_meant

    top = find_meant(client, suite, "--suite", _KINDS)
    run_id = top.info.run_id
    if top.data.tags.get("kind") != "suite" or top.info.status != "FINISHED":
        kind = top.data.tags.get("kind", "unknown")
        raise InputError(
            tr(
                "--suite: run {run_id} is no finished suite ({kind}, {status}); give the run of one",
                run_id=run_id,
                kind=kind,
                status=top.info.status,
            )
        )
    parent = run.data.tags.get(_PARENT, "")
    above = client.get_run(parent) if parent else None
    if above is None or above.data.tags.get(_PARENT) != run_id:
        raise InputError(
            tr(
                "--suite: run {run_id} is no training of the suite {run_name} ({run_id_2}); give one that is, or "
                "leave --suite out",
                run_id=run.info.run_id,
                run_name=top.info.run_name,
                run_id_2=run_id,
            )
        )
    with tempfile.TemporaryDirectory() as temporary:
        try:
            report = download(client, run_id, _REPORT, Path(temporary))
        except InputError as error:
            raise InputError(
                tr("--suite: run {run_id} has no report yet; write it: fashion-ml suite-report FILE", run_id=run_id)
            ) from error
        found = read_mapping(report, "--suite", tr("write it again: fashion-ml suite-report FILE"))
    return SuiteEntry(run_id, above.data.tags.get("recipe_name", ""), found)


def against_champions_recipe(client: Any, entry: SuiteEntry, champion: str) -> SuiteComparison | None:
    """Every recipe of the suite against the champion's, by the suite's trainings; None where the champion's is not in the suite, or the same.

    Every recipe, because the one that is asked about was chosen among them: Holm's correction is over all. InputError when they cannot be
    compared.
    """
    from fashion_ml.runs.compare import evaluated

    wanted = client.get_run(champion).data.tags.get(RECIPE, "")
    of_recipe = {name: list(one["trainings"]) for name, one in entry.found["recipes"].items()}
    name = next((name for name, runs in of_recipe.items() if wanted and _recipe_of(client, runs) == wanted), None)
    if name is None or name == entry.recipe or entry.recipe not in of_recipe:
        return None
    if failed := entry.failed(name):
        raise InputError(
            tr(
                "{trainings} of its recipe, {name}, failed in the suite, and those that did not are no fair draw of it",
                trainings=_trainings(failed),
                name=name,
            )
        )
    sides: dict[str, list[Evaluated]] = {one: [evaluated(client, run_id) for run_id in runs] for one, runs in of_recipe.items()}
    return compare_suite(sides, name, entry.metric, looks=entry.found.get("looks", ()), compare=(entry.metric,))


def champion_is_of(client: Any, entry: SuiteEntry, champion: str) -> bool:
    """Whether the champion is of the recipe itself."""
    runs = list(entry.found["recipes"].get(entry.recipe, {}).get("trainings", ()))
    wanted = client.get_run(champion).data.tags.get(RECIPE, "")
    return bool(wanted) and _recipe_of(client, runs) == wanted


def _recipe_of(client: Any, evaluations: Sequence[str]) -> str:
    """The tag that trainings of one recipe share, by an evaluation of it."""
    if not evaluations:
        return ""
    training = client.get_run(evaluations[0]).data.tags.get(_PARENT, "")
    return str(client.get_run(training).data.tags.get(RECIPE, "")) if training else ""


def _trainings(count: int) -> str:
    return tr("1 training") if count == 1 else tr("{count} trainings", count=count)


def _gain(one: Mapping[str, Any]) -> str:
    gain = one["gain"]
    ends = "" if gain["low"] is None else f" [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    return f"{gain['mean']:+.4f}{ends}"
