"""The ruler under each score, the position on it, and the check whether the encoder can read the pictures at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.evaluation.encoder_check import EncoderCheck, brighter, cropped, flat_of, noise_of
from fashion_ml.evaluation.image_pairs import evaluate_images
from fashion_ml.evaluation.instruments import load_encoder
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.ruler import RealPictures, Ruler, lay_ruler, with_sides
from fashion_ml.metrics.registry import LOSSES, asked_for

WEIGHTS = {"visual_loss": 0.2, "fashion_clip_loss": 0.6, "color_loss": 0.2}


@pytest.fixture(scope="module")
def suite() -> MetricSuite:
    return MetricSuite(load_encoder("embedded"), WEIGHTS, asked_for(("lora",), (), encoder=True))


def drawn(count: int, seed: int) -> list[Image.Image]:
    return [render(garment) for garment in sample_garments(count, seed=seed)]


def photos(count: int) -> list[Image.Image]:
    """Parts of photographs, 96 pixels wide."""
    whole = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    draw = np.random.default_rng(0)
    found = []
    for number in range(count):
        picture = whole[number % len(whole)]
        y, x = draw.integers(0, picture.shape[0] - 192), draw.integers(0, picture.shape[1] - 192)
        found.append(Image.fromarray(picture[y : y + 192, x : x + 192]).resize((96, 96), Image.Resampling.BICUBIC))
    return found


def ruler_of(
    pictures: Sequence[Image.Image], suite: MetricSuite, alike: Sequence[int] = (), *, known: bool | None = True
) -> Ruler:
    return lay_ruler(RealPictures(suite.look_at(pictures), (), alike), suite, known=known)


def test_the_weighted_total_orders_identity_real_pictures_and_noise(suite: MetricSuite):
    ruler = ruler_of(drawn(12, seed=5), suite)
    marks = ruler.marks["weighted_total_loss"]
    assert marks["identity"] == 0 < marks["nearest_real"] < marks["mean_real"] < marks["noise"]
    assert (set(ruler.marks), ruler.real_pictures) == (set(LOSSES), 11)
    assert ruler.encoder is not None
    assert ruler.encoder.readable


def test_the_marks_are_those_of_the_pairs_measured_one_by_one(suite: MetricSuite):
    """Three references, each against the two others, its mean colour, and noise."""
    pictures = suite.look_at(drawn(3, seed=6))
    ruler = lay_ruler(RealPictures(pictures), suite, known=True)

    def loss(made: Image.Image, reference: int) -> float:
        return float(suite.measure(suite.look_at([made]), [pictures[reference]])["weighted_total_loss"].iloc[0])

    others = [[loss(pictures[other].image, one) for other in range(3) if other != one] for one in range(3)]
    marks = ruler.marks["weighted_total_loss"]
    assert marks["nearest_real"] == pytest.approx(np.mean([min(some) for some in others]), abs=1e-6)
    assert marks["mean_real"] == pytest.approx(np.mean(others), abs=1e-6)
    assert marks["flat"] == pytest.approx(np.mean([loss(flat_of(pictures[one].image), one) for one in range(3)]), abs=1e-6)
    assert marks["noise"] == pytest.approx(np.mean([loss(noise_of((64, 64)), one) for one in range(3)]), abs=1e-6)


def test_near_duplicates_are_no_other_real_pictures(suite: MetricSuite):
    one, other = drawn(2, seed=7)
    marks = [ruler_of([one, one.copy(), other], suite, alike).marks["visual_loss"] for alike in ([0, 0, 1], [0, 1, 2])]
    assert marks[1]["nearest_real"] == pytest.approx(marks[0]["nearest_real"] / 3)  # two of three have a copy, at 0
    alone = ruler_of([one, one.copy()], suite, [0, 0])
    assert "nearest_real" not in alone.marks["color_loss"]
    assert alone.real_pictures == 0


def marked(nearest: float | None, *, readable: bool = True) -> Ruler:
    check = EncoderCheck(readable, "" if readable else "the encoder cannot read", 0.5, "mean", 0.4, 0.1, 1.0)
    marks = {loss: {} if nearest is None else {"nearest_real": nearest} for loss in ("color_loss", "fashion_clip_loss")}
    return Ruler(marks, {}, {}, 3, check)


def test_the_position_is_the_share_of_the_way_from_the_base_to_a_real_picture():
    """From 0.8 of the base to 0.4 of the nearest real picture, 0.7 is a quarter; farther than the base is below 0."""
    sides = {"base": {"color_loss": 0.8, "fashion_clip_loss": 0.8}, "lora": {"color_loss": 0.7, "fashion_clip_loss": 0.9}}
    found = with_sides(marked(0.4), sides)
    assert found.position == pytest.approx({"color_loss": 0.25, "fashion_clip_loss": -0.25})
    assert found.marks["color_loss"] == {"nearest_real": 0.4, "base": 0.8, "lora": 0.7}
    assert found.named()["position/color_loss"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("nearest", "readable", "why"),
    [
        (None, True, "there is no other real picture"),
        (0.9, True, "the base (0.800) is no farther than the nearest other real picture (0.900)"),
        (0.4, False, "the encoder cannot read these pictures"),
    ],
)
def test_a_position_that_cannot_be_measured_is_absent_and_says_why(nearest: float | None, readable: bool, why: str):
    sides = {"base": {"fashion_clip_loss": 0.8}, "lora": {"fashion_clip_loss": 0.7}}
    found = with_sides(marked(nearest, readable=readable), sides)
    assert "fashion_clip_loss" not in found.position
    assert found.no_position["fashion_clip_loss"] == why
    assert found.to_dict()["position"]["fashion_clip_loss"] is None


def test_images_made_elsewhere_have_marks_and_no_position():
    found = with_sides(marked(0.4), {"generated": {"color_loss": 0.7, "others_color_loss": 0.75}})
    assert found.marks["color_loss"] == {"nearest_real": 0.4, "generated": 0.7, "generated_others": 0.75}
    assert (found.position, found.no_position) == ({}, {})


class Fixed:
    """An encoder that makes of pictures what a test says."""

    structure_sha256 = weights_sha256 = transform = precision = ""

    def __init__(self, of: Callable[[Image.Image], list[float]]):
        self.of = of

    def embed_images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """L2-normalised (N, D)."""
        return torch.nn.functional.normalize(torch.tensor([self.of(one) for one in pictures]), dim=1)


def roughness(picture: Image.Image) -> list[float]:
    """An encoder that sees how much neighbouring pixels differ and how light a picture is."""
    levels = np.asarray(picture.convert("L"), dtype=float) / 255
    return [float(np.abs(np.diff(levels)).mean()) * 4, float(levels.mean()) - 0.5, 0.2]


def test_an_encoder_that_takes_noise_for_nearer_than_other_real_pictures_cannot_read(suite: MetricSuite):
    """Every real picture is at right angles to the others here, and noise at 45 degrees to all."""
    pictures = drawn(8, seed=8)
    places = {one.tobytes(): number for number, one in enumerate(pictures)}

    def of(picture: Image.Image) -> list[float]:
        number = places.get(picture.tobytes())
        return [1.0] * 8 if number is None else [float(number == one) for one in range(8)]

    check = ruler_of(pictures, MetricSuite(Fixed(of), WEIGHTS, suite.metrics), known=None).encoder  # type: ignore[arg-type]
    assert check is not None
    assert (check.readable, check.real, check.noise) == (False, 0.0, pytest.approx(8**-0.5))
    assert check.line.startswith(
        "the encoder cannot read these pictures: noise is nearer to the references (cosine 0.354) than other"
    )


def test_the_embedded_encoder_reads_its_own_drawings_and_no_photographs(suite: MetricSuite):
    """Of some photographs it makes no more than of noise, of others a little more; it is not to be believed of any."""
    check = ruler_of(photos(12), suite, known=False).encoder
    assert check is not None
    assert not check.readable
    assert check.line.startswith(
        "the encoder cannot read these pictures: it is the embedded one, made for the drawings of the embedded collection alone"
    )
    assert "\n" not in check.line


def test_an_encoder_for_which_all_is_one_does_not_find_the_originals(suite: MetricSuite):
    blind = MetricSuite(Fixed(roughness), WEIGHTS, suite.metrics)  # type: ignore[arg-type]
    check = ruler_of(drawn(12, seed=8), blind, known=None).encoder
    assert check is not None
    assert not check.readable
    assert check.found is not None
    assert check.found < 0.9


def test_changes_of_a_reference_are_small_and_keep_its_size():
    picture = drawn(1, seed=9)[0]
    for change in (cropped, brighter):
        assert change(picture).size == picture.size
        assert change(picture).tobytes() != picture.tobytes()
    grained = np.asarray(noise_of((6, 5), 4))
    assert grained.shape == (5, 6, 3)
    assert (grained[:4, :4] == grained[0, 0]).all()


def test_noise_against_photographs_gets_no_verdict_from_the_embedded_encoder_and_one_line_says_why(tmp_path: Path):
    for name in ("generated", "references"):
        (tmp_path / name).mkdir()
    for number, picture in enumerate(photos(8)):
        picture.save(tmp_path / "references" / f"{number}.png")
        noise_of((96, 96), number + 1).save(tmp_path / "generated" / f"{number}.png")
    result = evaluate_images(tmp_path / "generated", tmp_path / "references", encoder="embedded", resamples=50)
    assert result.ruler.encoder is not None
    assert not result.ruler.encoder.readable
    assert set(result.ruler.no_verdict()) == {"fashion_clip_loss", "weighted_total_loss"}
    (line,) = [one for one in result.sentence.splitlines() if "encoder cannot read these pictures" in one]
    assert "fashion_clip_loss" in line
    assert "weighted_total_loss" in line
    assert result.headline()["others_visual_loss"] > 0.9
    assert result.table["specific_visual_loss"].notna().all()
