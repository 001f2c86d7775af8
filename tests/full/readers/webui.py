"""How A1111's and Forge's own code (which is ComfyUI's) reads a LoRA file, from a checkout of lllyasviel/stable-diffusion-webui-forge.

Their code computes the new weight of a module from the file's tensors; which module a name means is found by this project's base. What they
import of the rest of their programs is a few names that do nothing here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

KINDS = ("lora", "hada", "ia3", "lokr", "oft", "full", "norm", "glora")
"""A1111's, in the order in which it asks them."""


@contextmanager
def importing(*folders: Path, **stubs: Any) -> Iterator[None]:
    """Inside it modules of these folders, and empty ones with such contents, can be imported; afterwards all are forgotten again."""
    before, path = set(sys.modules), list(sys.path)
    sys.path[:0] = map(str, folders)
    for name, content in stubs.items():
        module = ModuleType(name.replace("__", "."))
        vars(module).update(content)
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            del sys.modules[name]


def modules_of(pipeline: Any) -> dict[str, Any]:
    """The layers of a pipeline by their names in kohya's files."""
    parts = (("lora_unet_", pipeline.unet), ("lora_te_", pipeline.text_encoder))
    found = {prefix + name.replace(".", "_"): one for prefix, part in parts for name, one in part.named_modules()}
    short = {  # transformers 5 leaves the outer name out
        name.replace("lora_te_", "lora_te_text_model_", 1): one for name, one in found.items() if name.startswith("lora_te_enc")
    }
    return {name: one for name, one in (found | short).items() if getattr(one, "weight", None) is not None}


@torch.no_grad()
def a1111(folder: Path, pipeline: Any, file: Path) -> None:
    """Change the pipeline's weights as A1111's `Lora` extension does."""
    collection, weights = folder / "packages_3rdparty" / "webui_lora_collection", dict[str, dict[str, torch.Tensor]]()
    for name, tensor in load_file(file).items():
        module, _, part = name.partition(".")
        weights.setdefault(module, {})[part] = tensor
    mmdit = SimpleNamespace(QkvLinear=type("QkvLinear", (), {}))
    inner = {"sd_models": None, "cache": None, "errors": None, "hashes": None, "shared": None}
    places = SimpleNamespace(cpu=torch.device("cpu"), device=torch.device("cpu"), dtype=torch.float32)
    sd3 = SimpleNamespace(sd3=SimpleNamespace(mmdit=mmdit))
    stubs = {"modules": {**inner, "devices": places, "models": sd3}, "modules__models": vars(sd3)}
    with importing(collection, **stubs, modules__models__sd3={"mmdit": mmdit}, modules__models__sd3__mmdit=vars(mmdit)):
        network = importlib.import_module("network")
        kinds: list[Any] = []
        for kind in KINDS:
            module = importlib.import_module(f"network_{kind}")
            kinds.append(next(vars(module)[name] for name in vars(module) if name.startswith("ModuleType"))())
        known, whole = modules_of(pipeline), SimpleNamespace(te_multiplier=1.0, unet_multiplier=1.0, dyn_dim=None)
        for name, own in weights.items():
            layer = known[name]
            given = network.NetworkWeights(name, name, own, layer)
            made = next(one for one in (kind.create_module(whole, given) for kind in kinds) if one is not None)
            change, bias = made.calc_updown(layer.weight)
            assert bias is None
            layer.weight += change


@torch.no_grad()
def forge(folder: Path, pipeline: Any, file: Path) -> None:
    """Change the pipeline's weights as Forge does, by the rules of ComfyUI."""

    def cast(tensor: torch.Tensor, device: Any, dtype: torch.dtype) -> torch.Tensor:
        return tensor.to(device, dtype)

    known = modules_of(pipeline)
    memory = SimpleNamespace(cast_to_device=cast)
    backend = folder / "backend"
    with importing(
        folder, backend={"memory_management": memory, "utils": None, "operations": None, "__path__": [str(backend)]}
    ):
        reader = importlib.import_module("backend.patcher.lora")
        patches, left = reader.load_lora(load_file(file), {name: name for name in known})
        if left:
            raise ValueError(f"{len(left)} tensors are not read, first {sorted(left)[0]}")
        for name, patch in patches.items():
            layer = known[name]
            layer.weight.copy_(reader.merge_lora_to_weight([(1.0, patch, 1.0, None, None)], layer.weight, name))
