"""Make the embedded models again, stage by stage: about four hours on two idle cores.

All stages run when none are named. `vae_sharp` and `stable_diffusion_clean` train on what the stages before made: a VAE of twice the channels
that keeps lines of one pixel, and a UNet whose captions are hardly ever silent about a pattern.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from fashion_ml.embedded.making.fashion_clip import train_fashion_clip
from fashion_ml.embedded.making.measure import measure
from fashion_ml.embedded.making.sharp_vae import sharpen_vae
from fashion_ml.embedded.making.stable_diffusion import train_stable_diffusion
from fashion_ml.embedded.making.vae import train_vae

_FURTHER = ("vae_sharp", "stable_diffusion_clean")
STAGES = ("vae", "vae_refine", "stable_diffusion", "stable_diffusion_refine", *_FURTHER, "fashion_clip", "measure")


def stages(out_dir: Path, *, quick: bool, device: str, minutes: float | None) -> dict[str, Callable[[], object]]:
    """The stages by name; each writes into `out_dir` and reads what earlier stages wrote there."""
    cache_dir, base_dir, vae_dir = out_dir / "cache", out_dir / "stable_diffusion", out_dir / "stable_diffusion" / "vae"
    pictures = 256 if quick else 10_000

    def steps(count: int) -> int:
        return 4 if quick else count

    vae = partial(train_vae, vae_dir, cache_dir, pictures=pictures, device=device)
    diffusion = partial(train_stable_diffusion, base_dir, cache_dir, pictures=pictures, compiled=not quick, device=device)
    clip = partial(train_fashion_clip, out_dir / "fashion_clip", cache_dir, pictures=pictures, device=device)
    sharp = partial(sharpen_vae, vae_dir, cache_dir, pictures=pictures // 4, minutes=minutes, device=device)
    figures = partial(
        measure, out_dir, cache_dir, prompts=30 if quick else 300, pictures=100 if quick else 2_000, device=device
    )
    clean = {"seed": 7, "refine": True, "rate": 8e-4, "minutes": minutes, "longest_memory": 0.999, "named": (0.98, 0.985)}
    return {
        "vae": partial(vae, steps=steps(2_400)),
        "vae_refine": partial(vae, steps=steps(1_200), seed=4, refine=True),
        "stable_diffusion": partial(diffusion, steps=steps(1_700)),
        "stable_diffusion_refine": partial(diffusion, steps=steps(500), seed=5, refine=True),
        "fashion_clip": partial(clip, steps=steps(2_000)),
        "vae_sharp": partial(sharp, steps=steps(1_900)),
        "stable_diffusion_clean": partial(diffusion, steps=steps(3_000), precision=torch.bfloat16, **clean),
        "measure": lambda: logging.info("%s", figures()),
    }


def main() -> None:
    """Run the named stages in the order in which they are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that the recipe runs")
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda or cuda:1")
    parser.add_argument("--minutes", type=float, help=f"how long each of {' and '.join(_FURTHER)} may take at most")
    arguments = parser.parse_args()
    try:
        torch.empty(0, device=arguments.device)
    except (RuntimeError, AssertionError):
        parser.error(f"--device: {arguments.device!r} is not a device of this machine; choose cpu, or cuda where a GPU is seen")
    if arguments.minutes is not None and not arguments.minutes > 0:
        parser.error(f"--minutes: {arguments.minutes:g} is not above 0; leave it out for all steps")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    (arguments.out_dir / "cache").mkdir(parents=True, exist_ok=True)
    made = stages(arguments.out_dir, quick=arguments.quick, device=arguments.device, minutes=arguments.minutes)
    for stage in arguments.stages:
        made[stage]()


if __name__ == "__main__":
    main()
