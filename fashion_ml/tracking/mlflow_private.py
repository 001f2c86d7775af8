"""Everything here that MLflow has not documented: how its UI finds pictures, tables and ready views, and how it makes the tables of a store,
read in the code of 3.17.

A version that has moved any of it fails tests/unit/tracking/test_mlflow_private.py, which says what. At run time nothing breaks then: the UI
shows a plain table, or a file, instead.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

IMAGES_TAG = "mlflow.loggedImages"
"""Tag of a run with pictures under `images/`: the UI then looks for their names."""
TABLES_TAG = "mlflow.loggedArtifacts"
_VIEW_TAG = "mlflow.sharedViewState."
BOOKKEEPING_TABLES = frozenset({"alembic_version", "workspaces"})
"""Tables of a store that have rows before anything is kept in it."""
LEFT_OVER = ("eval", "Model metrics", "System metrics")
"""Sections that the page of charts makes for what no chart shows: of metrics with a `/` by what is before it."""
_PATIENT = "PRAGMA busy_timeout = 90000;"
_UPLOADING = ".artifact.uploading."
"""Begins the names of files beside artifacts of a folder, each of which becomes one when it is whole."""
_THUMBNAIL = 256
"""Longest side of the small picture that the UI loads first, pixels."""


def image_files(picture: Any, key: str, step: int, milliseconds: int) -> dict[str, Any]:
    """The PIL images, by file name, that the UI's step slider reads from the run's artifact folder `images`; the second is a thumbnail."""
    stem = f"{key.replace('/', '~')}+step+{step}+timestamp+{milliseconds}+{uuid.uuid4()}"
    width, height = (int(side * _THUMBNAIL / max(picture.size)) for side in picture.size)
    return {f"{stem}.png": picture, f"{stem}+compressed.webp": picture.resize((width, height))}


def key_and_step(name: str) -> tuple[str, int] | None:
    """The key and the step that the file name of a picture says, as `image_files` gives it; None for another file."""
    parts = re.split("[%+]", name)
    found = len(parts) > 2 and parts[1] == "step" and parts[2].isdecimal()
    return (parts[0].replace("~", "/"), int(parts[2])) if found else None


def has_all_tables(file: Path) -> bool:
    """Whether an sqlite store has every table of this MLflow, which makes those that are missing when it opens one."""
    from mlflow.store.db.utils import _all_tables_exist
    from sqlalchemy import URL, create_engine

    engine = create_engine(URL.create("sqlite", database=str(file)))
    try:
        return bool(_all_tables_exist(engine))
    finally:
        engine.dispose()


def make_tables(file: Path) -> None:
    """Make the tables of an sqlite store, or those that it lacks, by all migrations that it has not seen."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import URL, create_engine

    engine = create_engine(URL.create("sqlite", database=str(file)))
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()


@lru_cache(maxsize=1)
def wait_longer_for_sqlite() -> None:
    """An sqlite store that another writer holds is waited for a minute and a half in this process; MLflow itself gives up after 20 seconds."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def executed(_c: Any, _d: Any, statement: str, parameters: Any, _e: Any, _f: Any) -> tuple[str, Any]:
        return (_PATIENT if statement.startswith("PRAGMA busy_timeout") else statement), parameters

    event.listen(Engine, "before_cursor_execute", executed, retval=True)


def remove_half_uploads(artifact_uri: str) -> None:
    """Remove from the artifacts of a run, where they are files of this machine, what killed processes had begun to upload: MLflow hides such
    files, and nothing else removes them. Whoever calls this is the only one that uploads to the run."""
    folder = artifacts_here(artifact_uri)
    for path in folder.rglob(f"{_UPLOADING}*") if folder else ():
        with suppress(OSError):
            path.unlink()


def bring_artifact(client: Any, run_id: str, artifact: str, folder: Path) -> Path:
    """Copy an artifact of a run to a local folder, with one look at the run for all of its artifacts: `download_artifacts` takes three for
    each, and one for models whose name begins as that of the artifact. Whatever the store or the file system raises where it is not there."""
    its_place = getattr(getattr(client, "_tracking_client", None), "_get_artifact_repo", None)
    if its_place is None:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    return Path(its_place(run_id).download_artifacts(artifact, str(folder)))


def artifacts_here(artifact_uri: str) -> Path | None:
    """The folder of a run's artifacts where they are files of this machine."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    here = artifact_uri and urlparse(artifact_uri).scheme in ("", "file")
    return Path(local_file_uri_to_path(artifact_uri)) if here else None


