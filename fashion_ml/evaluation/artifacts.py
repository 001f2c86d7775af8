"""What an evaluation leaves: three metric runs, tables, pictures, reports, under the same names in every run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from fashion_ml.evaluation.figures import comparison_grid, save_histogram, save_picture
from fashion_ml.evaluation.html_report import write_html
from fashion_ml.metrics.registry import METRIC_RUNS, TOTAL, metric_of
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.tracking.run import TrackedRun, open_run

_GRID_ROWS, _EXTREMES = 8, 4


@dataclass(frozen=True)
class Pairs:
    """The measured pairs of an evaluation, in order, and where their pictures are."""

    tables: Mapping[str, pd.DataFrame]
    """`LoRA` and `base`, or `generated` alone; the first is the one that the evaluation is about."""
    references: Sequence[str]
    """The name of each pair's reference."""
    captions: Sequence[str]
    reference_of: Callable[[int], Image.Image]
    picture_of: Callable[[str, int], Image.Image]
    """The picture of a side (a key of `tables`) in a pair."""
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """More columns of the per-image table."""

    @property
    def main(self) -> str:
        """The side that the evaluation is about."""
        return next(iter(self.tables))

    def columns(self) -> pd.DataFrame:
        """One row a pair: reference, caption, the extra columns, the main side's scores, the base's as `base_…`."""
        table = pd.DataFrame({"reference": list(self.references), "caption": list(self.captions), **self.extra})
        for who, scores in self.tables.items():
            table = table.join(scores.reset_index(drop=True).add_prefix("" if who == self.main else f"{who}_"))
        return table


@dataclass(frozen=True)
class ReportContent:
    """What the reports say about the pairs."""

    title: str
    sentence: str
    fingerprint: str
    facts: Mapping[str, Any]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    """Metric, which way is better, and the cells of the table."""
    heads: Sequence[str]
    """Heads of these cells."""
    report: Mapping[str, Any]
    """`evaluation_report.json`."""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """More pictures for the page, by their heading."""


def log_metric_runs(run: TrackedRun, pairs: Pairs, folder: Path) -> dict[str, Path]:
    """One child for each metric with the value of every image (step = image index), a table and a histogram; returns the histograms.

    A metric of which nothing was measured has no run.
    """
    histograms = {}
    for name, metrics in METRIC_RUNS.items():
        wanted = [column for column in pairs.tables[pairs.main] if metric_of(str(column)).shown_in == name]
        if not any(pairs.tables[pairs.main][column].notna().any() for column in wanted):
            continue
        with open_run(name, {"kind": "metric", "metric": name}, parent=run) as child:
            table = pd.DataFrame({"image": range(len(pairs.references)), "reference": list(pairs.references)})
            for metric in wanted:
                for who, scores in pairs.tables.items():
                    if metric in scores:
                        table[metric if who == pairs.main else f"{who}_{metric}"] = scores[metric].to_numpy()
            for index, row in enumerate(table.drop(columns=["image", "reference"]).to_dict("records")):
                child.log_metrics({key: value for key, value in row.items() if pd.notna(value)}, step=index)
            child.log_table(table, "per_image.json")
            histogram = folder / f"histogram_{name}.png"
            save_histogram(
                histogram, metrics[0], {who: scores[metrics[0]] for who, scores in pairs.tables.items() if metrics[0] in scores}
            )
            child.log_file(histogram)
            histograms[metrics[0]] = histogram
    return histograms


def log_files(run: TrackedRun, pairs: Pairs, verdict: ReportContent, histograms: Mapping[str, Path], folder: Path) -> None:
    """Grid, best and worst pairs, table, fingerprint, JSON report and the page, all written to `folder` and logged."""
    heads = ["reference", *reversed(list(pairs.tables))]
    first_of = [pairs.references.index(name) for name in dict.fromkeys(pairs.references)][:_GRID_ROWS]
    rows = [(pairs.captions[i], [pairs.reference_of(i), *(pairs.picture_of(who, i) for who in heads[1:])]) for i in first_of]
    save_picture(folder / "grid.png", comparison_grid(rows, heads))
    save_picture(folder / "best_worst.png", _best_and_worst(pairs))
    table = pairs.columns()
    write_text(folder / "per_image.csv", table.to_csv(index=False, na_rep="N/A"))
    facts = {"fingerprint": verdict.fingerprint, **verdict.facts}
    write_text(folder / "fingerprint.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    report = json.dumps(verdict.report, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(folder / "evaluation_report.json", report + "\n")
    pictures = {
        "References and generated images": folder / "grid.png",
        "Best and worst pairs": folder / "best_worst.png",
        **verdict.pictures,
        **{f"Distribution of {metric}": path for metric, path in histograms.items()},
    }
    write_html(folder / "report.html", verdict, pictures, table)
    for name in ("grid.png", "best_worst.png", "per_image.csv", "fingerprint.json", "evaluation_report.json", "report.html"):
        run.log_file(folder / name)
    for path in verdict.pictures.values():
        run.log_file(path)
    run.log_table(table, "per_image.json")


def _best_and_worst(pairs: Pairs) -> Image.Image:
    """The pairs with the lowest and the highest weighted_total_loss (visual_loss without one), with their numbers."""
    scores = pairs.tables[pairs.main]
    metric = TOTAL if TOTAL in scores else "visual_loss"
    order = scores[metric].reset_index(drop=True).sort_values(kind="stable").index.tolist()
    count = min(_EXTREMES, (len(order) + 1) // 2)
    shown = [("best", index) for index in order[:count]] + [("worst", index) for index in order[-count:][::-1]]
    rows = [
        (
            f"{which}: {metric} {scores[metric].iloc[i]:.3f}, {pairs.captions[i]}",
            [pairs.reference_of(i), pairs.picture_of(pairs.main, i)],
        )
        for which, i in shown
    ]
    return comparison_grid(rows, ["reference", pairs.main])
