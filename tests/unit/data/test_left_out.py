"""What lies in a training folder and is not trained on is named, with its kind; nothing is left out in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fashion_ml.data import pictures
from fashion_ml.data.images import read_references, read_training_folder, scan_references
from fashion_ml.data.notices import Kind, by_kind, line_of
from fashion_ml.errors import InputError
from tests.unit.data.folders import kinds, noticed, picture, scanned


def test_images_in_folders_inside_a_class_folder_are_counted_by_folder(tmp_path: Path):
    reading = scanned(tmp_path, ["1_x/a.png", "1_x/summer/b.png", "1_x/summer/deep/c.png", "1_x/winter/d.jpg"])
    assert [item.name for item in reading.items] == ["1_x/a.png"]
    assert noticed(reading, Kind.NESTED) == [("1_x/summer/", "2 images"), ("1_x/winter/", "1 image")]


def test_folders_without_a_number_and_loose_images_are_named(tmp_path: Path):
    reading = scanned(tmp_path, ["1_x/a.png", "blue_skirts/d.png", "12_/f.png", "loose.png"])
    assert noticed(reading, Kind.UNNUMBERED) == [("12_/", "1 image"), ("blue_skirts/", "1 image")]
    assert noticed(reading, Kind.LOOSE) == [("loose.png", "")]


def test_folders_without_images_need_no_word_beside_class_folders(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text("", encoding="utf-8")
    assert kinds(scanned(tmp_path, ["1_x/a.png"])) == {Kind.MISSING}


def test_an_empty_class_folder_is_named(tmp_path: Path):
    (tmp_path / "3_empty").mkdir()
    assert noticed(scanned(tmp_path, ["1_x/a.png"]), Kind.EMPTY_FOLDER) == [("3_empty/", "")]


def test_files_of_other_endings_are_counted_by_ending(tmp_path: Path):
    for name in ("a.npz", "b.npz", "look.psd"):
        (tmp_path / "1_x").mkdir(exist_ok=True)
        (tmp_path / "1_x" / name).write_bytes(b"x")
    reading = scanned(tmp_path, ["1_x/a.png"])
    assert noticed(reading, Kind.UNKNOWN_ENDING) == [("1_x/*.npz", "2"), ("1_x/*.psd", "1")]
    assert line_of(Kind.UNKNOWN_ENDING, by_kind(reading.notices)[Kind.UNKNOWN_ENDING]).startswith("3 files of other endings")


def test_hidden_images_such_as_those_that_macos_leaves_are_named(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png").with_name("._a.png").write_bytes(b"\0\5\x16\7")
    assert noticed(scanned(tmp_path), Kind.HIDDEN) == [("1_x/._a.png", "")]


def test_a_link_to_nothing_is_an_error_and_left_out_where_that_is_asked_for(tmp_path: Path):
    (picture(tmp_path / "1_x" / "a.png").parent / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "2_y").symlink_to("gone")
    with pytest.raises(InputError, match=r"b\.jpg' cannot be read"):
        scanned(tmp_path)
    reading = scanned(tmp_path, skip=True)
    assert noticed(reading, Kind.DANGLING) == [("2_y", ""), ("1_x/b.jpg", "")]


def test_a_link_to_a_class_folder_is_followed(tmp_path: Path):
    picture(tmp_path / "elsewhere" / "e.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "3_linked").symlink_to(tmp_path / "elsewhere")
    assert [(item.name, item.repeats) for item in scanned(tmp_path / "set").items] == [("3_linked/e.png", 3)]


def test_a_broken_image_that_is_left_out_is_named_with_its_reason(tmp_path: Path):
    (picture(tmp_path / "1_x" / "a.png").parent / "b.png").write_bytes(b"no")
    assert noticed(scanned(tmp_path, skip=True), Kind.BROKEN) == [("1_x/b.png", "not an image")]


@pytest.mark.parametrize(
    ("ending", "package"), [("heic", "pillow-heif"), ("JXL", "pillow-jxl-plugin"), ("avif", "pillow-avif-plugin")]
)
def test_an_image_that_no_package_reads_here_is_named_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, package: str
):
    monkeypatch.setattr(pictures, "_has_plugin", lambda module: False)
    monkeypatch.setattr(pictures, "_reads_avif", lambda: False)
    (tmp_path / "1_x").mkdir()
    (tmp_path / "1_x" / f"b.{ending}").write_bytes(b"x")
    with pytest.raises(
        InputError, match=rf"holds no images that can be read \(1 image that nothing installed reads, left out: .*{package}"
    ):
        scanned(tmp_path)
    assert noticed(scanned(tmp_path, ["1_x/a.png"]), Kind.NEEDS_PACKAGE) == [(f"1_x/b.{ending}", package)]


def test_an_image_that_a_plugin_reads_is_an_image(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "_has_plugin", lambda module: module == "pillow_heif")
    assert pictures.is_image("a.heic")
    assert not pictures.is_image("a.jxl")


@pytest.mark.parametrize("ending", ["avif", "jfif", "gif", "webp", "tif", "png", "bmp"])
def test_every_format_that_pillow_reads_is_read(tmp_path: Path, ending: str):
    path = tmp_path / "1_x" / f"a.{ending}"
    path.parent.mkdir()
    Image.new("RGB", (32, 48), (200, 30, 30)).save(path, {"jfif": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
    (item,) = scanned(tmp_path).items
    assert item.size == (32, 48)
    assert all(abs(a - b) < 8 for a, b in zip(pictures.load_picture(path).getpixel((9, 9)), (200, 30, 30), strict=True))


@pytest.mark.parametrize("ending", ["gif", "webp", "tif", "png"])
def test_of_an_animation_or_pages_the_first_picture_is_read_and_that_is_said(tmp_path: Path, ending: str):
    path = tmp_path / "1_x" / f"a.{ending}"
    path.parent.mkdir()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(path, {"tif": "TIFF"}.get(ending, ending.upper()), save_all=True, append_images=frames[1:])
    red, _, blue = pictures.load_picture(path).getpixel((9, 9))
    assert red > 240
    assert blue < 15
    assert noticed(scanned(tmp_path), Kind.SEVERAL) == [(f"1_x/a.{ending}", "")]


def test_references_say_what_they_leave_out_too(tmp_path: Path):
    for name in ("a.png", "more/b.png"):
        picture(tmp_path / name).with_suffix(".txt").write_text("a dress", encoding="utf-8")
    (tmp_path / "c.heiff").write_bytes(b"x")
    reading = scan_references(tmp_path)
    assert noticed(reading, Kind.NESTED) == [("more/", "1 image")]
    assert noticed(reading, Kind.UNKNOWN_ENDING) == [("*.heiff", "1")]


def test_whoever_reads_a_folder_is_told_what_was_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    picture(tmp_path / "set" / "1_x" / "a.png")
    picture(tmp_path / "set" / "loose.png")
    read_training_folder(tmp_path / "set")
    assert "1 image in no N_class folder, left out: loose.png [move them into one, such as 1_dress]" in caplog.text
    caplog.clear()
    picture(tmp_path / "references" / "a.png").with_suffix(".txt").write_text("", encoding="utf-8")
    read_references(tmp_path / "references")
    assert "1 file with an empty caption, so the prompt is empty: a.txt" in caplog.text


def test_a_line_names_three_and_counts_the_others(tmp_path: Path):
    reading = scanned(tmp_path, ["1_x/a.png", *(f"loose{index}.png" for index in range(5))])
    (line,) = (line_of(kind, some) for kind, some in by_kind(reading.notices).items() if kind is Kind.LOOSE)
    assert line.startswith("5 images in no N_class folder")
    assert ": loose0.png, loose1.png, loose2.png and 2 more [" in line


def test_a_caption_of_a_megabyte_is_left_out_unread(tmp_path: Path):
    (tmp_path / "1_x").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (32, 32)).save(tmp_path / "1_x" / f"{name}.png")
    (tmp_path / "1_x" / "a.txt").write_text("dress " * 200_000, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.txt' has more than 40,000 bytes; a caption is a few words: shorten it"):
        read_training_folder(tmp_path)
