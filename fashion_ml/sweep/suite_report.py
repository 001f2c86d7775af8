"""The report of a suite: three lines, tables, plots, pictures and what it cost, as a page, CSV and JSON, on the suite's run too."""

from __future__ import annotations

import base64
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from fashion_ml.config import SuiteSpec
from fashion_ml.data.pictures import PictureError, load_picture
from fashion_ml.errors import InputError
from fashion_ml.evaluation.aggregate import shown, table_names
from fashion_ml.evaluation.compare import Difference
from fashion_ml.evaluation.recipes import LATENT
from fashion_ml.evaluation.suite_verdicts import SuiteDifference, better_way
from fashion_ml.evaluation.suites import SuiteComparison
from fashion_ml.evaluation.words import word
from fashion_ml.metrics.bootstrap import Interval
from fashion_ml.metrics.crossed import MOST_SEEDS
from fashion_ml.metrics.sequential import SOURCE
from fashion_ml.runtime.atomic_files import atomic_path, write_text
from fashion_ml.runtime.csv_cells import to_csv
from fashion_ml.runtime.duration import duration
from fashion_ml.runtime.language import Language, html_language, language, tr
from fashion_ml.sweep.suite_plots import confidences, save_gains, save_pictures, save_recipes
from fashion_ml.sweep.suite_study import SuiteTraining
from fashion_ml.tracking.queries import log_changed

if TYPE_CHECKING:
    from fashion_ml.tracking.run import TrackedRun

REPORT, PAGE, JSON = "report", "report.html", "suite.json"
_TEMPLATE = Path(__file__).parent / "suite_report.html.jinja"
_PROMPTS = 3
"""Prompts of which the pictures of every training are shown."""
_IMAGES = ("images/lora", "images/generated")
_GRID = "grid.png"


@dataclass(frozen=True)
class TrainingCost:
    """One training of a suite, and the seconds that it took."""

    training: SuiteTraining
    learning: float | None
    """Seconds of the training loop; None where the run does not say."""
    measuring: float | None
    """Seconds of its evaluation."""


