"""Training images beside the references as other real pictures, and what an encoder has to tell from what to be believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from fashion_ml.config import Evaluation
from fashion_ml.data.images import CaptionedImage
from fashion_ml.evaluation.encoder_check import EncoderCheck, flat_of
from fashion_ml.evaluation.measure import MetricSuite
from fashion_ml.evaluation.pair_controls import MOST, Sample
from fashion_ml.evaluation.ruler import RealPictures, lay_ruler
from fashion_ml.evaluation.toy import TOY, known_to_read
from fashion_ml.metrics.picture import Picture
from fashion_ml.metrics.registry import asked_for
from tests.unit.evaluation.test_ruler import WEIGHTS, Fixed, drawn


def training(folder: Path, pictures: Sequence[Image.Image]) -> list[CaptionedImage]:
    found = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number:03d}.png"
        picture.save(path)
        found.append(CaptionedImage(path, "", path.name))
    return found


def bare() -> MetricSuite:
    return MetricSuite(None, WEIGHTS, asked_for(("lora",), (), encoder=False))


def test_a_training_image_that_is_a_copy_of_a_reference_is_no_other_real_picture_to_it(tmp_path: Path):
    """The copy is at 0; left out, the nearest is the only other training image, which the second reference has too."""
    one, other, third = drawn(3, seed=11)
    suite, trained = bare(), training(tmp_path, [one, third])
    references = suite.look_at([one, other])
    ruler = lay_ruler(RealPictures(references, trained, [0, 1, 0, 2]), suite, known=None)
    pairs = suite.measure(suite.look_at([other, third, one, third]), [references[i] for i in (0, 0, 1, 1)])["color_loss"]
    assert ruler.marks["color_loss"]["nearest_real"] == pytest.approx((pairs[:2].min() + pairs[2:].min()) / 2)
    assert ruler.marks["color_loss"]["nearest_real"] > 0
    assert RealPictures(references, trained, [0, 1, 0, 2]).others(0) == ([1], [1])
    assert RealPictures(references, trained, [0, 1, 0, 2]).others(1) == ([0], [0, 1])


def test_of_many_training_images_some_of_each_part_of_the_folder_are_other_real_pictures(tmp_path: Path):
    """A folder that is sorted by model or date: of 96 images one of each three."""
    many = [CaptionedImage(tmp_path / f"{number}.png", "", str(number)) for number in range(96)]
    reference = Picture(drawn(1, seed=12)[0])
    _, far = RealPictures([reference], many, list(range(97))).others(0)
    assert [number // 3 for number in far] == list(range(32))


def test_of_more_references_than_are_held_against_each_other_every_part_has_its_share(tmp_path: Path):
    many = [CaptionedImage(tmp_path / f"{number}.png", "", str(number)) for number in range(2 * MOST)]
    assert [number // 2 for number in Sample(many, [], [], []).chosen] == list(range(MOST))


def checked(
    of: Callable[[Image.Image], list[float]], pictures: Sequence[Image.Image], alike: Sequence[int] = (), *, known: bool | None
) -> EncoderCheck:
    suite = MetricSuite(Fixed(of), WEIGHTS, asked_for(("lora",), (), encoder=True))  # type: ignore[arg-type]
    check = lay_ruler(RealPictures(suite.look_at(pictures), (), alike), suite, known=known).encoder
    assert check is not None
    return check


def seeing(known: Mapping[bytes, list[float]], else_: list[float]) -> Callable[[Image.Image], list[float]]:
    """An encoder that knows pictures by their pixels, and makes one thing of all others: of noise and of changed pictures."""
    return lambda picture: known.get(picture.tobytes(), else_)


def test_an_encoder_to_which_a_flat_colour_is_nearer_than_other_real_pictures_cannot_read():
    """Real pictures are at right angles, what has no shape is at 0.6 to its own reference, noise is opposite to all."""
    pictures = drawn(3, seed=13)
    axes = [[float(one == other) for other in range(4)] for one in range(3)]
    known = {picture.tobytes(): axis for picture, axis in zip(pictures, axes, strict=True)}
    flats = {
        flat_of(picture).tobytes(): [0.6 * x for x in axis[:3]] + [0.8] for picture, axis in zip(pictures, axes, strict=True)
    }
    check = checked(seeing({**known, **flats}, [-1.0, -1.0, -1.0, 0.0]), pictures, known=None)
    assert (check.real, check.flat, check.readable) == (0.0, pytest.approx(0.6), False)
    assert check.line.startswith(
        "the encoder cannot read these pictures: a flat colour is nearer to the references (cosine 0.600)"
    )


def test_of_an_encoder_that_nothing_is_known_of_all_other_real_pictures_count_and_of_the_embedded_one_the_nearest():
    """Cosines of the three are 0.8, -1 and -0.8, each of two of them: the nearest are 0.8, 0.8 and -0.8."""
    pictures = drawn(3, seed=14)
    places = ([1.0, 0.0], [0.8, 0.6], [-1.0, 0.0])
    of = seeing({picture.tobytes(): place for picture, place in zip(pictures, places, strict=True)}, [0.0, 1.0])
    assert checked(of, pictures, known=None).real == pytest.approx((0.8 - 1 + 0.8 - 0.8 - 1 - 0.8) / 6)
    assert checked(of, pictures, known=True).real == pytest.approx((0.8 + 0.8 - 0.8) / 3)


def test_the_noise_that_is_nearest_counts_of_several_grains():
    """Fine noise is a grey to an encoder and coarse noise a picture: what is 4 pixels wide or more is at 1 here, the rest opposite."""

    def of(picture: Image.Image) -> list[float]:
        coarse = picture.getpixel((0, 0)) == picture.getpixel((3, 3))
        return [1.0 if coarse else -1.0]

    assert checked(of, drawn(2, seed=15), known=None).noise == pytest.approx(1)


def test_a_changed_reference_that_finds_a_copy_of_its_original_has_found_it():
    """Two copies of one picture and another: an encoder of mean colours finds the first of the copies for both, and that is no fault of its."""
    one, other = Image.new("RGB", (64, 64), (200, 40, 40)), Image.new("RGB", (64, 64), (40, 40, 200))

    def of(picture: Image.Image) -> list[float]:
        red, _, blue = picture.getpixel((32, 32))  # type: ignore[misc]
        return [float(red), float(blue)]

    assert checked(of, [one, one.copy(), other], [0, 0, 1], known=None).found == 1
    assert checked(of, [one, one.copy(), other], [0, 1, 2], known=None).found == pytest.approx(2 / 3)


def test_only_the_embedded_encoder_is_known_beforehand_to_read_its_own_drawings_and_nothing_else():
    embedded, other = Evaluation(encoder="embedded"), Evaluation(encoder="some/clip")
    assert (known_to_read(embedded, {}), known_to_read(embedded, {TOY: "photos"})) == (True, False)
    assert (known_to_read(other, {}), known_to_read(other, {TOY: "photos"})) == (None, None)
