"""What there is to look at of a run: its report and its grids, as files of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from fashion_ml.errors import InputError
from fashion_ml.runs.run_folder import read_run_folder
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import parsed
from fashion_ml.runtime.language import Language, language, tr
from fashion_ml.tracking.offline_client import is_pending

_KINDS = ("train_lora", "train_stargan", "suite", "sweep")
"""What `latest` means here; by id or name other runs are shown too."""
_REPORTS = ("report.html", "report/report.html")
_GRIDS = ("grid.png", "grid_reference.png", "grid_latent.png")
_WANTED = (("Report", _REPORTS), ("Grid", _GRIDS))
_LOGS = "training_logs"


@dataclass(frozen=True)
class Shown:
    """A run and what there is to look at."""

    run_id: str
    name: str
    files: Sequence[tuple[str, Path]]
    """What each is (Report, Grid, Curves), and where."""
    said: str
    """The lines that its evaluation ends with; empty without one."""

    @property
    def language(self) -> Language | None:
        """That the lines were written in, which is the one of that time; None without lines."""
        if not self.said:
            return None
        return "zh-TW" if any(mark in self.said for mark in "。，；：（") else "en"  # which English never has

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "files": [{"what": what, "path": str(path)} for what, path in self.files],
            "said": self.said,
        }


def shown_of(given: str) -> Shown:
    """The report and grids of the run that an id, its first digits, a name, `latest` or a folder means, else its curves.

    Those of a store on a server are brought to `outputs/shown`. InputError when there is no such run, and when it has nothing to look at.
    """
    folder = Path(given).expanduser().absolute()
    if given and folder.is_dir():
        return _of_folder(folder, given)
    return _of_store(given)


def _of_folder(folder: Path, given: str) -> Shown:
    from fashion_ml.evaluation.artifacts import REPORT

    note = read_run_folder(folder, "run_id", tr("bring back a copy of it, or give the run's id"))
    if note is not None and note.run_id and not is_pending(note.run_id) and not (folder / "evaluation").is_dir():
        return _of_store(note.run_id)  # evaluated since, maybe, with files elsewhere
    places = [folder, folder / "evaluation"]
    files = [(what, place / name) for what, names in _WANTED for name in names for place in places if (place / name).is_file()]
    files = files or [("Curves", path) for path in sorted((folder / _LOGS).glob("*.png"))[-1:]]
    if not files:
        raise InputError(
            tr("run_id: the folder {given!r} holds no report, grid or curves; give the folder of a run, or its id", given=given)
        )
    reports = [place / REPORT for place in places if (place / REPORT).is_file()]
    return Shown(note.run_id if note else "", folder.name, files, lines_in(reports[0]) if reports else "")


def _of_store(given: str) -> Shown:
    from fashion_ml.evaluation.artifacts import REPORT
    from fashion_ml.tracking.run import note_of
    from fashion_ml.tracking.run_ids import find_meant
    from fashion_ml.tracking.store import find_run, open_tracking

    client = open_tracking(make=False)
    run = find_meant(client, given, kinds=_KINDS)
    evaluation = run.data.tags.get("eval.run_id", "")
    sources = [run, *([find_run(client, evaluation)] if evaluation else [])]
    there = [(one, _names(client, one.info.run_id)) for one in sources]
    files = []
    for what, names in _WANTED:
        found = [(one, name) for one, known in there for name in names if name in known]
        first = found[0][0] if found else None  # a training's own stand before its evaluation's
        files += [(what, _bring(client, one, name)) for one, name in found if one is first]
    if not files:
        curves = sorted(name for name in there[0][1] if name.startswith(f"{_LOGS}/") and name.endswith(".png"))
        files = [("Curves", _bring(client, run, name)) for name in curves[-1:]]
    if not files:
        what = tr("run {run_id} ({run_name})", run_id=run.info.run_id, run_name=run.info.run_name)
        raise InputError(
            tr("run_id: {what} has no report, grid or curves; choose one that has ended, such as latest", what=what)
        )
    told, known = there[-1]
    lines = lines_in(_bring(client, told, REPORT)) if REPORT in known else ""
    return Shown(run.info.run_id, run.info.run_name or "", files, lines or note_of(told))


def lines_in(report: Path) -> str:
    """The lines of an evaluation's report in the language of this command; empty where it does not have them."""
    try:
        return str(parsed(read_whole(report))["lines"][language()])
    except (OSError, ValueError, LookupError, TypeError):  # of an earlier version, or damaged
        return ""


def _names(client: Any, run_id: str) -> set[str]:
    """The artifacts of a run that lie where reports, grids and curves do."""
    return {item.path for folder in (None, "report", _LOGS) for item in client.list_artifacts(run_id, folder)}


def _bring(client: Any, run: Any, name: str) -> Path:
    """An artifact as a file here: where a local store keeps it, else a copy below `outputs/shown`."""
    from fashion_ml.tracking.queries import download

    address = urlparse(run.info.artifact_uri)
    kept = Path(unquote(address.path)) / name
    if address.scheme in ("", "file") and kept.is_file():
        return kept
    place = (Path("outputs") / "shown" / run.info.run_id).absolute()
    place.mkdir(parents=True, exist_ok=True)
    return download(client, run.info.run_id, name, place)
