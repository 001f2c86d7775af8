"""CSV files that are safe to open in a spreadsheet: no cell is a formula, and reading them gives back what was written.

A spreadsheet computes a cell that begins with =, +, -, @, a tab or a carriage return, whoever wrote it: a caption, a file's name.
Such a text is written with an apostrophe before it (OWASP, "CSV injection"); one with apostrophes before such a sign gets one more.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.runtime.input_file import check_regular
from fashion_ml.runtime.language import tr

if TYPE_CHECKING:
    import pandas as pd

_FORMULA, _ESCAPED = re.compile(r"'*[=+\-@\t\r]"), re.compile(r"'+[=+\-@\t\r]")


def to_csv(table: pd.DataFrame, na_rep: str = "") -> str:
    """A table without its index as CSV; numbers stay as they are."""
    safe = table.map(_written)
    safe.columns = [_written(name) for name in table.columns]
    return str(safe.to_csv(index=False, na_rep=na_rep))


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A table that `to_csv` wrote, or others. ValueError for what is none, with two columns of a name or a row of more or fewer cells than
    the first; OSError."""
    import pandas as pd

    check_regular(path)
    _check_shape(path)
    table = pd.read_csv(path, float_precision="round_trip", **options).map(plain)
    table.columns = [plain(name) for name in table.columns]
    return table


def _check_shape(path: Path) -> None:
    """ValueError where pandas would rename a column, move cells to an index, or fill what is not there."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            doubled = [name for name, count in Counter(names).items() if count > 1]
            if doubled:
                raise ValueError(
                    tr("{name}: the first line names the column {column!r} twice", name=path.name, column=doubled[0])
                )
            for cells in reader:
                if cells and len(cells) != len(names):
                    raise ValueError(
                        tr(
                            "{name}: line {number} has {cells} cells, and the first line {names}",
                            name=path.name,
                            number=reader.line_num,
                            cells=len(cells),
                            names=len(names),
                        )
                    )
        except csv.Error as error:
            raise ValueError(
                tr("{name}: line {number}: {error}", name=path.name, number=reader.line_num, error=error)
            ) from None


def plain(cell: Any) -> Any:
    """A cell as it was before it was written."""
    return cell[1:] if isinstance(cell, str) and _ESCAPED.match(cell) else cell


def _written(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
