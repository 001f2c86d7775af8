"""The facts about a data set, each by a number that can be worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashion_ml.data.contact_sheet import draw_contact_sheet, spread, write_contact_sheet
from fashion_ml.data.images import CaptionedImage, Reading
from fashion_ml.data.notices import REFERENCES, Kind, Notice
from fashion_ml.data.split import alike
from fashion_ml.data.summary import FolderSummary, leaks, summarise, too_long
from fashion_ml.data.summary_lines import lines_of
from fashion_ml.data.tensor_cache import TensorCache
from tests.unit.data.folders import picture, scanned


def item(name: str, size: tuple[int, int] = (64, 64), caption: str = "a dress", repeats: int = 1) -> CaptionedImage:
    return CaptionedImage(Path(name), caption, name, repeats, size)


def summary_of(*items: CaptionedImage, sizes: tuple[int, int] | None = None) -> FolderSummary:
    return summarise(Reading(Path("set"), list(items)), [sizes] * len(items) if sizes else [])


def said(summary: FolderSummary, kind: Kind) -> list[str]:
    return [str(notice) for notice in summary.notices.get(kind, ())]


def test_images_with_their_repeats_and_the_middle_of_their_sizes():
    summary = summary_of(item("1_x/a", (10, 30)), item("1_x/b", (20, 20), repeats=3), item("1_x/c", (100, 5)))
    assert (summary.images, summary.an_epoch) == (3, 5)
    assert summary.sizes == ((10, 30), (20, 20), (100, 5))  # 300, 400 and 500 pixels


def test_what_is_cropped_away_is_the_share_of_the_area():
    """100 x 200 in 64 x 64: scaled by 0.64 to 64 x 128, half of which is seen. 80 x 100: 64 x 80, a fifth is cropped, below the quarter."""
    summary = summary_of(item("1_x/a", (100, 200)), item("1_x/b", (80, 100)), sizes=(64, 64))
    assert said(summary, Kind.CROPPED) == ["1_x/a (50 %)"]
    (bucket,) = summary.buckets
    assert (bucket.size, bucket.images, round(bucket.cropped, 6)) == ((64, 64), 2, 0.35)


def test_what_is_scaled_up_more_than_twice_or_four_times_is_named_once():
    """64 / 20 = 3.2 and 64 / 10 = 6.4; 64 / 32 is twice and no more."""
    summary = summary_of(item("a", (20, 30)), item("b", (10, 10)), item("c", (32, 32)), sizes=(64, 64))
    assert said(summary, Kind.UPSCALED) == ["a (20 x 30, 3.2 x)"]
    assert said(summary, Kind.TINY) == ["b (10 x 10, 6.4 x)"]


def test_shapes_longer_than_three_times_are_named_whichever_way_they_lie():
    summary = summary_of(item("a", (310, 100)), item("b", (100, 310)), item("c", (300, 100)))
    assert said(summary, Kind.EXTREME) == ["a (310 x 100)", "b (100 x 310)"]


def test_captions_that_images_share_are_counted_and_those_of_the_class_are_not():
    items = [
        item("1_x/a"),
        item("1_x/b"),
        item("1_x/c", caption="x"),
        item("1_x/d", caption="x"),
        item("1_x/e", caption="other"),
    ]
    missing = [Notice(Kind.MISSING, "1_x/c"), Notice(Kind.MISSING, "1_x/d")]
    summary = summarise(Reading(Path("set"), items, notices=missing))
    assert said(summary, Kind.IDENTICAL) == ['"a dress" (2 images, first 1_x/a)']
    assert summary.notices[Kind.IDENTICAL][0].count == 2
    assert summary.captions == 3


def test_captions_above_the_limit_are_named_with_the_tokens_that_are_cut():
    items = [
        item("a", caption=" ".join(["dress"] * 9)),
        item("b", caption=" ".join(["dress"] * 5)),
        item("c", caption="a b c d e f"),
    ]
    assert [str(one) for one in too_long(items, lambda text: len(text.split()), 5)] == [
        "a (4 of 9 tokens)",
        "c (1 of 6 tokens)",
    ]


def test_a_caption_of_fewer_bytes_than_the_limit_is_not_even_counted():
    assert too_long([item("a", caption="a" * 75)], lambda text: pytest.fail("counted"), 75) == []


def alike_groups(reading: Reading) -> list[list[CaptionedImage]]:
    return [[reading.items[index] for index in group] for group in alike(reading.items, TensorCache())]


def test_copies_and_images_that_look_alike_are_named_with_the_first(tmp_path: Path):
    first = picture(tmp_path / "1_x" / "a.png", (64, 64), seed=1)
    (tmp_path / "1_x" / "b.png").write_bytes(first.read_bytes())
    picture(tmp_path / "1_x" / "c.png", (96, 96), seed=1)
    picture(tmp_path / "1_x" / "d.png", (64, 64), seed=2)
    reading = scanned(tmp_path)
    summary = summarise(reading, groups=alike_groups(reading))
    assert said(summary, Kind.COPIES) == ["1_x/b.png (as 1_x/a.png)"]
    assert said(summary, Kind.NEAR) == ["1_x/c.png (as 1_x/a.png)"]


def test_references_that_look_like_training_images_are_named(tmp_path: Path):
    picture(tmp_path / "1_x" / "a.png", (64, 64), seed=1)
    picture(tmp_path / "2_y" / "held.png", (96, 96), seed=1)
    picture(tmp_path / "2_y" / "other.png", (96, 96), seed=3)
    reading = scanned(tmp_path)
    found = leaks(reading.items[:1], reading.items[1:], alike_groups(reading))
    assert [str(one) for one in found] == ["2_y/held.png (as 1_x/a.png)"]


def test_what_looks_alike_is_remembered_for_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    picture(tmp_path / "set" / "1_x" / "a.png", (64, 64), seed=1)
    picture(tmp_path / "set" / "1_x" / "c.png", (96, 96), seed=1)
    reading = scanned(tmp_path / "set")
    first = alike(reading.items, TensorCache(tmp_path / "cache"))
    assert first == [[0, 1]]
    monkeypatch.setattr("fashion_ml.data.split.near_duplicates", lambda *_: pytest.fail("compared again"))
    assert alike(reading.items, TensorCache(tmp_path / "cache")) == first


def test_images_that_are_alone_are_not_decoded_to_find_that_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Their hashes are known since they were checked."""
    reading = scanned(tmp_path, [f"1_x/{index}.png" for index in range(4)])
    monkeypatch.setattr("fashion_ml.data.split.load_unchanged", lambda _: pytest.fail("decoded again"))
    assert alike(reading.items, TensorCache()) == [[0], [1], [2], [3]]


