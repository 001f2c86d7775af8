"""Make the embedded models again, stage by stage: an hour and a quarter on two idle cores."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from fashion_ml.embedded.making.fashion_clip import train_fashion_clip
from fashion_ml.embedded.making.measure import measure
from fashion_ml.embedded.making.stable_diffusion import train_stable_diffusion
from fashion_ml.embedded.making.vae import train_vae

STAGES = ("vae", "vae_refine", "stable_diffusion", "stable_diffusion_refine", "fashion_clip", "measure")


def main() -> None:
    """Run the named stages in order; each writes into OUT_DIR and reads what earlier stages wrote there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that the recipe runs")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    out_dir, cache_dir = arguments.out_dir, arguments.out_dir / "cache"
    cache_dir.mkdir(parents=True, exist_ok=True)
    base_dir, quick = out_dir / "stable_diffusion", arguments.quick
    pictures = 256 if quick else 10_000
    for stage in arguments.stages:
        if stage == "vae":
            train_vae(base_dir / "vae", cache_dir, pictures=pictures, steps=4 if quick else 2_400)
        elif stage == "vae_refine":
            train_vae(base_dir / "vae", cache_dir, pictures=pictures, steps=4 if quick else 1_200, seed=4, refine=True)
        elif stage == "fashion_clip":
            train_fashion_clip(out_dir / "fashion_clip", cache_dir, pictures=pictures, steps=4 if quick else 1_100)
        elif stage == "stable_diffusion":
            steps = 4 if quick else 1_700
            train_stable_diffusion(base_dir, cache_dir, pictures=pictures, steps=steps, compiled=not quick)
        elif stage == "stable_diffusion_refine":
            steps = 4 if quick else 500
            train_stable_diffusion(base_dir, cache_dir, pictures=pictures, steps=steps, compiled=not quick, seed=5, refine=True)
        else:
            logging.info("%s", measure(out_dir, cache_dir, prompts=30 if quick else 300, pictures=100 if quick else 2_000))


if __name__ == "__main__":
    main()
