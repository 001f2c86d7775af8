"""What the page of `fashion-ml ui` shows: did it work, which is best, how sure; made of rows of runs, without any store.

Runs that were measured in one way are ranked together, and nothing else is: a group is an experiment, an algorithm and an evaluation's
fingerprint. What a run has not measured is absent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashion_ml.config.recipe import SEED
from fashion_ml.metrics.registry import TOTAL, better
from fashion_ml.runs.leader_words import WORDS
from fashion_ml.runs.run_name import DESCRIBED
from fashion_ml.runtime.language import Language
from fashion_ml.tracking.run_reader import RunRow
from fashion_ml.tracking.ui_views import DIGITS, VERDICT

PARAMS = {
    "network.rank": "rank",
    "optimizer.learning_rate": "lr",
    "training.max_train_steps": "steps",
    "training.epochs": "epochs",
    "loss.w_ds": "w_ds",
    "training.seed": "seed",
}
"""What is told of a training beside its name, and how."""
_ANSWERS = ("suite", "sweep", "comparison")
_RANKED_BY = {
    "lora": (f"gain_{TOTAL}", "gain_visual_loss", "gain_color_loss"),
    "stargan": ("domain_accuracy", "ssim"),
    "images": (TOTAL, "visual_loss"),
}
"""By algorithm: what its runs are ranked by, the first that any of them has."""
_MARKS = {"domain_accuracy": {"unchanged": "domain_accuracy_unchanged", "real": "domain_accuracy_real"}}
"""What a number is to be held against, where it is no gain."""
_ENDS = ("", "_low", "_high")
_GAINS_OF_ANSWERS = ("gain", "confirmed_gain")
_SEARCHED = "best_"
_DIGITS_OF_ID = 8
"""Of a run's id, which every command takes."""
_VERDICTS = {"sweep": "confirmation"}
"""The tag of a kind's verdict, where it has another name."""


def is_wanted(metric: str) -> bool:
    """Whether the page reads a metric of a run."""
    plain = metric.removeprefix("eval/")
    return plain in _METRICS or metric.startswith(_SEARCHED)


_METRICS = {
    *(f"{name}{end}" for names in _RANKED_BY.values() for name in names for end in _ENDS),
    *(name for marks in _MARKS.values() for name in marks.values()),
    *(f"{name}{end}" for name in _GAINS_OF_ANSWERS for end in _ENDS),
}


@dataclass(frozen=True)
class Value:
    """A number with its interval, where it has one."""

    metric: str
    mean: float
    low: float | None
    high: float | None

    def of(self, sign: float) -> tuple[float, float]:
        """How good it is at least and at most; `sign` is -1 where lower is better. Without an interval both are infinitely far."""
        if self.low is None or self.high is None:
            return -math.inf, math.inf
        return min(sign * self.low, sign * self.high), max(sign * self.low, sign * self.high)


def overview(
    rows: Iterable[RunRow], experiments: Mapping[str, str], language: Language, most: int | None = None
) -> dict[str, Any]:
    """Everything that the page shows, for JSON: answers first, then the groups of each experiment and its runs without a measurement.

    `most` is how many runs of each list are in it; its `count` says how many there are.
    """
    rows = sorted(rows, key=lambda row: -row.started)
    found = []
    for experiment_id, name in experiments.items():
        mine = [row for row in rows if row.experiment_id == experiment_id]
        answers = [_answer(row) for kind in _ANSWERS for row in mine if row.kind == kind and _is_told(row)]
        measured: dict[tuple[str, str], list[RunRow]] = {}
        rest = []
        for row in mine:
            if row.kind in _ANSWERS:
                continue
            fingerprint = _fingerprint(row)
            if fingerprint:
                measured.setdefault((_algorithm(row), fingerprint), []).append(row)
            else:
                rest.append(row)
        groups = [_group(algorithm, mark, members, language, most) for (algorithm, mark), members in measured.items()]
        groups.sort(key=lambda group: bool(group["part_of"]))  # stable: the newest first, parts of suites and sweeps below
        if answers or groups or rest:
            without = {"count": len(rest), "runs": [_plain(row) for row in rest[:most]]}
            found.append({"id": experiment_id, "name": name, "answers": answers, "groups": groups, "rest": without})
    return {"language": language, "words": WORDS[language], "experiments": found}


