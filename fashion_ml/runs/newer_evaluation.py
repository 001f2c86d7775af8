"""A training's own page says what a later evaluation found, once the training run has that one's numbers."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fashion_ml.errors import InputError
from fashion_ml.reports.run_page import with_newer
from fashion_ml.runtime.atomic_files import write_text

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun

_PAGE = "report.html"


def tell_on_page(training: TrackedRun, evaluation: str, sentence: str) -> None:
    """Put the lines of an evaluation into the training's page in the store; nothing while it has none, as before its first end."""
    from fashion_ml.tracking.queries import adding_to_ended, download

    with adding_to_ended(training), tempfile.TemporaryDirectory() as temporary, suppress(InputError):
        path = download(training.client, training.run_id, _PAGE, Path(temporary))
        write_text(path, with_newer(path.read_text(encoding="utf-8"), sentence.splitlines(), evaluation))
        training.log_file(path)
