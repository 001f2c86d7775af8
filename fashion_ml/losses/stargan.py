"""The losses of StarGAN v2 in latent space: pure functions of logits, styles and latents.

Choi et al. 2020, arXiv:1912.01865, with the hinge loss (Lim & Ye 2017, arXiv:1705.02894) in place of the logistic one. Symbols: s style code,
z latent code, x latent (B, C, h, w), D discriminator.
"""

from __future__ import annotations

import torch
from torch.nn.functional import l1_loss, relu


def hinge_real(logits: torch.Tensor) -> torch.Tensor:
    """mean(relu(1 - D(real))); logits (B,), or (B, h, w) of patches as in all of these; 1 for logits of 0."""
    return relu(1 - logits).mean()


def hinge_fake(logits: torch.Tensor) -> torch.Tensor:
    """mean(relu(1 + D(fake))); logits (B,); 1 for logits of 0."""
    return relu(1 + logits).mean()


def discriminator_loss(real: torch.Tensor, fake_ref: torch.Tensor, fake_lat: torch.Tensor) -> torch.Tensor:
    """0.5 * (hinge(real, fake_ref) + hinge(real, fake_lat)), each logits (B,); 2 for logits of 0, the value without any skill."""
    return hinge_real(real) + 0.5 * (hinge_fake(fake_ref) + hinge_fake(fake_lat))


def adversarial_loss(fake_ref: torch.Tensor, fake_lat: torch.Tensor) -> torch.Tensor:
    """-mean(D(fake_ref)) - mean(D(fake_lat)), each logits (B,)."""
    return -fake_ref.mean() - fake_lat.mean()


def r1_penalty(logits: torch.Tensor, x_real: torch.Tensor) -> torch.Tensor:
    """R1: the squared norm of the gradient of the summed logits at real latents, mean over the batch.

    logits (B,), x_real (B, C, h, w) that requires grad; keeps its graph, so that it can be differentiated. Mescheder et al. 2018,
    arXiv:1801.04406, equation 9, without its factor gamma / 2.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x_real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def style_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean |E(fake) - s|, styles (B, style_dim). Equation 2."""
    return l1_loss(predicted, target)


def diversity(first: torch.Tensor, second: torch.Tensor, margin: float | None) -> torch.Tensor:
    """Mean |G(x, s_1) - G(x, s_2)|, latents (B, C, h, w), at most `margin` if that is set. Equation 3."""
    value = l1_loss(first, second)
    return value if margin is None else value.clamp(max=margin)


DS_EVERY = 8
"""Where lambda_ds is 0, diversity is measured on the first step of an epoch and on every so manieth after it."""


def reconstruction(made: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Mean |made - x|, latents (B, C, h, w): the cycle (equation 4) and the identity loss."""
    return l1_loss(made, x)


def lambda_ds(epoch: int, w_ds: float, decay_epochs: int) -> float:
    """Weight of the diversity term in an epoch, from 1: w_ds at first, linearly down to 0 at epoch decay_epochs + 1, then 0."""
    return w_ds * (1 - min(max((epoch - 1) / decay_epochs, 0.0), 1.0))
