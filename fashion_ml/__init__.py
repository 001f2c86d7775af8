"""fashion_ml: fine-tune image models for fashion and know whether it worked.

What a notebook needs is here, imported when it is first used (`import fashion_ml` takes milliseconds); docs/python.md shows it at work.
What is said while work goes on goes to the logger `fashion_ml`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fashion_ml.config import load_config
    from fashion_ml.errors import InputError
    from fashion_ml.evaluation.compare import compare
    from fashion_ml.evaluation.image_pairs import evaluate_images
    from fashion_ml.evaluation.lora_file import evaluate_lora
    from fashion_ml.runs.python_api import train_lora, train_stargan

__all__ = [
    "InputError",
    "__version__",
    "compare",
    "evaluate_images",
    "evaluate_lora",
    "load_config",
    "train_lora",
    "train_stargan",
]
_WHERE = {
    "InputError": "fashion_ml.errors",
    "compare": "fashion_ml.evaluation.compare",
    "evaluate_images": "fashion_ml.evaluation.image_pairs",
    "evaluate_lora": "fashion_ml.evaluation.lora_file",
    "load_config": "fashion_ml.config",
    "train_lora": "fashion_ml.runs.python_api",
    "train_stargan": "fashion_ml.runs.python_api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("fashion-ml")
        except PackageNotFoundError:
            raise AttributeError("__version__: fashion-ml is not installed, its code runs from a folder") from None
    if name not in _WHERE:
        raise AttributeError(f"module 'fashion_ml' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
