"""Ready views of the MLflow UI's runs table: the columns that matter for one kind of run, the best first.

A view is kept as a tag of the experiment and opened by a link; mlflow_private.py knows MLflow's form of both.
"""

from __future__ import annotations

from dataclasses import dataclass

from fashion_ml.metrics.registry import SIMILARITY_OF, TOTAL, better
from fashion_ml.tracking.mlflow_private import parallel_coordinates, view_state, view_value


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
    """The value of the experiment's tag that holds a view."""
    columns = [*(f"params.`{name}`" for name in view.params), *(f"metrics.`{name}`" for name in view.metrics)]
    state = view_state(f"tags.kind = '{view.kind}'", view.order_by, view.ascending, columns)
    if view.charts:
        state |= parallel_coordinates(view.key, view.title, view.params, view.metrics)
    return view_value(state)
