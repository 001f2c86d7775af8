"""`import fashion_ml as fm`: what is there, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import fashion_ml as fm


def test_everything_that_is_promised_is_there_and_says_what_it_does():
    for name in fm.__all__:
        assert getattr(fm, name).__doc__ or name == "__version__", name
    assert fm.__version__ == version("fashion-ml")
    assert set(fm.__all__) <= set(dir(fm))
    assert not hasattr(fm, "nothing_of_that_name")


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, fashion_ml; print({'torch', 'mlflow', 'pydantic', 'numpy', 'typer', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "set()"
