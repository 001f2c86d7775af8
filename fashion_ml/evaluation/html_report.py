"""One self-contained page for an evaluation: what was found, table and ruler, pictures, settings, every image's scores."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_ml.evaluation.fingerprint import REFERENCE_FILES
from fashion_ml.evaluation.words import word
from fashion_ml.reports.run_page import page_style
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.language import html_language, tr

if TYPE_CHECKING:
    from fashion_ml.evaluation.artifacts import ReportContent

READERS = "readers"
"""Among what a report says of a file: who reads it as it was measured."""
_TEMPLATE = Path(__file__).parent / "report.html.jinja"


def write_html(path: Path, verdict: ReportContent, pictures: Mapping[str, Path], table: pd.DataFrame) -> None:
    """Write the page; pictures are embedded, so that the file can be sent on its own."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    cells = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    page = template.render(
        style=page_style(),
        verdict=verdict,
        tr=tr,
        word=word,
        first=_first,
        without_interval=any("[N/A]" in cell for *_, row in verdict.rows for cell in row),
        language=html_language(),
        about=_about(verdict),
        readers=verdict.about.get(READERS, ""),
        ruler=_ruler(verdict.report.get("ruler")),
        pictures={heading: base64.b64encode(picture.read_bytes()).decode() for heading, picture in pictures.items()},
        facts={key: _fact(value) for key, value in verdict.facts.items() if key != REFERENCE_FILES},
        columns=list(table.columns),
        images=cells,
    )
    write_text(path, page)


def _first(head: str) -> str:
    """The class of a column that stands beside the metric where a screen is narrow."""
    return f" {head}" if head in ("gain", "verdict") else ""


def _about(verdict: ReportContent) -> dict[str, str]:
    """When it was written, the run, and what was measured."""
    run = verdict.report.get("run_id")
    told = {name: value for name, value in verdict.about.items() if name != READERS}
    return {"date": f"{datetime.now():%Y-%m-%d %H:%M}", **({"run": str(run)} if run else {}), **told}


def _ruler(ruler: Mapping[str, Any] | None) -> list[tuple[str, list[tuple[str, float]], str]]:
    """By loss: its marks from near to far, and the position of the LoRA or why it has none."""
    if not ruler:
        return []
    lines = []
    for loss, marks in ruler["marks"].items():
        position, why = ruler.get("position", {}).get(loss), ruler.get("no_position", {}).get(loss, "")
        told = (
            tr("position {position:+.2f} of the way from the base to the nearest real picture", position=position)
            if position is not None
            else why
        )
        lines.append((loss, sorted(marks.items(), key=lambda mark: mark[1]), told))
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "N/A" if pd.isna(value) else f"{value:.4f}"
    return str(value)


def _fact(value: Any) -> str:
    if value is None:
        return tr("left out")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