def test_a_summary_of_everything_fits_on_a_screen_and_is_json():
    notices = [Notice(kind, f"1_x/file{index}.png", "why") for kind in Kind for index in range(50)]
    folders = [replace(one, name=f"{index}_x") for index in range(40) for one in scanned_folder()]
    reading = Reading(Path("set"), [item(f"{index}_x/a") for index in range(40)], folders, notices)
    lines = [line for line, _ in lines_of([summarise(reading, [(64, 64)] * 40)])]
    assert len(lines) <= len(Kind) + 9
    assert len(lines) < 40
    assert sum("and 47 more" in line for line in lines) >= len(Kind) - 3
    facts = json.loads(json.dumps(summarise(reading).to_dict()))
    assert facts["noticed"]["captions_missing"]["count"] == 50
    assert facts["noticed"]["captions_missing"]["files"][0] == {"name": "1_x/file0.png", "detail": "why"}


def scanned_folder() -> list:  # type: ignore[type-arg]
    from fashion_ml.data.images import ClassFolder

    return [ClassFolder("1_x", "x", 1, 1)]


def test_every_kind_says_what_changes_it():
    assert all(kind.change and kind.what for kind in Kind)
    assert len({kind.key for kind in Kind}) == len(Kind) >= 20


def test_references_without_a_caption_are_said_to_be_left_out():
    summary = summarise(Reading(Path("set"), [], notices=[Notice(Kind.MISSING, "a.png")], role=REFERENCES))
    assert [line for line, _ in summary.lines()] == [
        "1 image without a caption, left out: a.png [data.caption_extension, or write what they show]"
    ]


def test_a_contact_sheet_shows_every_folder_and_at_most_a_hundred_images(tmp_path: Path):
    reading = scanned(tmp_path, [f"{repeats}_x/{index:03d}.png" for repeats in (1, 2) for index in range(60)])
    shown = spread(reading.items)
    assert len(shown) == 100
    assert [sum(one.name.startswith(f"{repeats}_") for one in shown) for repeats in (1, 2)] == [50, 50]
    path = write_contact_sheet(tmp_path / "sheet.png", reading.items, "set")
    with Image.open(path) as sheet:
        assert sheet.width == 10 * 136 + 8
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 500


def test_a_contact_sheet_takes_any_caption_and_names_that_are_gone(tmp_path: Path):
    captions = ["", "a" * 400, "洋裝、紅色", "a\nb", "👗"]
    items = [item(str(tmp_path / f"{index}.png"), caption=caption) for index, caption in enumerate(captions)]
    assert draw_contact_sheet(items, "set").height > 128
