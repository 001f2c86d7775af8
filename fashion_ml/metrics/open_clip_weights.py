"""open_clip's models with every weight from its file, and the tokenizer that belongs to them: of a folder, a hub id, or a weights file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import tr
from fashion_ml.runtime.loaded_weights import check_finite, fill, unwrapped
from fashion_ml.runtime.weight_files import find_weights, read_tensors

_STEMS = ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
_CONVERTED = (".npz", ".npy")
"""What open_clip reads by a code of its own."""
_PADDING = 128
"""By how much vocabulary and embedding may differ: some are padded, others count tokens that are never used."""


def load_open_clip(source: str, file: Path | None, what: str) -> Any:
    """The model of `local-dir:FOLDER`, `hf-hub:ID`, or an architecture with the weights of `file`; float32, on the CPU. `what` begins messages.

    InputError when a weight is missing, unknown, of another shape, NaN or Inf: open_clip would resize some and draw others at random.
    """
    import open_clip

    path = _weights_of(source, what) if file is None else file
    if path.suffix.lower() in _CONVERTED:
        model = open_clip.create_model(source, pretrained=str(path) if file else None, require_pretrained=True)
        check_finite(model.state_dict(), what)
        return model
    tensors = {unwrapped(name): tensor for name, tensor in read_tensors(path, what.partition(":")[0]).items()}
    with _quiet():
        model = open_clip.create_model(source, load_weights=False, pretrained_text=False)
    fill(model, _as_the_model_names_them(model, tensors), what)
    return model.float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warning that the weights are random: here they are until they are filled."""
    root, nothing = logging.getLogger(), lambda record: False
    root.addFilter(nothing)
    try:
        yield
    finally:
        root.removeFilter(nothing)


def _weights_of(source: str, what: str) -> Path:
    from open_clip.pretrained import download_pretrained_from_hf

    if source.startswith("hf-hub:"):
        return Path(download_pretrained_from_hf(source.removeprefix("hf-hub:")))
    folder = Path(source.removeprefix("local-dir:"))
    return next(iter(find_weights(folder, _STEMS, what.partition(":")[0]).paths))


def _as_the_model_names_them(model: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Older and foreign spellings that open_clip knows, as it reads them."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    bias = getattr(model, "logit_bias", None)
    if bias is not None and "logit_bias" not in tensors:  # a model without one, for a loss that has it
        tensors = {**tensors, "logit_bias": torch.zeros_like(bias)}
    if bias is None:
        tensors.pop("logit_bias", None)
    return tensors


def check_tokenizer(tokenizer: Any, model: Any, what: str) -> None:
    """InputError when a tokenizer's vocabulary is not that of the model's token embedding, or makes tokens that it does not have."""
    embedding = getattr(getattr(model, "text", model), "token_embedding", None)
    if embedding is None:  # a text tower of transformers, whose tokenizer is its own
        return
    rows = embedding.weight.shape[0]
    inner = getattr(tokenizer, "tokenizer", None)
    words = len(inner) if inner is not None else int(getattr(tokenizer, "vocab_size", rows))
    if abs(words - rows) >= _PADDING or int(tokenizer(["a red dress"]).max()) >= rows:
        raise InputError(
            tr(
                "{what} has a tokenizer of {words} tokens and a text encoder of {rows}: it is another model's; give "
                "the one of this encoder",
                what=what,
                words=words,
                rows=rows,
            )
        )
