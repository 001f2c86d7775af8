"""Pictures to latents: on a GPU several of one size at once, read by threads while the ones before are encoded; on a CPU one by one.

A GPU rounds the last digits by how many are encoded at once, so what is encoded together is settled by all pictures that there are, in their
order, and not by what is known already: an encoding that goes on makes what it would have made. On a CPU each picture is on its own.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from PIL import Image

from fashion_ml.models.stable_diffusion import encode_latents
from fashion_ml.runtime.console import say
from fashion_ml.runtime.gpu_memory import full_memory
from fashion_ml.runtime.language import tr

_PIXELS = 4 * 512 * 512
"""Pixels that a GPU encodes at once: 4 images of 512 pixels, which an H200 does 1.4 times as fast as one by one, in float32."""
_MOST = 32
_READERS = 4
"""Threads that read pictures beside a GPU: one needs some 40 ms for a photo, as long as two are encoded in."""

Key = TypeVar("Key", bound=Hashable)


def device_of(encoder: Any) -> str:
    """Device class and precision of an encoder, such as `cuda float32`: what decides the last digits of what it makes."""
    parameter = next(encoder.parameters())
    return f"{parameter.device.type} {str(parameter.dtype).removeprefix('torch.')}"


def kind_of_device(encoder: Any) -> dict[str, str]:
    """The same for the keys of what it makes; of float32 on a CPU nothing, as ever."""
    found = device_of(encoder)
    return {} if found == "cpu float32" else {"device": found}


def encode_pictures(
    vae: Any,
    pictures: Sequence[Key],
    sizes: Sequence[tuple[int, int]],
    wanted: Collection[Key],
    read: Callable[[Key], Image.Image],
) -> Iterator[tuple[Key, torch.Tensor, torch.Tensor]]:
    """Each wanted picture with mean and standard deviation of its *unscaled* latents, (4, h, w) each, float32, on the CPU.

    `pictures` are all that belong together, by what `read` knows them by, and `sizes` their widths and heights. On a GPU half as many at once
    where they do not fit, which is said.
    """
    on_gpu = vae.device.type == "cuda"
    groups = [group for group in _groups(pictures, sizes, on_gpu=on_gpu) if any(key in wanted for key in group)]
    threads = min(_READERS, os.cpu_count() or 1) if on_gpu else 0
    most = _MOST
    for group, found in _read_ahead(groups, read, threads):
        first = 0
        while first < len(group):
            some = slice(first, first + most)
            try:
                means, deviations = encode_latents(SimpleNamespace(vae=vae), [found[some]])
            except (RuntimeError, MemoryError) as error:
                where = full_memory(error)
                if where is None or len(found[some]) == 1:
                    raise
                most = len(found[some]) // 2
                say(
                    tr(
                        "{value} images at once do not fit into {where}; {most} are encoded at once from here",
                        value=2 * most,
                        where=where,
                        most=most,
                    )
                )
                _give_back()
                continue
            for key, mean, deviation in zip(group[some], means, deviations, strict=True):
                if key in wanted:
                    yield key, mean.clone(), deviation.clone()
            first += most


def _groups(pictures: Sequence[Key], sizes: Sequence[tuple[int, int]], *, on_gpu: bool) -> list[list[Key]]:
    """What is encoded together: pictures of one size, in their order."""
    by_size: dict[tuple[int, int], list[Key]] = {}
    for key, size in zip(pictures, sizes, strict=True):
        by_size.setdefault(size, []).append(key)
    found = []
    for (width, height), some in by_size.items():
        count = max(1, min(_MOST, _PIXELS // (width * height))) if on_gpu else 1
        found += [some[first : first + count] for first in range(0, len(some), count)]
    return found


def _read_ahead(
    groups: Sequence[list[Key]], read: Callable[[Key], Image.Image], threads: int
) -> Iterator[tuple[list[Key], list[Image.Image]]]:
    """The groups with their pictures; with threads the next two are read meanwhile."""
    if not threads:
        for group in groups:
            yield group, [read(key) for key in group]
        return
    coming: deque[tuple[list[Key], list[Future[Image.Image]]]] = deque()
    with ThreadPoolExecutor(threads, "read pictures") as pool:
        try:
            for group in groups:
                coming.append((group, [pool.submit(read, key) for key in group]))
                if len(coming) > 2:
                    yield _taken(coming)
            while coming:
                yield _taken(coming)
        finally:
            pool.shutdown(cancel_futures=True)


def _taken(coming: deque[tuple[list[Key], list[Future[Image.Image]]]]) -> tuple[list[Key], list[Image.Image]]:
    group, pictures = coming.popleft()
    return group, [one.result() for one in pictures]


def _give_back() -> None:
    gc.collect()  # the failed call's tensors
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
