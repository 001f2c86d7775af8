"""Evaluations side by side: paired on the same references and seeds, every metric's difference with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import judged_gains, means_by_reference, metrics_of, shown, table_names
from fashion_ml.evaluation.artifacts import FACTS, FREE, PER_IMAGE, REPORT, Measured
from fashion_ml.evaluation.compare_free import free_differences
from fashion_ml.evaluation.fingerprint import difference, noted_difference
from fashion_ml.evaluation.power_sentence import power_sentence
from fashion_ml.evaluation.sentence_forms import FORMS
from fashion_ml.evaluation.toy import TOY
from fashion_ml.evaluation.trigger import PROMPTS_OF_BASE
from fashion_ml.evaluation.verdicts import PARTS, PRIMARY, Claim, Verdict
from fashion_ml.evaluation.words import word
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.power import Power
from fashion_ml.metrics.registry import metric_of
from fashion_ml.runtime.csv_cells import read_csv
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed_mapping
from fashion_ml.runtime.language import language, tr
from fashion_ml.runtime.redact import first_line

if TYPE_CHECKING:
    from fashion_ml.evaluation.recipes import RecipeComparison


@dataclass(frozen=True)
class Evaluated:
    """One evaluation as it was logged or written."""

    run_id: str
    """Of an evaluation without a run its folder, or what messages call it."""
    name: str
    """What tells it from the others: the training run's name and what differs in its settings."""
    facts: dict[str, Any]
    """`fingerprint.json`."""
    table: pd.DataFrame
    """`per_image.csv`."""
    recipe: Mapping[str, str] | None = None
    """What the training of it was, but for the seed; None where that is not known."""
    training_seed: str | None = None
    unread: str = ""
    """Why its encoder cannot read the pictures; empty where it can, and where nothing says so."""
    free: pd.DataFrame | None = None
    """`free_prompts.csv`; None where there were no free prompts."""
    seen: int = 0
    """References that were trained on, as far as it was found out."""

    @property
    def resamples(self) -> int:
        """Of the bootstrap, when it was measured."""
        return int(self.facts.get("resamples") or 2000)


@dataclass(frozen=True)
class Difference:
    """One metric of one evaluation against the first: `gain` is positive where this one is better."""

    metric: str
    first: float
    other: float
    gain: Interval
    p: float | None = None
    """By the sign-flip test, of the three parts after Holm; None for other metrics and below 6 references."""
    verdict: Verdict = ""
    """Of weighted_total_loss and its three parts; empty for other metrics, and where there is none."""
    why: str = ""
    """Why there is no verdict on one of these."""
    power: Power | None = None
    """What gain could be seen."""

    @property
    def label(self) -> str:
        """The verdict, or why there is none."""
        return self.verdict or (tr("no verdict: {why}", why=self.why) if self.why else "")


@dataclass(frozen=True)
class ComparisonResult:
    """A second evaluation against a first, paired by reference and seed."""

    first: Evaluated
    second: Evaluated
    differences: list[Difference]
    noted: list[str]
    """Lines about a toy encoder and about versions of libraries that differ: no reason to refuse, but one to know."""
    claim: Claim = "this file"
    """What is compared: one file with another, whatever recipes they are of."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a metric, a similarity and its loss being one: means of both, gain (positive: the second is better) with its interval, n, p,
        verdict, and the gain that could be seen."""
        return difference_table(self.differences)

    @property
    def sentence(self) -> str:
        """What came out for weighted_total_loss, for visual_loss where that was not measured; then what could be seen."""
        return sentence(self.differences, tr("This file"))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return to_dict(self.first, {self.second.run_id: self.differences}, self.noted)


Source = Measured | Evaluated | str | Path
Side = list[Source] | tuple[Source, ...]


