"""`python -m benchmarks.importing MODULES`: import modules, named between commas, and nothing else, and stay until one sees what they take."""

from __future__ import annotations

import sys
import time
from importlib import import_module

if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        import_module(name)
    time.sleep(0.2)
