"""How other programs make a module's weight from our file, in our own words from reading their code, beside what evaluation makes of it.

`make test-readers` asks their code itself; docs/readers.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.lora_forms import readers_of, recognise
from fashion_ml.models.stable_diffusion import load_pipeline

Tensors = dict[str, torch.Tensor]
Rule = Callable[[torch.Tensor, Tensors], torch.Tensor]

SPECS = {
    "LoRA": LoraSpec(rank=4, alpha=2.0, convolutions=True, conv_rank=2, conv_alpha=1.5),
    "rsLoRA": LoraSpec(rank=4, alpha=2.0, use_rslora=True),
    "PiSSA": LoraSpec(rank=4, alpha=4.0, init="pissa"),
    "DoRA": LoraSpec(rank=4, alpha=2.0, use_dora=True),
    "LoHa": LoraSpec(rank=4, alpha=2.0, algo="loha", convolutions=True),
    "LoKr": LoraSpec(rank=4, alpha=2.0, algo="lokr", convolutions=True),
    "OFT": LoraSpec(rank=4, alpha=4.0, algo="oft"),
    "(IA)^3": LoraSpec(rank=4, alpha=4.0, algo="ia3", feed_forward=True),
}


def flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten(1)


def plain(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """Every program: what is added, scaled by alpha / rank, the rank being lora_down's rows."""
    up, down = parts["lora_up.weight"], parts["lora_down.weight"]
    return weight + (flat(up) @ flat(down)).reshape(weight.shape) * (parts["alpha"] / down.shape[0])


def by_norm_of_outputs(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """LyCORIS: magnitudes over the norms of the changed weight's rows."""
    changed, magnitude = plain(weight, parts), parts["dora_scale"]
    return changed * (magnitude / flat(changed).norm(dim=1).reshape(magnitude.shape))


def by_norm_of_base(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """Forge and ComfyUI: magnitudes over the norms of the base's own rows."""
    magnitude = parts["dora_scale"]
    return plain(weight, parts) * (magnitude / flat(weight).norm(dim=1).reshape(magnitude.shape))


def by_norm_of_inputs(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """A1111: over the norms of the changed weight's columns."""
    changed = plain(weight, parts)
    return changed * (parts["dora_scale"] / flat(changed.transpose(0, 1)).norm(dim=1)[None])


def loha(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """LyCORIS, A1111, Forge, ComfyUI."""
    one, two = (flat(parts[f"hada_w{i}_a"]) @ flat(parts[f"hada_w{i}_b"]) for i in (1, 2))
    return weight + (one * two).reshape(weight.shape) * (parts["alpha"] / parts["hada_w1_b"].shape[0])


def lokr(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """The same; without a decomposed factor there is no rank, and the scale is 1."""
    scale, factors = 1.0, list[torch.Tensor]()
    for i in (1, 2):
        if (whole := parts.get(f"lokr_w{i}")) is None:
            a, b = parts[f"lokr_w{i}_a"], parts[f"lokr_w{i}_b"]
            whole, scale = a @ flat(b), float(parts["alpha"] / b.shape[0])
        factors.append(whole)
    one, two = factors
    if two.dim() == 4:
        one = one[:, :, None, None]
    return weight + torch.kron(one, two).reshape(weight.shape) * scale


def oft(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """LyCORIS and A1111: blocks of rows, turned by the transpose of (1 + Q) (1 - Q)^-1, Q = block - block^T."""
    blocks, (count, size, _) = parts["oft_blocks"], parts["oft_blocks"].shape
    q, one = blocks - blocks.transpose(1, 2), torch.eye(size)
    turned = (one + q) @ torch.linalg.inv(one - q)
    return torch.einsum("knm,kn...->km...", turned, weight.reshape(count, size, *weight.shape[1:])).reshape(weight.shape)


def ia3(weight: torch.Tensor, parts: Tensors) -> torch.Tensor:
    """A1111: what is added is the weight times the factors, along inputs or outputs."""
    factors = parts["weight"].flatten()
    return weight + weight * (factors if parts["on_input"] else factors.reshape(-1, *[1] * (weight.dim() - 1)))


RULES: dict[str, list[tuple[Rule, bool]]] = {
    **{name: [(plain, True)] for name in ("LoRA", "rsLoRA", "PiSSA")},
    "DoRA": [(by_norm_of_outputs, True), (by_norm_of_base, False), (by_norm_of_inputs, False), (plain, False)],
    "LoHa": [(loha, True)],
    "LoKr": [(lokr, True)],
    "OFT": [(oft, True)],
    "(IA)^3": [(ia3, True)],
}
"""Rules, and whether they make the weight that was trained."""


@pytest.mark.parametrize("name", SPECS)
def test_the_rules_of_other_programs_make_the_weights_that_are_measured_where_they_are_called_exact(name: str, tmp_path: Path):
    spec, path, pipeline = SPECS[name], tmp_path / "x.safetensors", load_pipeline("embedded")
    draws = torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1).all:
        parameter.data.add_(torch.randn(parameter.shape, generator=draws) * 0.05)
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {})
    ours, base = load_pipeline("embedded"), load_pipeline("embedded")
    apply_lora(ours, path).merge()
    parts: dict[str, Tensors] = {}
    for key, tensor in load_file(path).items():
        module, _, part = key.partition(".")
        parts.setdefault(module, {})[part] = tensor
    before, after = (
        {f"lora_unet_{key.replace('.', '_')}": one.weight for key, one in p.unet.named_modules() if hasattr(one, "weight")}
        for p in (base, ours)
    )
    assert parts
    with torch.no_grad():
        for rule, exact in RULES[name]:
            off = max(float((rule(before[module], own) - after[module]).abs().max()) for module, own in parts.items())
            assert (off < 1e-5) == exact, (rule.__name__, off)


def test_who_reads_a_form_is_said_for_every_form_that_some_program_reads_otherwise(tmp_path: Path):
    said: dict[str, Any] = {}
    for name, spec in SPECS.items():
        pipeline, path = load_pipeline("embedded"), tmp_path / "x.safetensors"
        add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1)
        save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {})
        found = recognise({key: tuple(tensor.shape) for key, tensor in load_file(path).items()}, {})
        assert found is not None
        said[name] = readers_of(found.methods)
    assert {name for name, lines in said.items() if lines} == {"DoRA", "LoHa", "LoKr", "OFT", "(IA)^3"}
    assert all("--format merged" in line for lines in said.values() for line in lines)
