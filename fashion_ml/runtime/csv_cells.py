"""CSV files that are safe to open in a spreadsheet: no cell is a formula, and reading them gives back what was written.

A spreadsheet computes a cell that begins with =, +, -, @, a tab or a carriage return, whoever wrote it: a caption, a file's name.
Such a text is written with an apostrophe before it (OWASP, "CSV injection"); one with apostrophes before such a sign gets one more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion_ml.runtime.input_file import check_regular

if TYPE_CHECKING:
    import pandas as pd

_FORMULA, _ESCAPED = re.compile(r"'*[=+\-@\t\r]"), re.compile(r"'+[=+\-@\t\r]")


def to_csv(table: pd.DataFrame, na_rep: str = "") -> str:
    """A table without its index as CSV; numbers stay as they are."""
    safe = table.map(_written)
    safe.columns = [_written(name) for name in table.columns]
    return str(safe.to_csv(index=False, na_rep=na_rep))


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A table that `to_csv` wrote, or others. ValueError for what is none, OSError."""
    import pandas as pd

    check_regular(path)
    table = pd.read_csv(path, float_precision="round_trip", **options).map(plain)
    table.columns = [plain(name) for name in table.columns]
    return table


def plain(cell: Any) -> Any:
    """A cell as it was before it was written."""
    return cell[1:] if isinstance(cell, str) and _ESCAPED.match(cell) else cell


def _written(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
