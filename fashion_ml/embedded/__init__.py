"""The embedded default: a small world of garments and the models trained on it, so that nothing needs a download."""

from pathlib import Path

EMBEDDED_DIR = Path(__file__).parent / "models"
"""The small Stable Diffusion and the small FashionCLIP inside the package."""
