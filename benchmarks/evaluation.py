"""How fast pairs are measured: `python -m benchmarks.evaluation [--pairs N] [--side PX]`.

First each metric alone, pairs per second on one thread, at 512 x 512 pixels; for FashionCLIP both pictures of a pair are embedded, by the
embedded encoder and by one of FashionCLIP's size (ViT-B/16 at 224 px, random weights). Then `fashion-ml evaluate images` as a function, on N
pairs of JPEG files with the embedded encoder, after a small one that pays for imports: the share of its time that is neither
metrics nor the check that every file decodes (runs, tables, pictures, reports, waiting for the second decoding), and memory at its most.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image

from benchmarks.peers import at_least
from benchmarks.results import Row, report
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.evaluation import image_pairs
from fashion_ml.evaluation.instruments import read_encoder
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.metrics.ciede2000 import ciede2000
from fashion_ml.metrics.color import color_correlation
from fashion_ml.metrics.fashion_clip import FashionClip, cosine
from fashion_ml.metrics.garment_mask import garment_mask
from fashion_ml.metrics.ssim import ssim

_ROUNDS = 25


def pictures(count: int, side: int) -> list[Image.Image]:
    """Garments, enlarged to the side: rendering large ones takes long."""
    return [render(garment, 128).resize((side, side), Image.Resampling.BICUBIC) for garment in sample_garments(count, seed=3)]


def per_second(work: Callable[[], Any]) -> float:
    """Median rate of a call."""
    work()
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1 / statistics.median(seconds)


def metric_rates(side: int) -> dict[str, float]:
    """Pairs per second of each metric on one thread; masks: pictures per second."""
    first, second = pictures(2, side)
    masks = garment_mask(first), garment_mask(second)
    assert masks[0] is not None
    assert masks[1] is not None
    return {
        "ssim": per_second(lambda: ssim(first, second)),
        "color_correlation": per_second(lambda: color_correlation(first, second)),
        "ssim + color": per_second(lambda: (ssim(first, second), color_correlation(first, second))),
        "garment mask (pictures)": per_second(lambda: garment_mask(first)),
        "ciede2000": per_second(lambda: ciede2000(first, second, masks[0], masks[1])),  # type: ignore[arg-type]
    }


def similarity_rate(encoder: FashionClip, count: int, side: int) -> float:
    """Pairs per second: both pictures embedded in batches, and the cosine."""
    first = pictures(count, side)
    second = first[::-1]

    def measure() -> None:
        ours, others = encoder.embed_images(first), encoder.embed_images(second)
        for one, other in zip(ours, others, strict=True):
            cosine(one[None], other[None])

    measure()
    start = time.perf_counter()
    measure()
    return count / (time.perf_counter() - start)


def similarity_rates(side: int) -> dict[str, float]:
    """FashionCLIP's pairs per second with the embedded encoder and with one of its full size, which has random weights here."""
    embedded = read_encoder("embedded", ())
    assert embedded is not None
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-16")
    large = FashionClip("ViT-B-16", "", model.eval(), preprocess, None)
    at = f"{torch.get_num_threads()} threads, {side} px"
    return {
        f"fashion_similarity, embedded encoder, {at}": similarity_rate(embedded, 64, side),
        f"fashion_similarity, ViT-B/16, {at}": similarity_rate(large, 16, side),
    }


def outside_share(count: int, side: int) -> tuple[float, float]:
    """Seconds of `evaluate images` on `count` pairs, and the share of it that is neither decoding nor metrics."""
    from fashion_ml.runs.compare import run_images
    from fashion_ml.tracking.store import open_tracking

    spent = {"inside": 0.0}

    def timed(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return plain(*args, **kwargs)
            finally:
                spent["inside"] += time.perf_counter() - start

        setattr(owner, name, call)

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for folder in ("generated", "reference"):
            (place / folder).mkdir()
        for index, picture in enumerate(pictures(count, side)):
            picture.save(place / "reference" / f"{index:04d}.jpg", quality=90)
            picture.resize((side - 16, side - 16)).save(place / "generated" / f"{index:04d}.jpg", quality=75)
        (place / "few.csv").write_text("generated,reference\n0000.jpg,0000.jpg\n0001.jpg,0001.jpg\n", encoding="utf-8")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / 'mlflow.db'}"
        open_tracking().search_experiments()  # making a new store takes seconds, once
        os.chdir(place)
        for owner, method in (
            (MetricSuite, "look_at"),
            (MetricSuite, "measure"),
            (image_pairs, "look_at_files"),
            (image_pairs, "summarise"),
        ):
            timed(owner, method)
        start = 0.0
        for pairs in (place / "few.csv", None):  # the first one pays for imports and for loading the encoder
            spent["inside"], start = 0.0, time.perf_counter()
            run_images(
                place / "generated",
                place / "reference",
                pairs=pairs,
                overrides={"encoder": "embedded"},
                training=None,
                run_id="",
                folder=None,
                experiment="benchmark",
            )
        total = time.perf_counter() - start
        os.chdir("/")
    return total, 1 - spent["inside"] / total


def main() -> None:
    """Report all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=at_least(2), default=200)
    parser.add_argument("--side", type=at_least(32), default=512)
    arguments = parser.parse_args()
    rates = metric_rates(arguments.side)
    rows = [Row(f"{name}, one thread, {arguments.side} px", f"{rate:.0f} a second") for name, rate in rates.items()]
    total, share = outside_share(arguments.pairs, arguments.side)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    what = f"evaluate images, {arguments.pairs} pairs of {arguments.side} px"
    rows += [
        Row(what, f"{total:.1f} s, {share:.1%} of it neither decoding nor metrics"),
        Row("the same, memory at its most", f"{peak:.0f} MiB"),
    ]
    rows += [
        Row(name, f"{rate:.1f} a second") for name, rate in similarity_rates(arguments.side).items()
    ]  # last: its model is large
    report(rows)


if __name__ == "__main__":
    main()