def _is_told(row: RunRow) -> bool:
    """A comparison without a sentence says nothing here."""
    return row.kind != "comparison" or bool(row.note)


def _fingerprint(row: RunRow) -> str:
    return row.tags.get("eval.fingerprint" if row.kind.startswith("train_") else "eval_fingerprint", "")


def _algorithm(row: RunRow) -> str:
    found = row.kind.removeprefix("train_") if row.kind.startswith("train_") else row.tags.get("algorithm", "")
    return found if found in _RANKED_BY else "images"


def _plain(row: RunRow) -> dict[str, Any]:
    """What every run has."""
    told = {"id": row.run_id, "experiment": row.experiment_id, "name": row.name, "kind": row.kind, "status": row.status}
    error, what = row.tags.get("error", ""), row.tags.get("description", "")
    said = PARAMS if row.tags.get(DESCRIBED, "") != row.name else {SEED: PARAMS[SEED]}  # such a name says the others
    params = [f"{short} {row.params[key]}" for key, short in said.items() if key in row.params]
    return told | {
        "started": row.started,
        "params": params,
        "lines": [line for line in row.note.splitlines() if line.strip() and line != what],
        **({"what": what} if what else {}),
        **({"error": error} if error else {}),
    }


def _answer(row: RunRow) -> dict[str, Any]:
    """A suite, a sweep or a comparison."""
    told = _plain(row)
    value = headline(row)
    searched = {key.removeprefix(_SEARCHED): number for key, number in row.metrics.items() if key.startswith(_SEARCHED)}
    report = {"suite": "report/report.html", "sweep": "report"}.get(row.kind, "comparison.json")
    return (
        told
        | {"verdict": verdict_of(row), "report": [row.run_id, report], "picture": row.run_id, **_shown(value)}
        | ({"searched": searched} if searched else {})
    )


def verdict_of(row: RunRow) -> str:
    """`better`, `worse`, `not shown`, or empty where none was given."""
    found = row.tags.get(f"eval.{VERDICT}" if row.kind.startswith("train_") else _VERDICTS.get(row.kind, VERDICT), "")
    return found if found in ("better", "worse", "not shown") else ""


def headline(row: RunRow) -> Value | None:
    """The number that a run is ranked by, or that an answer gives; None where it has measured none."""
    if row.kind in _ANSWERS:
        return next((one for name in _GAINS_OF_ANSWERS if (one := _value(row, name, "")) is not None), None)
    return next((one for name in _RANKED_BY[_algorithm(row)] if (one := _value(row, name, _prefix(row))) is not None), None)


def _value(row: RunRow, name: str, prefix: str) -> Value | None:
    mean, low, high = (row.metrics.get(f"{prefix}{name}{end}") for end in _ENDS)
    if mean is None or not math.isfinite(mean):
        return None
    whole = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return Value(name, mean, low if whole else None, high if whole else None)


def _shown(value: Value | None, marks: Mapping[str, float] | None = None) -> dict[str, Any]:
    """For JSON; nothing where nothing was measured."""
    if value is None:
        return {}
    ends = {} if value.low is None else {"low": value.low, "high": value.high}
    return {"value": {"metric": value.metric, "mean": value.mean, **ends, **({"marks": marks} if marks else {})}}


