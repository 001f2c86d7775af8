"""What the GPU benchmark works with: the device, its memory, random models of Stable Diffusion's shapes, photographs, an accelerator."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.models.families.family import Family
from fashion_ml.models.families.known import FAMILIES
from fashion_ml.models.single_file import CONFIGS, clip_tokenizer
from fashion_ml.models.stable_diffusion import quiet_libraries

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BF16_PEAK = 989e12
"""Dense bf16 products of an H100 or H200 (SXM), operations a second."""
SD1, SDXL = (next(one for one in FAMILIES if one.name == name) for name in ("sd1", "sdxl"))
_FEW = {"norm_num_groups": 8, "layers_per_block": 1}
_SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "sd1": {"unet": {"block_out_channels": [32, 32, 32, 32], "attention_head_dim": 2, **_FEW}},
    "sdxl": {
        "unet": {
            "block_out_channels": [32, 32, 32],
            "attention_head_dim": [2, 2, 2],
            "transformer_layers_per_block": [1, 1, 1],
            **_FEW,
        }
    },
}
"""What makes a UNet of the same kind small enough for a CPU."""
_SMALL_VAE = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1}


@dataclass
class Bench:
    """What every section works with."""

    tiny: bool
    """Small models and few steps, so that a CPU goes through all of it."""
    work: Path
    """An empty folder for files."""
    flops: dict[str, float] = field(default_factory=dict)
    """Operations of one image, forward and backward, by family, once they have been counted."""
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.device.type == "cuda"

    @property
    def side(self) -> int:
        """Of the images, pixels."""
        return 64 if self.tiny else 512

    @property
    def steps(self) -> int:
        """That are timed."""
        return 3 if self.tiny else 24

    def sync(self) -> None:
        """Wait for the GPU."""
        if self.cuda:
            torch.cuda.synchronize()

    def fresh_memory(self) -> None:
        """Give back what nothing holds, and count the peak from here."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> dict[str, float]:
        """GiB at the most since `fresh_memory`; empty without a GPU."""
        if not self.cuda:
            return {}
        read = {"peak_gib": torch.cuda.max_memory_allocated, "peak_reserved_gib": torch.cuda.max_memory_reserved}
        return {name: round(ask() / 2**30, 2) for name, ask in read.items()}

    def speed(self, batch: int, seconds: float, family: Family = SD1) -> dict[str, float]:
        """What a step of that many images and seconds is, in several units."""
        flops = self.flops.get(family.name)
        share = {"share_of_bf16_peak": round(flops * batch / seconds / BF16_PEAK, 3)} if flops else {}
        return {"it_s": round(1 / seconds, 2), "images_s": round(batch / seconds, 1), "ms": round(1000 * seconds, 1), **share}

    def model(self, part: str, dtype: torch.dtype = torch.float32, family: Family = SD1) -> Any:
        """`unet`, `vae` or a text encoder's name, of a family's shape with random weights, frozen, on the device."""
        import diffusers
        import transformers

        torch.manual_seed(0)
        at = CONFIGS / family.name
        with self.device:
            if part.startswith("text_encoder"):
                config = transformers.CLIPTextConfig.from_pretrained(str(at / part))
                config.num_hidden_layers = 2 if self.tiny else config.num_hidden_layers
                made = getattr(transformers, config.architectures[0])(config)
            else:
                kind = diffusers.UNet2DConditionModel if part == "unet" else diffusers.AutoencoderKL
                small = _SMALL_VAE if part == "vae" else _SMALL[family.name][part]
                made = kind.from_config({**kind.load_config(at / part), **(small if self.tiny else {})})
        with quiet_libraries():
            return made.to(self.device, dtype).requires_grad_(False).eval()

    def pipeline(self, unet_dtype: torch.dtype = torch.float32, family: Family = SD1) -> Any:
        """A whole pipeline, float32 but for its UNet."""
        import diffusers

        parts = {part: self.model(part, unet_dtype if part == "unet" else torch.float32, family) for part in family.models}
        parts |= {one.tokenizer: clip_tokenizer("sd2" if one.open_clip else "sd1") for one in family.texts}
        scheduler = diffusers.DDIMScheduler.load_config(CONFIGS / family.name / "scheduler")
        made = family.made({**parts, "scheduler": diffusers.DDIMScheduler.from_config(scheduler)})
        made.set_progress_bar_config(disable=True)
        return made

    def photos(self, name: str, count: int, side: int) -> Path:
        """A training folder of so many captioned images; made once."""
        folder = self.work / name
        place = folder / "10_garment"
        if place.exists():
            return folder
        place.mkdir(parents=True)
        for index, garment in enumerate(sample_garments(count, seed=11)):
            drawn = render(garment, min(side, 128)).resize((side, side), Image.Resampling.BICUBIC)
            drawn.save(place / f"{index:03d}.jpg", quality=90)
            (place / f"{index:03d}.txt").write_text(garment.caption(), encoding="utf-8")
        return folder

    def pictures(self, count: int) -> list[Image.Image]:
        """So many pictures of garments, a few of them over and over."""
        drawn = [render(garment, 64).resize((self.side, self.side)) for garment in sample_garments(8, seed=3)]
        return [drawn[index % len(drawn)] for index in range(count)]

    def accelerator(self, precision: str) -> Any:
        """For a precision, whatever came before; without a GPU fp16 is `no`."""
        from accelerate import Accelerator

        from fashion_ml.training.accelerate_private import forget_precision

        forget_precision()
        return Accelerator(mixed_precision="no" if precision == "fp16" and not self.cuda else precision)


Section = Callable[[Bench], dict[str, Any]]
"""Measures something and returns it, for JSON."""
