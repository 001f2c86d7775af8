"""Evaluations side by side: paired on the same references and seeds, every metric's difference with its interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import gains, means_by_reference, metrics_of, shown
from fashion_ml.evaluation.artifacts import FACTS, PER_IMAGE, Measured
from fashion_ml.evaluation.fingerprint import difference, noted_difference
from fashion_ml.evaluation.toy import TOY
from fashion_ml.metrics.bootstrap import Interval, bootstrap_mean
from fashion_ml.metrics.registry import LOSSES, TOTAL, better
from fashion_ml.runtime.redact import first_line


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

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `no clear difference` when the interval holds 0 or there is none."""
        if self.gain.ends is None or self.gain.ends[0] <= 0 <= self.gain.ends[1]:
            return "no clear difference"
        return "better" if self.gain.mean > 0 else "worse"


@dataclass(frozen=True)
class ComparisonResult:
    """A second evaluation against a first, paired by reference and seed."""

    first: Evaluated
    second: Evaluated
    differences: list[Difference]
    noted: list[str]
    """Lines about a toy encoder and about versions of libraries that differ: no reason to refuse, but one to know."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a metric: means of both, gain (positive: the second is better) with its interval, verdict."""
        return difference_table(self.differences)

    @property
    def sentence(self) -> str:
        """What came out for weighted_total_loss, for visual_loss where that was not measured."""
        found = {entry.metric: entry for entry in self.differences}
        entry = found.get(TOTAL) or found.get(LOSSES[0])
        if entry is None:
            return "The evaluations share no loss."
        return f"{entry.metric} {entry.other:.4f} against {entry.first:.4f}; gain {shown(entry.gain, '+')}: {entry.verdict}."

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return to_dict(self.first, {self.second.run_id: self.differences}, self.noted)


def compare(
    first: Measured | Evaluated | str | Path, second: Measured | Evaluated | str | Path, *, resamples: int | None = None
) -> ComparisonResult:
    """Compare two evaluations, without MLflow: results of this process, or folders that evaluations wrote (per_image.csv, fingerprint.json).

    `resamples`, at least 1, is of the bootstrap, as in the first evaluation when not given. InputError, naming what differs, when they were not
    measured in the same way, and when they do not have the same references and seeds.
    """
    one, other = read_evaluated(first, "first"), read_evaluated(second, "second")
    if resamples is not None and (not isinstance(resamples, int) or resamples < 1):
        raise InputError(f"resamples: {resamples!r} is not accepted; give a whole number, at least 1")
    refuse_different([one, other])
    found = differences(one, other, resamples=resamples or one.resamples)
    return ComparisonResult(one, other, found, noted(one, [other]))


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
        what = "the outcome of a training without evaluation" if source is None else f"a {type(source).__name__}"
        raise InputError(f"compare: {name} is {what}; give the result of an evaluation, or an evaluation's folder")
    return Evaluated(name, name, {"fingerprint": source.fingerprint, **source.facts}, source.table)


def _of_folder(folder: Path, name: str) -> Evaluated:
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        table = pd.read_csv(folder / PER_IMAGE, dtype={"seed": str}, float_precision="round_trip")
        wrong = _wrong(facts, table)
    except (OSError, ValueError) as error:
        wrong = first_line(error)
    if wrong:
        raise InputError(
            f"compare: {name} {str(folder)!r} is no evaluation's folder ({wrong}); give one that holds {PER_IMAGE} and {FACTS}"
        )
    return Evaluated(str(folder), folder.name, facts, table)


def _wrong(facts: Any, table: pd.DataFrame) -> str:
    """Why two files are not those of an evaluation; empty when they are."""
    if not isinstance(facts, dict):
        return f"{FACTS} holds no mapping"
    if "reference" not in table:
        return f"{PER_IMAGE} has no column reference"
    texts = [name for name in metrics_of(table) if not pd.api.types.is_numeric_dtype(table[name])]
    return f"{PER_IMAGE} has text among the numbers of {texts[0]}" if texts else ""


def difference_table(found: Sequence[Difference]) -> pd.DataFrame:
    """One row a metric: metric, first, other, gain, low, high, verdict."""
    rows = [
        {"metric": entry.metric, "first": entry.first, "other": entry.other}
        | {"gain": entry.gain.mean, "low": entry.gain.low, "high": entry.gain.high, "verdict": entry.verdict}
        for entry in found
    ]
    return pd.DataFrame(rows, columns=["metric", "first", "other", "gain", "low", "high", "verdict"])


def refuse_different(evaluations: Sequence[Evaluated]) -> None:
    """InputError that names what differs when the evaluations were not made in the same way."""
    first, problems = evaluations[0], []
    for other in evaluations[1:]:
        if other.facts.get("fingerprint") != first.facts.get("fingerprint"):
            lines = difference(first.facts, other.facts) or ["fingerprint: made by another version of this program"]
            problems += [f"compare: {first.run_id} and {other.run_id} were measured differently; {line}" for line in lines]
    if problems:
        raise InputError([*problems, "compare: measure them in the same way first: fashion-ml evaluate run RUN_ID"])


def differences(first: Evaluated, other: Evaluated, *, resamples: int) -> list[Difference]:
    """Every metric that both have and that has a better way, paired by reference and seed; seeds are averaged first."""
    keys = ["reference", *(["seed"] if "seed" in first.table and "seed" in other.table else [])]
    a, b = (one.table.set_index(keys, drop=False).sort_index() for one in (first, other))
    if not a.index.equals(b.index):
        raise InputError(f"compare: {first.run_id} and {other.run_id} do not have the same references and seeds")
    reference = a["reference"].tolist()
    a, b = a.reset_index(drop=True), b.reset_index(drop=True)
    found, shared = [], metrics_of(b)
    for metric in [name for name in metrics_of(a) if name in shared and better(name)]:
        paired = gains(a, b, metric, reference)
        if paired.empty:
            continue
        means = [float(means_by_reference(table, metric, reference)[paired.index].mean()) for table in (a, b)]
        found.append(Difference(metric, means[0], means[1], bootstrap_mean(paired.tolist(), resamples=resamples)))
    return found


def noted(first: Evaluated, others: Sequence[Evaluated]) -> list[str]:
    """What is no reason to refuse but one to know, a line each: an encoder that does not know what it sees, and versions of libraries that
    differ from the first evaluation's."""
    toys = [f"{one.run_id}: {one.facts[TOY]}" for one in (first, *others) if TOY in one.facts]
    return toys + [
        f"{first.run_id} and {other.run_id} were measured with different versions, which is noted and refuses nothing; {line}"
        for other in others
        for line in noted_difference(first.facts, other.facts)
    ]


def to_dict(first: Evaluated, compared: dict[str, list[Difference]], said: Sequence[str]) -> dict[str, Any]:
    """For JSON: the first evaluation, against it each other one by its run id, and what was `noted` of them."""
    return {
        "first": first.run_id,
        "fingerprint": first.facts.get("fingerprint"),
        "noted": list(said),
        "compared": {
            run_id: {entry.metric: {**asdict(entry), "verdict": entry.verdict} for entry in entries}
            for run_id, entries in compared.items()
        },
    }
