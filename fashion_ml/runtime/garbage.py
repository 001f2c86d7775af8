"""How often Python looks for garbage in the process of a command: seldom while libraries are imported, for they are none.

With Python's own 700 new objects between two looks the imports of a training spend a third of their time on it, with 20,000 an eighth.
"""

from __future__ import annotations

import gc

_IMPORTING, _WORKING = (200_000, 50, 10), (20_000, 10, 10)


def while_importing() -> None:
    """From now on seldom; for a process that is a command's, not for a program that imports this package."""
    gc.set_threshold(*_IMPORTING)


def while_working() -> None:
    """From now on as often as work with large tensors wants it, for garbage may hold them; nothing where `while_importing` was not called."""
    if gc.get_threshold() == _IMPORTING:
        gc.set_threshold(*_WORKING)
