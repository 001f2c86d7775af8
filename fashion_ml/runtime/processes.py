"""What several processes of one training agree on, over their CPUs: no device waits for it, and waiting costs no device anything.

torch.distributed's group of GPUs (NCCL) waits by a kernel that keeps the GPU busy, and what it says has to be fetched from there. So flags and
waits go through a second group, of CPUs (gloo), which is made when it is first needed; all processes must come to the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

LONGEST_WAIT = timedelta(days=1)
"""How long processes wait for one that encodes, evaluates or draws, before it counts as dead."""


class InAnyProcess:
    """Whether `flag()` is true in any of an accelerator's processes, which hear it while the next step computes.

    What several processes hear is what they told each other the time before, the same in all of them; one process alone hears what is so now.
    """

    def __init__(self, flag: Callable[[], bool], accelerator: Any = None):
        self._flag, self._several = flag, accelerator is not None and accelerator.num_processes > 1
        self._told: Any = None
        self._sending: Any = None

    def tell(self) -> None:
        """Say to the other processes what is so in this one; nothing waits."""
        if not self._several:
            return
        import torch
        from torch import distributed

        self.heard()  # one message at a time
        self._told = torch.tensor(float(self._flag()))
        self._sending = distributed.all_reduce(self._told, group=_cpus(), async_op=True)

    def heard(self) -> bool:
        """Whether any process had the flag when all of them last told; False before that."""
        if not self._several:
            return self._flag()
        if self._sending is not None:
            self._sending.wait()
            self._sending = None
        return self._told is not None and bool(self._told)


def wait_for_all(accelerator: Any, *, wanted: bool = True) -> None:
    """Wait until all processes are here, where that is `wanted`."""
    if wanted and accelerator.num_processes > 1:
        from torch import distributed

        distributed.barrier(group=_cpus())


@contextmanager
def main_process_first(accelerator: Any) -> Iterator[None]:
    """The block is run by the main process, and then by the others at once, which find what it has kept."""
    if not accelerator.is_main_process:
        wait_for_all(accelerator)
    yield
    if accelerator.is_main_process:
        wait_for_all(accelerator)


@lru_cache(maxsize=1)
def _cpus() -> Any:
    from torch import distributed

    return distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