def _group(algorithm: str, fingerprint: str, rows: Sequence[RunRow], language: Language, most: int | None) -> dict[str, Any]:
    """Runs that were measured in one way, the best first; those without the number that ranks them last."""
    values: dict[str, Value] = {}
    metric, sign = "", 1.0
    for name in _RANKED_BY[algorithm]:
        found = {row.run_id: _value(row, name, _prefix(row)) for row in rows}
        values = {run_id: value for run_id, value in found.items() if value is not None}
        if values:
            metric, sign = name, -1.0 if _lower_is_better(name) else 1.0
            break
    ranked = sorted(rows, key=lambda row: -sign * values[row.run_id].mean if row.run_id in values else math.inf)
    told = {
        "algorithm": algorithm,
        "fingerprint": fingerprint[:DIGITS],
        "part_of": sorted({part for row in rows if (part := _part_of(row))}) if all(_part_of(row) for row in rows) else [],
        "count": len(rows),
        "runs": [_member(row, values.get(row.run_id)) for row in ranked[:most]],
    }
    if not values:
        return told
    verdicts = Counter(verdict for row in ranked if row.run_id in values and (verdict := verdict_of(row)))
    return told | {"metric": metric, "verdicts": verdicts, "said": _said(ranked, values, sign, algorithm, language)}


def _lower_is_better(name: str) -> bool:
    return not name.startswith("gain_") and better(name) == "lower"


def _prefix(row: RunRow) -> str:
    return "eval/" if row.kind.startswith("train_") else ""


def _part_of(row: RunRow) -> str:
    """The suite or sweep that a training is part of; empty for one that was made on its own."""
    for kind in ("suite", "sweep"):
        if row.tags.get(kind):
            return f"{kind} {row.tags[kind]}"
    return ""


def _marks(row: RunRow, value: Value) -> dict[str, float]:
    """What a run's number is to be held against, as far as it was measured."""
    named = _MARKS.get(value.metric, {})
    return {word: row.metrics[key] for word, name in named.items() if (key := f"{_prefix(row)}{name}") in row.metrics}


def _member(row: RunRow, value: Value | None) -> dict[str, Any]:
    marks = _marks(row, value) if value is not None else {}
    evaluation = row.tags.get("eval.run_id", row.run_id)
    report = {"report": [evaluation, "report.html"], "picture": evaluation}
    part = {"part_of": _part_of(row)} if _part_of(row) else {}
    return _plain(row) | {"verdict": verdict_of(row)} | report | part | _shown(value, marks)


def _said(rows: Sequence[RunRow], values: Mapping[str, Value], sign: float, algorithm: str, language: Language) -> str:
    """Did it work, which is best, how sure: of files, never of recipes."""
    words, first = WORDS[language], rows[0]
    value, verdict, count = values[first.run_id], verdict_of(first), len(values)
    number = f"{value.mean:+.3f}" if value.metric.startswith("gain_") else f"{value.mean:.3f}"
    if value.low is not None and value.high is not None:
        form = "{:+.3f}" if value.metric.startswith("gain_") else "{:.3f}"
        number += f" [{form.format(value.low)}, {form.format(value.high)}]"
    facts = {"name": first.name, "value": number, "metric": value.metric, "n": count}
    one = "one" if count == 1 else "many"
    if algorithm == "lora":
        form = {"better": "better", "worse": "worse", "not shown": "not_shown"}.get(verdict, "unjudged")
        said = words[f"lora_{form}_{one}"].format(**facts)
    else:
        said = words[f"highest_{one}" if sign > 0 else f"lowest_{one}"].format(**facts)
        against = [f"{words[word]} {number:.2f}" for word, number in _marks(first, value).items()]
        said += words["stop"] + words["against"].format(marks=", ".join(against)) if against else ""
    if count == 1:
        return said
    low = value.of(sign)[0]
    near = [row.run_id for row in rows[1:] if row.run_id in values and values[row.run_id].of(sign)[1] >= low]
    form = "apart" if not near else "no_ends" if value.low is None else "near_one" if len(near) == 1 else "near"
    command = " ".join(["fashion-ml compare", *(run_id[:_DIGITS_OF_ID] for run_id in (first.run_id, *near[:1]))])
    return said + words["stop"] + words[form].format(near=len(near), compare=command)
