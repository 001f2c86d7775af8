"""Ready views of the MLflow UI's runs table: the columns that matter for one kind of run, the best first.

A view is an experiment tag, `mlflow.sharedViewState.<key>`, that a link opens with `viewStateShareKey=<key>`. The format is MLflow's own and
undocumented (read in the UI's code of 3.17); where another version does not know it, the UI says so and shows the plain table.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

from fashion_ml.metrics.registry import SIMILARITY_OF, TOTAL, better

PREFIX = "mlflow.sharedViewState."


@dataclass(frozen=True)
class View:
    """Runs of one kind: few columns, so that they are seen without scrolling."""

    key: str
    title: str
    kind: str
    """The tag `kind` of the runs."""
    order_by: str
    """Metric or attribute."""
    ascending: bool
    params: tuple[str, ...]
    metrics: tuple[str, ...]
    charts: bool = False
    """Whether it opens with parallel coordinates over these params and metrics instead of the table."""


VIEWS = (
    View(
        "fashion-ml-lora",
        "LoRA trainings",
        "train_lora",
        f"metrics.`eval/{TOTAL}`",
        better(TOTAL) == "lower",
        ("network.rank", "optimizer.learning_rate"),
        ("total_loss", f"eval/{TOTAL}", f"eval/gain_{TOTAL}"),
    ),
    View(
        "fashion-ml-lora-charts",
        "LoRA trainings compared",
        "train_lora",
        f"metrics.`eval/{TOTAL}`",
        better(TOTAL) == "lower",
        ("network.rank", "optimizer.learning_rate"),
        ("total_loss", f"eval/{TOTAL}"),
        charts=True,
    ),
    View(
        "fashion-ml-stargan",
        "StarGAN trainings",
        "train_stargan",
        "metrics.`eval/domain_accuracy`",
        better("domain_accuracy") == "lower",
        ("loss.w_ds", "optimizer.learning_rate"),
        (
            "d_loss",
            "eval/domain_accuracy",
            "eval/latent_domain_accuracy",
            "eval/ssim",
            "eval/diversity",
        ),
    ),
    View(
        "fashion-ml-evaluations",
        "evaluations",
        "evaluation",
        f"metrics.`{TOTAL}`",
        better(TOTAL) == "lower",
        ("network.rank", "optimizer.learning_rate"),
        (TOTAL, *SIMILARITY_OF, f"gain_{TOTAL}"),
    ),
    View(
        "fashion-ml-sweeps",
        "sweeps",
        "sweep",
        "attributes.start_time",
        False,
        ("sweep.trials",),
        (f"best_{TOTAL}", f"confirmed_{TOTAL}", "confirmed_gain"),
    ),
)


def tag_of(view: View) -> str:
    """The value of the experiment's tag."""
    state: dict[str, Any] = {
        "searchFilter": f"tags.kind = '{view.kind}'",
        "orderByKey": view.order_by,
        "orderByAsc": view.ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [
            *(f"params.`{name}`" for name in view.params),
            *(f"metrics.`{name}`" for name in view.metrics),
        ],
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
    if view.charts:
        chart = {"uuid": f"{view.key}-chart", "type": "PARALLEL", "deleted": False, "isGenerated": False}
        chart |= {"metricSectionId": view.key, "selectedParams": view.params, "selectedMetrics": view.metrics}
        state["compareRunCharts"] = [{**chart, "showAllRuns": False}]
        state["compareRunSections"] = [
            {"uuid": view.key, "name": view.title, "display": True, "isReordered": False, "columns": 1, "cardHeight": 440}
        ]
        state["isAccordionReordered"] = True
    return f"deflate;{base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()}"
