"""YAML files that settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fashion_ml.errors import InputError
from fashion_ml.runtime.redact import first_line


def read_yaml(path: Path, field: str, give: str) -> tuple[bytes, Any]:
    """The bytes of a file and what is in it. InputError, naming the setting `field` and what to `give`, when it cannot be read."""
    try:
        content = path.read_bytes()
        return content, yaml.safe_load(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{field}: {str(path)!r} cannot be read ({first_line(error)}); give {give}") from None
