"""The JSON report of a LoRA training and its 2 x 2 curves; what was not measured is null, an empty list and a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fashion_ml.reports.loss_log import recent_mean
from fashion_ml.runtime.atomic_files import write_text
from fashion_ml.runtime.figure_style import BLUE, INK, ORANGE, SKY, SOFT, dress, level, name_below, new_figure, save_figure
from fashion_ml.runtime.input_file import read_whole
from fashion_ml.runtime.json_file import of_its_shape, parsed_mapping
from fashion_ml.runtime.language import tr

NO_IMAGES = "Not measured: training makes no images. Evaluation measures it on generated images, on a run of its own."
_LARGEST = 1e12
"""More than any loss or number of steps is, and less than figures can draw."""
DESCRIPTIONS = {
    "total_loss": "Training objective: error of the predicted noise (min-SNR weighted if that is on), mean over the step's images",
    "visual_loss": "1 - SSIM against the reference, clamped to [0, 1]",
    "fashion_clip_loss": "1 - cosine of FashionCLIP embeddings against the reference, clamped to [0, 1]",
    "color_loss": "1 - correlation of RGB histograms against the reference, clamped to [0, 1]",
}


@dataclass(frozen=True)
class Series:
    """Steps, counted from 1, and the value measured at each."""

    steps: Sequence[int] = ()
    values: Sequence[float] = ()
    base: float | None = None
    """The same of the base without LoRA; None where that was not measured."""


def write_training_report(
    folder: Path, series: Mapping[str, Series], *, total_steps: int, description: str, now: datetime
) -> tuple[Path, Path]:
    """Write the JSON report and the curves of the four losses; returns their paths. Losses missing in `series` were not measured."""
    stamp = now.strftime("%Y%m%d_%H%M%S")
    report, curves = (folder / f"lora_detailed_training_{part}" for part in (f"report_{stamp}.json", f"curves_{stamp}.png"))
    full = {name: series.get(name, Series()) for name in DESCRIPTIONS}
    write_text(report, _as_json(_report(full, total_steps, description, now)))
    _draw(curves, full, total_steps)
    return report, curves


def complete_report(report: Path, measured: Mapping[str, Series], fingerprint: str) -> tuple[Path, Path]:
    """Add series that evaluations measured afterwards to a JSON report, in place, and draw its curves again; returns both paths.

    Points of steps that are there already are replaced, and all points that were measured with another fingerprint are dropped.
    """
    with of_its_shape("report", report, tr("bring back a whole copy of it")):
        tree = parsed_mapping(read_whole(report))
        comparable = tree.get("evaluation_fingerprint", fingerprint) == fingerprint
        full: dict[str, Series] = {}
        for name in DESCRIPTIONS:
            entry = tree["loss_data"][name]
            keep = comparable or name == "total_loss"
            points = dict(zip(map(_step, entry["steps"]), map(_number, entry["values"]), strict=True)) if keep else {}
            new = measured.get(name, Series())
            points |= dict(zip(new.steps, new.values, strict=True))
            old = entry.get("base")
            base = new.base if new.base is not None or not keep or old is None else _number(old)
            full[name] = Series(sorted(points), [points[step] for step in sorted(points)], base)
        info, total_steps = tree["training_info"], _step(tree["training_info"]["total_steps"])
        made = _report(full, total_steps, str(info["description"]), datetime.fromisoformat(info["timestamp"]))
    write_text(report, _as_json({**made, "evaluation_fingerprint": fingerprint}))
    curves = _curves_of(report)
    _draw(curves, full, total_steps)
    return report, curves


def draw_missing_curves(report: Path) -> None:
    """Draw the curves of a JSON report where a kill has come before they were there. InputError where the report is damaged."""
    curves = _curves_of(report)
    if curves.exists():
        return
    with of_its_shape("report", report, tr("bring back a whole copy of it")):
        tree = parsed_mapping(read_whole(report))
        full = {name: _series(tree["loss_data"][name]) for name in DESCRIPTIONS}
        total_steps = _step(tree["training_info"]["total_steps"])
    _draw(curves, full, total_steps)


def _series(entry: Mapping[str, Any]) -> Series:
    base = entry.get("base")
    steps, values = [_step(one) for one in entry["steps"]], [_number(one) for one in entry["values"]]
    return Series(steps, values, None if base is None else _number(base))


def _curves_of(report: Path) -> Path:
    return report.with_name(report.name.replace("_report_", "_curves_")).with_suffix(".png")


def _number(value: object) -> float:
    """A number that can be drawn; ValueError."""
    found = float(value)  # type: ignore[arg-type]
    if not abs(found) < _LARGEST:
        raise ValueError(tr("{found:g} is no loss", found=found))
    return found


def _step(value: object) -> int:
    """A number of steps; ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ValueError(tr("{value} is no number of steps", value=str(value)[:40]))
    return value


def reading_help(total_loss: float, over: int, steps: int) -> list[str]:
    """What the figures usually mean, indicative only, of a mean over so many last steps; bounds as users of the earlier recipe know them."""
    bands = [
        (0.5, tr("just begun")),
        (0.2, tr("learning basic features")),
        (0.1, tr("main features learnt")),
        (0.05, tr("very accurate, possibly overfitting")),
    ]
    loss = next((text for bound, text in bands if total_loss > bound), tr("below 0.05: check for overfitting"))
    length = (
        tr("below 100 steps: usually too few")
        if steps < 100
        else tr("100-300 steps: suitable")
        if steps <= 300
        else tr("above 500 steps: risk of overfitting")
        if steps > 500
        else tr("300-500 steps: compare with an earlier file")
    )
    return [
        tr("Indicative only; the measured gains of an evaluation come first."),
        tr("total_loss {total_loss:.4f} (mean of the last {over} steps): {loss}.", total_loss=total_loss, over=over, loss=loss),
        f"{length[0].upper()}{length[1:]}.",
    ]


