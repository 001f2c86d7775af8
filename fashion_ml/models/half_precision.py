"""Generating in half precision: UNet and VAE alone compute in it, the sampler's arithmetic and the text encoder stay float32.

So images have the initial noise that they have in float32, to the last bit, and no step of the sampler is rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from fashion_ml.models.stable_diffusion import quiet_libraries
from fashion_ml.runtime.console import warn
from fashion_ml.runtime.gpu_memory import without_visitors
from fashion_ml.runtime.language import tr

_LOWERED = "_computes_in_half"
_ALONE = "_decodes_alone"
_TIMESTEP = (1, "timestep")
"""Where the UNets of all families take it."""


def lower_pipeline(pipeline: Any, device: torch.device | str, dtype: torch.dtype) -> None:
    """Move a pipeline to the device and let its UNet, with the LoRA on it, and its VAE compute in `dtype`; again after another LoRA.

    float32 moves it and changes nothing else. With float16 the VAE stays float32, for Stable Diffusion's overflows in it; while that decodes
    no encoder that measures is on the GPU, which is 0.4 GiB less at the peak.
    """
    with quiet_libraries():
        if dtype != torch.float32:
            pipeline.unet.to(dtype)
        pipeline.to(device)
    if dtype == torch.float32:
        return
    if not hasattr(pipeline.unet, _LOWERED):
        pipeline.unet.register_forward_pre_hook(_lowered, with_kwargs=True)
        pipeline.unet.register_forward_hook(_raised)
        setattr(pipeline.unet, _LOWERED, True)
    if dtype == torch.float16:
        _decode_alone(pipeline.vae)
    lower_vae(pipeline.vae, dtype)


def _lowered(unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the UNet is given, in its precision, but for the timestep: bf16 makes 999 of some samplers 1000."""

    def lower(place: int | str, one: Any) -> Any:
        floating = isinstance(one, torch.Tensor) and one.is_floating_point()
        return one.to(unet.dtype) if floating and place not in _TIMESTEP else one

    return tuple(lower(*one) for one in enumerate(args)), {name: lower(name, one) for name, one in kwargs.items()}


def _raised(unet: Any, args: tuple[Any, ...], output: Any) -> Any:
    """What the UNet gives, in float32."""
    if isinstance(output, tuple):
        return (output[0].float(), *output[1:])
    output.sample = output.sample.float()
    return output


def _decode_alone(vae: Any) -> None:
    """Let the models that measure leave the GPU while the VAE decodes; once is enough."""
    plain = vae.decode
    if hasattr(vae, _ALONE):
        return

    def decode(*args: Any, **kwargs: Any) -> Any:
        with without_visitors():
            return plain(*args, **kwargs)

    vae.decode = decode
    setattr(vae, _ALONE, True)


def lower_vae(vae: Any, dtype: torch.dtype) -> None:
    """Let a VAE decode in bfloat16; it takes and gives float32.

    Pictures that are not finite are decoded again in float32, each by itself with the weights that bf16 has, so that none depends on which
    came before it; that is said once. Nothing for other precisions, and once is enough.
    """
    if dtype != torch.bfloat16 or hasattr(vae, _LOWERED):
        return
    with quiet_libraries():
        vae.to(dtype)
    plain, said = vae.decode, list[int]()

    def decode(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        found = plain(z.to(dtype), *args, **kwargs)
        sample = (found[0] if isinstance(found, tuple) else found.sample).float()
        for row in (~sample.flatten(1).isfinite().all(1)).nonzero().flatten().tolist():
            if not said:
                said.append(row)
                warn(tr("evaluation.precision: the VAE overflows in bf16; what does is decoded again in float32"))
            try:
                vae.float()
                again = plain(z[row : row + 1].float(), *args, **kwargs)
            finally:  # also where that does not fit, and a smaller batch is tried
                with quiet_libraries():
                    vae.to(dtype)
            sample[row] = (again[0] if isinstance(again, tuple) else again.sample)[0]
        if isinstance(found, tuple):
            return (sample, *found[1:])
        found.sample = sample
        return found

    vae.decode = decode
    setattr(vae, _LOWERED, True)


@contextmanager
def as_evaluated(pipeline: Any, autocast: Callable[[], AbstractContextManager[Any]], dtype: torch.dtype) -> Iterator[None]:
    """Inside the block a pipeline that trains makes images as an evaluation in `dtype` would: its UNet alone computes in what it trains in,
    under `autocast`, and its VAE in bfloat16 where that is `dtype`, else in float32. Its own VAE, which encodes, stays as it is."""
    unet, vae = pipeline.unet, pipeline.vae
    patched, plain = "forward" in vars(unet), unet.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _lowered(unet, args, kwargs)
        with autocast():
            found = plain(*args, **kwargs)
        return _raised(unet, args, found)

    unet.forward = forward
    if dtype == torch.bfloat16:
        left_out = {id(one): torch.nn.Identity() for one in (vae.encoder, vae.quant_conv) if one is not None}
        pipeline.vae = copy.deepcopy(vae, left_out)
        lower_vae(pipeline.vae, dtype)
    try:
        yield
    finally:
        pipeline.vae = vae
        if patched:
            unet.forward = plain
        else:
            del unet.forward


def decode_one_by_one(vae: Any) -> None:
    """Let a pipeline's VAE decode one image of a batch after the other where it is on a GPU: at 512 pixels four at once take 4 GiB.

    Always so, not by the memory that is free, for kernels round by the batch's size. On a CPU nothing changes.
    """
    if vae.device.type == "cuda":
        vae.enable_slicing()
