"""Make the embedded models again: about two hours on two cores. Stages: vae, fashion_clip, stable_diffusion, measure."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from fashion_ml.embedded.making.fashion_clip import train_fashion_clip
from fashion_ml.embedded.making.measure import measure
from fashion_ml.embedded.making.stable_diffusion import train_stable_diffusion
from fashion_ml.embedded.making.vae import train_vae


def main() -> None:
    """Run the named stages in order; each writes into OUT_DIR and reads what earlier stages wrote there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--stages", nargs="+", default=["vae", "fashion_clip", "stable_diffusion", "measure"])
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that the recipe runs")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    out_dir, cache_dir = arguments.out_dir, arguments.out_dir / "cache"
    cache_dir.mkdir(parents=True, exist_ok=True)
    base_dir, quick = out_dir / "stable_diffusion", arguments.quick
    pictures = 256 if quick else 10_000
    for stage in arguments.stages:
        if stage == "vae":
            train_vae(base_dir / "vae", cache_dir, pictures=pictures, steps=4 if quick else 1_700)
        elif stage == "fashion_clip":
            train_fashion_clip(out_dir / "fashion_clip", cache_dir, pictures=pictures, steps=4 if quick else 1_500)
        elif stage == "stable_diffusion":
            steps = 4 if quick else 3_000
            train_stable_diffusion(base_dir, cache_dir, pictures=pictures, steps=steps, compiled=not quick)
        elif stage == "measure":
            logging.info("%s", measure(out_dir, cache_dir, prompts=30 if quick else 300, pictures=100 if quick else 2_000))
        else:
            parser.error(f"stage: {stage!r} is not known; choose vae, fashion_clip, stable_diffusion or measure")


if __name__ == "__main__":
    main()
