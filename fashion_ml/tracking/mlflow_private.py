"""Everything here that MLflow has not documented: how its UI finds pictures, tables and ready views, and how it makes the tables of a store,
read in the code of 3.17.

A version that has moved any of it fails tests/unit/tracking/test_mlflow_private.py, which says what. At run time nothing breaks then: the UI
shows a plain table, or a file, instead.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMAGES_TAG = "mlflow.loggedImages"
"""Tag of a run with pictures under `images/`: the UI then looks for their names."""
TABLES_TAG = "mlflow.loggedArtifacts"
_VIEW_TAG = "mlflow.sharedViewState."
BOOKKEEPING_TABLES = frozenset({"alembic_version", "workspaces"})
"""Tables of a store that have rows before anything is kept in it."""
_THUMBNAIL = 256
"""Longest side of the small picture that the UI loads first, pixels."""


def image_files(picture: Any, key: str, step: int, milliseconds: int) -> dict[str, Any]:
    """The PIL images, by file name, that the UI's step slider reads from the run's artifact folder `images`; the second is a thumbnail."""
    stem = f"{key.replace('/', '~')}+step+{step}+timestamp+{milliseconds}+{uuid.uuid4()}"
    width, height = (int(side * _THUMBNAIL / max(picture.size)) for side in picture.size)
    return {f"{stem}.png": picture, f"{stem}+compressed.webp": picture.resize((width, height))}


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


def parallel_coordinates(key: str, title: str, params: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """What the state has besides for a page of charts: one chart, parallel coordinates over params and metrics."""
    chart = {"uuid": f"{key}-chart", "type": "PARALLEL", "deleted": False, "isGenerated": False, "showAllRuns": False}
    chart |= {"metricSectionId": key, "selectedParams": list(params), "selectedMetrics": list(metrics)}
    section = {"uuid": key, "name": title, "display": True, "isReordered": False, "columns": 1, "cardHeight": 440}
    return {"compareRunCharts": [chart], "compareRunSections": [section], "isAccordionReordered": True}


def runs_page(base_url: str, experiment_id: str, key: str | None = None, *, charts: bool = False) -> str:
    """Link to an experiment's runs, in a ready view when a key is given; the plain experiment page opens on something else."""
    link = f"{base_url}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if key is None:
        return link
    return f"{link}&viewStateShareKey={key}" + ("&compareRunsMode=CHART" if charts else "")