def write_suite_report(
    spec: SuiteSpec, found: SuiteComparison, trainings: Sequence[SuiteTraining], folder: Path, run: TrackedRun
) -> list[Path]:
    """Write report.html, suite.json, recipes.csv, differences.csv, trainings.csv, plots and pictures, and put them on the run.

    The run's description is the three lines; its metrics `gain`, `gain_low` and `gain_high` are those of the best recipe that is better
    than the baseline, else of the one with the largest gain among those that have a verdict, else among all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    costs = [_cost(one, run.client) for one in trainings]
    paths = [folder / name for name in ("recipes.csv", "differences.csv", "trainings.csv", JSON, "recipes.png", "gains.png")]
    tables = (found.table, found.difference_table, training_table(costs, found))
    for path, table in zip(paths, tables, strict=False):
        with atomic_path(path) as temporary:
            temporary.write_text(to_csv(table), encoding="utf-8")
    write_text(folder / JSON, json.dumps(facts_of(spec, found, costs), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    save_recipes(folder / "recipes.png", found)
    save_gains(folder / "gains.png", found)
    for old in folder.glob("pictures_*.png"):
        old.unlink()
    pictures = _pictures(found, folder, run.client)
    write_text(folder / PAGE, _page(spec, found, costs, folder, pictures, run))
    paths += [*pictures.values(), folder / PAGE]
    for path in paths:
        run.log_file(path, REPORT)
    _log_numbers(found, run)
    return paths


def facts_of(spec: SuiteSpec, found: SuiteComparison, costs: Sequence[TrainingCost]) -> dict[str, Any]:
    """For JSON: the comparison, what it cost, and why trainings failed."""
    errors = {f"{one.training.recipe}, seed {one.training.seed}": one.training.error for one in costs if one.training.error}
    missing = [name for name in spec.all_recipes() if name not in found.recipes]
    return {"suite": spec.name, **found.to_dict(), "not_measured": missing, "cost_hours": cost_hours(costs), "errors": errors}


def cost_hours(costs: Sequence[TrainingCost]) -> dict[str, float]:
    """Hours of all processes, of them the training loops' and the evaluations'; what is left is starting, loading and logging."""
    whole = sum(one.training.seconds for one in costs)
    parts = {"training": sum(one.learning or 0.0 for one in costs), "evaluation": sum(one.measuring or 0.0 for one in costs)}
    whole = max(whole, sum(parts.values()))
    return {name: round(seconds / 3600, 4) for name, seconds in {"all": whole, **parts}.items()}


def training_table(costs: Sequence[TrainingCost], found: SuiteComparison) -> pd.DataFrame:
    """A row for each training: recipe, seed, state, primary metric, seconds, its runs, and why it failed."""
    rows = [
        {"recipe": one.training.recipe, "seed": one.training.seed, "state": one.training.state}
        | {found.metric: one.training.value, "seconds": round(one.training.seconds, 1)}
        | {"training_seconds": one.learning, "evaluation_seconds": one.measuring}
        | {"training_run": one.training.run_id, "evaluation_run": one.training.evaluation, "error": one.training.error}
        for one in costs
    ]
    return pd.DataFrame(rows)


def _cost(one: SuiteTraining, client: Any) -> TrainingCost:
    learning = measuring = None
    with suppress(Exception):  # a run that was deleted costs nothing that anyone knows
        learning = float(client.get_run(one.run_id).data.tags["training_seconds"])
    with suppress(Exception):
        info = client.get_run(one.evaluation).info
        measuring = round((info.end_time - info.start_time) / 1000, 1)
    return TrainingCost(one, learning, measuring)


def _log_numbers(found: SuiteComparison, run: TrackedRun) -> None:
    """The description, and what the tree of runs is sorted by."""
    run.note(found.sentences(language()))
    primary = found.primary()
    if not primary:
        return
    best = max(primary, key=lambda name: _rank(primary[name].difference))
    entry = primary[best].difference
    names, there = ("gain_low", "gain_high"), run.client.get_run(run.run_id).data.metrics
    ends = dict(zip(names, entry.gain.ends, strict=True)) if entry.gain.ends else {}
    taken_back = {name: math.nan for name in names if name in there and not ends}  # an earlier report's is not this one's
    log_changed(run, {"gain": entry.gain.mean, **ends, **taken_back})
    run.set_tags({"verdict": entry.verdict, "best_recipe": best, "metric": found.metric, "winners": ", ".join(found.winners())})
    run.log_table(found.difference_table.astype(object).where(found.difference_table.notna(), None), "differences_table.json")


def _rank(one: Difference) -> tuple[bool, bool, float]:
    """What stands for a suite: a recipe that is better before one that only may be, one with a verdict before one that has none yet."""
    return one.verdict == "better", bool(one.verdict), one.gain.mean


def _pictures(found: SuiteComparison, folder: Path, client: Any) -> dict[str, Path]:
    """By prompt a grid of what every training made of it; of a StarGAN the grid of each evaluation. Empty where the pictures are lost."""
    seeds = list(dict.fromkeys(seed for own in found.scores.values() for seed in own[found.metric].by_seed))
    first = found.recipes[found.baseline][0]
    wanted = _prompts_of(first.table)
    kept = {}
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, caption) in enumerate(wanted.items()):
            made: dict[str, dict[str, Image.Image]] = {}
            for recipe, evaluations in found.recipes.items():
                names = list(found.scores[recipe][found.metric].by_seed)
                for seed, one in zip(names, evaluations, strict=True):
                    picture = _picture(client, one.run_id, name, Path(temporary))
                    if picture is not None:
                        made.setdefault(recipe, {})[seed] = picture
            if made:
                path = folder / f"pictures_{number}.png"
                save_pictures(path, made, seeds)
                kept[caption] = path
    return kept


def _prompts_of(table: pd.DataFrame) -> dict[str, str]:
    """Artifact and caption of a few prompts, spread over the references; of a StarGAN, whose images are not kept one by one, its grid."""
    if "target" in table:
        return {_GRID: tr("The first contents of each evaluation, and what they became")}
    if "caption" not in table:
        return {}
    one_each = table.drop_duplicates("reference")
    places = sorted({round(place * (len(one_each) - 1) / max(_PROMPTS - 1, 1)) for place in range(_PROMPTS)})
    rows = one_each.iloc[places]
    return {str(reference): str(caption) for reference, caption in zip(rows["reference"], rows["caption"], strict=True)}


def _picture(client: Any, run_id: str, name: str, folder: Path) -> Image.Image | None:
    """The first picture that an evaluation made for a reference, or its grid; None where it has none."""
    from fashion_ml.runtime.printable import storable
    from fashion_ml.tracking.queries import download

    stem = str(Path(name).with_suffix(""))
    tries = [name] if name == _GRID else [f"{place}/{storable(f'{one}_0')}.png" for place in _IMAGES for one in (stem, name)]
    for artifact in tries:
        with suppress(InputError, OSError, PictureError):
            return load_picture(download(client, run_id, artifact, folder))
    return None


def _page(
    spec: SuiteSpec,
    found: SuiteComparison,
    costs: Sequence[TrainingCost],
    folder: Path,
    pictures: Mapping[str, Path],
    run: TrackedRun,
) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=tr("Suite {name}", name=spec.name),
        language=html_language(),
        about={"date": f"{datetime.now():%Y-%m-%d %H:%M}", "run": run.run_id, "trainer": spec.trainer},
        told={tag: found.sentences(one).splitlines() for one, tag in _both_languages()},
        confidences=confidences(found),
        early=[name for name, one in found.primary().items() if _decided_early(found, name, one)],
        is_grid=_GRID in _prompts_of(found.recipes[found.baseline][0].table),
        found=found,
        verdicts=_verdict_rows(found),
        heads=list(found.scores),
        means=_mean_rows(found),
        gains=_gain_rows(found),
        shares=_shares(found),
        plots={name: _embedded(folder / f"{name}.png") for name in ("recipes", "gains")},
        pictures={caption: _embedded(path) for caption, path in pictures.items()},
        hours=cost_hours(costs),
        trainings=[_training_row(one, run) for one in costs],
        source=SOURCE,
        tr=tr,
        word=word,
        names=_heads(),
    )


def _heads() -> dict[str, str]:
    """Over the columns of the table of verdicts, in the language."""
    return {
        **{"recipe": tr("recipe"), "verdict": tr("verdict"), "gain": tr("gain"), "can see ≥": tr("can see ≥"), "p": "p"},
        **{"seeds": tr("seeds"), "seeds to settle": tr("seeds to settle"), "for half": tr("for half")},
    }


def _both_languages() -> list[tuple[Language, str]]:
    """The language that is spoken here, then the other, each with its tag for HTML."""
    both: list[tuple[Language, str]] = [("en", "en"), ("zh-TW", "zh-Hant-TW")]
    return sorted(both, key=lambda one: one[0] != language())


def _decided_early(found: SuiteComparison, name: str, one: SuiteDifference) -> bool:
    """Whether a recipe's gain is of fewer seeds than the means of both."""
    return one.decided_at is not None and one.decided_at < max(len(found.recipes[name]), len(found.recipes[found.baseline]))


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _verdict_rows(found: SuiteComparison) -> list[list[str]]:
    """Of each recipe: name, verdict, gain, what could be seen, seeds, p, seeds that it would take, for half too."""
    rows = []
    for name, one in found.primary().items():
        entry = one.difference
        p = "" if entry.p is None else f"{entry.p:.4f}" if entry.p >= 0.0001 else "< 0.0001"
        sees = f"{one.crossed.sees:.4f}" if one.crossed else ""
        counts = zip((one.to_settle, one.to_settle_half), one.hidden, strict=True)
        settle = [_count(count, hidden) if one.crossed else "" for count, hidden in counts]
        rows.append(
            [
                name,
                word(entry.label),
                _shown(entry.gain, "+"),
                sees,
                p,
                tr("{seeds} and {seeds_2}", seeds=one.seeds[1], seeds_2=one.seeds[0]),
                *settle,
            ]
        )
    return rows


