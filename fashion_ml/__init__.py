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

__all__ = ["InputError", "__version__", "load_config"]
_WHERE = {
    "InputError": "fashion_ml.errors",
    "load_config": "fashion_ml.config",
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
