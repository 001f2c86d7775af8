"""The libraries whose versions decide what comes out."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "diffusers", "peft", "accelerate", "transformers", "mlflow", "open_clip_torch", "scikit-image", "numpy")


def installed_versions() -> dict[str, str]:
    """Version of Python and of each of the PACKAGES that is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
