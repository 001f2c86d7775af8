from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from fashion_ml.data.images import CaptionedImage, data_digest, read_references, read_training_folder, spread
from fashion_ml.data.pictures import fit_square, load_picture
from fashion_ml.errors import InputError


def picture(path: Path, colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_folders_side_by_side_with_repeats_captions_and_class_tokens(tmp_path: Path):
    picture(tmp_path / "10_dress" / "a.png").with_suffix(".txt").write_text("a red dress\n", encoding="utf-8")
    picture(tmp_path / "10_dress" / "b.jpg")
    picture(tmp_path / "3_hat_style" / "c.webp")
    (tmp_path / "notes").mkdir()
    items = read_training_folder(tmp_path)
    assert [(i.path.name, i.caption, i.repeats) for i in items] == [
        ("a.png", "a red dress", 10),
        ("b.jpg", "dress", 10),
        ("c.webp", "hat_style", 3),
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "does not exist; give the path"),
        (lambda folder: folder.mkdir(), "is empty; put images"),
        (lambda folder: folder.write_text("", encoding="utf-8"), "is a file; give the path of a folder"),
        (lambda folder: picture(folder / "dress" / "a.png"), "holds no folder named N_class"),
        (lambda folder: (folder / "10_dress").mkdir(parents=True), "holds no images"),
        (lambda folder: picture(folder / "0_dress" / "a.png"), "asks for 0 repeats"),
        (
            lambda folder: picture(folder / "1_red\ndress" / "a.png"),
            "has a line break in its name",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, make, said: str):  # type: ignore[no-untyped-def]
    make(tmp_path / "set")
    with pytest.raises(InputError) as caught:
        read_training_folder(tmp_path / "set")
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0]
    assert caught.value.problems[0].startswith("data.train_data_dir: ")


def test_every_bad_file_is_named_in_one_error(tmp_path: Path):
    good = picture(tmp_path / "1_x" / "good.png", size=(200, 200))
    (tmp_path / "1_x" / "zero.png").write_bytes(b"")
    (tmp_path / "1_x" / "text.jpg").write_text("hello", encoding="utf-8")
    (tmp_path / "1_x" / "cut.png").write_bytes(good.read_bytes()[:80])
    (tmp_path / "1_x" / "good.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_training_folder(tmp_path)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert all(name in text for name in ("zero.png", "text.jpg", "cut.png", "good.txt"))
    assert "is not UTF-8 (byte 3); save it as UTF-8" in text


def test_references_need_captions_and_keep_their_order(tmp_path: Path):
    for name in ("b", "a", "c"):
        picture(tmp_path / f"{name}.png").with_suffix(".txt").write_text(name, encoding="utf-8")
    assert [item.caption for item in read_references(tmp_path)] == ["a", "b", "c"]
    assert [item.caption for item in read_references(tmp_path, limit=3)] == ["a", "b", "c"]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InputError, match=r"evaluation\.references: .*a\.png' has no caption; write what it shows into a\.txt"):
        read_references(tmp_path)


