from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from fashion_ml.data.captioned_images import CaptionedImage
from fashion_ml.data.split import hold_out, near_duplicates
from fashion_ml.embedded.garments import render, sample_garments


def garments(count: int, size: int = 64) -> list[Image.Image]:
    return [render(garment, size) for garment in sample_garments(count, seed=11)]


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def test_copies_in_other_sizes_compressions_and_mirrored_are_found_and_different_garments_are_not():
    first, second, third = garments(3, 256)
    pictures = [first, compressed(first, 40), first.resize((100, 100)), ImageOps.mirror(compressed(first, 60)), second, third]
    assert near_duplicates(pictures) == [[0, 1, 2, 3], [4], [5]]


def test_forty_different_garments_are_mostly_forty_groups():
    groups = near_duplicates(garments(40))
    assert len(groups) >= 38


def test_the_same_shape_in_another_colour_is_another_image():
    red, blue = (Image.new("RGB", (64, 64), "white") for _ in range(2))
    red.paste((200, 30, 30), (16, 16, 48, 48))
    blue.paste((30, 30, 200), (16, 16, 48, 48))
    assert near_duplicates([red, blue]) == [[0], [1]]


def items(folder: Path, pictures: list[Image.Image]) -> list[CaptionedImage]:
    result = []
    for index, picture in enumerate(pictures):
        path = folder / f"{index}.png"
        picture.save(path)
        result.append(CaptionedImage(path, "x", path.name, sha256=f"{index:064d}"))
    return result


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_both_sides_and_the_share_is_kept(tmp_path: Path, seed: int):
    pictures = [copy for picture in garments(10) for copy in (picture, compressed(picture, 50))]
    kept, held = hold_out(items(tmp_path, pictures), 0.2, seed)
    assert sorted(kept + held) == list(range(20))
    assert len(held) == 4
    assert {index // 2 for index in kept}.isdisjoint({index // 2 for index in held})


def test_the_split_is_a_function_of_the_seed(tmp_path: Path):
    made = items(tmp_path, garments(12))
    assert hold_out(made, 0.25, 1) == hold_out(made, 0.25, 1)
    assert len({tuple(hold_out(made, 0.25, seed)[1]) for seed in range(6)}) > 1
    assert hold_out(made, 0.0, 1) == (list(range(12)), [])


def test_copies_of_one_image_cannot_be_split(tmp_path: Path):
    picture = garments(1)[0]
    with pytest.raises(ValueError, match="near-duplicates of each other"):
        hold_out(items(tmp_path, [picture, picture]), 0.5, 0)


@pytest.mark.parametrize("seed", range(6))
def test_a_large_group_of_copies_does_not_swallow_the_data_set(tmp_path: Path, seed: int):
    """Twenty copies of one garment and four others, a tenth held out: two of the others at most."""
    copies = [render(sample_garments(1, seed=1)[0])] * 20
    others = [render(garment) for garment in sample_garments(4, seed=50)]
    kept, held = hold_out(items(tmp_path, copies + others), 0.1, seed)
    assert 1 <= len(held) <= 2
    assert set(range(20)) <= set(kept)
