"""`python -m benchmarks.importing MODULES`: import modules, named between commas, and nothing else, make the file `done`, and wait to be ended.

At its end by itself a process would touch its libraries once more: a hundred MiB of CUDA's.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        import_module(name)
    time.sleep(0.1)  # so that its memory is seen
    Path("done").touch()
    time.sleep(60)