@overload
def compare(first: Source, second: Source, *, resamples: int | None = None) -> ComparisonResult: ...
@overload
def compare(first: Side, second: Side, *, resamples: int | None = None) -> RecipeComparison: ...
def compare(
    first: Source | Side, second: Source | Side, *, resamples: int | None = None
) -> ComparisonResult | RecipeComparison:
    """Compare two evaluations, without MLflow: results of this process, or folders that evaluations wrote (per_image.csv, fingerprint.json).

    What is said is of the second file. Two lists, each of at least 3 trainings of one recipe with other seeds, are compared as recipes, over
    training seeds and references.

    `resamples`, at least 1, is of the bootstrap of two evaluations, as in the first one when not given. InputError, naming what differs, when
    they were not measured in the same way, and when they do not have the same references and seeds.
    """
    if isinstance(first, (list, tuple)) or isinstance(second, (list, tuple)):
        if resamples is not None:
            raise InputError(tr("resamples: decides nothing where recipes are compared, by Student's t; leave it out"))
        from fashion_ml.evaluation.recipes import compare_recipes

        return compare_recipes(*(_read_side(side, name) for side, name in ((first, "first"), (second, "second"))))
    one, other = read_evaluated(first, "first"), read_evaluated(second, "second")
    if resamples is not None and (not isinstance(resamples, int) or resamples < 1):
        raise InputError(tr("resamples: {resamples!r} is not accepted; give a whole number, at least 1", resamples=resamples))
    refuse_different([one, other])
    found = differences(one, other, resamples=resamples or one.resamples)
    return ComparisonResult(one, other, found, noted(one, [other]))


def _read_side(side: Any, name: str) -> list[Evaluated]:
    if not isinstance(side, (list, tuple)):
        raise InputError(
            tr("compare: {name} is one evaluation and the other is a list; give two lists, or two evaluations", name=name)
        )
    return [read_evaluated(source, f"{name}[{number}]") for number, source in enumerate(side)]


def read_evaluated(source: Measured | Evaluated | str | Path, name: str) -> Evaluated:
    """An evaluation as `compare` needs it: a result, an evaluation's folder, or what a training returned; messages call it `name`.

    InputError for anything else.
    """
    source = getattr(source, "evaluation", source)  # what a training returns
    if isinstance(source, Evaluated):
        return source
    if isinstance(source, (str, Path)):
        return _of_folder(Path(source).expanduser(), name)
    missing = [part for part in ("fingerprint", "facts", "table") if not hasattr(source, part)]
    if missing:
        what = tr("the outcome of a training without evaluation") if source is None else f"a {type(source).__name__}"
        raise InputError(
            tr("compare: {name} is {what}; give the result of an evaluation, or an evaluation's folder", name=name, what=what)
        )
    facts = {"fingerprint": source.fingerprint, **source.facts}
    ruler = getattr(source, "ruler", None)
    unread, free = _unread({"ruler": ruler.to_dict()} if ruler else {}), getattr(source, "free", None)
    return Evaluated(name, name, facts, source.table, unread=unread, free=free.table if free else None)


def _of_folder(folder: Path, name: str) -> Evaluated:
    try:
        facts = parsed_mapping(read_whole(folder / FACTS))
        table = read_csv(folder / PER_IMAGE, dtype={"seed": str})
        there = (folder / REPORT).is_file()  # evaluations of earlier versions are read without
        report = parsed_mapping(read_whole(folder / REPORT)) if there else {}
        free = read_csv(folder / FREE) if (folder / FREE).is_file() else None
        wrong = _wrong(facts, table)
    except (OSError, ValueError) as error:
        wrong = first_line(error)
    if wrong:
        raise InputError(
            tr(
                "compare: {name} {folder!r} is no evaluation's folder ({wrong}); give one that holds {per_image} and {facts}",
                name=name,
                folder=str(folder),
                wrong=wrong,
                per_image=PER_IMAGE,
                facts=FACTS,
            )
        )
    return Evaluated(str(folder), folder.name, facts, table, unread=_unread(report), free=free, seen=_seen(report))