def _report(series: Mapping[str, Series], total_steps: int, description: str, now: datetime) -> dict[str, Any]:
    info: dict[str, Any] = {"timestamp": now.isoformat(), "total_steps": total_steps}
    info |= {f"final_{name}": data.values[-1] if data.values else None for name, data in series.items()}
    info["description"] = description
    if series["total_loss"].values:
        info["reading_help"] = reading_help(*recent_mean(series["total_loss"].values), total_steps)
    losses: dict[str, Any] = {}
    for name, data in series.items():
        losses[name] = {
            "metric_name": name,
            "steps": list(data.steps),
            "values": list(data.values),
            "description": DESCRIPTIONS[name],
        }
        if data.base is not None:
            losses[name]["base"] = data.base
        if not data.values:
            losses[name]["reason"] = NO_IMAGES
    return {"training_info": info, "loss_data": losses}


def _as_json(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Trailing mean over at most `window` values; the length stays."""
    totals = [0.0]
    for value in values:
        totals.append(totals[-1] + value)
    return [(totals[i + 1] - totals[max(i + 1 - window, 0)]) / min(i + 1, window) for i in range(len(values))]


def _draw(path: Path, series: Mapping[str, Series], total_steps: int) -> None:
    figure = new_figure(12, 8, title=found(series))
    for axes, (name, data) in zip(figure.subplots(2, 2).flat, series.items(), strict=True):
        if not data.values:
            axes.set_title(name, loc="left", fontsize=10, color=INK)
            axes.text(0.5, 0.5, _not_measured(), ha="center", va="center", color=SOFT)
            axes.spines[:].set_visible(False)
            axes.set(xticks=[], yticks=[])
            continue
        _draw_loss(axes, name, data, total_steps)
    save_figure(path, figure)


def _draw_loss(axes: Any, name: str, data: Series, total_steps: int) -> None:
    by_batch = name == "total_loss"  # whose lowest value is of an easy batch, and says nothing of the weights
    if by_batch:
        mean, count = recent_mean(data.values)
        text = tr("{name}: mean of the last {count} steps {mean:.4f}", name=name, count=count, mean=mean)
        window = max(len(data.values) // 20, 1)
        axes.plot(data.steps, data.values, color=SKY, linewidth=0.8 if window > 1 else 1.8, label=tr("each step"))
        if window > 1:
            axes.plot(
                data.steps,
                smoothed(data.values, window),
                color=BLUE,
                linewidth=2,
                label=tr("mean of {window} steps", window=window),
            )
    else:
        low = min(range(len(data.values)), key=lambda index: data.values[index])
        axes.plot(data.steps, data.values, "o-", color=BLUE, linewidth=1.8, markersize=6, label=tr("images of these weights"))
        if len(data.values) > 1:
            axes.plot(data.steps[low], data.values[low], "D", color=ORANGE, markersize=6, label=tr("lowest"))
        text = tr(
            "{name}: final {values:.4f}, minimum {values_2:.4f} at step {steps}",
            name=name,
            values=data.values[-1],
            values_2=data.values[low],
            steps=data.steps[low],
        )
    if data.base is not None:
        level(axes, data.base, tr("base without LoRA {base:.4f}", base=data.base))
    unit = tr("error of the predicted noise, squared") if by_batch else tr("loss, 0 equal to 1 unlike")
    dress(axes, title=text, x=tr("step"), y=unit, whole_x=True)
    tallest = max(max(data.values), data.base or 0)
    axes.set(
        xlim=(0, max(total_steps, *data.steps) * 1.02), ylim=(0, tallest * 1.12 if math.isfinite(tallest) and tallest else 1)
    )
    name_below(axes)


def _not_measured() -> str:
    """NO_IMAGES in the language, in lines."""
    told = tr("Not measured: training makes no images. Evaluation measures it on generated images, on a run of its own.")
    return told.replace(": ", ":\n").replace(". ", ".\n").replace("：", "：\n").replace("。", "。\n").rstrip()


def found(series: Mapping[str, Series]) -> str:
    """What the curves say, in one line: how far the objective fell, and what images gained over the base, as far as either was measured."""
    said, values = [], series["total_loss"].values
    if len(values) >= 2:
        part = max(len(values) // 10, min(len(values) // 3, 5), 1)
        first, last = (sum(some) / part for some in (values[:part], values[-part:]))
        way = tr("fell") if last < first else tr("rose") if last > first else tr("stayed")
        said.append(
            tr(
                "total_loss {way} from {first:.3f} to {last:.3f} (first and last {part} values)",
                way=way,
                first=first,
                last=last,
                part=part,
            )
        )
    nearer = [(name, one.base - one.values[-1]) for name, one in series.items() if one.values and one.base is not None]
    if nearer:
        told = tr(", ").join(f"{name} {gain:+.3f}" for name, gain in nearer)
        said.append(tr("images against the base, + is nearer to the references: {told}", told=told))
    return tr("; ").join(said) or tr("The four losses")
