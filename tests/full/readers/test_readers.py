"""Other programs' own code, from checkouts beside the project, computes what this one does: the table of docs/readers.md.

`KOHYA` and `LYCORIS` are folders of kohya-ss/sd-scripts and KohakuBlueleaf/LyCORIS; without them a reader is left out. diffusers is installed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.deploy.export import with_base
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline

FORMS = {
    "LoRA": LoraSpec(rank=4, alpha=2.0, feed_forward=True, projections=True, train_text_encoder=True),
    "LoCon": LoraSpec(rank=4, alpha=2.0, convolutions=True, conv_rank=2, conv_alpha=1.5, train_text_encoder=True),
    "rsLoRA": LoraSpec(rank=4, alpha=2.0, use_rslora=True, train_text_encoder=True),
    "DoRA": LoraSpec(rank=4, alpha=2.0, use_dora=True, train_text_encoder=True),
}
EXACT = {
    ("LoRA", "kohya"), ("LoRA", "LyCORIS"), ("LoRA", "diffusers"), ("LoRA", "folder"),
    ("LoCon", "kohya"), ("LoCon", "LyCORIS"), ("LoCon", "diffusers"), ("LoCon", "folder"),
    ("rsLoRA", "kohya"), ("rsLoRA", "LyCORIS"), ("rsLoRA", "diffusers"), ("rsLoRA", "folder"),
    ("DoRA", "LyCORIS"),
}  # fmt: skip
"""What docs/readers.md calls exact; the others are said to the user when they are made."""


class Named(torch.nn.Module):
    """A text encoder under the name that these programs know, which transformers 5 leaves out."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.text_model = getattr(encoder, "text_model", encoder)


def checkout(variable: str, module: str) -> Any:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no checkout")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)


def by_network(variable: str, module: str) -> Callable[[Any, Path, Path], None]:
    def read(pipeline: Any, file: Path, folder: Path) -> None:
        own, text, tensors = checkout(variable, module), Named(pipeline.text_encoder), load_file(file)
        network, weights = own.create_network_from_weights(
            1.0, str(file), None, text, pipeline.unet, weights_sd=tensors, for_inference=True
        )
        network.merge_to(text, pipeline.unet, weights, torch.float32, "cpu")

    return read


READERS: dict[str, Callable[[Any, Path, Path], None]] = {
    "kohya": by_network("KOHYA", "networks.lora"),
    "LyCORIS": by_network("LYCORIS", "lycoris.kohya"),
    "diffusers": lambda pipeline, file, folder: pipeline.load_lora_weights(str(file.parent), weight_name=file.name),
    "folder": lambda pipeline, file, folder: pipeline.load_lora_weights(str(folder)),
}


@torch.no_grad()
def said(pipeline: Any) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    noisy, text = torch.randn(1, 4, 16, 16, generator=draws), torch.randn(1, 32, 128, generator=draws)
    return pipeline.unet(noisy, torch.tensor([500]), text).sample, pipeline.text_encoder(torch.arange(32)[None] + 3)[0]


@pytest.fixture(scope="module", params=list(FORMS))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, Any]:
    spec, folder, pipeline = FORMS[request.param], tmp_path_factory.mktemp("lora"), load_pipeline("embedded")
    draws = torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1).all:
        noise = torch.randn(parameter.shape, generator=draws)
        parameter.data.copy_(parameter.data * (1 + 0.05 * noise) if parameter.dim() == 1 else noise * 0.1)
    file = folder / "lora.safetensors"
    save_lora(file, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {})
    with_base(file, "embedded", {}, "diffusers", folder / "folder")
    ours = load_pipeline("embedded")
    apply_lora(ours, file)
    return request.param, file, folder / "folder", said(ours)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_computes_what_our_own_model_does(written: tuple[str, Path, Path, Any], reader: str):
    form, file, folder, expected = written
    pipeline = load_pipeline("embedded")
    READERS[reader](pipeline, file, folder)
    unet, text = (float((one - other).abs().max()) for one, other in zip(said(pipeline), expected, strict=True))
    sys.stderr.write(f"| {form} | {reader} | {unet:.1e} | {text:.1e} |\n")
    assert (max(unet, text) < 1e-5) == ((form, reader) in EXACT), (unet, text)
