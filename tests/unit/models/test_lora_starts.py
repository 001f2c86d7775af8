"""PiSSA and OLoRA: where they start, and the file that is of the untouched base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora, check_network
from fashion_ml.models.stable_diffusion import load_pipeline
from tests.unit.models.test_lora_variants import EVERYWHERE, said

Q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize("kind", ["pissa", "olora"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_first_output_is_the_bases_and_the_file_is_of_it(kind: str, rslora: bool, tmp_path: Path):
    spec = LoraSpec(4, 6.0, init=kind, use_rslora=rslora, train_text_encoder=True, **EVERYWHERE)
    pipeline, path = load_pipeline("embedded"), tmp_path / "x.safetensors"
    base = said(pipeline)
    parameters = add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1)
    torch.testing.assert_close(said(pipeline), base, atol=1e-5, rtol=0)
    draws = torch.Generator().manual_seed(0)
    for parameter in parameters.all:
        parameter.data.add_(torch.randn(parameter.shape, generator=draws) * 0.02)
    trained = said(pipeline)
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {})
    evaluated = load_pipeline("embedded")
    apply_lora(evaluated, path)
    assert (trained - base).abs().max() > 0.05
    torch.testing.assert_close(said(evaluated), trained, atol=1e-5, rtol=0)
    pipeline.unet.disable_adapters()
    pipeline.text_encoder.disable_adapters()
    assert torch.equal(said(pipeline), base)


def test_pissa_starts_in_the_largest_singular_values_and_olora_in_the_first_columns_of_qr():
    """s B0 A0 is as near to W as any of rank r can be, to a thousandth; of QR it has the first r columns of W to the letter."""
    weight = load_pipeline("embedded").unet.get_submodule(Q).weight.detach()
    u, values, v = torch.linalg.svd(weight)
    made = {}
    for kind in ("pissa", "olora"):
        pipeline = load_pipeline("embedded")
        add_lora(pipeline.unet, None, LoraSpec(4, 2.0, init=kind), seed=1)
        layer = pipeline.unet.get_submodule(Q)
        made[kind] = layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    left = weight - 0.5 * made["pissa"]
    assert left.norm() < 1.001 * (weight - u[:, :4] * values[:4] @ v[:4]).norm()
    assert left.norm() < 0.9 * weight.norm()
    torch.testing.assert_close(made["olora"][:, :4], weight[:, :4], atol=1e-5, rtol=0)


def test_more_ranks_than_a_weight_has_are_refused():
    pipeline = load_pipeline("embedded")
    with pytest.raises(InputError, match=r"network.init: pissa of rank 80 is more than the 64 that the weight of lora_unet_"):
        check_network(pipeline.unet, pipeline.text_encoder, LoraSpec(80, 80.0, init="pissa"))
