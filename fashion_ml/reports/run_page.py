"""One self-contained page for a training: what came out, what it drew, its curves, its settings."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.language import html_language, tr

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class RunPage:
    """What the page of a training says."""

    title: str
    lines: Sequence[str]
    """What came out, or that it was not measured."""
    what: str
    """What was trained."""
    about: Mapping[str, str]
    """Run, steps, seconds; what is not known is absent."""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """Files of PNGs by heading."""
    reading: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """Other files of the run's folder, from there."""
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_run_page(path: Path, page: RunPage) -> None:
    """Write the page; pictures are embedded, so that the file can be sent on its own."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((_HERE / "run_page.html.jinja").read_text(encoding="utf-8"))
    write_text(
        path,
        template.render(
            page=page,
            tr=tr,
            style=page_style(),
            language=html_language(),
            about={tr("date"): f"{datetime.now():%Y-%m-%d %H:%M}", **page.about},
            pictures={heading: base64.b64encode(file.read_bytes()).decode() for heading, file in page.pictures.items()},
        ),
    )


def with_newer(page: str, lines: Sequence[str], evaluation: str) -> str:
    """A page whose lines are those of a later evaluation, and say so; what it drew and its settings stay."""
    from markupsafe import escape

    told = tr(
        "Evaluated again on {date} (run {run}): these lines are of that; the pictures of an evaluation below are of the first.",
        date=f"{datetime.now():%Y-%m-%d %H:%M}",
        run=evaluation,
    )
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    newer = f'<div class="sentence">{paragraphs}</div>\n<p class="small newer">{escape(told)}</p>'
    before = re.compile(r'<div class="sentence">.*?</div>(?:\n<p class="small newer">.*?</p>)?', re.DOTALL)
    return before.sub(lambda _: newer, page, count=1)


def page_style() -> Any:
    """The look that the pages of trainings and evaluations share, as CSS that a template takes as it is."""
    from markupsafe import Markup

    return Markup((_HERE / "page.css").read_text(encoding="utf-8"))
