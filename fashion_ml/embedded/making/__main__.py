"""Make the embedded models again: about two hours on two cores. Stages: vae, fashion_clip, stable_diffusion, measure."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

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
    base_dir = out_dir / "stable_diffusion"
    quick = arguments.quick
    for stage in arguments.stages:
        if stage == "vae":
            train_vae(base_dir / "vae", cache_dir, pictures=256 if quick else 10_000, steps=4 if quick else 1_700)


if __name__ == "__main__":
    main()
