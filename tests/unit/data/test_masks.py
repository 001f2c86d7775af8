"""A mask goes the way of its picture, cell by cell, and says what each cell of the loss counts for."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fashion_ml.config import validate
from fashion_ml.data.images import CaptionedImage, read_training_folder
from fashion_ml.data.masks import EncodedMasks, Masks, find_masks
from fashion_ml.data.pictures import fit
from fashion_ml.data.tensor_cache import TensorCache
from fashion_ml.errors import InputError
from tests.unit.training.setup import train, write_images

FACTOR = 4
SIZES = [(96, 64), (64, 96), (64, 64), (100, 70)]


def bright(size: tuple[int, int]) -> Image.Image:
    """Grey with a white part off the middle: its own mask is what is white."""
    picture = Image.new("L", size, 0)
    picture.paste(255, (size[0] // 8, size[1] // 4, size[0] // 2, size[1] * 7 // 8))
    return picture


def written(place: Path, kind: str, size: tuple[int, int], turned: bool = False) -> tuple[CaptionedImage, Masks]:
    """An image file whose white part is what its mask shows; `turned` by its EXIF entry, the mask file with it."""
    folder = place / "images" / "1_x"
    folder.mkdir(parents=True)
    picture, exif = bright(size), Image.Exif()
    if turned:
        picture = picture.transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back
        exif[0x0112] = 6
    image = picture.convert("RGB")
    if kind == "alpha":
        image.putalpha(picture)
    image.save(folder / "a.png", exif=exif)
    (place / "masks").mkdir()
    picture.save(place / "masks" / "a.png", exif=exif)
    (item,) = read_training_folder(place / "images")
    masks = find_masks(kind, place / "masks", [item])
    assert masks is not None
    return item, masks


def cells_of(picture: Image.Image) -> torch.Tensor:
    """Mean brightness of every 4 x 4 pixels, in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture.convert("L"))).float() / 255
    height, width = pixels.shape
    return pixels.view(height // FACTOR, FACTOR, width // FACTOR, FACTOR).mean((1, 3))


@pytest.mark.parametrize("kind", ["alpha", "folder"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("trained_at", [(64, 64), (96, 64), (32, 64)])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_the_mask_of_a_picture_that_is_white_where_its_mask_is_stays_what_is_white(
    kind: str, size: tuple[int, int], trained_at: tuple[int, int], mirrored: bool, turned: bool, tmp_path: Path
):
    """Square crops, buckets, mirror images and EXIF turns: the trained picture itself says where its mask has to be."""
    item, masks = written(tmp_path, kind, size, turned)
    shown = fit(load_rgb(item.path), trained_at)
    expected = cells_of(ImageOps.mirror(shown) if mirrored else shown)
    found = EncodedMasks(masks, [item], [trained_at], FACTOR).mask(0, mirrored)
    assert found is not None
    assert found.shape == (1, *expected.shape)
    assert (found[0] - expected).abs().max() < 0.12  # Lanczos overshoots where the mask does not
    assert (found[0] - expected).abs().mean() < 0.02


def load_rgb(path: Path) -> Image.Image:
    """The colours alone, turned: white where alpha is white too, so that compositing on white would hide it."""
    with Image.open(path) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def test_a_mask_of_more_pixels_or_of_another_ending_or_in_a_class_folder_is_found(tmp_path: Path):
    item, _ = written(tmp_path, "folder", (64, 64))
    plain = find_masks("folder", tmp_path / "masks", [item])
    (tmp_path / "other" / "1_x").mkdir(parents=True)
    bright((128, 128)).save(tmp_path / "other" / "1_x" / "a.webp", lossless=True)
    other = find_masks("folder", tmp_path / "other", [item])
    first, second = (EncodedMasks(m, [item], [(64, 64)], FACTOR).mask(0) for m in (plain, other))  # type: ignore[arg-type]
    assert first is not None
    assert second is not None
    assert (first - second).abs().max() < 0.1


def test_an_image_without_a_mask_counts_whole_and_how_many_have_one_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_images(tmp_path / "images", count=5)
    items = read_training_folder(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    bright((64, 64)).save(tmp_path / "masks" / "b.png")
    bright((64, 64)).save(tmp_path / "masks" / "z.png")
    masks = find_masks("folder", tmp_path / "masks", items)
    assert masks is not None
    encoded = EncodedMasks(masks, items, [(64, 64)] * 5, FACTOR)
    assert [encoded.mask(index) is None for index in range(5)] == [True, False, True, True, True]
    without = encoded.prepare()
    with caplog.at_level("INFO", logger="fashion_ml"):
        masks.say_unused()
    assert without == [items[index].name for index in (0, 2, 3, 4)]
    assert "1 masks belong to no image: z.png" in caplog.text


def test_opaque_pictures_have_no_mask_and_nothing_left_of_one_in_the_crop_is_none(tmp_path: Path):
    item, masks = written(tmp_path, "folder", (64, 64))
    assert EncodedMasks(Masks("alpha"), [item], [(64, 64)], FACTOR).mask(0) is None
    edge = Image.new("L", (64, 64), 0)
    edge.paste(255, (0, 0, 4, 64))
    edge.save(tmp_path / "masks" / "a.png")
    assert EncodedMasks(masks, [item], [(16, 64)], FACTOR).mask(0) is None


def test_the_garment_is_found_before_an_even_backdrop(tmp_path: Path):
    write_images(tmp_path, count=6)
    items = read_training_folder(tmp_path)
    encoded = EncodedMasks(Masks("garment"), items, [(64, 64)] * 6, FACTOR)
    found = [mask for index in range(6) if (mask := encoded.mask(index)) is not None]
    assert found
    assert all(0.05 < mask.mean() < 0.9 for mask in found)


def test_an_edited_mask_is_another_one_in_the_cache_and_in_the_digest(tmp_path: Path):
    item, masks = written(tmp_path, "folder", (64, 64))
    cache = TensorCache(tmp_path / "cache")
    masks = replace(masks, cache=cache)
    before, digest = EncodedMasks(masks, [item], [(64, 64)], FACTOR).mask(0), masks.digest("d")
    ImageOps.invert(bright((64, 64))).save(tmp_path / "masks" / "a.png")
    edited = find_masks("folder", tmp_path / "masks", [item], cache)
    assert edited is not None
    after = EncodedMasks(edited, [item], [(64, 64)], FACTOR).mask(0)
    assert before is not None
    assert after is not None
    assert not torch.equal(before, after)
    assert edited.digest("d") != digest
    assert Masks("alpha").digest("d") == "d"


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "holds no mask of any image; name masks as their images, a.png for the first"),
        (Image.new("L", (64, 64), 0), "a.png' is black all over"),
        (Image.new("L", (64, 32), 255), "has 64 x 32 pixels and its image 64 x 64"),
        (b"no image", "a.png' cannot be read"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(mask: Image.Image | bytes | None, message: str, tmp_path: Path):
    item, _ = written(tmp_path, "folder", (64, 64))
    path = tmp_path / "masks" / "a.png"
    path.unlink()
    if isinstance(mask, bytes):
        path.write_bytes(mask)
    elif mask is not None:
        mask.save(path)
    with pytest.raises(InputError, match=message):
        EncodedMasks(find_masks("folder", tmp_path / "masks", [item]), [item], [(64, 64)], FACTOR).prepare()  # type: ignore[arg-type]


def images_of(place: Path, *names: str) -> list[CaptionedImage]:
    """Images that differ, below `images/`."""
    for number, name in enumerate(names):
        path = place / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (40 * number, 90, 200)).save(path)
    return read_training_folder(place / "images")


def masks_of(place: Path, items: list[CaptionedImage], *names: str) -> dict[str, str]:
    for name in names:
        path = place / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bright((64, 64)).save(path)
    found = find_masks("folder", place / "masks", items)
    assert found is not None
    return {name: path.relative_to(place / "masks").as_posix() for name, (path, _) in found.files.items()}


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (
            ["1_x/a.png", "2_y/a.png"],
            ["a.png"],
            r"1 masks would be of several images: a\.png of 1_x/a\.png and 2_y/a\.png; put masks",
        ),
        (["1_x/a.png", "1_x/a.jpg"], ["1_x/a.webp"], r"a\.webp of 1_x/a\.jpg and 1_x/a\.png; .*a\.jpg\.png for a\.jpg"),
        (["1_x/a.png", "1_x/a.jpg"], ["a.png"], r"a\.png of 1_x/a\.jpg and 1_x/a\.png"),
        (["1_x/a.jpg"], ["a.png", "a.webp"], r"1 images have several masks: 1_x/a\.jpg \(a\.png, a\.webp\); keep one"),
    ],
)
def test_a_mask_that_may_be_of_two_images_and_two_masks_of_one_image_are_refused(
    images: list[str], masks: list[str], message: str, tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        masks_of(tmp_path, images_of(tmp_path, *images), *masks)


def test_of_masks_of_one_name_that_of_the_images_folder_and_then_of_its_whole_name_is_taken(tmp_path: Path):
    items = images_of(tmp_path, "1_x/a.png", "2_y/a.png", "2_y/b.png", "2_y/b.jpg", "2_y/c.jpg")
    found = masks_of(tmp_path, items, "1_x/a.png", "a.webp", "b.png", "2_y/b.jpg.png", "2_y/c.jpg", "2_y/c.png")
    assert found == {
        "1_x/a.png": "1_x/a.png", "2_y/a.png": "a.webp", "2_y/b.png": "b.png", "2_y/b.jpg": "2_y/b.jpg.png", "2_y/c.jpg": "2_y/c.jpg",
    }  # fmt: skip


def test_copies_of_an_image_may_share_its_mask(tmp_path: Path):
    items = images_of(tmp_path, "1_x/a.png")
    (tmp_path / "images" / "2_y").mkdir()
    (tmp_path / "images" / "2_y" / "a.png").write_bytes(items[0].path.read_bytes())
    assert len(masks_of(tmp_path, read_training_folder(tmp_path / "images"), "a.png")) == 2


def test_a_mask_is_made_once_in_threads_or_not_and_remembered_in_the_folder(tmp_path: Path):
    item, _ = written(tmp_path, "folder", (64, 64))
    masks = find_masks("folder", tmp_path / "masks", [item], TensorCache(tmp_path / "cache"))
    assert masks is not None
    first = EncodedMasks(masks, [item], [(64, 64)], FACTOR)
    assert first.prepare() == []
    (tmp_path / "masks" / "a.png").write_bytes(b"gone")  # whoever opens it again fails
    assert first.mask(0) is not None
    again = EncodedMasks(replace(masks, cache=TensorCache(tmp_path / "cache")), [item], [(64, 64)], FACTOR)
    assert again.prepare() == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"data\.masks_dir: .*none' is no folder"):
        find_masks("folder", tmp_path / "none", [])


def test_a_folder_among_the_masks_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    item, _ = written(tmp_path, "folder", (64, 64))
    (tmp_path / "masks" / "coats").mkdir()
    scandir = os.scandir

    def guarded(path: Any = ".") -> Any:
        if Path(path).name == "coats":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match=r"data\.masks_dir: .*coats' cannot be read \(Permission denied\)"):
        find_masks("folder", tmp_path / "masks", [item])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"masks": "folder"}}, r"data: masks: folder needs data\.masks_dir"),
        ({"data": {"masks_dir": "m"}}, "data: masks_dir is given, but masks is not folder"),
        ({"loss": {"unmasked_weight": 0.1}}, r"loss\.unmasked_weight is given, but there are no masks"),
        ({"data": {"masks": "backdrop"}}, r"data\.masks: 'backdrop' is not accepted"),
        ({"data": {"masks": "alpha"}, "loss": {"unmasked_weight": 1.5}}, r"loss\.unmasked_weight: 1\.5 is not accepted"),
    ],
)
def test_settings_of_masks_that_do_not_go_together_are_refused(settings: dict[str, dict[str, object]], message: str):
    tree = {**settings, "data": {"train_data_dir": "embedded", **settings.get("data", {})}}
    with pytest.raises(InputError, match=message):
        validate(tree)


def test_with_unmasked_weight_1_masks_change_no_bit(tmp_path: Path):
    from safetensors.torch import load_file

    from tests.unit.training.setup import experiment

    write_images(tmp_path / "images")
    plain, weighted, masked = (
        load_file(train(experiment(tmp_path / "images", **sections), tmp_path / name).result.path)
        for name, sections in (
            ("plain", {}),
            ("one", {"data": {"masks": "garment"}, "loss": {"unmasked_weight": 1.0}}),
            ("masked", {"data": {"masks": "garment"}}),
        )
    )
    assert all(torch.equal(plain[name], weighted[name]) for name in plain)
    assert any(not torch.equal(plain[name], masked[name]) for name in plain)
