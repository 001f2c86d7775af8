"""Encoding, generating, decoding and measuring on a GPU, by the project's own functions."""

from __future__ import annotations

import copy
import statistics
import time
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gpu_parts import Bench, Section
from benchmarks.gpu_training import lora_steps
from fashion_ml.config import validate
from fashion_ml.data.buckets import image_sizes
from fashion_ml.data.encoded_images import EncodedImages
from fashion_ml.data.images import load_unchanged, read_training_folder
from fashion_ml.data.pictures import fit
from fashion_ml.evaluation.generate import Job, generate
from fashion_ml.evaluation.measure import make_metric_suite
from fashion_ml.metrics.color import color_correlation
from fashion_ml.metrics.fashion_clip import FashionClip, transform_of
from fashion_ml.metrics.ssim import ssim
from fashion_ml.models.half_precision import decode_one_by_one, lower_pipeline
from fashion_ml.models.stable_diffusion import encode_latents
from fashion_ml.models.vae import decode_latents, vae_factor_of
from fashion_ml.runtime.gpu_memory import free_memory
from fashion_ml.runtime.weights_hash import weights_sha256


def encoding(bench: Bench) -> dict[str, Any]:
    """Images to latents as a training makes them ahead, and by fours in both precisions."""
    vae, photos = bench.model("vae"), bench.photos("photos", 4 if bench.tiny else 16, bench.side)
    items = read_training_folder(photos)
    data = validate({"data": {"train_data_dir": str(photos), "resolution": bench.side}}).data
    sizes = image_sizes([item.size for item in items], **data.bucketing(vae_factor_of(vae)))
    images = EncodedImages(bench.pipeline(), items, sizes, None, "")
    images.moments(0)
    bench.sync()
    started = time.perf_counter()
    for index in range(len(items)):
        images.moments(index)
    found: dict[str, Any] = {"one_by_one_images_s": round(len(items) / (time.perf_counter() - started), 1)}
    started = time.perf_counter()
    pictures = [fit(load_unchanged(item), size) for item, size in zip(items, sizes, strict=True)]
    found["reading_ms"] = round(1000 * (time.perf_counter() - started) / len(pictures), 1)
    for dtype in (torch.float32, torch.bfloat16):
        name, lower = f"fours_{str(dtype)[6:]}", SimpleNamespace(vae=copy.deepcopy(vae).to(dtype))
        bench.fresh_memory()
        encode_latents(lower, [pictures[:4]])
        bench.sync()
        started = time.perf_counter()
        mean, _ = encode_latents(lower, [pictures[first : first + 4] for first in range(0, len(pictures), 4)])
        found[f"{name}_images_s"] = round(len(pictures) / (time.perf_counter() - started), 1)
        found[f"{name}_finite"] = bool(mean.isfinite().all())
        found |= {f"{name}_{key}": value for key, value in bench.peak().items()}
    started = time.perf_counter()
    weights_sha256(vae), weights_sha256(bench.model("text_encoder"))
    found["hashes_s"] = round(time.perf_counter() - started, 2)
    return found


def generation(bench: Bench) -> dict[str, Any]:
    """Images of an evaluation a second: in float32, in bf16 and in bf16 by sixteens, decoded one by one; and what pictures cost the CPU."""
    count, steps = (2, 2) if bench.tiny else (8, 25)
    ways = {"float32": (torch.float32, 4), "bf16": (torch.bfloat16, 4), "bf16_by_16": (torch.bfloat16, 16)}
    pipeline, found, pictures = bench.pipeline(), dict[str, Any](), dict[str, list[Any]]()
    decode_one_by_one(pipeline.vae)
    for name, (dtype, batch) in ways.items():
        tree = {"data": {"train_data_dir": "x"}, "evaluation": {"batch_size": batch, "num_inference_steps": steps}}
        settings, many = validate(tree).evaluation, count if bench.tiny else max(count, batch)
        jobs = [
            Job(index, f"image{index}", "a red striped dress", 100 + index, (bench.side, bench.side)) for index in range(many)
        ]
        lower_pipeline(pipeline, bench.device, dtype)
        bench.fresh_memory()
        list(generate(pipeline, jobs[:batch], settings.model_copy(update={"num_inference_steps": 2})))
        bench.sync()
        started = time.perf_counter()
        pictures[name] = [one for _, made in generate(pipeline, jobs, settings) for one in made]
        bench.sync()
        found[name] = {"images_s": round(many / (time.perf_counter() - started), 2), **bench.peak()}
    pairs = list(zip(pictures["bf16"], pictures["float32"], strict=True))
    found["bf16"]["ssim_to_float32"] = round(statistics.mean(ssim(a, b) for a, b in pairs), 4)
    for label, metric in (("ssim_ms", ssim), ("color_ms", color_correlation)):
        started = time.perf_counter()
        for a, b in pairs:
            metric(a, b)
        found[label] = round(1000 * (time.perf_counter() - started) / count, 1)
    started = time.perf_counter()
    for index, picture in enumerate(pictures["bf16"]):
        picture.save(bench.work / f"made{index}.png")
    found["png_ms"] = round(1000 * (time.perf_counter() - started) / count, 1)
    return found


