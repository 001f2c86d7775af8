"""One StarGAN step written plainly after the formulas: every network runs on its own, nothing is used twice."""

from __future__ import annotations

import torch
from torch.nn.functional import relu

from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.models.stargan import Networks
from fashion_ml.training.stargan_step import LossWeights


def d_loss(n: Networks, b: GanBatch, w: LossWeights, with_r1: bool) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        fake_ref = n.g(b.x_src, n.e(b.x_ref, b.y_trg))
        fake_lat = n.g(b.x_src, n.f(b.z_trg, b.y_trg))

    def hinge(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    loss = 0.5 * (hinge(n.d(b.x_ref, b.y_trg), n.d(fake_ref, b.y_trg)) + hinge(n.d(b.x_ref, b.y_trg), n.d(fake_lat, b.y_trg)))
    r1 = torch.zeros((), dtype=loss.dtype)
    if with_r1:
        x = b.x_ref.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(n.d(x, b.y_trg).sum(), x, create_graph=True)
        r1 = (gradient**2).sum((1, 2, 3)).mean()
        loss = loss + w.r1 * w.r1_interval * r1
    return loss, r1


def g_loss(
    n: Networks, b: GanBatch, w: LossWeights, lambda_ds: float, *, with_ds: bool = True
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    s_ref, s_lat, s_src = n.e(b.x_ref, b.y_trg), n.f(b.z_trg, b.y_trg), n.e(b.x_src, b.y_src)
    fake_ref, fake_lat = n.g(b.x_src, s_ref), n.g(b.x_src, s_lat)
    terms = {
        "g_adv": -n.d(fake_ref, b.y_trg).mean() - n.d(fake_lat, b.y_trg).mean(),
        "sty": (n.e(fake_ref, b.y_trg) - s_ref).abs().mean() + (n.e(fake_lat, b.y_trg) - s_lat).abs().mean(),
        "cyc": (n.g(fake_ref, s_src) - b.x_src).abs().mean() + (n.g(fake_lat, s_src) - b.x_src).abs().mean(),
        "id": (n.g(b.x_src, s_src) - b.x_src).abs().mean(),
    }
    weighted = w.adv * terms["g_adv"] + w.sty * terms["sty"] + w.cyc * terms["cyc"] + w.id * terms["id"]
    if not with_ds:
        return weighted, terms
    terms["ds"] = (n.g(b.x_src, n.f(b.z_1, b.y_trg)) - n.g(b.x_src, n.f(b.z_2, b.y_trg))).abs().mean()
    if w.ds_margin is not None:
        terms["ds"] = terms["ds"].clamp(max=w.ds_margin)
    return weighted - lambda_ds * terms["ds"], terms
