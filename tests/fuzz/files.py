"""Whole files of each kind, small: what is damaged."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

from tests.fuzz.mutations import as_json


def picture(kind: str, **options: Any) -> bytes:
    """A small picture file."""
    buffer, mode = io.BytesIO(), options.pop("mode", "RGB")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def safetensors(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file of tensors."""
    from safetensors.torch import save

    return save(dict(tensors), dict(metadata))


def lora_file() -> bytes:
    """A LoRA of SD 1.5, four modules of rank 2."""
    tensors, metadata = {}, {"ss_network_dim": "2", "ss_network_alpha": "1", "ss_tag_frequency": '{"10_dress": {"dress": 3}}'}
    for module in ("to_q", "to_k", "to_v", "to_out_0"):
        name = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_{module}"
        tensors |= {f"{name}.lora_down.weight": torch.ones(2, 320), f"{name}.lora_up.weight": torch.ones(320, 2)}
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    return safetensors(tensors, metadata | {"ss_network_args": '{"conv_dim": "2"}', "ss_steps": "10"})


def state_file() -> bytes:
    """What --resume needs, of one parameter."""
    groups = [{"lr": 1e-4, "betas": [0.9, 0.99], "params": [0], "optimizer": "lora"}]
    meta = {
        "step": 3,
        "optimizer": {"0": {"step": 3}},
        "groups": groups,
        "extra": {"train": {"kept": []}, "log": {}, "scalers": {}},
    }
    tensors = {"parameter.00000": torch.ones(3), "optimizer.0.exp_avg": torch.ones(3)}
    return safetensors(tensors, {"state": json.dumps(meta)})


def latent_files() -> dict[str, bytes]:
    """Two domains of one latent each, packed too."""
    files, index = {}, {}
    sha256 = hashlib.sha256(torch.ones(4, 8, 8).numpy().tobytes()).hexdigest()
    for domain in ("coat", "dress"):
        buffer = io.BytesIO()
        torch.save(torch.ones(4, 8, 8), buffer)
        files |= {
            f"{domain}/a.pt": buffer.getvalue(),
            f"packed/{domain}-00000.safetensors": safetensors({"latents": torch.ones(1, 4, 8, 8)}, {}),
        }
        index[domain] = {"files": ["a"], "shards": [[f"packed/{domain}-00000.safetensors", 1]], "sha256": sha256}
    entries = {f"{domain}/a": {"source": f"{domain}/a.png", "sha256": "0" * 64, "mirrored": False} for domain in index}
    manifest = {"vae": "embedded", "vae_sha256": "0", "latent_scale": 0.2, "size": 64, "device": "cpu", "files": entries}
    return files | {"manifest.json": as_json(manifest), "packed.json": as_json({"domains": index})}


def odd_latents() -> dict[str, tuple[bytes, ...]]:
    """Whole files of tensors that are no latents, in both forms, and an index of very many domains."""
    plain = torch.ones(4, 8, 8)
    odd = [plain.to(dtype) for dtype in (torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn)]
    odd += [
        torch.ones(4, 0, 0),
        torch.ones(0, 8, 8),
        torch.full((4, 8, 8), float("nan")),
    ]
    odd += [
        torch.full((4, 8, 8), 1e300, dtype=torch.float64),
        torch.full((4, 8, 8), 3e38),
        torch.ones(4, 8, 8, requires_grad=True),
    ]
    apart = [plain.to_sparse(), plain.to("meta"), torch.ones(1).expand(4, 40_000, 40_000), {"latent": [1]}]
    many = {
        "domains": {
            f"d{n}": {"files": ["a"], "shards": [["packed/coat-00000.safetensors", 1]], "sha256": ""} for n in range(20_000)
        }
    }
    single = []
    for value in (*odd, *apart):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        single.append(buffer.getvalue())
    return {
        "coat/a.pt": tuple(single),
        "packed/coat-00000.safetensors": tuple(safetensors({"latents": one.detach()[None]}, {}) for one in odd),
        "packed.json": (as_json(many),),
    }


def evaluation_files() -> dict[str, bytes]:
    """Two evaluations of four references."""
    rows = "\n".join(
        f"{name},0,a dress,{0.1 * n:.2f},{0.2 * n:.2f},0.5" for n, name in enumerate(("a.png", "b.png", "c.png", "d.png"))
    )
    table = f"reference,seed,caption,visual_loss,base_visual_loss,color_loss\n{rows}\n".encode()
    facts = as_json({"fingerprint": "0", "resamples": 50, "references": 4})
    report = as_json(
        {
            "ruler": {"encoder_check": {"readable": True, "line": "x"}},
            "references": 4,
            "leakage": {"seen": False, "near_duplicates": []},
        }
    )
    return {
        f"{place}/{name}": content
        for place in ("one", "two")
        for name, content in (("per_image.csv", table), ("fingerprint.json", facts), ("evaluation_report.json", report))
    }


def pictures_of_all_kinds() -> dict[str, bytes]:
    """A training folder with a picture of every format, depth and mode."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "a.png": picture("PNG", icc_profile=profile),
        "b.jpg": picture("JPEG", exif=exif, icc_profile=profile),
        "c.webp": picture("WEBP", exif=exif),
        "d.gif": picture("GIF", mode="P"),
        "e.tif": picture("TIFF", mode="F"),
        "f.bmp": picture("BMP"),
        "g.avif": picture("AVIF"),
        "h.png": picture("PNG", mode="LA"),
        "i.tif": picture("TIFF", mode="CMYK", compression="tiff_lzw"),
        "j.png": picture("PNG", mode="P", transparency=3),
        "k.tif": picture("TIFF", mode="I"),
    }
    files = {f"data/1_look/{name}": content for name, content in made.items()}
    return files | {f"data/1_look/{name.partition('.')[0]}.txt": b"a dress, red" for name in made}


KOHYA = {
    "pretrained_model_name_or_path": "base.safetensors",
    "train_data_dir": "data",
    "resolution": "512,512",
    "network_module": "networks.lora",
    "network_dim": 8,
    "network_alpha": 4,
    "network_args": ["conv_dim=4", "conv_alpha=1"],
    "learning_rate": 0.0001,
    "unet_lr": 0.0001,
    "lr_scheduler": "cosine",
    "optimizer_type": "AdamW8bit",
    "optimizer_args": ["weight_decay=0.1"],
    "max_train_steps": 100,
    "train_batch_size": 2,
    "mixed_precision": "fp16",
    "min_snr_gamma": 5,
    "caption_extension": ".txt",
    "shuffle_caption": True,
    "keep_tokens": 1,
    "save_every_n_epochs": 1,
    "seed": 1,
}
SCRIPT = b"""#!/bin/bash
export STEPS=100
LR="1e-4"
accelerate launch --num_cpu_threads_per_process 1 train_network.py \\
  --pretrained_model_name_or_path=base.safetensors --train_data_dir "data" --learning_rate $LR \\
  --network_module networks.lora --network_dim 8 --max_train_steps ${STEPS} --optimizer_args "betas=0.9,0.99"
"""
