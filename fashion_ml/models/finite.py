"""Pictures of no numbers are black ones: what a model gives is looked at before it becomes a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr

_CALLED = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "float32"}


class NotFiniteError(InputError):
    """A model gave NaN or infinity where a picture was to be made; nothing is to be measured of it."""

    in_half = False
    """Whether it computed in half precision, where float32 may help."""


@contextmanager
def refuse_nan(pipeline: Any, names: Sequence[str]) -> Iterator[None]:
    """Around a call of a pipeline for images of these names: NotFiniteError where the UNet's latents are not finite, or the VAE's pictures."""
    vae = pipeline.vae
    patched, plain = "decode" in vars(vae), vae.decode

    def decode(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        _check(z, names, "UNet", pipeline.unet.dtype, tr("its weights are no good: train with a lower optimizer.learning_rate"))
        found = plain(z, *args, **kwargs)
        _check(
            found[0] if isinstance(found, tuple) else found.sample, names, "VAE", vae.dtype, tr("give another evaluation.vae")
        )
        return found

    vae.decode = decode
    try:
        yield
    finally:
        if patched:
            vae.decode = plain
        else:
            del vae.decode


def _check(tensor: torch.Tensor, names: Sequence[str], part: str, precision: torch.dtype, otherwise: str) -> None:
    finite = tensor.isfinite().flatten(1).all(1).tolist()
    if all(finite):
        return
    called = _CALLED[precision]
    fix = {"fp16": tr("use evaluation.precision bf16 or no"), "bf16": tr("use evaluation.precision no")}.get(called, otherwise)
    error = NotFiniteError(
        tr(
            "evaluation.precision: the {part} gives NaN or infinity in {called} for {names}, which would be a "
            "black picture; {fix}",
            part=part,
            called=called,
            names=names[finite.index(False)],
            fix=fix,
        )
    )
    error.in_half = called != "float32"
    raise error
