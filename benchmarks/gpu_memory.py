"""What trainings and evaluations need of a GPU's memory, counted without one: `python -m benchmarks gpu_memory [--quick]`.

Each step, image and grid is run on tensors that have a size and no numbers (`training/memory_estimate.py`), at Stable Diffusion 1.5's size, and
XL's, with rank 16 on attention; StarGAN at its default size. The CUDA context, what the allocator holds back and cuDNN's workspaces come on
top. The tables are Markdown, for docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from fashion_ml.config import StarganExperiment, checked, load_config
from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.families.family import Family
from fashion_ml.models.families.known import FAMILIES
from fashion_ml.models.single_file import CONFIGS
from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.models.text_encoding import Embedded, Text, Tokens
from fashion_ml.models.vae import keep_decoder
from fashion_ml.runtime.console import say, show_lines
from fashion_ml.training.lora_memory import lora_memory
from fashion_ml.training.memory_estimate import GIB, peak_of_steps
from fashion_ml.training.stargan_loop import stargan_memory

SD1, SDXL = (next(one for one in FAMILIES if one.name == name) for name in ("sd1", "sdxl"))


def parts(family: Family = SD1) -> SimpleNamespace:
    """A base's parts without numbers."""
    return SimpleNamespace(**{part: empty_model(part, _config(family, part), "base") for part in family.models})


def _config(family: Family, part: str) -> dict[str, Any]:
    return dict(json.loads((CONFIGS / family.name / part / "config.json").read_text("utf-8")))


def captions(family: Family, count: int, dtype: torch.dtype = torch.float32) -> tuple[Tokens, Text]:
    """So many captions as tokens, and as the UNet reads them, with the sizes that it is told."""
    ids = torch.zeros(count, 1, 77, dtype=torch.long)
    hidden = torch.empty(count, 77, _config(family, "unet")["cross_attention_dim"], dtype=dtype)
    if len(family.texts) == 1:
        return Tokens(ids), hidden
    pooled = torch.empty(count, _config(family, family.texts[-1].model)["projection_dim"], dtype=dtype)
    sizes = torch.zeros(count, 6)
    return Tokens(ids, second=ids, sizes=sizes), Embedded(hidden, pooled, sizes)


def lora_step(side: int, batch: int, precision: str, family: Family = SD1, **sections: dict[str, Any]) -> float:
    """GiB of a LoRA's step at `side` pixels; `sections` are settings beside rank 16 on attention."""
    training = {"mixed_precision": precision, "train_batch_size": batch, **sections.get("training", {})}
    network = {"rank": 16, **sections.get("network", {})}
    config = load_config({"data": {"train_data_dir": "embedded"}, "network": network, "training": training})
    cells, trains = side // 8, config.network.train_text_encoder
    tokens, embedded = captions(family, 1)
    needed = ["text_encoder"] if trains else []
    text = tokens if trains else embedded
    return lora_memory(config, parts(family), (batch, 4, cells, cells), text, needed).peak / GIB


ENCODERS = {"FashionCLIP": "ViT-B-32", "Marqo-FashionSigLIP": "ViT-B-16-SigLIP"}
"""Encoders that measure, and the architecture of open_clip that each has."""


def encoder_of_images(pictures: int, architecture: str = ENCODERS["FashionCLIP"]) -> int:
    """Bytes of an encoder's image tower, which alone is there while pictures are made and measured, for so many at once; in float32."""
    import open_clip

    given = open_clip.get_model_config(architecture)
    given["vision_cfg"]["timm_model_pretrained"] = False
    with torch.device("meta"):
        made = (open_clip.CustomTextCLIP if "timm_model_name" in given["vision_cfg"] else open_clip.CLIP)(
            **{name: value for name, value in given.items() if name != "custom_text"}
        )
    side = given["vision_cfg"]["image_size"]

    def embed(_: dict[int, Any]) -> Callable[[], None]:
        pixels = torch.empty(pictures, 3, side, side)
        return torch.no_grad()(lambda: made.visual(pixels))

    return peak_of_steps(_frozen([made.visual]), embed, autocast=False).peak


def evaluation(
    side: int, batch: int, dtype: torch.dtype, family: Family = SD1, architecture: str = ENCODERS["FashionCLIP"]
) -> float:
    """GiB of an evaluation with an encoder: reading prompts, generating with guidance, decoding one by one.

    UNet, half a VAE and the encoder's image tower are on the GPU; the text encoder is there while prompts are read, not while the UNet computes
    (`evaluation/read_prompts.py`). It stays float32, and so does a VAE beside float16, which decodes while the encoder is elsewhere
    (`models/half_precision.py`).
    """
    pipe, cells = parts(family), side // 8
    of_vae = torch.float32 if dtype == torch.float16 else dtype
    keep_decoder(pipe.vae)
    with quiet_libraries():
        texts = [one.float() for one in family.encoders(pipe)]
        models = [pipe.unet.to(dtype), pipe.vae.to(of_vae), *texts]

    x, encoder = (2 * batch, 4, cells, cells), encoder_of_images(batch, architecture)

    def read(_: dict[int, Any]) -> Callable[[], None]:
        tokens = captions(family, batch)[0]
        return torch.no_grad()(lambda: family.encode(texts, tokens, None))

    def generate(_: dict[int, Any]) -> Callable[[], None]:
        noisy, t = torch.empty(x, dtype=dtype), torch.zeros(2 * batch, dtype=torch.long)
        text = captions(family, 2 * batch, dtype)[1]
        return torch.no_grad()(lambda: family.predict(pipe.unet, noisy, t, text))

    def decode(_: dict[int, Any]) -> Callable[[], None]:
        latents = torch.empty(x, dtype=dtype)
        return torch.no_grad()(lambda: pipe.vae.decode(latents[:1].to(of_vae)))

    stages = (
        (models, read, encoder),
        (models[:2], generate, encoder),
        (models[:2], decode, 0 if dtype == torch.float16 else encoder),
    )
    peaks = [peak_of_steps(_frozen(there), stage, autocast=False, beside=beside).peak for there, stage, beside in stages]
    return max(peaks) / GIB


