"""StarGAN v2 for VAE latents: generator, style encoder, mapping network, discriminator.

Choi et al. 2020, arXiv:1912.01865, for (B, latent_channels, h, w) with h and w divisible by 2^g_layers, of constant width `base_dim`.
Symbols: x latent, y domain index (B,), s style code (B, style_dim), z latent code (B, latent_dim).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import interpolate, leaky_relu

from fashion_ml.models.halved import halved
from fashion_ml.models.spectral_norm import with_spectral_norm

_SLOPE = 0.2


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes of the four networks."""

    latent_channels: int = 4
    style_dim: int = 64
    base_dim: int = 256
    n_res_blocks: int = 6
    g_layers: int = 2
    d_layers: int = 3
    latent_dim: int = 16
    mapping_hidden_dim: int = 512
    mapping_shared_layers: int = 3
    num_domains: int = 2
    discriminator: Literal["stargan", "patch"] = "stargan"
    spectral_norm: bool = False
    """Of the discriminator's weights."""


class AdaptiveNorm(nn.Module):
    """Instance norm whose scale and shift come from the style. Huang & Belongie 2017, arXiv:1703.06868."""

    def __init__(self, channels: int, style_dim: int):
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.affine = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w), s (B, style_dim) -> (B, C, h, w)."""
        scale, shift = self.affine(s)[:, :, None, None].chunk(2, 1)
        return (1 + scale) * self.norm(x) + shift


class ResBlock(nn.Module):
    """Two 3 x 3 convolutions beside a plain way; halves the size with `down`; the variance stays."""

    def __init__(self, dim: int, *, norm: bool = False, down: bool = False):
        super().__init__()
        self.down = down
        # a bias before instance norms is taken out by them: its gradient would be rounding noise, which Adam makes steps of
        self.conv1, self.conv2 = (nn.Conv2d(dim, dim, 3, 1, 1, bias=not norm) for _ in range(2))
        self.norm1: nn.Module = nn.InstanceNorm2d(dim, affine=True) if norm else nn.Identity()
        self.norm2: nn.Module = nn.InstanceNorm2d(dim, affine=True) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w)."""
        y = self.conv1(leaky_relu(self.norm1(x), _SLOPE))
        if self.down:
            x, y = halved(x), halved(y)
        y = self.conv2(leaky_relu(self.norm2(y), _SLOPE))
        return (x + y) / math.sqrt(2)


