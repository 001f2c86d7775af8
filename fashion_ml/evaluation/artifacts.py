"""The files of an evaluation: tables, pictures, reports, under the same names for every kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from PIL import Image

from fashion_ml.evaluation.figures import comparison_grid, save_histogram, save_picture
from fashion_ml.evaluation.html_report import write_html
from fashion_ml.evaluation.three_lines import first_sentence
from fashion_ml.evaluation.words import word
from fashion_ml.metrics.control_rows import SPECIFIC
from fashion_ml.metrics.registry import METRIC_RUNS, TOTAL, metric_of
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.csv_cells import to_csv
from fashion_ml.runtime.language import tr

PER_IMAGE, FACTS, REPORT = "per_image.csv", "fingerprint.json", "evaluation_report.json"
FREE = "free_prompts.csv"
"""What `compare` reads of an evaluation's folder; the last one is there where there were free prompts."""
SUMMARY = "summary.json"
_GRID_ROWS, _EXTREMES = 8, 4
_SPECIFIC = f"{SPECIFIC}{TOTAL}"
"""Of how much more an image is like its own reference than like others."""


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
    left: str = "reference"
    """What grids call the first picture; a StarGAN's is the content."""
    heads: Mapping[str, str] = field(default_factory=dict)
    """What grids call a side, where not as `tables` does."""
    guide_of: Callable[[int], Image.Image] | None = None
    """The picture that a pair's style was taken from, where that is another than its first picture."""
    shown: Sequence[int] = ()
    """The pairs of the grid; the first of each of the first references where not given."""

    def pictures(self, index: int, *sides: str) -> list[Image.Image]:
        """The pictures of a pair, as grids have them side by side."""
        guide = [self.guide_of(index)] if self.guide_of else []
        return [self.reference_of(index), *guide, *(self.picture_of(who, index) for who in sides)]

    def named(self, *columns: str) -> list[str]:
        """The heads of a grid with these sides."""
        guide = [word("reference")] if self.guide_of else []
        return [word(self.left), *guide, *(self.heads.get(name, word(name)) for name in columns)]

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

    def by_run(self) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """For each child run that shows anything: its name, its histogram's metric, and the values of every image."""
        for name, metrics in METRIC_RUNS.items():
            wanted = [column for column in self.tables[self.main] if metric_of(str(column)).shown_in == name]
            if not any(self.tables[self.main][column].notna().any() for column in wanted):
                continue
            table = pd.DataFrame({"image": range(len(self.references)), "reference": list(self.references)})
            for metric in wanted:
                for who, scores in self.tables.items():
                    if metric in scores:
                        table[metric if who == self.main else f"{who}_{metric}"] = scores[metric].to_numpy()
            yield name, metrics[0], table


