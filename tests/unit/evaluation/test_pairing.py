"""Images from elsewhere and their references: by CSV in any spelling, by order, by the prompt in a WebUI's picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fashion_ml.data.picture_prompts import plain_prompt, prompt_of
from fashion_ml.errors import InputError
from fashion_ml.evaluation.image_pairs import find_pairs

SIDE = 32


def picture(path: Path, colour: int = 0, **chunks: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    Image.new("RGB", (SIDE, SIDE), (colour, 40, 90)).save(path, pnginfo=info)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number, caption in ((1, "a red dress, zarya style"), (2, "a blue hat"), (10, "a coat")):
        picture(tmp_path / "references" / f"ref_{number}.png", number)
        (tmp_path / "references" / f"ref_{number}.txt").write_text(caption, encoding="utf-8")
    for number in (1, 2, 10):
        picture(tmp_path / "generated" / f"0000{number}-77.png", 100 + number)
    return tmp_path / "generated", tmp_path / "references"


def names(found: Any) -> list[tuple[str, str]]:
    return [(made.name, wanted.name) for _, made, wanted in found.pairs]


TABLE = [("generated", "reference"), ("00001-77.png", "ref_10.png"), ("00002-77.png", "ref_2.png")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={}\r\n"])
def test_a_csv_may_be_parted_and_spelt_as_spreadsheets_do(
    encoding: str, mark: str, first: str, folders: tuple[Path, Path], tmp_path: Path
):
    text = first.format(mark) + "".join(mark.join(row) + "\r\n" for row in TABLE)
    (tmp_path / "pairs.csv").write_bytes(text.encode(encoding))
    assert names(find_pairs(*folders, tmp_path / "pairs.csv")) == TABLE[1:]


def test_a_line_of_a_csv_that_names_no_file_is_told_by_its_number(folders: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "pairs.csv").write_text("sep=;\nGenerated; Reference\n00001-77.png;ref_9.png\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"--pairs: line 3 of .*: 'ref_9\.png' is not in the reference folder"):
        find_pairs(*folders, tmp_path / "pairs.csv")


def test_a_pair_that_stands_in_a_csv_twice_is_told_by_its_line_and_one_reference_may_have_several_images(
    folders: tuple[Path, Path], tmp_path: Path
):
    rows = ["generated,reference", "00001-77.png,ref_1.png", "00002-77.png,ref_1.png"]
    (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    assert len(find_pairs(*folders, tmp_path / "pairs.csv").pairs) == 2
    (tmp_path / "pairs.csv").write_text("\n".join([*rows, rows[1]]), encoding="utf-8")
    with pytest.raises(InputError, match=r"--pairs: line 4 of .*: '00001-77\.png' with 'ref_1\.png' stands there already"):
        find_pairs(*folders, tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("generated,reference,Generated\n00001-77.png,ref_1.png,00002-77.png\n", "names the column generated 2 times"),
        ("reference,reference;generated\nref_1.png,ref_1.png\n", "names no column generated"),
        ("generated,reference\n00001-77.png,ref_1.png,1,2\n", "line 2 has 4 cells, and its first line 2"),
        ("sep=;\ngenerated;reference\n\n00001-77.png;ref_1.png;;x\n", "line 4 has 4 cells, and its first line 2"),
        ('generated,reference\n"00001-77.png,ref_1.png\n', "unexpected end of data"),
        ("", "names no column generated"),
    ],
)
def test_a_csv_that_can_be_read_in_two_ways_is_read_in_none(text: str, said: str, folders: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as told:
        find_pairs(*folders, tmp_path / "pairs.csv")
    assert len(told.value.problems) == 1


def test_empty_cells_behind_a_row_are_a_spreadsheets_and_other_columns_may_have_one_name(
    folders: tuple[Path, Path], tmp_path: Path
):
    (tmp_path / "pairs.csv").write_text("generated,note,note,reference\n00001-77.png,a,b,ref_1.png,,\n,,,\n", encoding="utf-8")
    assert names(find_pairs(*folders, tmp_path / "pairs.csv")) == [("00001-77.png", "ref_1.png")]


def test_of_a_csv_of_wrong_lines_twenty_are_told_and_the_others_counted(folders: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "pairs.csv").write_text("generated,reference\n" + "00001-77.png,none.png\n" * 1000, encoding="utf-8")
    with pytest.raises(InputError, match="980 more like these") as told:
        find_pairs(*folders, tmp_path / "pairs.csv")
    assert len(told.value.problems) == 21


def test_order_is_that_of_numbers_and_what_is_more_is_left_over(folders: tuple[Path, Path]):
    picture(folders[0] / "00011-77.png")
    found = find_pairs(*folders, pair_by="order")
    assert names(found) == [("00001-77.png", "ref_1.png"), ("00002-77.png", "ref_2.png"), ("000010-77.png", "ref_10.png")]
    assert found.unpaired_generated == ["00011-77.png"]


A1111 = "a RED dress,  zarya style <lora:zarya:0.8>\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7"
COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"positive": ["12", 0], "negative": ["7", 0], "seed": 1}},
    "12": {"class_type": "ControlNetApply", "inputs": {"conditioning": ["6", 0], "strength": 1.0}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["20", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "20": {"class_type": "PrimitiveString", "inputs": {"value": "a blue hat"}},
}


def test_prompts_of_webuis_find_the_reference_with_that_caption(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    generated, references = folders
    for path in generated.iterdir():
        path.unlink()
    picture(generated / "00001.png", 1, parameters=A1111)
    picture(generated / "00002.png", 2, prompt=json.dumps(COMFY), workflow="{}")
    picture(generated / "00003.png", 3, parameters="a hat that nobody knows\nSteps: 20")
    picture(generated / "00004.png", 4)
    picture(generated / "00005.png", 5, parameters="a red dress, zarya style,")
    found = find_pairs(generated, references, pair_by="prompt")
    assert names(found) == [("00001.png", "ref_1.png"), ("00002.png", "ref_2.png"), ("00005.png", "ref_1.png")]
    assert found.unpaired_generated == ["00003.png", "00004.png"]
    assert found.unpaired_references == ["ref_10.png"]
    assert "1 of 5 generated images hold no prompt of a WebUI" in caplog.text


def test_a_caption_of_two_references_pairs_none_and_is_said(folders: tuple[Path, Path]):
    generated, references = folders
    (references / "ref_2.txt").write_text("a coat", encoding="utf-8")
    picture(generated / "one.png", parameters="a coat\nSteps: 1")
    picture(generated / "two.png", parameters="a red dress, zarya style\nSteps: 1")
    found = find_pairs(generated, references, pair_by="prompt")
    assert names(found) == [("two.png", "ref_1.png")]
    assert found.unreadable == [
        "--generated: one.png: its prompt is the caption of ref_10.png and ref_2.png; pair it by a CSV file (--pairs)"
    ]


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
@pytest.mark.parametrize("head", [b"UNICODE\0", b"ASCII\0\0\0"])
def test_jpeg_and_webp_say_it_in_exif(ending: str, head: bytes, tmp_path: Path):
    exif = Image.Exif()
    text = A1111.encode("utf-16-be") if head.startswith(b"UNI") else A1111.encode()
    exif.get_ifd(0x8769)[0x9286] = head + text
    Image.new("RGB", (8, 8)).save(tmp_path / f"x{ending}", exif=exif)
    assert plain_prompt(prompt_of(tmp_path / f"x{ending}") or "") == "a red dress, zarya style"


@pytest.mark.parametrize(
    "text", ["[]", "not json", '{"1": 5}', '{"3": {"class_type": "KSampler", "inputs": {"positive": ["3", 0]}}}']
)
def test_what_is_no_workflow_has_no_prompt(text: str, tmp_path: Path):
    assert prompt_of(picture(tmp_path / "x.png", prompt=text)) is None


def test_how_to_pair_is_one_of_four_and_contradicts_nothing(folders: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "pairs.csv").write_text("generated,reference\n", encoding="utf-8")
    for pair_by, file, says in (
        ("name", None, "--pair-by: 'name' is not accepted; use stem, csv, order, prompt"),
        ("csv", None, "--pair-by: csv needs a file; give it as --pairs"),
        ("order", tmp_path / "pairs.csv", "--pair-by: order contradicts --pairs; leave one of them out"),
    ):
        with pytest.raises(InputError, match=says):
            find_pairs(*folders, file, pair_by=pair_by)
