"""Tensors kept under the hash of what they were made from: in memory, and in a folder that many trainings share.

A key covers everything that decides the value, so nothing is ever stale: an edited image has another key. A file is written
under a temporary name and renamed, so that a crash leaves no half one, and two trainings that make the same one at once agree.

In memory an entry is what its file holds, as bytes: tensors kept one by one between the large ones of an encoder cut the heap into pieces,
which cost 100 kB for each image of 64 pixels instead of 8.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

import torch

from fashion_ml.runtime.atomic_files import atomic_path

Tensors = dict[str, torch.Tensor]


def key_of(**parts: object) -> str:
    """A key, 64 hex digits, of everything that decides a cached value: names and values in the order of their names."""
    text = "\n".join(f"{name}={parts[name]}" for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest()


class TensorCache:
    """Get and put small groups of tensors by key; with `memory_bytes` the least recently used leave memory when that is passed.

    What left memory comes back from the folder; without one it has to be made again. Several threads may ask at once.
    """

    def __init__(self, folder: Path | None = None, memory_bytes: int | None = None):
        self.folder, self._limit, self._held = folder, memory_bytes, 0
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._changing = Lock()

    def get(self, key: str) -> Tensors | None:
        """The tensors of a key, on the CPU, or None when it was never put or its file is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        content = self._memory.get(key) or self._read(key)
        if content is None:
            return None
        try:
            tensors = load(content)
        except (SafetensorError, ValueError):
            with suppress(OSError):  # damaged: made again by whoever asked
                self._path(key).unlink(missing_ok=True)
            return None
        self._remember(key, content)
        return tensors

    def put(self, key: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        """Keep tensors; returns them as `get` will. InputError when the disk is full."""
        from safetensors.torch import save

        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = save(kept)
        if self.folder is not None and not self._path(key).exists():
            with atomic_path(self._path(key), field="data.cache_dir", sync=False) as temporary:
                temporary.write_bytes(content)
        self._remember(key, content)
        return kept

    def __contains__(self, key: str) -> bool:
        return key in self._memory or (self.folder is not None and self._path(key).is_file())

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            return self._path(key).read_bytes()
        except OSError:
            return None

    def _remember(self, key: str, content: bytes) -> None:
        with self._changing:
            if key not in self._memory:
                self._held += len(content)
            self._memory[key] = content
            self._memory.move_to_end(key)
            while self._limit is not None and self._held > self._limit and len(self._memory) > 1:
                _, dropped = self._memory.popitem(last=False)
                self._held -= len(dropped)