def memory_of_phases(bench: Bench) -> dict[str, Any]:
    """GiB at the most in a training at batch 1 in bf16, what stays behind it, and the most in the evaluation that follows."""
    found: dict[str, Any] = {"training": lora_steps(bench, batch=1, precision="bf16").get("peak_gib")}
    free_memory(bench.accelerator("bf16"))
    found["between"] = round(torch.cuda.memory_allocated() / 2**30, 3) if bench.cuda else None
    pipeline = bench.pipeline()
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.to("cpu")  # where an evaluation loads it
    bench.fresh_memory()
    lower_pipeline(pipeline, bench.device, torch.bfloat16)
    decode_one_by_one(pipeline.vae)
    settings = validate({"data": {"train_data_dir": "x"}, "evaluation": {"num_inference_steps": 2}}).evaluation
    jobs = [Job(index, f"phase{index}", "a red striped dress", index, (bench.side, bench.side)) for index in range(4)]
    list(generate(pipeline, jobs, settings))
    found["evaluation"] = bench.peak().get("peak_gib")
    return found


def fashion_clip(bench: Bench) -> dict[str, Any]:
    """Pairs a second of a ViT-B/32 with random weights, and of measuring pairs."""
    import open_clip

    model = open_clip.create_model("ViT-B-32").eval().to(bench.device)
    encoder = FashionClip("random", "", model, transform_of(model), open_clip.get_tokenizer("ViT-B-32"))
    pictures = bench.pictures(8 if bench.tiny else 256)
    encoder.embed_images(pictures[:8])
    started = time.perf_counter()
    encoder.embed_images(pictures)
    seconds = time.perf_counter() - started
    settings = validate({"data": {"train_data_dir": "x"}}).evaluation
    suite, some = make_metric_suite(settings, encoder, bench.device.type), pictures[: 4 if bench.tiny else 32]
    started = time.perf_counter()
    looked = suite.look_at(some)
    middle = time.perf_counter()
    suite.measure(looked, looked[::-1])
    ended = time.perf_counter()
    return {
        "pairs_s": round(len(pictures) / 2 / seconds, 1),
        "look_at_ms": round(1000 * (middle - started) / len(some), 1),
        "measure_ms": round(1000 * (ended - middle) / len(some), 1),
    }


def decoding(bench: Bench) -> dict[str, Any]:
    """What grids and evaluations of a StarGAN take: latents to pictures."""
    found: dict[str, Any] = {}
    count, cells = (2, 8) if bench.tiny else (32, 64)
    for dtype in (torch.float32, torch.bfloat16):
        vae = bench.model("vae", dtype)
        bench.fresh_memory()
        latents = torch.randn(count, 4, cells, cells, device=bench.device)
        decode_latents(vae, latents)
        bench.sync()
        started = time.perf_counter()
        decode_latents(vae, latents)
        found[str(dtype)[6:]] = {"images_s": round(count / (time.perf_counter() - started), 1), **bench.peak()}
    return found


EVALUATION: dict[str, tuple[float, Section]] = {
    "generation": (30, generation),
    "memory": (20, memory_of_phases),
    "decoding": (8, decoding),
    "encoding": (10, encoding),
    "fashion_clip": (12, fashion_clip),
}
"""Name -> seconds that it takes, and what it does."""
