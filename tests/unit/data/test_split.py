from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from fashion_ml.data import split
from fashion_ml.data.images import CaptionedImage
from fashion_ml.data.near_duplicates import look_of, near_duplicates
from fashion_ml.data.split import hold_out
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.embedded.garments import render, sample_garments
from fashion_ml.errors import InputError


def garments(count: int, size: int = 64) -> list[Image.Image]:
    return [render(garment, size) for garment in sample_garments(count, seed=11)]


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def groups_of(pictures: list[Image.Image]) -> list[list[int]]:
    looks = [look_of(picture) for picture in pictures]
    return near_duplicates(np.stack([hashes for hashes, _ in looks]), lambda index: looks[index][1])


def test_copies_in_other_sizes_compressions_and_mirrored_are_found_and_different_garments_are_not():
    first, second, third = garments(3, 256)
    pictures = [first, compressed(first, 40), first.resize((100, 100)), ImageOps.mirror(compressed(first, 60)), second, third]
    assert groups_of(pictures) == [[0, 1, 2, 3], [4], [5]]


@pytest.mark.parametrize("light", [0.75, 0.85, 1.15])
def test_a_brighter_or_darker_copy_is_found_enlarged_too(light: float):
    pictures = garments(20)
    changed = [ImageEnhance.Brightness(one.resize((96, 96), Image.Resampling.BICUBIC)).enhance(light) for one in pictures]
    found = groups_of([*pictures, *changed])
    assert all(len(group) == 1 or group == [group[0], group[0] + 20] for group in found)  # no two garments
    assert sum(len(group) == 2 for group in found) > 10  # most; of some the plain ground has other hashes


def test_forty_different_garments_are_mostly_forty_groups():
    groups = groups_of(garments(40))
    assert len(groups) >= 38


def test_the_same_shape_in_another_colour_is_another_image():
    red, blue = (Image.new("RGB", (64, 64), "white") for _ in range(2))
    red.paste((200, 30, 30), (16, 16, 48, 48))
    blue.paste((30, 30, 200), (16, 16, 48, 48))
    assert groups_of([red, blue]) == [[0], [1]]


def items(folder: Path, pictures: list[Image.Image]) -> list[CaptionedImage]:
    result = []
    for index, picture in enumerate(pictures):
        path = folder / f"{index}.png"
        picture.save(path)
        result.append(CaptionedImage(path, "x", path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
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


def test_the_groups_are_those_of_comparing_every_pair():
    """Twenty clusters of hashes, most distances in them near the limit; some mirror images are of other clusters."""
    generator = np.random.default_rng(0)
    bits = np.repeat(generator.integers(0, 2, (20, 1, 64)), 12, axis=1)
    for index in range(12):
        for cluster in bits:
            cluster[index, generator.permutation(64)[: generator.integers(0, 7)]] ^= 1
    plain = np.packbits(bits.reshape(-1, 64).astype(np.uint8), axis=1).copy().view(">u8").astype(np.uint64).ravel()
    mirrored = generator.integers(0, 2**63, len(plain)).astype(np.uint64)
    mirrored[::40] = plain[generator.permutation(len(plain))[:6]]
    grey = np.zeros((32, 32, 3), dtype=np.uint8)
    found = near_duplicates(
        np.stack([plain, mirrored], 1), lambda index: grey + np.uint8(index % 3 * 10)
    )  # tones within 10 of 20

    leader = list(range(len(plain)))
    for first, one in enumerate(plain.tolist()):
        for second in range(len(plain)):
            near = [(one ^ other).bit_count() <= 4 for other in (int(plain[second]), int(mirrored[second]))]
            if first != second and any(near) and abs(first % 3 - second % 3) < 2:
                leader = [leader[first] if label == leader[second] else label for label in leader]
    expected = [[index for index, label in enumerate(leader) if label == one] for one in set(leader)]
    assert found == sorted(expected)
    assert 10 < len(found) < 150
    assert any(len(group) > 2 for group in found)


def test_a_mirrored_copy_is_found_whichever_comes_first():
    one, other = garments(2, 256)
    assert groups_of([one, other, ImageOps.mirror(one)]) == [[0, 2], [1]]
    assert groups_of([ImageOps.mirror(one), other, one]) == [[0, 2], [1]]


def test_many_photos_on_a_plain_ground_and_many_copies_take_seconds():
    """1,500 hashes whose border is empty, as on a plain ground, and 20,000 copies of one picture."""
    generator = np.random.default_rng(0)
    bits = np.zeros((1500, 8, 8), dtype=np.uint8)
    bits[:, 2:6, 2:6] = generator.integers(0, 2, (1500, 4, 4))
    plain = np.packbits(bits.reshape(-1, 64), axis=1).copy().view(">u8").astype(np.uint64)
    start = time.process_time()
    far = [np.full((32, 32, 3), 255 * (index % 2), dtype=np.uint8) for index in range(2)]
    near_duplicates(np.concatenate([plain, plain], 1), lambda index: far[index % 2])
    copies = near_duplicates(np.full((20_000, 2), 7, dtype=np.uint64), lambda _: far[0])
    assert len(copies) == 1
    assert time.process_time() - start < 30


def test_what_images_look_like_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = items(tmp_path, [picture for picture in garments(8) for _ in range(2)])
    expected = hold_out(made, 0.25, 1, TensorCache(tmp_path / "cache"))
    monkeypatch.setattr(split, "load_unchanged", lambda _: pytest.fail("decoded again"))
    assert hold_out(made, 0.25, 1, TensorCache(tmp_path / "cache")) == expected
    with pytest.raises(pytest.fail.Exception):
        hold_out(made, 0.25, 1, TensorCache(tmp_path / "another"))


def test_a_file_that_changed_since_it_was_checked_is_told_and_not_remembered(tmp_path: Path):
    made = items(tmp_path, garments(4))
    made[2].path.write_bytes(made[1].path.read_bytes())
    with pytest.raises(InputError, match=r"2\.png' was changed while the training ran"):
        hold_out(made, 0.25, 1, TensorCache(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2


def test_a_cache_that_cannot_be_written_costs_time_and_no_more(tmp_path: Path):
    made = items(tmp_path, garments(8))
    (tmp_path / "cache").write_text("no folder")
    assert hold_out(made, 0.25, 1, TensorCache(tmp_path / "cache")) == hold_out(made, 0.25, 1)
