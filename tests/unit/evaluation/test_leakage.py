"""References that were trained on are found, named and, where that is asked for, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from fashion_ml.data.images import CaptionedImage, read_references, read_training_folder
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError
from fashion_ml.evaluation.leakage import find_leakage, refuse_leakage


@pytest.fixture
def images(tmp_path: Path) -> tuple[list[CaptionedImage], list[CaptionedImage]]:
    """Four references: a byte copy of a training image, another, a smaller JPEG, and two that were never trained on."""
    train, references = tmp_path / "train" / "1_x", tmp_path / "references"
    train.mkdir(parents=True)
    references.mkdir()
    drawn = [render(garment) for garment in sample_garments(8, seed=3)]
    for number, picture in enumerate(drawn[:6]):
        picture.save(train / f"{number}.png")
    (references / "copy.png").write_bytes((train / "1.png").read_bytes())
    photo = Image.fromarray(data.coffee())
    photo.save(train / "2.png")
    photo.resize((300, 200), Image.Resampling.BICUBIC).save(references / "near.jpg", quality=80)
    drawn[6].save(references / "new_a.png")
    drawn[7].save(references / "new_b.png")
    for path in list(references.iterdir()):
        path.with_suffix(".txt").write_text("a garment", encoding="utf-8")
    return read_references(references), read_training_folder(tmp_path / "train")


def test_copies_and_near_duplicates_of_training_images_are_named(images: tuple[list[CaptionedImage], list[CaptionedImage]]):
    references, training = images
    found = find_leakage(references, training)
    assert found.pairs == (("copy.png", "1_x/1.png"), ("near.jpg", "1_x/2.png"))
    assert (found.copies, found.seen, found.tag) == (1, "some", "some")
    assert found.held_out(len(references)) == [False, False, True, True]
    assert found.line(4) == "2 of 4 references were trained on (near-duplicates: copy.png = 1_x/1.png, near.jpg = 1_x/2.png)"
    with pytest.raises(InputError, match=r"evaluation.strict: 2 of 4 references were trained on .* leave --strict out"):
        refuse_leakage(found, 4)


def test_one_copy_is_called_a_copy(images: tuple[list[CaptionedImage], list[CaptionedImage]]):
    references, training = images
    found = find_leakage([references[0], references[2]], training)
    assert found.line(2) == "1 of 2 references was trained on (copies: copy.png = 1_x/1.png)"


def test_references_that_are_apart_from_the_training_images_are_not_refused(
    images: tuple[list[CaptionedImage], list[CaptionedImage]],
):
    references, training = images
    found = find_leakage(references[2:], training)
    assert (found.pairs, found.seen, found.tag) == ((), False, "false")
    refuse_leakage(found, 2)


def test_what_cannot_be_known_is_not_denied_and_training_images_as_references_are_refused(
    images: tuple[list[CaptionedImage], list[CaptionedImage]],
):
    references, training = images
    unknown = find_leakage(references, [])
    assert unknown.tag == "unknown"
    with pytest.raises(InputError, match=r"evaluation.strict: no training images are here .* \(--training of"):
        refuse_leakage(unknown, 4)
    own = find_leakage(training[:2], training, all_by_setting=True)
    assert (own.seen, own.tag, own.held_out(2)) == (True, "true", [False, False])
    with pytest.raises(InputError, match=r"evaluation.strict: the references are the training images"):
        refuse_leakage(own, 2)


def test_near_duplicates_are_refused_though_none_is_a_copy(images: tuple[list[CaptionedImage], list[CaptionedImage]]):
    references, training = images
    found = find_leakage([references[1]], training)
    assert (found.copies, found.tag) == (0, "some")
    with pytest.raises(InputError, match=r"1 of 1 references was trained on \(near-duplicates: near\.jpg"):
        refuse_leakage(found, 1)
