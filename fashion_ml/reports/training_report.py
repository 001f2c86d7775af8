"""The JSON report of a LoRA training and its 2 x 2 curves; what was not measured is null, an empty list and a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fashion_ml.runtime.atomic_files import atomic_path, write_text

NO_IMAGES = "Not measured: training makes no images. Evaluation measures it on generated images, on a run of its own."
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


def write_training_report(
    folder: Path, series: Mapping[str, Series], *, total_steps: int, description: str, now: datetime
) -> tuple[Path, Path]:
    """Write the JSON report and the curves of the four losses; returns their paths. Losses missing in `series` were not measured."""
    stamp = now.strftime("%Y%m%d_%H%M%S")
    report, curves = (folder / f"lora_detailed_training_{part}" for part in (f"report_{stamp}.json", f"curves_{stamp}.png"))
    full = {name: series.get(name, Series()) for name in DESCRIPTIONS}
    write_text(report, _as_json(_report(full, total_steps, description, now)))
    _draw(curves, full)
    return report, curves


def complete_report(report: Path, measured: Mapping[str, Series], fingerprint: str) -> tuple[Path, Path]:
    """Add series that evaluations measured afterwards to a JSON report, in place, and draw its curves again; returns both paths.

    Points of steps that are there already are replaced, and all points that were measured with another fingerprint are dropped.
    """
    tree = json.loads(report.read_text(encoding="utf-8"))
    comparable = tree.get("evaluation_fingerprint", fingerprint) == fingerprint
    full: dict[str, Series] = {}
    for name, entry in tree["loss_data"].items():
        keep = comparable or name == "total_loss"
        points = dict(zip(entry["steps"], entry["values"], strict=True)) if keep else {}
        new = measured.get(name, Series())
        points |= dict(zip(new.steps, new.values, strict=True))
        full[name] = Series(sorted(points), [points[step] for step in sorted(points)])
    info = tree["training_info"]
    now = datetime.fromisoformat(info["timestamp"])
    made = _report(full, info["total_steps"], info["description"], now)
    write_text(report, _as_json({**made, "evaluation_fingerprint": fingerprint}))
    curves = report.with_name(report.name.replace("_report_", "_curves_")).with_suffix(".png")
    _draw(curves, full)
    return report, curves


def reading_help(total_loss: float, steps: int) -> list[str]:
    """What the figures usually mean, indicative only; thresholds as users of the earlier recipe know them."""
    bands = [
        (0.5, "just begun"),
        (0.2, "learning basic features"),
        (0.1, "main features learnt"),
        (0.05, "very accurate, possibly overfitting"),
    ]
    loss = next((text for bound, text in bands if total_loss > bound), "below 0.05: check for overfitting")
    length = (
        "below 100 steps: usually too few"
        if steps < 100
        else "100-300 steps: suitable"
        if steps <= 300
        else "above 500 steps: risk of overfitting"
        if steps > 500
        else "300-500 steps: compare with an earlier file"
    )
    return [
        "Indicative only; the measured gains of an evaluation come first.",
        f"total_loss {total_loss:.4f}: {loss}.",
        f"{length[0].upper()}{length[1:]}.",
    ]


def _report(series: Mapping[str, Series], total_steps: int, description: str, now: datetime) -> dict[str, Any]:
    info: dict[str, Any] = {"timestamp": now.isoformat(), "total_steps": total_steps}
    info |= {f"final_{name}": data.values[-1] if data.values else None for name, data in series.items()}
    info["description"] = description
    if series["total_loss"].values:
        info["reading_help"] = reading_help(series["total_loss"].values[-1], total_steps)
    losses: dict[str, Any] = {}
    for name, data in series.items():
        losses[name] = {
            "metric_name": name,
            "steps": list(data.steps),
            "values": list(data.values),
            "description": DESCRIPTIONS[name],
        }
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


def _draw(path: Path, series: Mapping[str, Series]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8))  # fixed margins: a layout engine draws everything twice
    figure.subplots_adjust(left=0.055, right=0.985, bottom=0.065, top=0.96, wspace=0.13, hspace=0.24)
    for axes, (name, data) in zip(figure.subplots(2, 2).flat, series.items(), strict=True):
        axes.set_title(name, loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        if not data.values:
            axes.text(0.5, 0.5, NO_IMAGES.replace(": ", ":\n").replace(". ", ".\n"), ha="center", va="center", color="0.35")
            axes.set(xticks=[], yticks=[])
            continue
        window = max(len(data.values) // 20, 1)
        if name == "total_loss":
            axes.plot(data.steps, data.values, color="#9db7d5", linewidth=0.8, label="each step")
            axes.plot(
                data.steps, smoothed(data.values, window), color="#1f4e8c", linewidth=1.8, label=f"mean of {window} steps"
            )
        else:
            axes.plot(
                data.steps, data.values, "o-", color="#1f4e8c", linewidth=1.8, label="evaluation of the weights of that step"
            )
        low = min(range(len(data.values)), key=lambda index: data.values[index])
        axes.plot(data.steps[low], data.values[low], "o", color="#c2410c", markersize=5)
        text = f"final {data.values[-1]:.4f}, minimum {data.values[low]:.4f} at step {data.steps[low]}"
        axes.set_title(text, loc="right", fontsize=9, color="0.3")
        axes.set(xlabel="step", ylim=(0, None if math.isfinite(max(data.values)) else 1))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
