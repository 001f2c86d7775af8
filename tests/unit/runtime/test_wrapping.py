"""Lines fit a terminal without a broken number."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from fashion_ml.runtime.wrapping import wrapped

SENTENCE = (
    "LoRA lowers weighted_total_loss by 0.041 [0.028, 0.055] (better); nearer: color_loss +0.102 (better), visual_loss -0.000"
)
CHINESE = (
    "LoRA 使 weighted_total_loss 降低 0.041 [0.028, 0.055]（較佳）；更接近：color_loss +0.102（較佳），拔靴法區間，更遠離：無。"
)


@pytest.mark.parametrize("text", [SENTENCE, CHINESE])
@pytest.mark.parametrize("width", [30, 40, 80])
def test_no_line_is_too_wide_and_nothing_is_lost_or_broken(text: str, width: int):
    lines = wrapped(text, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert not any(line[0] in "，。；：）" for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert any("[0.028, 0.055]" in line for line in lines)


@pytest.mark.parametrize("width", range(12, 40))
def test_no_line_ends_in_a_mark_that_opens_or_begins_with_one_that_closes(width: int):
    text = "指標［視覺損失］（較好、「未能證實」），見《評估》與【報告】：weighted_loss（0.041）、［[0.1, 0.2]］。" * 2
    lines = wrapped(text, width).splitlines()
    assert len(lines) > 1
    assert not [line for line in lines if line[-1] in "（「『［｛【《〈" or line[0] in "，。；：、）」』！？］｝】》〉"]
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_what_fits_stays_as_it_is():
    assert wrapped(SENTENCE, 400) == SENTENCE


def test_a_path_stays_whole_below_its_label():
    path = "/home/somebody/" + "x" * 90 + "/report.html"
    assert wrapped(f"Report    {path}", 80) == f"Report    {path}"
    said = wrapped(f"Base      of {path}", 80)
    assert said.splitlines() == ["Base      of", " " * 10 + path]


def test_lines_below_a_label_stand_under_its_text():
    first, *others = wrapped(f"Found     {SENTENCE}", 60).splitlines()
    assert first.startswith("Found     LoRA")
    assert all(line.startswith(" " * 10) and line[10] != " " for line in others)


def test_what_is_indented_goes_on_two_columns_further_in():
    assert wrapped("  6 images with a caption that others have", 24).splitlines() == [
        "  6 images with a",
        "    caption that others",
        "    have",
    ]


def test_lines_stand_below_a_label_of_any_width_that_is_said():
    head = f"ok    {'gpu':<16} "
    first, *others = wrapped(head + "no CUDA GPU is visible; the embedded default runs on the CPU", 50, label=23).splitlines()
    assert first.startswith(head + "no CUDA")
    assert others
    assert all(line.startswith(" " * 23) and line[23] != " " for line in others)
