"""What each optimiser step sees, as a function of (seed, step): images, captions, noise, timesteps, and what each image counts for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from fashion_ml.data.batch_sampler import StepPlan
from fashion_ml.data.captions import CaptionSettings, plain_caption, seen_caption
from fashion_ml.data.encoded_images import EncodedImages
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.masks import EncodedMasks
from fashion_ml.losses.diffusion import loss_shares, mask_weights
from fashion_ml.losses.noise import multires_noise, multires_sizes, offset_noise, perturbed
from fashion_ml.losses.timesteps import logit_normal, mode_heavy, timesteps_at
from fashion_ml.models.text_encoding import Text, Tokens
from fashion_ml.runtime.pinned import moved, pinned
from fashion_ml.runtime.seeding import generator
from fashion_ml.runtime.tensor_tree import mapped


@dataclass(frozen=True)
class BatchSettings:
    """What decides the batches; the names are those of the experiment's settings."""

    seed: int = 0
    train_batch_size: int = 1
    """Images in one forward pass of one process."""
    gradient_accumulation_steps: int = 1
    flip_aug: bool = False
    captions: CaptionSettings = field(default_factory=CaptionSettings)
    """Of images that bring none of their own."""
    noise_offset: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    min_timestep: int = 0
    max_timestep: int = 1000
    timestep_distribution: str = "uniform"
    """`uniform`, `logit_normal` or `mode`."""
    logit_mean: float = 0.0
    logit_std: float = 1.0
    mode_scale: float = 1.29
    prior_loss_weight: float = 1.0
    output_preservation_prompt: str | None = None
    unmasked_weight: float = 0.0
    """Weight of what lies outside the masks."""


@dataclass(frozen=True)
class Batch:
    """One forward pass of one process, on the CPU."""

    latents: torch.Tensor
    """Scaled latents (B, 4, h, w)."""
    noise: torch.Tensor
    """(B, 4, h, w)."""
    timesteps: torch.Tensor
    """(B,), in [0, 1000)."""
    text: Text | Tokens
    """What `text_of` makes of the captions: what the UNet reads, such as embeddings (B, L, D), or tokens."""
    share: torch.Tensor
    """(B,): the sum of share * loss over a step's batches and processes is total_loss."""
    weights: torch.Tensor | None = None
    """(B, 1, h, w), each image's of mean 1: what its cells count for; None where no image has a mask."""
    added: torch.Tensor | None = None
    """(B, 4, h, w): what is added to the latents, where that is not the noise that is to be predicted (input perturbation)."""
    preserved: Text | Tokens | None = None
    """As `text`, the prompt for which the base's output is held on to; None where it is for none."""

    def to(self, device: torch.device) -> Batch:
        """The same on the device. To a GPU it goes by pinned memory, so that the host does not wait until it is there; batches are made on
        the CPU."""
        return self if device.type == "cpu" else mapped(lambda one: moved(one, device), self)

    def padded(self, rows: int) -> Batch:
        """The same with so many rows at least: its first one again, whose loss counts for nothing there. Shapes are then alike."""
        missing = rows - len(self.share)
        if missing <= 0:
            return self
        filled = mapped(lambda one: torch.cat([one, one[:1].expand(missing, *one.shape[1:])]), self)
        return replace(filled, share=torch.cat([self.share, self.share.new_zeros(missing)]))

    def pinned(self) -> Batch:
        """The same in memory that a GPU reads by itself; tokens, which are few, stay where they are."""
        tensors = {name: mapped(pinned, one) for name, one in vars(self).items() if not isinstance(one, Tokens)}
        return replace(self, **tensors)


_Part = tuple[EncodedImages, list[int]]