def _shown(interval: Interval, sign: str = "") -> str:
    """A mean, with its interval where there is one."""
    return shown(interval, sign) if interval.ends else f"{interval.mean + 0.0:{sign}.4f}"


def _count(count: int | None, hidden: bool) -> str:
    """Seeds that it would take; where no number of them would do, or none that anyone trains, what then."""
    return (
        str(count)
        if count is not None
        else tr("more references")
        if hidden
        else tr("more than {most_seeds}", most_seeds=MOST_SEEDS)
    )


def _labels(found: SuiteComparison) -> dict[str, str]:
    """What the tables call each metric; a similarity and its loss are one, of a StarGAN's latent-guided images too."""
    plain = table_names([name for name in found.metrics if not name.startswith(LATENT)])
    latent = table_names([name.removeprefix(LATENT) for name in found.metrics if name.startswith(LATENT)])
    labels = plain | {f"{LATENT}{name}": f"{LATENT}{label}" for name, label in latent.items()}
    return {name: labels[name] for name in found.metrics if name in labels}


def _mean_rows(found: SuiteComparison) -> list[tuple[str, str, list[str]]]:
    """Of each metric: name, which way is better, the mean of each recipe with its interval."""
    labels = _labels(found)
    cells = {name: [_shown(own[name].mean) if name in own else "" for own in found.scores.values()] for name in labels}
    return [(label, better_way(name), cells[name]) for name, label in labels.items()]


def _gain_rows(found: SuiteComparison) -> list[tuple[str, list[str]]]:
    """Of each metric but the primary one: name, and the gain of each recipe over the baseline."""
    labels = {name: label for name, label in _labels(found).items() if name != found.metric}
    return [
        (label, [_shown(own[name].difference.gain, "+") if name in own else "" for own in found.differences.values()])
        for name, label in labels.items()
    ]


def _shares(found: SuiteComparison) -> list[tuple[str, float]]:
    words = {
        "seeds": tr("training seeds"),
        "references": tr("references"),
        "recipes": tr("recipes"),
        "matches": tr("what suits some recipes"),
    }
    if found.spread is None:
        return []
    return [(words.get(name, tr("one training on one reference")), share) for name, share in found.spread.shares().items()]


def _training_row(one: TrainingCost, run: TrackedRun) -> dict[str, Any]:
    training = one.training
    link = f"/#/experiments/{run.experiment_id}/runs/{training.run_id}" if training.run_id else ""
    value = "" if training.value is None else f"{training.value:.4f}"
    told = {"recipe": training.recipe, "seed": training.seed, "state": training.error or training.state, "value": value}
    return told | {"time": duration(training.seconds), "run": training.run_id[:8], "link": link}