@dataclass(frozen=True)
class Figure:
    """One more picture of an evaluation, drawn when files are written."""

    heading: str
    file: str
    draw: Callable[[Path], None]


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
    """What REPORT holds."""
    figures: Sequence[Figure] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    """`summary.json`: the claim, its verdicts and what could be seen; no file where there is no claim."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What was measured: rank, rate, steps; what is not known is absent."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """More tables, by the names of their CSV files."""
    found: str = ""
    """What stands over the grid; the first line of what was found where not given."""


class Measured(Protocol):
    """What every kind of evaluation gives: numbers with their intervals, tables, pictures, and what identifies them."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Everything that the numbers depend on beside the model."""

    @property
    def fingerprint(self) -> str:
        """Of the facts."""

    @property
    def sentence(self) -> str:
        """What people want to know, and how sure it is."""

    @property
    def pairs(self) -> Pairs:
        """The pairs, their scores and their pictures."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a pair."""

    def headline(self) -> dict[str, float]:
        """Every mean by its name in MLflow."""

    def ends(self) -> dict[str, float]:
        """The ends of the intervals by their names in MLflow."""

    def beside(self) -> dict[str, float]:
        """Numbers that are of this evaluation alone, by their names in MLflow."""

    def content(self) -> ReportContent:
        """What the reports say."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""


@dataclass(frozen=True)
class Written:
    """The files of an evaluation."""

    files: Sequence[Path]
    histograms: Mapping[str, Path]
    """By the child run that shows it."""


def write_evaluation(result: Measured, folder: Path) -> Written:
    """Write grid, best and worst pairs, table, fingerprint, JSON report, page, histograms and figures to `folder`."""
    pairs, content = result.pairs, result.content()
    histograms, distributions = {}, {}
    for name, metric, _ in pairs.by_run():
        histograms[name] = distributions[tr("Distribution of {metric}", metric=metric)] = path = (
            folder / f"histogram_{name}.png"
        )
        save_histogram(path, metric, {who: scores[metric] for who, scores in pairs.tables.items() if metric in scores})
    figures = {figure.heading: folder / figure.file for figure in content.figures}
    for figure in content.figures:
        figure.draw(folder / figure.file)
    save_picture(folder / "grid.png", _grid(pairs, content.found or first_sentence(content.sentence)))
    save_picture(folder / "best_worst.png", _best_and_worst(pairs))
    table = pairs.columns()
    write_text(folder / PER_IMAGE, to_csv(table, na_rep="N/A"))
    for name, more in content.tables.items():
        write_text(folder / name, to_csv(more, na_rep="N/A"))
    facts = {"fingerprint": content.fingerprint, **content.facts}
    write_text(folder / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    report = json.dumps(content.report, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(folder / REPORT, report + "\n")
    names = ["grid.png", "best_worst.png", PER_IMAGE, FACTS, REPORT, "report.html"]
    if content.summary:
        write_text(folder / SUMMARY, json.dumps(content.summary, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        names.append(SUMMARY)
    shown = tr("Contents and generated images") if pairs.left == "content" else tr("References and generated images")
    pictures = {
        _heading(pairs): folder / "best_worst.png",
        shown: folder / "grid.png",
        **figures,
        **distributions,
    }
    write_html(folder / "report.html", content, pictures, table)
    return Written([*(folder / name for name in (*names, *content.tables)), *figures.values()], histograms)


def _grid(pairs: Pairs, title: str = "") -> Image.Image:
    """Some pairs side by side, under what was found."""
    sides = list(pairs.tables) if pairs.guide_of else list(reversed(list(pairs.tables)))  # what was guided beside its guide
    shown = pairs.shown or [pairs.references.index(name) for name in dict.fromkeys(pairs.references)][:_GRID_ROWS]
    rows = [(pairs.captions[i], pairs.pictures(i, *sides)) for i in shown]
    return comparison_grid(rows, pairs.named(*sides), title=title)


def _heading(pairs: Pairs) -> str:
    """Of the pictures that matter."""
    return (
        tr("Most specific, most generic and worst pairs")
        if _SPECIFIC in pairs.tables[pairs.main]
        else tr("Best and worst pairs")
    )


def _best_and_worst(pairs: Pairs) -> Image.Image:
    """The pairs that matter, with their numbers: those nearest to their own reference beside others and those that are not (most specific, most
    generic), and the highest weighted_total_loss (visual_loss without one); best and worst where nothing was held against others."""
    scores = pairs.tables[pairs.main].reset_index(drop=True)
    metric = TOTAL if TOTAL in scores else "visual_loss"
    order = scores[metric].dropna().sort_values(kind="stable").index.tolist()
    count = min(_EXTREMES, (len(order) + 1) // 2)
    if _SPECIFIC in scores:
        specific = scores[_SPECIFIC].dropna().sort_values(ascending=False, kind="stable").index.tolist()
        shown = [(tr("most specific"), _SPECIFIC, i) for i in specific[:count]]
        shown += [(tr("most generic"), _SPECIFIC, i) for i in specific[-count:][::-1]]
    else:
        shown = [(tr("best"), metric, i) for i in order[:count]]
    shown += [(tr("worst"), metric, i) for i in order[-count:][::-1]]
    names = dict.fromkeys(name for _, name, _ in shown)
    rows = [
        (
            f"{which} {scores[name].iloc[i]:.3f}: {pairs.captions[i]}",
            pairs.pictures(i, pairs.main),
        )
        for which, name, i in shown
    ]
    by = ", ".join(
        tr(
            "{names} by {name}",
            names=tr(" and ").join(dict.fromkeys((which for which, other, _ in shown if other == name))),
            name=name,
        )
        for name in names
    )
    return comparison_grid(rows, pairs.named(pairs.main), title=by[:1].upper() + by[1:])
