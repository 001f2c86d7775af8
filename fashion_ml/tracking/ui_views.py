"""Ready views of the MLflow UI's runs table: the columns that matter for one kind of run, the best first.

A ranking holds runs that were measured in one way: there is one for each fingerprint, which the first 8 digits of it tell apart.
A view is kept as a tag of the experiment and opened by a link; mlflow_private.py knows MLflow's form of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from fashion_ml.metrics.registry import SIMILARITY_OF, TOTAL, better
from fashion_ml.runtime.language import marked, speaking, tr, translated
from fashion_ml.tracking.mlflow_private import (
    IMAGES_TAG,
    LEFT_OVER,
    bar_chart,
    charts_page,
    image_table,
    line_chart,
    parallel_chart,
    section,
    view_state,
    view_value,
)

Page = Literal["table", "compared", "pictures"]
"""What a view opens with: runs as rows, charts that compare them, or what they have drawn."""


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
    page: Page = "table"
    curves: tuple[str, ...] = ()
    """Metrics with a value at each step, drawn as lines; `metrics` are bars on a page of charts."""
    images: tuple[str, ...] = ()
    """Keys of the pictures on a page of them, of runs that have any."""
    step: int = 0
    """Of these pictures as they are shown first."""

    @property
    def said(self) -> str:
        """Its title as people read it: what it shows, and by which measurement it is ordered."""
        title = translated(self.title)
        return tr("{title}, measured as {short}", title=title, short=self.fingerprint[:DIGITS]) if self.fingerprint else title

    @property
    def charts(self) -> bool:
        """Whether it is a page of charts."""
        return self.page != "table"


SHORT = "fingerprint"
"""Tag of evaluations and of trainings that were evaluated: the first digits of the fingerprint, for people."""
DIGITS = 8
VERDICT, NO_VERDICT = "verdict", "none"
"""Tag of evaluations that judge (of trainings as `eval.verdict`): `better`, `worse`, `not shown`, or that there is none."""

VIEWS = (
    View(
        "fashion-ml-lora",
        marked("LoRA trainings"),
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
        marked("LoRA trainings compared"),
        "train_lora",
        f"metrics.`eval/gain_{TOTAL}`",
        False,
        ("network.rank", "optimizer.learning_rate"),
        (f"eval/gain_{TOTAL}", f"eval/{TOTAL}"),
        measured_by="eval.fingerprint",
        page="compared",
        curves=("total_loss",),
    ),
    View(
        "fashion-ml-lora-pictures",
        marked("LoRA sample images"),
        "train_lora",
        "attributes.start_time",
        False,
        (),
        (f"eval/gain_{TOTAL}", f"eval/{TOTAL}"),
        page="pictures",
        curves=("total_loss",),
    ),
    View(
        "fashion-ml-stargan",
        marked("StarGAN trainings"),
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
        "fashion-ml-stargan-charts",
        marked("StarGAN trainings compared"),
        "train_stargan",
        "metrics.`eval/domain_accuracy`",
        better("domain_accuracy") == "lower",
        ("loss.w_ds", "optimizer.learning_rate"),
        ("eval/domain_accuracy", "eval/latent_domain_accuracy", "eval/ssim"),
        measured_by="eval.fingerprint",
        page="compared",
        curves=("d_loss", "g_loss"),
    ),
    View(
        "fashion-ml-stargan-pictures",
        marked("StarGAN grids"),
        "train_stargan",
        "attributes.start_time",
        False,
        (),
        ("eval/domain_accuracy", "eval/ssim"),
        page="pictures",
        curves=("d_loss", "g_loss"),
    ),
    View(
        "fashion-ml-evaluations",
        marked("evaluations"),
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
        marked("sweeps"),
        "sweep",
        "attributes.start_time",
        False,
        ("sweep.trials",),
        (f"best_{TOTAL}", f"confirmed_{TOTAL}", "confirmed_gain"),
    ),
    View(
        "fashion-ml-suites",
        marked("suites"),
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
    return replace(view, key=key, fingerprint=fingerprint)


def tag_of(view: View) -> str:
    """The value of the experiment's tag that holds a view."""
    columns = [*(f"tags.`{name}`" for name in view.tags), *(f"params.`{name}`" for name in view.params)]
    columns += [f"metrics.`{name}`" for name in view.metrics]
    state = view_state(runs_of(view), view.order_by, view.ascending, columns)
    if view.page == "pictures":  # all the room is theirs; the runs are the heads of their columns
        state |= {"runListHidden": True}
    return view_value(state | charts_page(_sections(view)) if view.charts else state)


def runs_of(view: View) -> str:
    """The search for a view's runs."""
    found = f"tags.kind = '{view.kind}'"
    if view.fingerprint:
        found += f" and tags.`{view.measured_by}` = '{view.fingerprint}'"
    if view.page == "pictures":
        found += f" and tags.`{IMAGES_TAG}` LIKE '_%'"
    return found


def _sections(view: View) -> list[dict[str, Any]]:
    """What a page of charts shows, from the top; everything else that the runs have logged is below, folded."""
    losses = [*(line_chart(name) for name in view.curves), *(bar_chart(name) for name in view.metrics)]
    with speaking("en"):  # the store is read by others too
        title = view.said
    shown = [section(f"{view.key}-losses", "Loss and score", losses, columns=len(losses), height=280)]
    if view.page == "pictures":
        tall = 60 + 330 * max(len(view.images), 1)
        table = image_table(view.images, view.step)
        shown.insert(0, section(f"{view.key}-pictures", title, [table], columns=1, height=tall))
    else:
        lines = parallel_chart(view.params, (*view.curves, *view.metrics))
        shown.append(section(f"{view.key}-lines", title, [lines], columns=1, height=440))
    return [*shown, *(section(f"{view.key}-{number}", name, [], folded=True) for number, name in enumerate(LEFT_OVER))]
