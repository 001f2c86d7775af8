"""One step of StarGAN v2 in latent space, in the letters of the paper, with nothing computed twice.

What is saved against the plain order changes no number: G, E and F stay as they are between the D step and the G step, so the fakes of
the D step keep their graph and serve the G step; the content half of G knows no style, so x_src is encoded once for reference, latent,
identity and both diversity samples; D(x_ref) is computed once for both hinges and the penalty; D is frozen in the G step; and without
lambda_ds the diversity samples are made on some steps only, to be looked at (their z are drawn all the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fashion_ml.data.stargan_batches import GanBatch
from fashion_ml.losses.stargan import adversarial_loss, discriminator_loss, diversity, r1_penalty, reconstruction, style_loss
from fashion_ml.models.stargan import Networks


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; `ds` fades from epoch to epoch and is given to each step."""

    adv: float = 1.0
    sty: float = 1.0
    cyc: float = 1.0
    id: float = 1.0
    r1: float = 2.0
    r1_interval: int = 16
    ds_margin: float | None = 1.5
    detach_style_target: bool = False


@dataclass(frozen=True)
class Made:
    """What the D step leaves for the G step, with its graph."""

    content: torch.Tensor
    s_ref: torch.Tensor
    s_lat: torch.Tensor
    s_src: torch.Tensor
    fake_ref: torch.Tensor
    fake_lat: torch.Tensor


def make_fakes(n: Networks, b: GanBatch) -> Made:
    """Styles and fakes of a batch: E, F and the content encoder run once, the decoder once for both fakes."""
    s_ref, s_src = n.e(torch.cat([b.x_ref, b.x_src]), torch.cat([b.y_trg, b.y_src])).chunk(2)
    s_lat = n.f(b.z_trg, b.y_trg)
    content = n.g.encode(b.x_src)
    fake_ref, fake_lat = n.g.decode(torch.cat([content, content]), torch.cat([s_ref, s_lat])).chunk(2)
    return Made(content, s_ref, s_lat, s_src, fake_ref, fake_lat)


def d_losses(
    n: Networks, b: GanBatch, made: Made, w: LossWeights, *, with_r1: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the D step and its raw terms: `d_loss`, which holds w_r1 * r1_interval * r1 on steps with R1, and `r1`, 0 on the others.

    With R1, D(x_ref) is computed in float32 without autocast.
    """
    if with_r1:
        x_real = _full(b.x_ref.detach()).requires_grad_()
        with torch.autocast(x_real.device.type, enabled=False):
            real = n.d(x_real, b.y_trg)
            r1 = r1_penalty(real, x_real)
        fakes = torch.cat([made.fake_ref, made.fake_lat]).detach()
        fake_ref, fake_lat = _full(n.d(fakes, torch.cat([b.y_trg, b.y_trg]))).chunk(2)
    else:
        everything = torch.cat([b.x_ref, made.fake_ref.detach(), made.fake_lat.detach()])
        real, fake_ref, fake_lat = _full(n.d(everything, b.y_trg.repeat(3))).chunk(3)
        r1 = torch.zeros((), device=real.device, dtype=real.dtype)
    d_loss = discriminator_loss(real, fake_ref, fake_lat)
    if with_r1:
        d_loss = d_loss + w.r1 * w.r1_interval * r1
    return d_loss, {"d_loss": d_loss.detach(), "r1": r1.detach()}


def g_losses(
    n: Networks, b: GanBatch, made: Made, w: LossWeights, *, lambda_ds: float, measure_ds: bool = False
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the G step and its raw terms; `id` is absent where its weight is 0. D must not require grad.

    Where lambda_ds is 0, `ds` is absent too, or measured without gradients with `measure_ds`.
    """
    fakes, y_both = torch.cat([made.fake_ref, made.fake_lat]), torch.cat([b.y_trg, b.y_trg])
    fake_ref_logits, fake_lat_logits = _full(n.d(fakes, y_both)).chunk(2)
    g_adv = adversarial_loss(fake_ref_logits, fake_lat_logits)

    s_target = torch.cat([made.s_ref, made.s_lat])
    s_found = n.e(fakes, y_both)
    if w.detach_style_target:
        s_target = s_target.detach()
    sty = style_loss(s_found[: len(b.x_src)], s_target[: len(b.x_src)]) + style_loss(
        s_found[len(b.x_src) :], s_target[len(b.x_src) :]
    )

    styles, contents = [made.s_src, made.s_src], [*n.g.encode(fakes).chunk(2)]
    if w.id > 0:
        styles, contents = [*styles, made.s_src], [*contents, made.content]
    if lambda_ds > 0:
        s_1, s_2 = n.f(torch.cat([b.z_1, b.z_2]), y_both).chunk(2)
        styles, contents = [*styles, s_1, s_2], [*contents, made.content, made.content]
    decoded = [*_full(n.g.decode(torch.cat(contents), torch.cat(styles))).chunk(len(styles))]
    cyc = reconstruction(decoded[0], b.x_src) + reconstruction(decoded[1], b.x_src)
    g_loss = w.adv * g_adv + w.sty * sty + w.cyc * cyc
    terms = {"g_adv": g_adv, "sty": sty, "cyc": cyc}
    if w.id > 0:
        terms["id"] = reconstruction(decoded[2], b.x_src)
        g_loss = g_loss + w.id * terms["id"]
    if lambda_ds > 0:
        terms["ds"] = diversity(decoded[-2], decoded[-1], w.ds_margin)
        g_loss = g_loss - lambda_ds * terms["ds"]
    elif measure_ds:  # last: under autocast a weight that is first used without gradients would be kept without
        with torch.no_grad():
            both = n.g.decode(torch.cat([made.content, made.content]), n.f(torch.cat([b.z_1, b.z_2]), y_both))
            first, second = _full(both).chunk(2)
            terms["ds"] = diversity(first, second, w.ds_margin)
    return g_loss, {"g_loss": g_loss.detach(), **{name: term.detach() for name, term in terms.items()}}


@contextmanager
def frozen(network: torch.nn.Module) -> Iterator[None]:
    """Inside the block the network's weights get no gradient; gradients still flow through it."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _full(tensor: torch.Tensor) -> torch.Tensor:
    """At least float32: losses are not worked out in half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
