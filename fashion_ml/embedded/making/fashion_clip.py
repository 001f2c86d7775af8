"""The small FashionCLIP: an open_clip model (ResNet image tower, transformer text tower), trained contrastively."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fashion_ml.embedded.finishes import COLOURS
from fashion_ml.embedded.garments import PATTERNS
from fashion_ml.embedded.making.tokenizer import CONTEXT_LENGTH, save_tokenizer
from fashion_ml.embedded.making.world import (
    PARTS,
    STYLED_SEED,
    TRAIN_SEED,
    UNKNOWN_PART,
    VARIED_SEED,
    empty_pictures,
    partial_caption,
    rendered,
    shown_indices,
    to_images,
)
from fashion_ml.embedded.shapes import KINDS

log = logging.getLogger(__name__)

MODEL_NAME = "fashion-ml-embedded-clip"
_EMPTY = (len(KINDS), len(COLOURS), len(PATTERNS), *(UNKNOWN_PART,) * len(PARTS))
"""What a picture without a garment shows: no caption of a garment names it."""
_SILENT = (-1,) * (len(_EMPTY) - 1)


def model_config(vocab_size: int) -> dict[str, object]:
    """The open_clip model config; `hf_tokenizer_name` makes open_clip read the tokenizer beside the weights."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": [1, 2, 2, 1], "width": 16, "patch_size": None},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "tokenizer",
        },
    }


def _augmented(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Brightness, noise, softness and a shift, so that the encoder also reads pictures that a model has painted."""
    images = images * rng.uniform(0.85, 1.15) + rng.uniform(-0.1, 0.1)
    images = torch.roll(images, (int(rng.integers(-4, 5)), int(rng.integers(-4, 5))), (2, 3))
    if rng.random() < 0.3:
        images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    return images + noise * float(rng.uniform(0, 0.10))


def _empty_caption(rng: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    return str(rng.choice(["a plain background", "a picture of a plain background"])), (_EMPTY[0], *_SILENT)


def _contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, *, named: torch.Tensor, shown: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy both ways over a batch, 0-d. images, texts (B, D); named (B, 6) with -1 where a text is silent, shown (B, 6)."""
    matches = ((named[None] == shown[:, None]) | (named[None] < 0)).all(-1).float()
    logits = scale * images @ texts.T
    by_image = F.cross_entropy(logits, matches / matches.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, matches.T / matches.T.sum(1, keepdim=True))
    return (by_image + by_text) / 2


def train_fashion_clip(
    out_dir: Path,
    cache_dir: Path,
    *,
    pictures: int,
    steps: int,
    batch_size: int = 96,
    seed: int = 2,
    device: str = "cpu",
) -> None:
    """Train both towers: a text matches every picture of the batch that has all the attributes it names.

    Half of the pictures have a hem, an edge and a backdrop of any colour, which captions name at times, and a few show an empty backdrop:
    an encoder that only knew the studio would read another look instead of its garments, and one that was never told of looks would be blind
    to them.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = save_tokenizer(out_dir)
    config = model_config(len(tokenizer))
    model = _untrained(config)
    parts = [rendered(count, number, cache_dir, finish) for count, number, finish in _shares(pictures)]
    garments = [garment for some, _ in parts for garment in some]
    pixels = torch.cat([*(drawn for _, drawn in parts), empty_pictures(pictures // 10, VARIED_SEED)])
    attributes = torch.tensor([shown_indices(garment) for garment in garments] + [_EMPTY] * (pictures // 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    start = time.monotonic()
    model.to(device).train()
    for step in range(1, steps + 1):
        rows = rng.integers(0, len(pixels), batch_size)
        captions, named = zip(
            *(partial_caption(garments[row], rng) if row < len(garments) else _empty_caption(rng) for row in rows), strict=True
        )
        tokens = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids

        features = model(_augmented(to_images(pixels[rows]), rng).to(device), tokens.to(device))
        loss = _contrastive_loss(*features, named=torch.tensor(named).to(device), shown=attributes[rows].to(device))

        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(60)))
        if step % 50 == 0:
            log.info("fashion_clip step %d/%d loss %.3f (%.0f s)", step, steps, loss.item(), time.monotonic() - start)

    _save(model.cpu(), config, out_dir)


def _shares(pictures: int) -> tuple[tuple[int, int, str], ...]:
    """How many pictures of which seed and finish."""
    return (pictures, TRAIN_SEED, "studio"), (pictures // 4, VARIED_SEED, "varied"), (pictures, STYLED_SEED, "styled")


def _untrained(config: dict[str, object]) -> Any:
    """An untrained model; open_clip reads a model's configuration from a file of its name."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{MODEL_NAME}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(file)
        return open_clip.create_model(MODEL_NAME)


def _save(model: torch.nn.Module, config: dict[str, object], out_dir: Path) -> None:
    """Weights in fp16, and what open_clip needs to read them."""
    state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, out_dir / "open_clip_model.safetensors")
    preprocess = {
        "size": 64,
        "mode": "RGB",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (out_dir / "open_clip_config.json").write_text(text + "\n", encoding="utf-8")
