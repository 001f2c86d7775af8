"""A module of this package as a process of its own: of the same code as the one that starts it, and never of modules that lie in the working
folder, where `python -m` would look first.

`python module_command.py MODULE ARGUMENTS...` is such a process; it needs no `python -P`, which Python 3.10 has not.
"""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module`, such as `fashion_ml.runs.warm_start`, with some arguments."""
    return [sys.executable, __file__, module, *arguments]


def _main(module: str, arguments: list[str]) -> None:
    import os

    here = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120 (pathlib would be sought in this very folder first)
    sys.path[:] = [one for one in sys.path if os.path.realpath(one) != here]  # Python puts it there for a file that it is given

    import runpy
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    package = Path(here).parent
    found = spec_from_file_location(package.name, package / "__init__.py", submodule_search_locations=[str(package)])
    assert found is not None
    assert found.loader is not None
    sys.modules[package.name] = module_from_spec(found)
    found.loader.exec_module(sys.modules[package.name])
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
