"""What the doctor finds, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `fix` says what to do where it is not ok."""

    name: str
    state: Literal["ok", "note", "wrong"]
    found: str
    fix: str = ""