def is_generated_name(name: str) -> bool:
    """Whether MLflow itself has made up the name of a run, such as `adorable-mouse-123`, because nobody gave one."""
    from mlflow.utils import name_utils

    first, _, rest = name.partition("-")
    noun, _, number = rest.rpartition("-")
    words = [{word.lower() for word in getattr(name_utils, f"_GENERATOR_{kind}", ())} for kind in ("PREDICATES", "NOUNS")]
    return number.isdecimal() and first in words[0] and noun in words[1]


def tables_value(artifact: str) -> str:
    """The value of TABLES_TAG for a run with one table."""
    return json.dumps([{"path": artifact, "type": "table"}])


def view_tag(key: str) -> str:
    """The experiment's tag that holds a ready view."""
    return _VIEW_TAG + key


def view_value(state: Mapping[str, Any]) -> str:
    """The value of that tag."""
    return f"deflate;{base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()}"


def view_state(search_filter: str, order_by: str, ascending: bool, columns: Sequence[str]) -> dict[str, Any]:
    """The state of the runs page as a table: which runs, in which order, with which columns."""
    return {
        "searchFilter": search_filter,
        "orderByKey": order_by,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "runsVisibilityMap": {},
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def charts_page(sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the state has besides for a page of charts: its sections, from the top, each with its charts."""
    charts = [chart for one in sections for chart in one["charts"]]
    plain = [{key: value for key, value in one.items() if key != "charts"} for one in sections]
    return {"compareRunCharts": charts, "compareRunSections": plain, "isAccordionReordered": True}


def section(
    key: str, name: str, charts: Sequence[Mapping[str, Any]], *, columns: int = 3, height: int = 360, folded: bool = False
) -> dict[str, Any]:
    """Charts below a heading; `height` is that of each, in pixels. One that is called as in LEFT_OVER gets what nobody has placed."""
    whole = {"deleted": False, "isGenerated": False}
    placed = [{**whole, **chart, "uuid": f"{key}-{number}", "metricSectionId": key} for number, chart in enumerate(charts, 1)]
    head = {"uuid": key, "name": name, "display": not folded, "isReordered": False, "columns": columns, "cardHeight": height}
    return {**head, "charts": placed}


def line_chart(metric: str) -> dict[str, Any]:
    """A metric over the steps, a line for each run."""
    return {"type": "LINE", "metricKey": metric}


def bar_chart(metric: str) -> dict[str, Any]:
    """The last value of a metric, a bar for each run."""
    return {"type": "BAR", "metricKey": metric}


def parallel_chart(params: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Parallel coordinates, a line for each run."""
    return {"type": "PARALLEL", "showAllRuns": False, "selectedParams": list(params), "selectedMetrics": list(metrics)}


def image_table(keys: Sequence[str], step: int) -> dict[str, Any]:
    """Pictures as large as there is room: a row for each key, a column for each run, a slider for the step. Without `showRunParams` false
    every picture stands below all params of its run."""
    return {"type": "IMAGE", "imageKeys": list(keys), "step": step, "showRunParams": False}


def runs_page(base_url: str, experiment_id: str, key: str | None = None, *, charts: bool = False) -> str:
    """Link to an experiment's runs, in a ready view when a key is given; the plain experiment page opens on something else."""
    link = f"{base_url}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if key is None:
        return link
    return f"{link}&viewStateShareKey={key}" + ("&compareRunsMode=CHART" if charts else "")
