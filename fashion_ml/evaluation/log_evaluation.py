"""What was measured put on an MLflow run: three metric runs, tables, pictures, reports, under the same names for every kind of evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from fashion_ml.evaluation.artifacts import Pairs, write_evaluation
from fashion_ml.evaluation.fingerprint import REFERENCE_FILES, fingerprint
from fashion_ml.runtime.console import say
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.printable import storable
from fashion_ml.tracking.run import TrackedRun, open_run
from fashion_ml.tracking.ui_views import DIGITS, NO_VERDICT, SHORT, VERDICT

if TYPE_CHECKING:
    from fashion_ml.evaluation.generate import ImageFolder
    from fashion_ml.evaluation.image_pairs import ImagesResult
    from fashion_ml.evaluation.lora import EvaluationResult
    from fashion_ml.evaluation.stargan import GanResult

    Result = TypeVar("Result", EvaluationResult, ImagesResult, GanResult)

_LONGEST = 200
"""Characters of a parameter's value; the whole of it is in fingerprint.json."""


def log_facts(run: TrackedRun, facts: Mapping[str, Any]) -> None:
    """The fingerprint and the encoder as tags, every fact as a parameter; an evaluation that is killed then still says what it measured."""
    encoder = {"encoder": "left out"}
    if facts["encoder"] is not None:
        encoder = {"encoder": facts["encoder"], "encoder_sha256": facts["encoder_sha256"]}
    whole = fingerprint(facts)
    run.set_tags({"eval_fingerprint": whole, SHORT: whole[:DIGITS], **encoder})
    run.log_params(
        {f"eval_settings.{key}": _shortened(value) for key, value in facts.items() if key not in ("weights", REFERENCE_FILES)}
    )


def log_evaluation(run: TrackedRun, result: Result, folder: Path) -> Result:
    """Write the files of an evaluation to `folder`, and put them, its numbers and its metric runs on a run; the result knows the run then.

    `log_facts` comes before it, as early as the facts are known.
    """
    result = replace(result, run_id=run.run_id, folder=folder)
    written = write_evaluation(result, folder)
    _log_metric_runs(run, result.pairs, written.histograms)
    run.log_metrics({**result.headline(), **result.ends(), **result.beside()})
    for path in written.files:
        run.log_file(path)
    run.log_table(result.pairs.columns(), "per_image.json")
    run.note(result.sentence)
    return result


def title_of(run_name: str) -> str:
    """The title of a report by its run's name, which says what was trained and at which step; empty without a name.

    >>> title_of("evaluation of dress r8 lr5e-4 800st, step 800")
    'Evaluation of dress r8 lr5e-4 800st, step 800'
    """
    training = run_name.removeprefix("evaluation of ")
    return tr("Evaluation of {name}", name=training) if training else ""


def log_lora(run: TrackedRun, result: EvaluationResult, folder: Path) -> EvaluationResult:
    """As log_evaluation, with the curve over LoRA strengths (`strength/<metric>`, step = 100 x strength) and all generated images."""
    for strength, means in result.curve.items():
        run.log_metrics({f"strength/{metric}": mean for metric, mean in means.items()}, step=round(100 * strength))
    result = log_evaluation(run, replace(result, title=title_of(run.name) or result.title), folder)
    run.set_tags({VERDICT: result.verdict or NO_VERDICT})
    odd = [name for name in dict.fromkeys(result.pairs.references) if storable(name) != name]
    if odd:
        say(
            tr(
                "Images of {count} references are called {storable} and so on: MLflow does not give back {odd}",
                count=len(odd),
                storable=storable(odd[0]),
                odd=odd[0],
            )
        )
    for name, kept in result.generated.items():
        log_images(run, kept, f"images/{name.lower()}")
    for name, kept in result.free.generated.items() if result.free else ():
        log_images(run, kept, f"images/free_{name.lower()}")
    return result


def log_images(run: TrackedRun, kept: ImageFolder, name: str) -> None:
    """The images of a folder as artifacts below `name`."""
    for path in kept.files():
        below = path.parent.relative_to(kept.folder)
        run.log_file(path, name if below == Path() else f"{name}/{below.as_posix()}")


def _log_metric_runs(run: TrackedRun, pairs: Pairs, histograms: Mapping[str, Path]) -> None:
    """One child for each of ssim, fashion_clip and color with the value of every image (step = image index), a table and a histogram.

    One of which nothing was measured has no run.
    """
    for name, _, table in pairs.by_run():
        with open_run(name, {"kind": "metric", "metric": name}, parent=run) as child:
            for index, row in enumerate(table.drop(columns=["image", "reference"]).to_dict("records")):
                child.log_metrics({key: value for key, value in row.items() if pd.notna(value)}, step=index)
            child.describe(
                tr("{name} of every image{part}.", name=name, part=tr(" of the {name}", name=run.name) if run.name else "")
            )
            child.log_table(table, "per_image.json")
            child.log_file(histograms[name])


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
