"""One self-contained page for an evaluation: sentence, table, pictures, settings, every image's scores."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fashion_ml.runtime.atomic_files import write_text

if TYPE_CHECKING:
    from fashion_ml.evaluation.artifacts import ReportContent

_TEMPLATE = Path(__file__).parent / "report.html.jinja"


def write_html(path: Path, verdict: ReportContent, pictures: Mapping[str, Path], table: pd.DataFrame) -> None:
    """Write the page; pictures are embedded, so that the file can be sent on its own."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    cells = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    page = template.render(
        verdict=verdict,
        pictures={heading: base64.b64encode(picture.read_bytes()).decode() for heading, picture in pictures.items()},
        facts={key: _fact(value) for key, value in verdict.facts.items()},
        columns=list(table.columns),
        images=cells,
    )
    write_text(path, page)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "N/A" if pd.isna(value) else f"{value:.4f}"
    return str(value)


def _fact(value: Any) -> str:
    if value is None:
        return "left out"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