def _unread(report: Any) -> str:
    """Why the encoder cannot read the pictures, as an evaluation's report says it."""
    try:
        check = report["ruler"]["encoder_check"]
        return "" if check is None or check["readable"] else str(check["line"])
    except (KeyError, TypeError):
        return ""


def _seen(report: Any) -> int:
    """How many references were trained on, as an evaluation's report says it."""
    try:
        leakage = report["leakage"]
        return int(report["references"]) if leakage["seen"] is True else len(leakage["near_duplicates"])
    except (KeyError, TypeError):
        return 0


def no_verdict(evaluations: Sequence[Evaluated], names: Iterable[str] = (PRIMARY, *PARTS)) -> dict[str, str]:
    """The metrics, of these, on which there is no verdict, and why: those of an encoder that cannot read the pictures."""
    line = next((one.unread for one in evaluations if one.unread), "")
    return {name: line for name in names if line and "encoder" in metric_of(name).needs}


def _wrong(facts: Any, table: pd.DataFrame) -> str:
    """Why two files are not those of an evaluation; empty when they are."""
    if not isinstance(facts, dict):
        return tr("{facts} holds no mapping", facts=FACTS)
    if not isinstance(facts.get("fingerprint"), str):
        return tr("{facts} has no fingerprint", facts=FACTS)
    if "reference" not in table:
        return tr("{per_image} has no column reference", per_image=PER_IMAGE)
    texts = [name for name in metrics_of(table) if not pd.api.types.is_numeric_dtype(table[name])]
    return tr("{per_image} has text among the numbers of {texts}", per_image=PER_IMAGE, texts=texts[0]) if texts else ""


def sentence(found: Sequence[Difference], subject: str, than: str = "the first") -> str:
    """One line of what came out, and one of what could be seen and what cannot be said."""
    by_name = {entry.metric: entry for entry in found}
    entry = by_name.get(PRIMARY) or by_name.get(PARTS[0])
    if entry is None:
        return tr("The evaluations share no loss.")
    text = tr(
        "{subject} has {metric} {other:.4f}, {than} {first:.4f}; gain {shown}: {label}.",
        subject=subject,
        metric=entry.metric,
        other=entry.other,
        than=than,
        first=entry.first,
        shown=shown(entry.gain, "+"),
        label=word(entry.label),
    )
    forms = FORMS[language()]
    limits = [power_sentence(entry.metric, entry.power, forms) + forms["end"]] if entry.power else []
    if subject != "This recipe":
        limits.append(tr("Of recipes this says nothing: that takes 3 trainings of each with other seeds."))
    return "\n".join([text, " ".join(limits)] if limits else [text])


def labelled(found: Sequence[Difference]) -> list[tuple[str, Difference]]:
    """What a table shows: a similarity and its loss are one line; of how many references it is where others are of more."""
    by_name, most = {entry.metric: entry for entry in found}, max((entry.gain.n or 0 for entry in found), default=0)
    names = table_names(by_name).items()
    return [(label + (f", n = {n}" if (n := by_name[name].gain.n) != most else ""), by_name[name]) for name, label in names]


def difference_table(found: Sequence[Difference]) -> pd.DataFrame:
    """One row a metric, a similarity and its loss being one: metric, first, other, gain, low, high, n, p, verdict, sees."""
    rows = [
        {"metric": entry.metric, "first": entry.first, "other": entry.other}
        | {"gain": entry.gain.mean, "low": entry.gain.low, "high": entry.gain.high, "n": entry.gain.n}
        | {"p": entry.p, "verdict": entry.verdict, "sees": entry.power.sees if entry.power else None}
        for _, entry in labelled(found)
    ]
    return pd.DataFrame(rows, columns=["metric", "first", "other", "gain", "low", "high", "n", "p", "verdict", "sees"])