class StyledBlock(nn.Module):
    """A residual block of the decoder: its norms take the style; doubles the size with `up`."""

    def __init__(self, dim: int, style_dim: int, *, up: bool = False):
        super().__init__()
        self.up = up
        self.conv1, self.conv2 = (nn.Conv2d(dim, dim, 3, 1, 1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = AdaptiveNorm(dim, style_dim), AdaptiveNorm(dim, style_dim)

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w), s (B, style_dim)."""
        y = leaky_relu(self.norm1(x, s), _SLOPE)
        if self.up:
            x, y = interpolate(x, scale_factor=2.0), interpolate(y, scale_factor=2.0)
        y = self.conv2(leaky_relu(self.norm2(self.conv1(y), s), _SLOPE))
        return (x + y) / math.sqrt(2)


class Generator(nn.Module):
    """G(x, s): the content of x in the style s. `encode` knows no style, so one content serves many styles."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        dim, half = sizes.base_dim, sizes.n_res_blocks // 2
        self.from_latent = nn.Conv2d(sizes.latent_channels, dim, 3, 1, 1, bias=False)
        self.encoder = nn.Sequential(
            *(ResBlock(dim, norm=True, down=True) for _ in range(sizes.g_layers)),
            *(ResBlock(dim, norm=True) for _ in range(half)),
        )
        self.decoder = nn.ModuleList(
            [
                *(StyledBlock(dim, sizes.style_dim) for _ in range(sizes.n_res_blocks - half)),
                *(StyledBlock(dim, sizes.style_dim, up=True) for _ in range(sizes.g_layers)),
            ]
        )
        self.to_latent = nn.Conv2d(dim, sizes.latent_channels, 3, 1, 1)
        self.last_norm = nn.InstanceNorm2d(dim, affine=True)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Content (B, base_dim, h / 2^g_layers, w / 2^g_layers) of latents (B, C, h, w)."""
        return self.encoder(self.from_latent(x))

    def decode(self, content: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h, w), unbounded, of content and style."""
        y = content
        for block in self.decoder:
            y = block(y, s)
        return self.to_latent(leaky_relu(self.last_norm(y), _SLOPE))

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """decode(encode(x), s)."""
        return self.decode(self.encode(x), s)


class _Trunk(nn.Module):
    """Latents (B, C, h, w) to features (B, base_dim): `d_layers` halvings, then the mean over what is left."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        self.from_latent = nn.Conv2d(sizes.latent_channels, sizes.base_dim, 3, 1, 1)
        self.blocks = nn.Sequential(*(ResBlock(sizes.base_dim, down=True) for _ in range(sizes.d_layers)))
        self.last = nn.Conv2d(sizes.base_dim, sizes.base_dim, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w)."""
        y = self.last(leaky_relu(self.blocks(self.from_latent(x)), _SLOPE))
        return leaky_relu(y, _SLOPE).mean((2, 3))


class StyleEncoder(nn.Module):
    """E(x, y) -> s: the style of x as one of domain y."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        self.trunk, self.domains = _Trunk(sizes), sizes.num_domains
        self.heads = nn.Linear(sizes.base_dim, sizes.num_domains * sizes.style_dim)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w), y (B,) -> (B, style_dim)."""
        return _of_domain(self.heads(self.trunk(x)), y, self.domains)


class Discriminator(nn.Module):
    """D(x, y) -> logit: is x a real latent of domain y."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        self.trunk, self.domains = _Trunk(sizes), sizes.num_domains
        self.heads = nn.Linear(sizes.base_dim, sizes.num_domains)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w), y (B,) -> logits (B,)."""
        return _of_domain(self.heads(self.trunk(x)), y, self.domains).squeeze(1)


class PatchDiscriminator(nn.Module):
    """D(x, y) -> a logit for each patch: is it one of a real latent of domain y. Isola et al. 2017, arXiv:1611.07004, section 3.2.2.

    `d_layers` convolutions of 3 x 3, of which the second and third halve, from a quarter of base_dim up to it; then one of 1 x 1.
    """

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        widths = [min(max(sizes.base_dim // 4, 1) * 2**n, sizes.base_dim) for n in range(sizes.d_layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2 if number in _HALVING else 1, 1)
            for number, (before, after) in enumerate(pairwise([sizes.latent_channels, *widths]))
        )
        self.heads = nn.Conv2d(widths[-1], sizes.num_domains, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """X (B, C, h, w), y (B,) -> logits (B, h', w')."""
        for convolution in self.convolutions:
            x = leaky_relu(convolution(x), _SLOPE)
        return self.heads(x)[torch.arange(len(y), device=y.device), y]


_HALVING = (1, 2)
"""Which convolutions of a patch discriminator have stride 2."""


def patch_side(d_layers: int) -> int:
    """Side of what a logit of a patch discriminator sees, in latents."""
    side, step = 1, 1
    for number in range(d_layers):
        side += 2 * step
        step *= 2 if number in _HALVING else 1
    return side


class MappingNetwork(nn.Module):
    """F(z, y) -> s: a style of domain y from noise."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        hidden, self.domains, self.latent_dim = sizes.mapping_hidden_dim, sizes.num_domains, sizes.latent_dim
        widths = [sizes.latent_dim, *[hidden] * sizes.mapping_shared_layers]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.shared = nn.Sequential(*layers)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(widths[-1], hidden), nn.ReLU(), nn.Linear(hidden, sizes.style_dim))
            for _ in range(sizes.num_domains)
        )

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Z (B, latent_dim), y (B,) -> (B, style_dim)."""
        shared = self.shared(z)
        return _of_domain(torch.cat([head(shared) for head in self.heads], 1), y, self.domains)


@dataclass(frozen=True)
class Networks:
    """The four networks, by the letters of the paper."""

    g: Generator
    e: StyleEncoder
    f: MappingNetwork
    d: Discriminator | PatchDiscriminator

    def named(self) -> dict[str, nn.Module]:
        """By name: generator, style_encoder, mapping, discriminator."""
        return {"generator": self.g, "style_encoder": self.e, "mapping": self.f, "discriminator": self.d}

    def parameter_counts(self) -> dict[str, int]:
        """Numbers that train, by name."""
        return {name: sum(p.numel() for p in network.parameters()) for name, network in self.named().items()}


def make_networks(sizes: NetworkSizes, seed: int) -> Networks:
    """The networks with weights drawn by `seed` (Kaiming normal, He et al. 2015, arXiv:1502.01852); the global random state stays."""
    from fashion_ml.runtime.seeding import derive_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "stargan networks"))
        judge = Discriminator if sizes.discriminator == "stargan" else PatchDiscriminator
        networks = Networks(Generator(sizes), StyleEncoder(sizes), MappingNetwork(sizes), judge(sizes))
        for network in networks.named().values():
            network.apply(_initialise)
        if sizes.spectral_norm:
            with_spectral_norm(networks.d)
    return networks


def weight_counts(sizes: NetworkSizes) -> dict[str, int]:
    """Numbers that train, by network, of networks that are not made."""
    return _unmade(sizes).parameter_counts()


def weight_shapes(sizes: NetworkSizes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes by network and name, of networks that are not made; those under a spectral norm by the names that they have without it."""
    return {
        name: {key: tuple(one.shape) for key, one in network.state_dict().items()}
        for name, network in _unmade(sizes).named().items()
    }


def _unmade(sizes: NetworkSizes) -> Networks:
    """Networks whose weights have shapes and no numbers, without spectral norms, whose vectors cannot be drawn so."""
    with torch.device("meta"):
        return make_networks(replace(sizes, spectral_norm=False), 0)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, AdaptiveNorm):
        nn.init.normal_(module.affine.weight, std=0.02)


def _of_domain(every: torch.Tensor, y: torch.Tensor, domains: int) -> torch.Tensor:
    """(B, domains * n) -> (B, n): the part of each row's own domain."""
    split = every.view(len(every), domains, -1)
    return split[torch.arange(len(y), device=y.device), y]
