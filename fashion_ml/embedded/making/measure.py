"""The measured quality of the embedded models, on pictures and prompts that training never saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from skimage.metrics import structural_similarity

from fashion_ml.embedded.finishes import COLOURS
from fashion_ml.embedded.garments import PATTERNS, Garment
from fashion_ml.embedded.making.likeness import GOLD, line_masks
from fashion_ml.embedded.making.world import UNSEEN_SEED, attribute_indices, rendered, to_images
from fashion_ml.embedded.shapes import KINDS
from fashion_ml.metrics.kid import kernel_inception_distance

_LABELS = {
    "kind": [f"a photo of a {kind}" for kind in KINDS],
    "colour": [f"a {colour} garment" for colour in COLOURS],
    "pattern": [f"a {pattern} garment" for pattern in PATTERNS],
}


@torch.no_grad()
def _embeddings(clip_dir: Path, images: torch.Tensor, device: str = "cpu") -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Normalised embeddings of images (N, 3, 64, 64) and of each attribute's labels, (N, D) and (L, D), on the CPU."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{clip_dir}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_dir}")
    model.eval().to(device)
    shown = torch.cat([model.encode_image(part.to(device), normalize=True) for part in torch.split(images, 128)])
    texts = {name: model.encode_text(tokenizer(labels).to(device), normalize=True).cpu() for name, labels in _LABELS.items()}
    return shown.cpu(), texts


def zero_shot_accuracy(clip_dir: Path, images: torch.Tensor, truth: torch.Tensor, device: str = "cpu") -> dict[str, float]:
    """Share of images (N, 3, 64, 64) whose nearest label text is right, for kind, colour and pattern (truth (N, 3))."""
    shown, texts = _embeddings(clip_dir, images, device)
    return {
        attribute: (shown @ labels.T).argmax(1).eq(truth[:, column]).float().mean().item()
        for column, (attribute, labels) in enumerate(texts.items())
    }


def distance_of_sets(
    clip_dir: Path, painted: torch.Tensor, drawn: torch.Tensor, garments: list[Garment], device: str = "cpu"
) -> float:
    """KID of painted and drawn images of the same captions, (N, 3, 64, 64) each."""
    captions = [garment.caption() for garment in garments]
    alike = torch.tensor([captions.index(caption) for caption in captions])
    made, references = (_embeddings(clip_dir, images, device)[0] for images in (painted, drawn))
    distance = kernel_inception_distance(made, references, torch.arange(len(alike)), alike)
    if distance is None:
        raise ValueError("garments: all have one caption; KID needs at least two")
    return distance.item()


@torch.no_grad()
def line_kept(vae: AutoencoderKL, pixels: torch.Tensor) -> float:
    """How much of a gold line of one pixel is left after reconstruction: 1 for all of it, 0 for none; pixels (N, 3, 64, 64) uint8.

    The pictures are reconstructed with and without a line; where the line is, the difference after is projected on the difference before.
    """
    masks = line_masks(len(pixels), pixels.shape[-1], np.random.default_rng(0))
    plain = to_images(pixels)
    lined = plain * (1 - masks) + torch.tensor(GOLD)[:, None, None] * masks
    before = (lined - plain) * masks
    after = torch.cat([_decoded(vae, a) - _decoded(vae, b) for a, b in zip(lined.split(64), plain.split(64), strict=True)])
    return float((after * before).sum() / ((lined - plain) * before).sum())


def _decoded(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Images (N, 3, 64, 64) after encoding and decoding, on the CPU."""
    decoded: torch.Tensor = vae.decode(vae.encode(images.to(vae.device)).latent_dist.mean).sample.clamp(-1, 1).cpu()
    return decoded


@torch.no_grad()
def _vae_ssim(vae: AutoencoderKL, pixels: torch.Tensor) -> float:
    """Mean SSIM of pictures (N, 3, 64, 64) uint8 and their reconstructions, on luma."""
    parts = [_decoded(vae, to_images(part)) for part in torch.split(pixels, 64)]
    decoded = ((torch.cat(parts) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    original = pixels.permute(0, 2, 3, 1).numpy()
    grey = [[np.asarray(Image.fromarray(p).convert("L")) for p in side] for side in (original, decoded)]
    return float(np.mean([structural_similarity(a, b, data_range=255) for a, b in zip(*grey, strict=True)]))


def measure(out_dir: Path, cache_dir: Path, *, prompts: int, pictures: int, device: str = "cpu") -> dict[str, object]:
    """Write `quality.json` beside the models and a sheet of generated pictures into the cache folder."""
    base_dir, clip_dir = out_dir / "stable_diffusion", out_dir / "fashion_clip"
    garments, pixels = rendered(pictures, UNSEEN_SEED, cache_dir)
    truth = torch.tensor([attribute_indices(garment) for garment in garments])
    pipeline = StableDiffusionPipeline.from_pretrained(base_dir, torch_dtype=torch.float32, safety_checker=None).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def in_finish(finish: str) -> dict[str, float]:
        _, shown = rendered(pictures, UNSEEN_SEED, cache_dir, finish)
        return {
            "vae_ssim": _vae_ssim(pipeline.vae, shown[:256]),
            **zero_shot_accuracy(clip_dir, to_images(shown), truth, device),
        }

    generator = torch.Generator().manual_seed(0)
    generated = []
    for first in range(0, prompts, 30):
        captions = [garment.caption() for garment in garments[first : min(first + 30, prompts)]]
        generated += pipeline(captions, num_inference_steps=25, guidance_scale=3.0, generator=generator).images
    sheet = Image.new("RGB", (10 * 66, 6 * 66))
    for index, picture in enumerate(generated[:60]):
        sheet.paste(picture, (index % 10 * 66, index // 10 * 66))
    sheet.save(cache_dir / "generated.png")
    painted = to_images(torch.from_numpy(np.stack([np.asarray(picture) for picture in generated])).permute(0, 3, 1, 2))
    quality: dict[str, object] = {
        "vae_ssim": _vae_ssim(pipeline.vae, pixels[:256]),
        "gold_line_kept": line_kept(pipeline.vae, pixels[:256]),
        "zero_shot_unseen": zero_shot_accuracy(clip_dir, to_images(pixels), truth, device),
        "varied": in_finish("varied"),
        "collection": in_finish("dip-dyed"),
        "zero_shot_generated": zero_shot_accuracy(clip_dir, painted, truth[:prompts], device),
        "kid_generated": distance_of_sets(clip_dir, painted, to_images(pixels[:prompts]), garments[:prompts], device),
        "unseen_pictures": pictures,
        "prompts": prompts,
    }
    (out_dir / "quality.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    return quality
