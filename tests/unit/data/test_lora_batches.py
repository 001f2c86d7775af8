"""What each step of a LoRA training sees, in one process and shared between several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fashion_ml.data.captions import CaptionSettings
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.lora_batches import Batch, BatchSettings, StepInputs


class Encoded:
    """Encoded images without pictures: the latents of image i are all i, with a deviation of 1/8."""

    def __init__(self, repeats: Sequence[int], caption: str = "a, b, c, d"):
        self.items = [item(count, f"{caption} {index}") for index, count in enumerate(repeats)]

    def latent_shape(self, index: int) -> tuple[int, int, int]:
        return 4, 2, 2

    def bucket_of(self) -> tuple[int, ...]:
        return ()

    def with_sizes(self, text: torch.Tensor, rows: Sequence[tuple[int, bool]]) -> torch.Tensor:
        return text  # as of every base but SDXL

    def moments(self, index: int, mirrored: bool = False) -> dict[str, torch.Tensor]:
        value = -float(index) if mirrored else float(index)
        return {"mean": torch.full((4, 2, 2), value), "std": torch.full((4, 2, 2), 0.125)}


def item(repeats: int, caption: str) -> CaptionedImage:
    return CaptionedImage(Path("x.png"), caption, "x.png", repeats)


def text_of(captions: Sequence[str]) -> torch.Tensor:
    return torch.tensor([[float(caption.split()[-1]) if caption else -1.0] for caption in captions])


def inputs(process: int = 0, processes: int = 1, *, prior: Sequence[int] = (), size: int = 4, **settings: object) -> StepInputs:
    return StepInputs(
        BatchSettings(train_batch_size=size // processes, **settings),  # type: ignore[arg-type]
        Encoded([2, 1, 1, 3]),  # type: ignore[arg-type]
        Encoded(prior) if prior else None,  # type: ignore[arg-type]
        text_of,
        scaling=0.5,
        timesteps=1000,
        process=process,
        processes=processes,
    )


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_rows_of_two_processes_are_those_of_one_with_the_same_global_batch(step: int):
    """Every row once: row r goes to process r modulo 2, with the noise, timestep and caption that it has in one process."""
    settings = {"flip_aug": True, "noise_offset": 0.1, "captions": CaptionSettings(caption_dropout_rate=0.3), "prior": [1, 2]}
    settings |= {"multires_noise_iterations": 3, "ip_noise_gamma": 0.1, "timestep_distribution": "logit_normal"}
    whole = list(inputs(**settings).batches(step))  # type: ignore[arg-type]
    parts = [list(inputs(process, 2, **settings).batches(step)) for process in (0, 1)]  # type: ignore[arg-type]
    for one, *shared in zip(whole, *parts, strict=True):
        count = len(one.share)
        for name in ("latents", "noise", "added", "timesteps", "text", "share"):
            joined = [getattr(shared[row % 2], name)[row // 2] for row in range(count)]
            assert torch.equal(torch.stack(joined), getattr(one, name)), name
        assert sum(part.share.sum().item() for part in shared) == pytest.approx(one.share.sum().item())


def test_a_process_without_an_image_of_its_own_takes_part_and_counts_nothing():
    """7 images an epoch in batches of 4: the second holds 3, of three processes with 2 images each the first batch has 6, the second 1."""
    parts = [list(inputs(process, 3, size=6).batches(2)) for process in range(3)]
    assert [[batch.share.tolist() for batch in part] for part in parts] == [[[1.0]], [[0.0]], [[0.0]]]


def shares(batches: Sequence[Batch]) -> list[list[float]]:
    return [[round(value, 6) for value in batch.share.tolist()] for batch in batches]


def test_images_count_alike_over_a_step_and_prior_images_with_their_weight():
    """A step of 4 + 3 images: 1/7 each. Its 3 prior images together 0.6: 0.2 each."""
    found = list(inputs(gradient_accumulation_steps=2, prior=[1, 2], prior_loss_weight=0.6).batches(1))
    assert shares(found) == [[0.142857] * 4, [0.142857] * 3, [0.2] * 3]


def test_latents_are_the_mean_with_its_own_noise_times_the_scale():
    """Means 0 to 3 with a deviation of 1/8, scaled by 1/2: each lies within 5 deviations of half its index."""
    (batch,) = inputs().batches(1)
    centres = batch.text[:, 0]
    assert ((batch.latents - 0.5 * centres[:, None, None, None]).abs() < 0.5 * 5 / 8).all()
    assert batch.latents.std(dim=(1, 2, 3)).min() > 0.01
    assert batch.timesteps.min() >= 0


def test_half_of_the_images_are_mirrored_each_time_anew():
    """The latents of a mirrored image have the other sign here."""
    found = [batch for step in range(1, 60) for batch in inputs(flip_aug=True).batches(step)]
    signs = torch.cat([batch.latents.mean((1, 2, 3)).sign()[batch.text[:, 0] > 0] for batch in found])
    assert 0.35 < (signs < 0).float().mean() < 0.65
    assert not any((batch.latents.mean((1, 2, 3)) < -0.5).any() for step in range(1, 9) for batch in inputs().batches(step))


def test_timesteps_are_drawn_over_all_of_them():
    found = torch.cat([batch.timesteps for step in range(1, 200) for batch in inputs().batches(step)])
    assert found.min() < 25
    assert 975 <= found.max() < 1000


def drawn(**settings: object) -> torch.Tensor:
    return torch.cat([batch.timesteps for step in range(1, 400) for batch in inputs(**settings).batches(step)]).float()  # type: ignore[arg-type]


def test_timesteps_are_drawn_between_their_ends_and_as_they_are_said_to_be_spread():
    """A logit-normal of mean 1 has its median at sigmoid(1) = 0.731 of the range, one of mean -1 at 0.269."""
    ends = {"min_timestep": 200, "max_timestep": 600}
    assert (drawn(**ends).min(), drawn(**ends).max()) == (200, 599)
    for mean, median in ((1.0, 0.731), (-1.0, 0.269)):
        found = drawn(**ends, timestep_distribution="logit_normal", logit_mean=mean)
        assert found.min() >= 200
        assert found.max() < 600
        assert found.median() == pytest.approx(200 + 400 * median, abs=12)
    middle = (drawn(timestep_distribution="mode", mode_scale=1.29) - 500).abs() < 250
    assert middle.float().mean() > 0.55


def test_perturbed_images_get_more_noise_than_they_are_to_lose():
    """added = noise + 0.5 * more, with a deviation of sqrt(1 + 0.25) = 1.118"""
    found = [batch for step in range(1, 200) for batch in inputs(ip_noise_gamma=0.5).batches(step)]
    plain = [batch for step in range(1, 200) for batch in inputs().batches(step)]
    assert all(torch.equal(one.noise, other.noise) and other.added is None for one, other in zip(found, plain, strict=True))
    added, noise = torch.cat([one.added for one in found]), torch.cat([one.noise for one in found])  # type: ignore[misc]
    assert added.std().item() == pytest.approx(1.118, abs=0.02)
    assert (added - noise).std().item() == pytest.approx(0.5, abs=0.01)


def test_coarser_noise_moves_the_whole_of_an_image_and_keeps_its_deviation():
    """Of images of 2 x 2 cells the coarser levels are constants: means of channels scatter more, the deviation of an image stays 1."""
    found = torch.cat(
        [
            one.noise
            for step in range(1, 200)
            for one in inputs(multires_noise_iterations=4, multires_noise_discount=0.9).batches(step)
        ]
    )
    plain = torch.cat([one.noise for step in range(1, 200) for one in inputs().batches(step)])
    assert found.std(dim=(1, 2, 3)).sub(1).abs().max() < 1e-5
    assert found.mean((2, 3)).std() > 1.3 * plain.mean((2, 3)).std()


class Halves:
    """The left half of every image but the third is masked."""

    def mask(self, index: int, mirrored: bool) -> torch.Tensor | None:
        cells = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
        return None if index == 2 else cells.flip(2) if mirrored else cells


def test_weights_follow_the_mirroring_and_images_without_a_mask_and_prior_images_count_whole():
    """A mirrored image has latents of the other sign here, and its masked half is the right one: 1 and 0.25 over their mean."""
    steps = inputs(prior=[1, 2], flip_aug=True, unmasked_weight=0.25)
    steps._masks = Halves()  # type: ignore[assignment]
    seen = set()
    for step in range(1, 13):
        batch, prior = steps.batches(step)
        assert prior.weights is None
        assert batch.weights is not None
        for row, weights in enumerate(batch.weights):
            image, mirrored = int(batch.text[row, 0]), batch.latents[row].mean().item() < -0.1  # type: ignore[index]
            left, right = weights[0, 0].tolist()
            seen.add((image, mirrored))
            if image == 2:
                assert (left, right) == (1, 1)
            elif image:
                assert (left, right) == pytest.approx((0.4, 1.6) if mirrored else (1.6, 0.4))
    assert {(1, True), (1, False), (2, True), (3, False)} <= seen
    assert all(batch.weights is None for batch in inputs().batches(1))


def test_an_image_is_seen_by_its_own_settings_and_another_by_those_of_all():
    """Of batches of one image: the first image is always empty and never mirrored, the second always whole and half the times mirrored."""
    images = Encoded([1, 1])
    images.items[0] = replace(images.items[0], captions=CaptionSettings(caption_dropout_rate=1.0), flip_aug=False)
    steps = StepInputs(BatchSettings(flip_aug=True), images, None, text_of, scaling=1, timesteps=9)  # type: ignore[arg-type]
    seen = [batch for step in range(1, 41) for batch in steps.batches(step)]
    assert sorted({batch.text.item() for batch in seen}) == [-1.0, 1.0]
    centres = [batch.latents.mean().item() for batch in seen if batch.text.item() == 1]
    assert 4 < sum(centre < 0 for centre in centres) < 16  # of 20
    assert all(abs(batch.latents.mean().item()) < 0.5 for batch in seen if batch.text.item() == -1)


def test_every_nth_epoch_is_seen_without_captions_by_the_prior_too():
    """Two images an epoch in batches of one: steps 3 and 4 are the second epoch."""
    settings = BatchSettings(captions=CaptionSettings(caption_dropout_every_n_epochs=2))
    steps = StepInputs(settings, Encoded([1, 1]), Encoded([1, 1]), text_of, scaling=1, timesteps=9)  # type: ignore[arg-type]
    empty = [[batch.text.item() == -1 for batch in steps.batches(step)] for step in range(1, 7)]
    assert empty == [[False, False]] * 2 + [[True, True]] * 2 + [[False, False]] * 2
