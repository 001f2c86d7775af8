"""Tensors kept under the hash of what they were made from: in memory, and in a folder that many trainings share.

A key covers everything that decides the value, so nothing is ever stale: an edited image has another key. A file is written
under a temporary name and renamed, so that a crash leaves no half one, and two trainings that make the same one at once agree.

In memory an entry is what its file holds, as bytes, which tensors are read from without a copy: tensors kept one by one between the large
ones of an encoder cut the heap into pieces, which cost 100 kB for each image of 64 pixels instead of 8.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from math import prod
from pathlib import Path
from threading import Lock

import torch

from fashion_ml.runtime.atomic_files import atomic_path
from fashion_ml.runtime.input_file import read_whole

Tensors = dict[str, torch.Tensor]
_VIEWS = 4096
"""Entries whose tensors are kept beside their bytes, some 2 kB each."""


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
        self._memory: OrderedDict[str, bytearray] = OrderedDict()
        self._views: dict[str, Tensors] = {}
        self._changing = Lock()

    def get(self, key: str) -> Tensors | None:
        """The tensors of a key, on the CPU; None when it was never put or its file is damaged. They are the cache's own, not to be changed."""
        found = self._views.get(key)
        if found is not None and self._limit is None:
            return found
        content = self._memory.get(key)
        if content is None:
            content, found = self._read(key), None
        if content is None:
            return None
        self._remember(key, content)
        return found or self._view(key, content)

    def put(self, key: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
        """Keep tensors; returns them as `get` will. InputError when the disk is full."""
        from safetensors.torch import save

        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        content = bytearray(save(kept))
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

    def _read(self, key: str) -> bytearray | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        if self.folder is None:
            return None
        try:
            content = read_whole(self._path(key))
            load(content)
        except (SafetensorError, ValueError):
            with suppress(OSError):  # damaged: made again by whoever asked
                self._path(key).unlink(missing_ok=True)
            return None
        except OSError:
            return None
        return bytearray(content)

    def _view(self, key: str, content: bytearray) -> Tensors:
        """The tensors of an entry, kept where entries are few; of many they take more memory than a look at the bytes is worth."""
        found = _tensors(content)
        with self._changing:
            if len(self._views) < _VIEWS and self._memory.get(key) is content:
                self._views[key] = found
        return found

    def _remember(self, key: str, content: bytearray) -> None:
        with self._changing:
            if key not in self._memory:
                self._held += len(content)
            self._memory[key] = content
            self._memory.move_to_end(key)
            while self._limit is not None and self._held > self._limit and len(self._memory) > 1:
                oldest, dropped = self._memory.popitem(last=False)
                self._views.pop(oldest, None)
                self._held -= len(dropped)


_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
"""The types by their names in the format."""


def _tensors(content: bytearray) -> Tensors:
    """The tensors of a safetensors file that is known to be whole; those of these types lie in `content` itself."""
    start = 8 + int.from_bytes(content[:8], "little")
    layout = _layout(bytes(content[8:start]))
    if layout is None:
        from safetensors.torch import load

        return load(bytes(content))
    return {
        name: torch.frombuffer(content, dtype=dtype, count=prod(shape), offset=start + offset).view(shape)
        for name, dtype, shape, offset in layout
    }


@lru_cache(256)  # entries of one size have one header
def _layout(header: bytes) -> list[tuple[str, torch.dtype, tuple[int, ...], int]] | None:
    """Name, type, shape and place of each tensor of a file; None where one is empty or of another type."""
    entries = {name: one for name, one in json.loads(header).items() if name != "__metadata__"}
    if any(one["dtype"] not in _TYPES or 0 in one["shape"] for one in entries.values()):
        return None
    return [(name, _TYPES[one["dtype"]], tuple(one["shape"]), one["data_offsets"][0]) for name, one in entries.items()]
