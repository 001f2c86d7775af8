"""What each StarGAN step sees, as a function of (seed, step): contents, references, target domains and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from fashion_ml.data.content_order import ContentOrder
from fashion_ml.data.latent_domains import LatentSet, held_out
from fashion_ml.runtime.pinned import moved
from fashion_ml.runtime.seeding import generator

_GPU_SHARE = 0.25
"""Latents move to the GPU as a whole when they take no more than this share of its free memory."""


@dataclass(frozen=True)
class GanBatch:
    """What one step sees; latents are scaled."""

    x_src: torch.Tensor
    """Content, (B, C, h, w)."""
    y_src: torch.Tensor
    """Its domains, (B,)."""
    x_ref: torch.Tensor
    """Real latents of the target domains, (B, C, h, w)."""
    y_trg: torch.Tensor
    """Target domains, (B,)."""
    z_trg: torch.Tensor
    """(B, latent_dim), as z_1 and z_2."""
    z_1: torch.Tensor
    z_2: torch.Tensor


class GanInputs:
    """Batches for one process; all processes together see what one process with the same global batch would see."""

    def __init__(
        self,
        latents: LatentSet,
        *,
        validation_split: float,
        contents_by: Literal["domain", "size"],
        batch_size: int,
        epoch_size: int | None,
        latent_dim: int,
        scale: float,
        seed: int,
        device: torch.device,
        process: int = 0,
        processes: int = 1,
    ):
        self.latents, self._scale, self._seed, self._device = latents, scale, seed, device
        self._latent_dim, self._process, self._processes = latent_dim, process, processes
        parts = [held_out(domain, validation_split) for domain in latents.domains]
        self.training, self.held = [part[0] for part in parts], [part[1] for part in parts]
        self._order = ContentOrder(self.training, contents_by, seed)
        self._global_batch = batch_size * processes
        self.epoch_size = epoch_size or self._order.whole
        self.steps_per_epoch = -(-self.epoch_size // self._global_batch)
        self._whole = self._preloaded()

    def epoch(self, step: int) -> int:
        """Epoch, from 1, of a step, from 1."""
        return (step - 1) // self.steps_per_epoch + 1

    def step_of_epoch(self, step: int) -> int:
        """A step's place in its epoch, from 1."""
        return (step - 1) % self.steps_per_epoch + 1

    def batch(self, step: int) -> GanBatch:
        """The rows of this process in a step's batch, on the device.

        Contents come in their order; targets are drawn uniformly over the domains other than the content's own.
        """
        count, domains = self._global_batch, len(self.latents.domains)
        contents = self._contents(step)
        draw = generator(self._seed, "stargan targets", step)
        further = torch.randint(1, domains, (count,), generator=draw).tolist()
        targets = [(y + more) % domains for (y, _), more in zip(contents, further, strict=True)]
        choice = torch.rand(count, generator=draw).tolist()
        references = [(y, self.training[y][int(u * len(self.training[y]))]) for y, u in zip(targets, choice, strict=True)]
        noise = torch.randn(3, count, self._latent_dim, generator=generator(self._seed, "stargan noise", step))
        own = range(self._process, count, self._processes)
        z = moved(noise[:, list(own)], self._device)
        return GanBatch(
            x_src=self.scaled([contents[row] for row in own]),
            y_src=moved(torch.tensor([contents[row][0] for row in own]), self._device),
            x_ref=self.scaled([references[row] for row in own]),
            y_trg=moved(torch.tensor([targets[row] for row in own]), self._device),
            z_trg=z[0],
            z_1=z[1],
            z_2=z[2],
        )

    def names(self, step: int) -> list[str]:
        """The contents of a step, for an error message."""
        return [f"{self.latents.domains[y].name}/{self.latents.domains[y].files[index]}" for y, index in self._contents(step)]

    def scaled(self, places: list[tuple[int, int]]) -> torch.Tensor:
        """Scaled latents (N, C, h, w) on the device, of (domain, index) pairs."""
        if self._whole is not None:
            rows = moved(torch.tensor([self._offsets[y] + index for y, index in places]), self._device)
            return self._whole[rows] * self._scale
        found = [self.latents.domains[y].take([index])[0] for y, index in places]
        return moved(torch.stack(found), self._device) * self._scale

    def _contents(self, step: int) -> list[tuple[int, int]]:
        """Domain and index of each row of a step, those of all processes."""
        first = (step - 1) * self._global_batch
        return [self._order.at(first + row) for row in range(self._global_batch)]

    def _preloaded(self) -> torch.Tensor | None:
        domains = self.latents.domains
        self._offsets = [sum(len(domain) for domain in domains[:number]) for number in range(len(domains))]
        if self._device.type == "cuda":
            size = sum(len(domain) for domain in domains) * 4 * int(torch.tensor(self.latents.shape).prod())
            free, _ = torch.cuda.mem_get_info(self._device)
            if size > _GPU_SHARE * free:
                return None
            return torch.cat([domain.take(range(len(domain))) for domain in domains]).to(self._device)
        return None