def test_of_more_references_than_are_wanted_one_of_each_equal_stretch_is_drawn_always_the_same():
    items = [CaptionedImage(Path(f"{number}.png"), "", f"{number:03d}") for number in range(100)]
    drawn = [int(item.name) for item in spread(items, 10)]
    assert [number // 10 for number in drawn] == list(range(10))
    assert len({number % 10 for number in drawn}) > 3  # no fixed step, which a folder's own order could follow
    assert spread(items, 10) == spread(items, 10)
    assert spread(items, 100) == spread(items, 101) == items


def test_alpha_is_composited_on_white(tmp_path: Path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_a_palette_with_transparency_is_composited_on_white(tmp_path: Path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    loaded = load_picture(tmp_path / "a.png")
    assert (loaded.getpixel((1, 1)), loaded.getpixel((0, 0))) == ((255, 255, 255), (200, 0, 0))


def test_sixteen_bit_grey_keeps_its_tones(tmp_path: Path):
    values = np.array([[0, 65535], [32896, 257]], dtype=np.uint16)  # 257 = 65535 / 255
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(load_picture(tmp_path / "a.png"))[..., 0].tolist() == [[0, 255], [128, 1]]


@pytest.mark.parametrize("mode", ["L", "CMYK", "LA", "1", "P", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str):
    if mode == "YCbCr" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("Pillow below 13 reads no YCbCr TIFF that is not compressed")
    ending = "tif" if mode in ("CMYK", "YCbCr") else "png"
    Image.new("RGB", (9, 8), (255, 255, 255)).convert(mode).save(tmp_path / f"a.{ending}")
    loaded = load_picture(tmp_path / f"a.{ending}")
    assert (loaded.mode, loaded.size) == ("RGB", (9, 8))
    assert min(loaded.getpixel((3, 3))) >= 240


def test_the_exif_turn_is_applied(tmp_path: Path):
    """Orientation 6: the camera was turned, so the stored left edge belongs on top."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    loaded = load_picture(tmp_path / "a.jpg")
    assert loaded.size == (20, 40)
    assert loaded.getpixel((10, 5))[0] > 240
    assert loaded.getpixel((10, 35))[0] < 15


def test_fit_square_crops_the_centre():
    image = Image.new("RGB", (64, 32), (0, 0, 0))
    image.paste((255, 255, 255), (16, 0, 48, 32))
    assert np.asarray(fit_square(image, 32)).min() == 255


def test_the_digest_sees_bytes_captions_and_repeats_but_not_the_place(tmp_path: Path):
    def digest(folder: str, *, caption: str = "a", colour: int = 200, repeats: int = 2) -> str:
        path = picture(tmp_path / folder / f"{repeats}_x" / "a.png", (colour, 0, 0))
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        return data_digest(read_training_folder(tmp_path / folder))

    first = digest("one")
    assert digest("two") == first
    assert len({first, digest("three", caption="b"), digest("four", colour=201), digest("five", repeats=3)}) == 4


def test_five_hundred_mixed_images_with_two_bad_ones_name_both_or_leave_both_out(tmp_path: Path):
    place, rng = tmp_path / "2_mixed", np.random.default_rng(0)
    place.mkdir()
    for index in range(500):
        size = tuple(int(side) for side in rng.integers(20, 120, 2))
        mode = ("RGB", "CMYK", "RGBA", "P", "L", "I;16", "LA", "1")[index % 8]
        noise = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        if mode == "I;16":
            made = Image.fromarray(rng.integers(0, 65536, size, dtype=np.uint16))
        else:
            made = noise.convert(mode)
        exif = Image.Exif()
        exif[0x0112] = index % 8 + 1
        ending = "jpg" if mode in ("CMYK", "RGB") else "png"
        made.save(place / f"{index:03d}.{ending}", exif=exif)
    whole = (place / "000.jpg").read_bytes()
    (place / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (place / "zero.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read_training_folder(tmp_path)
    assert len(caught.value.problems) == 2
    assert all(name in str(caught.value) for name in ("truncated.jpg", "zero.png"))
    skipped: list[str] = []
    items = read_training_folder(tmp_path, skipped=skipped)
    assert (len(items), len(skipped)) == (500, 2)
    turned = next(item for item in items if item.path.name == "004.png")  # orientation 5 is a quarter turn
    assert turned.size == Image.open(turned.path).size[::-1]


def test_images_that_are_looked_at_by_many_threads_keep_their_order_and_the_broken_their_place(tmp_path: Path):
    for number in range(70):
        picture(tmp_path / "1_dress" / f"{number:03d}.png", size=(20 + number, 30))
    (tmp_path / "1_dress" / "033.png").write_bytes(b"no picture")
    skipped: list[str] = []
    items = read_training_folder(tmp_path, skipped=skipped)
    assert [(item.path.name, item.size) for item in items] == [
        (f"{number:03d}.png", (20 + number, 30)) for number in range(70) if number != 33
    ]
    assert len(skipped) == 1
    assert "033.png" in skipped[0]
