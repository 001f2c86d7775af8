"""Other programs' own code, from checkouts beside the project, computes what this one does: the table of docs/readers.md.

`KOHYA`, `LYCORIS` and `FORGE` are folders of kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS and lllyasviel/stable-diffusion-webui-forge, which
holds A1111's code too; without them a reader is left out. diffusers is installed.
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
from tests.full.readers import webui

TARGETS: dict[str, Any] = {"feed_forward": True, "projections": True, "train_text_encoder": True}
FORMS = {
    "LoRA": LoraSpec(rank=4, alpha=2.0, **TARGETS),
    "LoCon": LoraSpec(rank=4, alpha=2.0, convolutions=True, conv_rank=2, conv_alpha=1.5, train_text_encoder=True),
    "rsLoRA": LoraSpec(rank=4, alpha=2.0, use_rslora=True, train_text_encoder=True),
    "PiSSA": LoraSpec(rank=4, alpha=4.0, init="pissa", train_text_encoder=True),
    "DoRA": LoraSpec(rank=4, alpha=2.0, use_dora=True, train_text_encoder=True),
    "LoHa": LoraSpec(rank=4, alpha=2.0, algo="loha", convolutions=True, **TARGETS),
    "LoKr": LoraSpec(rank=4, alpha=2.0, algo="lokr", convolutions=True, **TARGETS),
    "OFT": LoraSpec(rank=4, alpha=4.0, algo="oft", **TARGETS),
    "(IA)^3": LoraSpec(rank=4, alpha=4.0, algo="ia3", **TARGETS),
}
ALL, LYCORIS = {"kohya", "LyCORIS", "diffusers", "folder", "A1111", "Forge"}, {"LyCORIS", "A1111", "Forge"}
EXACT = {
    **dict.fromkeys(("LoRA", "LoCon", "rsLoRA", "PiSSA"), ALL),
    **dict.fromkeys(("LoHa", "LoKr"), LYCORIS),
    "DoRA": {"LyCORIS"},
    "OFT": LYCORIS - {"Forge"},
    "(IA)^3": {"A1111"},
}
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


def by_webui(read: Callable[[Path, Any, Path], None]) -> Callable[[Any, Path, Path], None]:
    def reading(pipeline: Any, file: Path, folder: Path) -> None:
        checkout = os.environ.get("FORGE")
        if not checkout:
            pytest.skip("FORGE names no checkout")
        read(Path(checkout), pipeline, file)

    return reading


READERS: dict[str, Callable[[Any, Path, Path], None]] = {
    "kohya": by_network("KOHYA", "networks.lora"),
    "LyCORIS": by_network("LYCORIS", "lycoris.kohya"),
    "diffusers": lambda pipeline, file, folder: pipeline.load_lora_weights(str(file.parent), weight_name=file.name),
    "folder": lambda pipeline, file, folder: pipeline.load_lora_weights(str(folder)),
    "A1111": by_webui(webui.a1111),
    "Forge": by_webui(webui.forge),
}


@torch.no_grad()
def said(pipeline: Any) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    noisy, text = torch.randn(1, 4, 16, 16, generator=draws), torch.randn(1, 32, 128, generator=draws)
    return pipeline.unet(noisy, torch.tensor([500]), text).sample, pipeline.text_encoder(torch.arange(32)[None] + 3)[0]


@pytest.fixture(scope="module", params=[*FORMS, *(f"{name}, fp16" for name in FORMS)])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, Any]:
    form, _, half = request.param.partition(", fp16") if request.param.endswith(", fp16") else (request.param, "", None)
    spec, folder, pipeline = FORMS[form], tmp_path_factory.mktemp("lora"), load_pipeline("embedded")
    draws = torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1).all:
        noise = torch.randn(parameter.shape, generator=draws)
        if spec.algo != "lora":
            parameter.data.add_(noise * 0.1)
        else:
            parameter.data.copy_(parameter.data * (1 + 0.05 * noise) if parameter.dim() == 1 else noise * 0.1)
    file, kind = folder / "lora.safetensors", torch.float32 if half is None else torch.float16
    save_lora(file, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {}, kind)
    if spec.algo == "lora":
        with_base(file, "embedded", {}, "diffusers", folder / "folder")
    if half is None:
        return request.param, file, folder / "folder", said(pipeline)
    ours = load_pipeline("embedded")  # fp16 rounds what was trained; measured is the file
    apply_lora(ours, file)
    moved = [float((one - other).abs().max()) for one, other in zip(said(ours), said(pipeline), strict=True)]
    sys.stderr.write(f"| {request.param} | by rounding | {moved[0]:.1e} | {moved[1]:.1e} |\n")
    return request.param, file, folder / "folder", said(ours)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_computes_what_our_own_model_does(written: tuple[str, Path, Path, Any], reader: str):
    """And where it does not, docs/readers.md does not call it exact."""
    form, file, folder, expected = written
    pipeline, most = load_pipeline("embedded"), 1e-3 if form.endswith("fp16") else 1e-5
    try:
        READERS[reader](pipeline, file, folder)
        unet, text = (float((one - other).abs().max()) for one, other in zip(said(pipeline), expected, strict=True))
        shown, exact = f"{unet:.1e} | {text:.1e}", max(unet, text) < most
    except Exception as error:  # whatever it says, it does not read this form
        shown, exact = f"not read: {type(error).__name__} {error}"[:160], False
    sys.stderr.write(f"| {form} | {reader} | {shown} |\n")
    assert exact == (reader in EXACT[form.removesuffix(", fp16")]), shown
