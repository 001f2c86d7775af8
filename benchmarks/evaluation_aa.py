"""How often a model is called better or worse than itself: `python -m benchmarks.evaluation_aa [--lora FILE] [--images 8] [--pairs 400]`.

The demo's LoRA (trained first where no file is given) makes 8 images, of other seeds, for each of the demo's references. A pair is one model
against itself: for n references, drawn anew, half of each one's images against the other half, drawn anew too. What is counted are
verdicts on the headline (weighted_total_loss), verdicts on it or any of its three parts, and for comparison what an interval of percentiles,
as it was once, would have said.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.results import Row, report
from fashion_ml.config.shipped_files import default_experiment
from fashion_ml.evaluation.aggregate import judged_gains, means_by_reference
from fashion_ml.evaluation.lora_file import evaluate_lora
from fashion_ml.evaluation.verdicts import PARTS, PRIMARY
from fashion_ml.runs.python_api import train_lora
from fashion_ml.runtime.console import show_lines

NUMBERS = (6, 8, 12, 24)
"""Of references."""


def images_of(lora: Path | None, images: int, folder: Path) -> pd.DataFrame:
    """The scores of every image of the demo's LoRA: reference, seed, losses."""
    if lora is None:
        experiment = default_experiment("experiments/lora/embedded.yaml")
        lora = train_lora(experiment, {"evaluation.enabled": False}, folder=folder / "lora").trained.path
    own = {"num_inference_steps": 25, "guidance_scale": 2.5, "batch_size": 16, "extra_metrics": []}  # the demo's
    result = evaluate_lora(lora, folder=folder / "evaluation", images_per_reference=images, **own)
    return result.table[["reference", "seed", PRIMARY, *PARTS]]


def one_pair(table: pd.DataFrame, names: Sequence[str], rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half of the images of each reference, and the other half."""
    halves: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for name in names:
        rows = table[table["reference"] == name]
        order = rng.permutation(len(rows))
        for half, places in zip(halves, np.array_split(order, 2), strict=True):
            half.append(rows.iloc[places])
    first, second = (pd.concat(half, ignore_index=True) for half in halves)
    return first, second


def percentile_verdict(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Whether the percentile bootstrap of the paired differences leaves out 0."""
    a, b = (means_by_reference(table, PRIMARY, table["reference"].tolist()).to_numpy() for table in (first, second))
    draws = np.random.default_rng(0).integers(0, len(a), (2000, len(a)))
    low, high = np.quantile((a - b)[draws].mean(axis=1), [0.025, 0.975])
    return not low <= 0 <= high


def false_verdicts(table: pd.DataFrame, n: int, pairs: int) -> tuple[float, float, float]:
    """Shares of pairs with a verdict on the headline, with any verdict, and of the percentile interval's."""
    rng = np.random.default_rng(n)
    every = table["reference"].unique()
    headline = words = before = 0
    for _ in range(pairs):
        first, second = one_pair(table, rng.choice(every, n, replace=False), rng)
        found = judged_gains(first, second, first["reference"].tolist(), resamples=2000)
        said = {name for name in (PRIMARY, *PARTS) if found[name].verdict != "not shown"}
        headline += PRIMARY in said
        words += bool(said)
        before += percentile_verdict(first, second)
    return headline / pairs, words / pairs, before / pairs


def main() -> None:
    """Measure and print a row for each number of references."""
    show_lines()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lora", type=Path)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where LoRA and images are kept; a temporary folder when not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        table = images_of(given.lora, given.images, given.folder or Path(temporary))
    rows = []
    for n in NUMBERS:
        headline, words, before = false_verdicts(table, n, given.pairs)
        what = f"a model against itself, {n} references x {given.images // 2} images, {given.pairs} pairs: false verdicts on the headline"
        rows.append(Row(what, f"{headline:.1%}", f"on it or a part {words:.1%}; percentile interval {before:.1%}"))
    report(rows)


if __name__ == "__main__":
    main()