def grid(side: int, pictures: int, dtype: torch.dtype) -> float:
    """GiB of a StarGAN's grid of so many pictures, without its networks: the VAE decodes them one by one."""
    with quiet_libraries():
        vae, cells = parts().vae.to(dtype), side // 8
    keep_decoder(vae)

    def make(_: dict[int, Any]) -> Callable[[], None]:
        x = torch.empty(pictures, 4, cells, cells, dtype=dtype)

        def step() -> None:
            with torch.no_grad():
                for one in torch.split(x, 1):
                    vae.decode(one)

        return step

    return peak_of_steps(_frozen([vae]), make, autocast=False).peak / GIB


def _frozen(models: Sequence[Any]) -> list[Any]:
    return [model.eval().requires_grad_(False) for model in models]


def stargan_step(side: int, batch: int, precision: str) -> float:
    """GiB of a StarGAN's step with the gradient penalty on latents of `side` pixels."""
    config = checked({"training": {"mixed_precision": precision, "batch_size": batch}}, StarganExperiment)
    x, y, z = torch.zeros(batch, 4, side // 8, side // 8), torch.zeros(batch), torch.zeros(batch, config.network.latent_dim)
    sample = GanBatch(x, y.long(), x, y.long(), z, z, z)
    inputs: Any = SimpleNamespace(batch=lambda step: sample, latents=SimpleNamespace(domains=[0, 1, 2]))
    return stargan_memory(config, inputs).peak / GIB


def tables(*, quick: bool) -> Iterator[str]:
    """Lines of Markdown, each when it is known; `quick` leaves out all but batch 1 and 512 px."""
    sides, batches = ((512,), (1,)) if quick else ((512, 768), (1, 4, 8))
    names = [f"{side} px, batch {batch}" for side in sides for batch in batches]
    yield f"| LoRA step, GiB | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for precision in ("bf16", "no"):
        for checkpointing in (False, True):
            training = {"gradient_checkpointing": checkpointing}
            found = [lora_step(side, batch, precision, training=training) for side in sides for batch in batches]
            what = {"bf16": "bf16, fp16", "no": "float32, with `training.tf32`"}[precision] + (
                ", gradient checkpointing" if checkpointing else ""
            )
            yield f"| {what} | {' | '.join(f'{one:.2f}' for one in found)} |"
    yield ""
    yield f"| GiB | {' | '.join(f'{side} px' for side in sides)} |"
    yield "|---" * (len(sides) + 1) + "|"
    for what, network in (("with DoRA", {"use_dora": True}), ("with the text encoder", {"train_text_encoder": True})):
        found = [lora_step(side, 1, "bf16", network=network) for side in sides]
        yield f"| LoRA step, batch 1, bf16, {what} | {' | '.join(f'{one:.2f}' for one in found)} |"
    for precision, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("no", torch.float32)):
        found = [evaluation(side, 4, dtype) for side in sides]
        yield f"| evaluation, batch 4, precision {precision} | {' | '.join(f'{one:.2f}' for one in found)} |"
    yield from of_stargan(sides)
    yield ""
    yield from of_sdxl(quick=quick)


def of_sdxl(*, quick: bool) -> Iterator[str]:
    """Lines of Stable Diffusion XL's table; `quick` leaves out all but 1024 px and one image."""
    sides = (1024,) if quick else (768, 1024)
    yield f"| Stable Diffusion XL, GiB | {' | '.join(f'{side} px' for side in sides)} |"
    yield "|---" * (len(sides) + 1) + "|"
    kinds: list[tuple[str, int, dict[str, Any]]] = [("", 1, {})]
    kinds += [] if quick else [("", 4, {}), (", with both text encoders", 1, {"network": {"train_text_encoder": True}})]
    for what, batch, sections in kinds:
        for checkpointing in (False, True):
            training = {"gradient_checkpointing": checkpointing}
            found = [lora_step(side, batch, "bf16", SDXL, training=training, **sections) for side in sides]
            said = f"LoRA step, bf16, batch {batch}{what}{', gradient checkpointing' if checkpointing else ''}"
            yield f"| {said} | {' | '.join(f'{one:.2f}' for one in found)} |"
    for precision, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        found = [evaluation(side, 1, dtype, SDXL) for side in sides]
        yield f"| evaluation, batch 1, precision {precision} | {' | '.join(f'{one:.2f}' for one in found)} |"


def of_stargan(sides: Sequence[int]) -> Iterator[str]:
    """StarGAN's lines."""
    for precision in ("bf16", "no"):
        for batch in (4, 16, 64):
            found = [stargan_step(side, batch, precision) for side in sides]
            said = "no, with `training.tf32`" if precision == "no" else precision
            yield f"| StarGAN step, batch {batch}, {said} | {' | '.join(f'{one:.2f}' for one in found)} |"
    for name, dtype in (("bf16", torch.bfloat16), ("no", torch.float32)):
        found = [grid(side, 24, dtype) for side in sides]
        yield f"| StarGAN's grid, VAE in {name} | {' | '.join(f'{one:.2f}' for one in found)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu_memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="batch 1 and 512 px alone")
    quick = parser.parse_args(arguments).quick
    show_lines()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for line in tables(quick=quick):
            say(line)


if __name__ == "__main__":
    main()
