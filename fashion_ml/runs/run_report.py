"""`report.html` and `grid.png` of a training's own folder and run: what it drew, its curves, and what its evaluation found."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.config import LoraExperiment, StarganExperiment, flat
from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun

REPORT, GRID = "report.html", "grid.png"
_EVALUATION, _SHEET = "evaluation", "data_summary/contact_sheet.png"


def _parts() -> dict[str, str]:
    """What the head says of a training, by its names in `--json`."""
    return {
        "steps": tr("steps"),
        "best_step": tr("best step"),
        "training_seconds": tr("seconds"),
    }


def write_run_report(
    config: LoraExperiment | StarganExperiment,
    name: str,
    what: str,
    folder: Path,
    run: TrackedRun | None,
    trained: Mapping[str, Any],
    said: str,
) -> Path:
    """Write both, log them to the run where there is one, and give the page's path; `said` is what an evaluation found, empty without one."""
    from fashion_ml.reports.run_page import RunPage, write_run_page

    made = _make_grid(config, folder)
    pictures = {tr("What it drew on the way") if made else "": folder / GRID, **_pictures(folder, evaluated=bool(said))}
    there = {heading: path for heading, path in pictures.items() if heading and path.is_file()}
    if not made and said and (folder / _EVALUATION / GRID).is_file():
        with atomic_path(folder / GRID) as temporary:
            shutil.copyfile(folder / _EVALUATION / GRID, temporary)
    about = {"run": run.run_id} if run else {}
    if (recent := trained.get("recent_total_loss")) is not None:
        about[tr("total_loss, mean of the last {steps} steps", steps=recent["steps"])] = _number(recent["mean"])
    about |= {name: _number(trained[key]) for key, name in _parts().items() if trained.get(key) is not None}
    lines = said.splitlines() or [_not_measured(config, run)]
    links = {tr("the evaluation's report"): f"{_EVALUATION}/{REPORT}"} if said else {}
    if (folder / _SHEET).is_file():
        links[tr("the training images")] = _SHEET
    page = RunPage(name, lines, what, about, there, links=links, settings=flat(config))
    write_run_page(folder / REPORT, page)
    if run:
        for name in (REPORT, GRID):
            if (folder / name).is_file():
                run.log_file(folder / name)
    return folder / REPORT


def _make_grid(config: LoraExperiment | StarganExperiment, folder: Path) -> bool:
    """grid.png of what was drawn while it trained; whether anything was."""
    from fashion_ml.evaluation.figures import save_picture
    from fashion_ml.runs.lora_samples import sample_sheet

    if isinstance(config, LoraExperiment):
        sheet = sample_sheet(folder)
        if sheet is not None:
            save_picture(folder / GRID, sheet)
        return sheet is not None
    drawn = sorted((folder / "grids").glob("reference_*.png"))
    if drawn:
        with atomic_path(folder / GRID) as temporary:
            shutil.copyfile(drawn[-1], temporary)
    return bool(drawn)


def _pictures(folder: Path, *, evaluated: bool) -> dict[str, Path]:
    curves = sorted((folder / "training_logs").glob("*curves*.png"))
    found = {tr("Curves"): curves[-1]} if curves else {}
    latent = sorted((folder / "grids").glob("latent_*.png"))
    found |= {tr("The same by latent"): latent[-1]} if latent else {}
    if evaluated:
        found |= {
            tr("Evaluation"): folder / _EVALUATION / GRID,
            tr("Pairs that matter"): folder / _EVALUATION / "best_worst.png",
        }
    return found


def _not_measured(config: LoraExperiment | StarganExperiment, run: TrackedRun | None) -> str:
    how = f"fashion-ml evaluate run {run.run_id}" if run else "evaluation.enabled"
    return tr("No image was measured, so nothing is known of how good it is: {how}", how=how)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
