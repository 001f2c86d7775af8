"""How fast images become latents, and prompts images: `python -m benchmarks.encoding [--images N] [--large]`.

`fashion-ml encode` as a function on N JPEG files of 512 px, with the embedded VAE at 64 px; captions; and images that an evaluation generates
with the embedded base at its default settings but for 20 steps. With `--large` also one of each at Stable Diffusion 1.5's size (random
weights, 256 px, float32).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lora_step import random_sd15, write_photos
from benchmarks.results import Row, report
from fashion_ml.config import Evaluation
from fashion_ml.data.encode_latents import encode_folder
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.pictures import fit_square, load_picture
from fashion_ml.embedded.garments import sample_garments
from fashion_ml.evaluation.generate import generate, jobs_of
from fashion_ml.models.stable_diffusion import encode_captions, encode_latents, load_pipeline

STEPS = 20


def generated(pipeline: Any, count: int, side: int, settings: Evaluation) -> float:
    """Seconds for so many images."""
    prompts = [garment.caption() for garment in sample_garments(count, seed=5)]
    wanted = [CaptionedImage(Path(f"{index}.png"), prompt, f"{index}.png") for index, prompt in enumerate(prompts)]
    jobs = jobs_of(wanted, settings, [(side, side)] * count)
    start = time.perf_counter()
    for _ in generate(pipeline, jobs, settings):
        pass
    return time.perf_counter() - start


def embedded(count: int) -> list[Row]:
    """Images, captions and generation with the embedded base."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", count, 512)

        def encode(out: str) -> None:
            encode_folder(folder, Path(name) / out, "embedded", size=64, flips=False, packed=False, device="cpu")

        encode("warm")  # pays for imports
        for what in ("images of 512 px to latents, VAE at 64 px, files written", "the same, all there already"):
            start = time.perf_counter()
            encode("out")
            rows.append(Row(what, f"{count / (time.perf_counter() - start):.0f} a second"))
    pipeline = load_pipeline("embedded")
    captions = [garment.caption() for garment in sample_garments(count, seed=5)]
    encode_captions(pipeline, captions[:1])
    start = time.perf_counter()
    for caption in captions:
        encode_captions(pipeline, [caption])
    rows.append(Row("captions to embeddings, one by one", f"{count / (time.perf_counter() - start):.0f} a second"))
    settings = Evaluation(num_inference_steps=STEPS, images_per_reference=1)
    generated(pipeline, settings.batch_size, 64, settings)
    some = 4 * settings.batch_size
    rate = some / generated(pipeline, some, 64, settings)
    what = f"images generated, embedded, 64 px, {STEPS} steps with guidance, batch {settings.batch_size}"
    return [*rows, Row(what, f"{rate:.1f} a second")]


def large() -> list[Row]:
    """The same at Stable Diffusion 1.5's size."""
    pipeline = random_sd15()
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as name:
        folder = write_photos(Path(name) / "images", 4, 512)
        pictures = [fit_square(load_picture(path), 256) for path in sorted(folder.rglob("*.jpg"))]
    encode_latents(pipeline, [pictures[:1]])
    start = time.perf_counter()
    for picture in pictures:
        encode_latents(pipeline, [[picture]])
    seconds = (time.perf_counter() - start) / len(pictures)
    rows = [Row("an image to latents, SD 1.5's VAE, 256 px", f"{seconds:.2f} s")]
    settings = Evaluation(num_inference_steps=4, images_per_reference=1, batch_size=1)
    generated(pipeline, 1, 256, settings)
    seconds = generated(pipeline, 1, 256, settings)
    return [*rows, Row("an image generated, SD 1.5's size, 256 px, 4 steps with guidance and decoding", f"{seconds:.1f} s")]


def main() -> None:
    """Report all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    report([*embedded(arguments.images), *(large() if arguments.large else [])])


if __name__ == "__main__":
    main()