def refuse_different(evaluations: Sequence[Evaluated]) -> None:
    """InputError that names what differs when the evaluations were not made in the same way."""
    first, problems = evaluations[0], []
    for other in evaluations[1:]:
        if other.facts.get("fingerprint") != first.facts.get("fingerprint"):
            lines = difference(first.facts, other.facts) or [tr("fingerprint: made by another version of this program")]
            problems += [
                tr(
                    "compare: {run_id} and {run_id_2} were measured differently; {line}",
                    run_id=first.run_id,
                    run_id_2=other.run_id,
                    line=line,
                )
                for line in lines
            ]
    if problems:
        own = any(PROMPTS_OF_BASE in one.facts for one in evaluations)
        raise InputError(
            [
                *problems,
                *(
                    [
                        tr(
                            "compare: with --set evaluation.token_free_base=true the base is given the same whatever word a LoRA "
                            "has"
                        )
                    ]
                    if own
                    else []
                ),
                tr(
                    "compare: measure them in the same way first: fashion-ml evaluate run RUN_ID, which takes all of "
                    "these as options"
                ),
            ]
        )


def differences(first: Evaluated, other: Evaluated, *, resamples: int) -> list[Difference]:
    """Every metric that both have and that has a better way, paired by reference and seed; seeds are averaged first. Those of free prompts
    come after them, paired by prompt."""
    a, b = paired_tables([first, other])
    reference = [str(name) for name in a["reference"]]
    found = []
    forbidden, seeds = no_verdict([first, other]), "seed" in a and "seed" in b
    for metric, one in judged_gains(a, b, reference, resamples=resamples, no_verdict=forbidden, seeds=seeds).items():
        both = means_by_reference(a, metric, reference).notna() & means_by_reference(b, metric, reference).notna()
        means = [float(means_by_reference(table, metric, reference)[both].mean()) for table in (a, b)]
        found.append(Difference(metric, means[0], means[1], one.gain, one.p, one.verdict, one.why, one.power))
    free = free_differences(first.free, other.free, resamples=resamples)
    return found + [Difference(name, *one) for name, one in free.items()]


def paired_tables(evaluations: Sequence[Evaluated]) -> list[pd.DataFrame]:
    """The tables with their rows in one order, by reference and seed. InputError when they do not have the same ones."""
    keys = ["reference", *(["seed"] if all("seed" in one.table for one in evaluations) else [])]
    tables = [one.table.set_index(keys, drop=False).sort_index() for one in evaluations]
    for one, table in zip(evaluations[1:], tables[1:], strict=True):
        if not tables[0].index.equals(table.index):
            raise InputError(
                tr(
                    "compare: {run_id} and {run_id_2} do not have the same references and seeds",
                    run_id=evaluations[0].run_id,
                    run_id_2=one.run_id,
                )
            )
    return [table.reset_index(drop=True) for table in tables]


def noted(first: Evaluated, others: Sequence[Evaluated]) -> list[str]:
    """What is no reason to refuse but one to know, a line each: an encoder that does not know what it sees, and versions of libraries that
    differ from the first evaluation's."""
    toys = [f"{one.run_id}: {one.facts[TOY]}" for one in (first, *others) if TOY in one.facts]
    return toys + [
        tr(
            "{run_id} and {run_id_2} were measured with different versions, which is noted and refuses nothing; {line}",
            run_id=first.run_id,
            run_id_2=other.run_id,
            line=line,
        )
        for other in others
        for line in noted_difference(first.facts, other.facts)
    ]


def to_dict(first: Evaluated, compared: dict[str, list[Difference]], said: Sequence[str]) -> dict[str, Any]:
    """For JSON: the first evaluation, against it each other one by its run id, and what was `noted` of them."""
    return {
        "first": first.run_id,
        "claim": "this file",
        "fingerprint": first.facts.get("fingerprint"),
        "noted": list(said),
        "compared": {run_id: {entry.metric: asdict(entry) for entry in entries} for run_id, entries in compared.items()},
    }
