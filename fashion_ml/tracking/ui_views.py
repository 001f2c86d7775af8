"""Ready views of the MLflow UI's runs table: the columns that matter for one kind of run, the best first.

A ranking holds runs that were measured in one way: there is one for each fingerprint, which the first 8 digits of it tell apart.
A view is kept as a tag of the experiment and opened by a link; mlflow_private.py knows MLflow's form of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    tags: tuple[str, ...] = ()
    measured_by: str = ""
    """The tag with the fingerprint of what the order is by; empty where no measurement orders the runs."""
    fingerprint: str = ""
    """The one that all its runs have; empty for any."""
    charts: bool = False
    """Whether it opens with parallel coordinates over these params and metrics instead of the table."""


SHORT = "fingerprint"
"""Tag of evaluations and of trainings that were evaluated: the first digits of the fingerprint, for people."""
DIGITS = 8
VERDICT, NO_VERDICT = "verdict", "none"
"""Tag of evaluations that judge (of trainings as `eval.verdict`): `better`, `worse`, `not shown`, or that there is none."""

VIEWS = (
    View(
        "fashion-ml-lora",
        "LoRA trainings",
        "train_lora",
        f"metrics.`eval/gain_{TOTAL}`",
        False,
        ("network.rank", "optimizer.learning_rate"),
        (f"eval/gain_{TOTAL}", f"eval/gain_{TOTAL}_low", f"eval/gain_{TOTAL}_high", f"eval/{TOTAL}", "total_loss"),
        tags=(SHORT,),
        measured_by="eval.fingerprint",
    ),
    View(
        "fashion-ml-lora-charts",
        "LoRA trainings compared",
        "train_lora",
        f"metrics.`eval/gain_{TOTAL}`",
        False,
        ("network.rank", "optimizer.learning_rate"),
        ("total_loss", f"eval/{TOTAL}", f"eval/gain_{TOTAL}"),
        measured_by="eval.fingerprint",
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
        tags=(SHORT,),
        measured_by="eval.fingerprint",
    ),
    View(
        "fashion-ml-evaluations",
        "evaluations",
        "evaluation",
        f"metrics.`gain_{TOTAL}`",
        False,
        ("network.rank", "optimizer.learning_rate"),
        (f"gain_{TOTAL}", TOTAL, *SIMILARITY_OF),
        tags=(SHORT,),
        measured_by="eval_fingerprint",
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
    View(
        "fashion-ml-suites",
        "suites",
        "suite",
        "attributes.start_time",
        False,
        ("suite.baseline", "suite.metric"),
        (),
    ),
)


def of_fingerprint(view: View, fingerprint: str, *, newest: bool) -> View:
    """The view of the runs that have a fingerprint; the newest has the plain key, so that links to it stay."""
    short = fingerprint[:DIGITS]
    key = view.key if newest else f"{view.key}-{short}"
    return replace(view, key=key, title=f"{view.title}, measured as {short}", fingerprint=fingerprint)


def tag_of(view: View) -> str:
    """The value of the experiment's tag that holds a view."""
    columns = [*(f"tags.`{name}`" for name in view.tags), *(f"params.`{name}`" for name in view.params)]
    columns += [f"metrics.`{name}`" for name in view.metrics]
    runs = f"tags.kind = '{view.kind}'"
    if view.fingerprint:
        runs += f" and tags.`{view.measured_by}` = '{view.fingerprint}'"
    state = view_state(runs, view.order_by, view.ascending, columns)
    if view.charts:
        state |= parallel_coordinates(view.key, view.title, view.params, view.metrics)
    return view_value(state)
