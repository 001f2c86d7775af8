"""Tables fit a terminal, and no number is ever broken."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from fashion_ml.runtime.columns import column_lines

HEADS = ["24 references", "base", "LoRA", "gain (95 % interval)", ""]
ROWS = [
    ["weighted_total_loss", "0.412 [0.380, 0.446]", "0.381 [0.350, 0.410]", "+0.031 [+0.010, +0.054]", "better"],
    ["visual_loss", "0.700 [0.600, 0.800]", "0.710 [0.610, 0.810]", "-0.010 [-0.020, +0.010]", "not shown"],
]
PARTS = {part for row in ROWS for cell in row for part in re.findall(r"\[[^\]]*\]|[^\s\[\]]+(?![^\[]*\])", cell)}


def parts_of(lines: list[str]) -> set[str]:
    return set(re.findall(r"\[[^\]]*\]|[^\s\[\]]+(?![^\[]*\])", "\n".join(lines)))


def test_without_a_width_every_row_is_one_line():
    lines = column_lines(HEADS, ROWS, None)
    assert len(lines) == 3
    assert lines[1].split("  ")[0] == "weighted_total_loss"
    assert lines[1].endswith("+0.031 [+0.010, +0.054]     better")


@pytest.mark.parametrize("width", [40, 50, 60, 80, 100, 120])
def test_a_table_fits_and_no_number_or_interval_is_broken(width: int):
    lines = column_lines(HEADS, ROWS, width)
    assert max(map(cell_len, lines)) <= width
    assert parts_of(lines) >= PARTS - {"not", "shown"}


def test_at_80_columns_the_interval_stands_below_its_number():
    lines = column_lines(HEADS, ROWS, 80)
    numbers = next(line for line in lines if line.startswith("weighted_total_loss"))
    assert numbers.split()[1:] == ["0.412", "0.381", "+0.031", "better"]
    below = lines[lines.index(numbers) + 1]
    assert below.split("  ")[-1].strip() == "[+0.010, +0.054]"
    # right under the last digit of the number that it is of
    assert below.index("[0.380, 0.446]") + len("[0.380, 0.446]") == numbers.index("0.412") + len("0.412")


def test_columns_that_do_not_fit_go_below_with_the_first_one_again():
    lines = column_lines(HEADS, ROWS, 40)
    assert [line.split()[0] for line in lines if line.startswith("visual_loss")] == ["visual_loss"] * lines.count("") + [
        "visual_loss"
    ]
    assert lines.count("") >= 1


def test_words_at_the_left_break_between_words():
    lines = column_lines(["run", "n"], [["a very long name of a training indeed", "1"]], 20)
    assert max(map(cell_len, lines)) <= 20
    assert " ".join(" ".join(line.replace(" 1", "").split()) for line in lines[1:]) == "a very long name of a training indeed"


def test_chinese_counts_two_columns_a_character():
    lines = column_lines(["指標", "值"], [["加權總損失", "0.41"], ["a", "0.5"]], 80)
    assert {cell_len(line) for line in lines} == {16}


def test_what_is_wider_than_all_stays_whole():
    assert "x" * 30 in "\n".join(column_lines(["a", "b"], [["x" * 30, "1"]], 20))


def test_a_name_of_wide_characters_alone_breaks_between_them_and_the_table_stays_one():
    name, row = "紅色格紋羊毛大衣與白襯衫的連續三十天街拍風格訓練集第二次重新標註後的版本", "+0.031 [+0.010, +0.054]"
    lines = column_lines(["run", "name", "gain (95 % interval)", "verdict"], [["01234567", name, row, "未能證實"]], 80, left=2)
    assert max(map(cell_len, lines)) <= 80
    assert "" not in lines
    assert name in "".join(re.findall(r"[\u4e00-\u9fff]+", "".join(lines).replace("未能證實", "")))
    assert "未能證實" in "\n".join(lines)


def test_words_in_brackets_are_not_torn_apart():
    for head in ("gain (95 % interval)", "增益（95 % 區間）"):
        bracket = head[head.index("(") :] if "(" in head else head
        for width in range(24, 60):
            assert bracket in "\n".join(column_lines(["run", head, "n"], [["a long name of a run", "+0.031", "1"]], width)), (
                width
            )
