"""What the embedded models are made with: a loss that is the measure, a wider VAE that computes the same, lines of one pixel."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from skimage.metrics import structural_similarity as reference

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.embedded.finishes import look_of
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.embedded.making import __main__ as making
from fashion_ml.embedded.making.budget import Budget
from fashion_ml.embedded.making.likeness import line_masks, structural_similarity, with_lines, with_luma
from fashion_ml.embedded.making.measure import distance_of_sets, line_kept
from fashion_ml.embedded.making.stable_diffusion import train_stable_diffusion
from fashion_ml.embedded.making.vae import new_vae
from fashion_ml.embedded.making.widening import widened
from fashion_ml.embedded.making.world import UNSEEN_SEED, noisy_caption, partial_caption, shown_indices, to_images


def pictures(count: int, seed: int) -> torch.Tensor:
    drawn = [np.asarray(render(garment)) for garment in sample_garments(count, seed)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)


def test_the_loss_is_the_similarity_that_scikit_image_measures():
    first, second = to_images(pictures(2, 1)), to_images(pictures(2, 2))
    expected = np.mean(
        [reference(a.numpy(), b.numpy(), channel_axis=0, data_range=2) for a, b in zip(first, second, strict=True)]
    )
    assert structural_similarity(first, second).item() == pytest.approx(expected, abs=1e-5)


def test_luma_is_pillows():
    pixels = pictures(1, 3)
    luma = (with_luma(to_images(pixels))[0, 3] + 1) * 127.5
    grey = np.asarray(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).convert("L"))
    assert np.abs(luma.numpy() - grey).max() <= 1


def test_a_widened_vae_computes_what_the_narrow_one_does():
    torch.manual_seed(0)
    narrow = new_vae().eval()
    wide = widened(narrow)
    images = to_images(pictures(2, 4))
    with torch.no_grad():
        latents = narrow.encode(images).latent_dist.mean
        torch.testing.assert_close(wide.encode(images).latent_dist.mean, latents, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(wide.decode(latents).sample, narrow.decode(latents).sample, atol=1e-4, rtol=1e-3)
    hidden = wide.decoder.conv_in.weight[:2]
    read = wide.decoder.up_blocks[0].resnets[0].conv1.weight
    assert torch.equal(hidden[0], hidden[1])  # twins …
    assert not torch.allclose(read[:, 0], read[:, 1])  # … that get different gradients


def test_lines_are_one_pixel_wide():
    masks = line_masks(40, 64, np.random.default_rng(0))
    assert masks.max() <= 1
    assert masks.min() == 0
    ink, covered = masks.sum((1, 2, 3)), (masks > 0.5).float().sum((1, 2, 3))
    assert (ink > 5).all()
    beside = torch.nn.functional.max_pool2d(-masks, 3, 1, 1)  # the emptiest neighbour
    assert (-beside[masks > 0] < 0.5).all()  # no pixel lies within a wider stroke
    assert (covered < 2.2 * 64 * 1.5).all()


def test_lines_are_drawn_on_their_share_of_images():
    images = torch.zeros(200, 3, 16, 16)
    lined, cover = with_lines(images, np.random.default_rng(0), share=0.25)
    drawn = cover.flatten(1).any(1)
    assert 0.15 < drawn.float().mean().item() < 0.35
    assert torch.equal((lined != 0).flatten(1).any(1), drawn)


def test_a_lines_share_is_one_where_nothing_is_lost_and_none_where_all_is():
    class Twin(torch.nn.Module):
        device = torch.device("cpu")

        def __init__(self, kept: float) -> None:
            super().__init__()
            self.kept = kept

        def encode(self, images: torch.Tensor) -> object:
            return type("Encoded", (), {"latent_dist": type("Dist", (), {"mean": images * self.kept})})

        def decode(self, latents: torch.Tensor) -> object:
            return type("Decoded", (), {"sample": latents})

    pixels = pictures(4, 5)
    assert [line_kept(Twin(kept), pixels) for kept in (1.0, 0.5, 0.0)] == pytest.approx([1, 0.5, 0], abs=1e-5)  # type: ignore[arg-type]


def test_what_the_shipped_vae_keeps_of_a_line_is_what_is_said():
    vae = AutoencoderKL.from_pretrained(EMBEDDED_DIR / "stable_diffusion" / "vae", torch_dtype=torch.float32)
    said = json.loads((EMBEDDED_DIR / "quality.json").read_text(encoding="utf-8"))["gold_line_kept"]
    assert line_kept(vae, pictures(32, UNSEEN_SEED)) == pytest.approx(said, abs=0.06)


def test_copies_are_no_distance_away_and_softened_pictures_are():
    garments = sample_garments(40, 8)
    drawn = to_images(pictures(40, 8))
    softened = torch.nn.functional.avg_pool2d(drawn, 5, 1, 2, count_include_pad=False)
    same, soft = (distance_of_sets(EMBEDDED_DIR / "fashion_clip", shown, drawn, garments) for shown in (drawn, softened))
    assert same == pytest.approx(0, abs=1e-6)
    assert soft > 0.02


def test_a_caption_says_colour_and_pattern_as_often_as_it_is_told():
    garment = next(garment for garment in sample_garments(20, 7) if garment.pattern != "plain")
    rng = np.random.default_rng(0)
    captions = [caption for caption in (noisy_caption(garment, rng, (1.0, 0.0)) for _ in range(200)) if caption]
    assert all(garment.colour in caption for caption in captions)
    assert not any(garment.pattern in caption for caption in captions)


def test_a_caption_for_the_encoder_names_only_what_is_shown():
    rng = np.random.default_rng(0)
    for finish in ("studio", "varied", "styled"):
        for garment in sample_garments(60, 9, finish=finish):
            caption, named = partial_caption(garment, rng)
            assert all(one in (-1, shown) for one, shown in zip(named, shown_indices(garment), strict=True))
            look = look_of(garment.seed)
            for part, name in (("hem", look.hem), ("edge", look.edge), ("background", look.backdrop)):
                if part in caption:
                    assert f"{(name or 'plain') if finish == 'styled' else 'plain'} {part}" in caption
                    assert finish != "varied"


def test_what_is_trained_on_keeps_its_tokenizer(tmp_path: Path):
    """Learnt anew, the numbers of two tokens may change places."""
    shutil.copytree(EMBEDDED_DIR / "stable_diffusion", tmp_path / "base")
    file = tmp_path / "base" / "tokenizer" / "vocab.json"
    before = file.read_bytes()
    (tmp_path / "cache").mkdir()
    train_stable_diffusion(
        tmp_path / "base", tmp_path / "cache", pictures=4, steps=1, batch_size=2, compiled=False, refine=True
    )
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--device", "cuda:99"], "--device: 'cuda:99' is not a device of this machine; choose cpu"),
        (["--minutes", "0"], "--minutes: 0 is not above 0; leave it out for all steps"),
    ],
)
def test_a_wrong_option_is_one_line(
    given: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["making", "somewhere", *given])
    with pytest.raises(SystemExit) as ended:
        making.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_budget_follows_one_cycle_and_ends_by_steps_or_by_the_clock(monkeypatch: pytest.MonkeyPatch):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    budget, rates = Budget(1000), []
    while budget.share < 1:
        budget.begin_step(optimizer, 0.5)
        rates.append(optimizer.param_groups[0]["lr"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=1001, pct_start=0.05)
    expected = []
    for _ in range(1000):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, abs=0.02)

    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    budget = Budget(1000, minutes=1)
    while budget.share < 1:
        budget.begin_step(optimizer, 0.5)
    assert 4 <= budget.step <= 6  # the clock is read twice a step, six seconds apart


def test_an_average_follows_fast_at_first_and_slowly_later():
    average, trained = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    moved = []
    for step in (1, 10_000):
        average.weight.data.fill_(0.0), trained.weight.data.fill_(1.0)
        budget = Budget(20_000)
        budget.step = step
        budget.follow(average, trained, 0.9)
        moved.append(average.weight.item())
    assert moved == pytest.approx([9 / 11, 0.1])
