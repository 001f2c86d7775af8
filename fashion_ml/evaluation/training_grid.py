"""Grids of a StarGAN while it trains: fixed held-out contents in every domain."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from fashion_ml.data.stargan_batches import GanInputs
from fashion_ml.evaluation.figures import comparison_grid
from fashion_ml.evaluation.gan_grids import heads_of
from fashion_ml.models.stargan import Networks
from fashion_ml.models.vae import decode_latents
from fashion_ml.runtime.float32 import exact_float32
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.seeding import generator

_PER_DOMAIN = 2


@torch.no_grad()
@exact_float32()
def draw_grids(n: Networks, inputs: GanInputs, vae: Any, scale: float, seed: int) -> dict[str, Image.Image]:
    """`reference`: under each domain's held-out reference (first row) every content in its style; `latent`: the same by one latent style."""
    count = len(inputs.latents.domains)
    names = [domain.name for domain in inputs.latents.domains]
    contents = [(y, index) for y in range(count) for index in inputs.held[y][:_PER_DOMAIN]]
    references = [(y, inputs.held[y][-1]) for y in range(count)]
    x, x_ref = inputs.scaled(contents), inputs.scaled(references)
    targets = torch.arange(count, device=x.device)
    z = torch.randn(count, n.f.latent_dim, generator=generator(seed, "grid styles")).to(x.device)
    styles = {"reference": n.e(x_ref, targets), "latent": n.f(z, targets)}
    content = n.g.encode(x)
    originals, shown = decode_latents(vae, x / scale), decode_latents(vae, x_ref / scale)
    grids = {}
    for who, s in styles.items():
        made = n.g.decode(content.repeat_interleave(count, 0), s.repeat(len(contents), 1))
        pictures = decode_latents(vae, made / scale)
        rows = [
            (
                tr("content from {names}, and the results", names=names[y]),
                [originals[row], *pictures[row * count : (row + 1) * count]],
            )
            for row, (y, _) in enumerate(contents)
        ]
        if who == "reference":
            blank = Image.new("RGB", shown[0].size, "white")
            rows.insert(0, (tr("the references: what each column takes its style from"), [blank, *shown]))
        grids[who] = comparison_grid(rows, heads_of(names), columns=1, cell=112)
    return grids
