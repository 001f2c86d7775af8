"""The one thing here that accelerate keeps to itself, read in the code of 1.15: that a process has a precision, once and for all.

A version that has moved it fails tests/unit/training/test_accelerate_private.py, which says so.
"""

from __future__ import annotations


def forget_precision() -> None:
    """Let the next `Accelerator` of this process have another `mixed_precision`; the processes and their device stay known."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