class StepInputs:
    """The batches of every step for one process; all processes together see what one process alone would see."""

    def __init__(
        self,
        settings: BatchSettings,
        images: EncodedImages,
        prior: EncodedImages | None,
        text_of: Callable[[Sequence[str]], Text | Tokens],
        *,
        scaling: float,
        timesteps: int,
        process: int = 0,
        processes: int = 1,
        masks: EncodedMasks | None = None,
        encodes: bool = False,
    ):
        """`masks` are those of `images`; prior images count whole. `encodes` says that a step asks encoders for what it sees."""
        self._settings, self._text_of, self._scaling, self._timesteps = settings, text_of, scaling, timesteps
        self._process, self._processes, self.encodes = process, processes, encodes
        self.images, self.prior, self._masks = images, prior, masks
        self.plan = self._plan(images, "order")
        self._prior_plan = self._plan(prior, "prior order") if prior is not None else None
        self._plain: dict[tuple[str, CaptionSettings], str] = {}

    def _plan(self, images: EncodedImages, purpose: str) -> StepPlan:
        settings = self._settings
        return StepPlan(
            tuple(item.repeats for item in images.items),
            settings.train_batch_size * self._processes,
            settings.gradient_accumulation_steps,
            settings.seed,
            images.bucket_of(),
            purpose,
        )

    def batches(self, step: int) -> Iterator[Batch]:
        """The part of this process in each forward pass of an optimiser step; first the images, then those of the prior."""
        parts, prior_parts = self._parts(step)
        count = sum(len(batch) for _, batch in parts)
        prior_count = sum(len(batch) for _, batch in prior_parts)
        shares = loss_shares(count, prior_count, self._settings.prior_loss_weight)
        draws = _Draws(self._settings.seed, step)
        epoch = self.plan.epoch(step)
        for images, batch in parts:
            yield self._batch(images, batch, shares[0], draws, epoch)
        for images, batch in prior_parts:
            yield self._batch(images, batch, shares[1], draws, epoch)

    def shapes(self, step: int) -> list[tuple[int, int, int, int]]:
        """The shape of the latents of each of these batches, without any being encoded."""
        parts, prior_parts = self._parts(step)
        return [
            (max(-(-(len(batch) - self._process) // self._processes), 1), *images.latent_shape(batch[0]))
            for images, batch in (*parts, *prior_parts)
        ]

    @property
    def holds(self) -> bool:
        """Whether batches of images have the base's output beside them, which doubles their rows."""
        return self._settings.output_preservation_prompt is not None

    @property
    def prior_sizes(self) -> Sequence[tuple[int, int]]:
        """Width and height of each prior image, pixels."""
        return self.prior.sizes if self.prior else ()

    def kinds(self, step: int) -> list[tuple[int, int, bool]]:
        """Height and width of each of these batches, in latent cells, and whether its rows are doubled, which a prior's are not."""
        parts, prior_parts = self._parts(step)
        kinds = [(images, batch, self.holds) for images, batch in parts] + [(*one, False) for one in prior_parts]
        return [(*images.latent_shape(batch[0])[1:], holds) for images, batch, holds in kinds]

    def _parts(self, step: int) -> tuple[list[_Part], list[_Part]]:
        """The indices of each forward pass of all processes: the images', then those of the prior."""
        parts = [(self.images, batch) for batch in self.plan.batches(step)]
        if self.prior is None or self._prior_plan is None:
            return parts, []
        return parts, [(self.prior, batch) for batch in self._prior_plan.batches(step)]

    def _batch(self, images: EncodedImages, batch: Sequence[int], share: float, draws: _Draws, epoch: int) -> Batch:
        """Draw for the whole batch, image by image, then keep the rows of this process."""
        settings, items = self._settings, [images.items[index] for index in batch]
        shape = images.latent_shape(batch[0])
        mirrored = [
            item.may_mirror(settings.flip_aug) and torch.rand((), generator=draws["mirror"]).item() < 0.5 for item in items
        ]
        captions = [self._caption(item, draws, epoch) for item in items]
        drawn = _normal(len(batch), shape, draws["latent"])
        noise, added = self._noise((len(batch), *shape), draws)
        timesteps = self._timesteps_of(len(batch), draws["timestep"])

        held = settings.output_preservation_prompt
        own = list(range(self._process, len(batch), self._processes))
        weight = share if own else 0.0
        own = own or [0]  # a process without an image of its own must still take part in the backward pass
        rows = slice(None) if len(own) == len(batch) else own  # all of them without a copy
        latents, seen = drawn[rows], [(batch[row], mirrored[row]) for row in own]
        for one, sample in zip(seen, latents, strict=True):
            moments = images.moments(*one)
            sample.mul_(moments["std"]).add_(moments["mean"])
        return Batch(
            latents=latents.mul_(self._scaling),
            noise=noise[rows],
            timesteps=timesteps[rows],
            text=images.with_sizes(self._text_of([captions[row] for row in own]), seen),
            share=torch.full((len(own),), weight),
            weights=self._weights(images, seen),
            added=None if added is None else added[rows],
            preserved=None
            if images is self.prior or held is None
            else images.with_sizes(self._text_of([held] * len(own)), seen),
        )

    def _caption(self, item: CaptionedImage, draws: _Draws, epoch: int) -> str:
        """As it is seen this time; what is always seen alike is put together once, and nothing is drawn for it."""
        seen_as = item.captions or self._settings.captions
        if not seen_as.is_fixed:
            return seen_caption(item.caption, seen_as, draws["caption"], epoch=epoch)
        key = item.caption, seen_as
        if key not in self._plain:
            self._plain[key] = plain_caption(*key)
        return self._plain[key]

    def _noise(self, shape: tuple[int, int, int, int], draws: _Draws) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What is to be predicted, and what is added to the latents where that is something else; image by image."""
        settings = self._settings
        noise = _normal(shape[0], shape[1:], draws["noise"])
        if settings.noise_offset > 0:
            shift = torch.randn((*shape[:2], 1, 1), generator=draws["offset"])
            noise = offset_noise(noise, shift, settings.noise_offset)
        if settings.multires_noise_iterations:
            noise = torch.stack([self._with_coarser(one, draws["multires"]) for one in noise])
        if not settings.ip_noise_gamma:
            return noise, None
        more = _normal(shape[0], shape[1:], draws["perturbation"])
        return noise, perturbed(noise, more, settings.ip_noise_gamma)

    def _with_coarser(self, noise: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        ratios = (torch.rand(self._settings.multires_noise_iterations, generator=draw) * 2 + 2).tolist()
        channels, height, width = noise.shape
        coarser = [torch.randn((channels, *size), generator=draw) for size in multires_sizes(height, width, ratios)]
        return multires_noise(noise, coarser, self._settings.multires_noise_discount)

    def _timesteps_of(self, count: int, draw: torch.Generator) -> torch.Tensor:
        """(count,), as the settings say they are spread."""
        settings = self._settings
        first, end = min(settings.min_timestep, self._timesteps - 1), min(settings.max_timestep, self._timesteps)
        if settings.timestep_distribution == "logit_normal":
            return timesteps_at(
                logit_normal(torch.randn(count, generator=draw), settings.logit_mean, settings.logit_std), first, end
            )
        if settings.timestep_distribution == "mode":
            return timesteps_at(mode_heavy(torch.rand(count, generator=draw), settings.mode_scale), first, end)
        return torch.randint(first, end, (count,), generator=draw)

    def _weights(self, images: EncodedImages, rows: Sequence[tuple[int, bool]]) -> torch.Tensor | None:
        if self._masks is None or images is not self.images:
            return None
        found = [self._masks.mask(index, mirrored) for index, mirrored in rows]
        if all(mask is None for mask in found):
            return None
        whole = torch.ones(1, *images.latent_shape(rows[0][0])[1:])
        return torch.stack([mask_weights(whole if mask is None else mask, self._settings.unmasked_weight) for mask in found])


class _Draws(dict[str, torch.Generator]):
    """The generators of a step by their purposes (latent, noise, timestep, mirror, caption, offset, multires, perturbation), each made when
    it is asked for."""

    def __init__(self, seed: int, step: int):
        super().__init__()
        self._seed, self._step = seed, step

    def __missing__(self, purpose: str) -> torch.Generator:
        self[purpose] = generator(self._seed, purpose, self._step)
        return self[purpose]


def _normal(count: int, shape: Sequence[int], draw: torch.Generator) -> torch.Tensor:
    """(count, *shape), each of them drawn by itself: a batch's first images are those of a smaller one."""
    drawn = torch.empty(count, *shape)
    for one in drawn:
        one.normal_(generator=draw)
    return drawn
