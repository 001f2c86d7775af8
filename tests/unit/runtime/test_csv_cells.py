"""No cell of a CSV is a formula, and what is read is what was written."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

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
