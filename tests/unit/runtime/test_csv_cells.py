"""No cell of a CSV is a formula, and what is read is what was written."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from fashion_ml.runtime.csv_cells import read_csv, to_csv

TEXTS = ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(A1)", "\tx", "'=1", "''+2", "'tis a dress", "a dress, red", "", "N/A", "-0.5"]


def test_no_cell_begins_a_formula_and_numbers_stay(tmp_path: Path):
    table = pd.DataFrame({"=caption": TEXTS, "gain": [-0.5] * len(TEXTS)})
    path = tmp_path / "a.csv"
    path.write_text(to_csv(table), encoding="utf-8")
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    assert not [row[0] for row in rows if row[0][:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert {row[1] for row in rows[1:]} == {"-0.5"}


def test_what_is_read_is_what_was_written(tmp_path: Path):
    table = pd.DataFrame({"=caption": TEXTS, "gain": [-0.5] * len(TEXTS)})
    (tmp_path / "a.csv").write_text(to_csv(table), encoding="utf-8")
    found = read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(found["=caption"]) == TEXTS
    assert list(found["gain"]) == [-0.5] * len(TEXTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,a\n1,2,3\n", "names the column 'a' twice"),
        ("a,b\n1,2,3\n4,5,6\n", "line 2 has 3 cells, and the first line 2"),  # pandas makes the first column an index
        ("a,b\n1,2\n1\n", "line 3 has 1 cells, and the first line 2"),
        ('a,b\n1,"2\n', "unexpected end of data"),
    ],
)
def test_a_table_of_another_shape_is_none(tmp_path: Path, text: str, said: str):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_csv(tmp_path / "a.csv")


def test_a_table_with_lines_within_a_cell_and_of_one_empty_column_is_read(tmp_path: Path):
    for table in (
        pd.DataFrame({"a": ["x\ny", "z"], "b": [1, 2]}),
        pd.DataFrame({"a": ["", "x"]}),
        pd.DataFrame({"a": [1]})[:0],
    ):
        (tmp_path / "a.csv").write_text(to_csv(table), encoding="utf-8")
        assert read_csv(tmp_path / "a.csv", keep_default_na=False).to_dict("list") == table.to_dict("list")
