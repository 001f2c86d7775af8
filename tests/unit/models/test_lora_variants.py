"""LoHa, LoKr, OFT and (IA)^3: trained layers, their file, and what evaluation and a continued training make of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import check_lora, load_lora, lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora, check_network
from fashion_ml.models.lora_delta import delta, method_of
from fashion_ml.models.output_rotation import block_size, blocks_of, rotation_of, vector_of
from fashion_ml.models.stable_diffusion import load_pipeline

EVERYWHERE = {"feed_forward": True, "projections": True, "convolutions": True, "time_embeddings": True, "shortcuts": True}
SPECS = {
    "loha": LoraSpec(4, 6.0, algo="loha", train_text_encoder=True, **EVERYWHERE),
    "lokr": LoraSpec(4, 6.0, algo="lokr", train_text_encoder=True, **EVERYWHERE),
    "lokr of two whole factors": LoraSpec(64, 16.0, algo="lokr"),
    "lokr by 4": LoraSpec(2, 2.0, algo="lokr", lokr_factor=4, conv_rank=1, **EVERYWHERE),
    "oft": LoraSpec(4, 4.0, algo="oft", train_text_encoder=True, **EVERYWHERE),
    "ia3": LoraSpec(4, 4.0, algo="ia3", train_text_encoder=True, **EVERYWHERE),
}


def said(pipeline: Any) -> torch.Tensor:
    """What the text encoder and the UNet make of fixed inputs, in one row."""
    draws = torch.Generator().manual_seed(3)
    noisy = torch.randn(1, 4, 8, 8, generator=draws)
    with torch.no_grad():
        text = pipeline.text_encoder(torch.arange(20)[None])[0]
        return torch.cat([pipeline.unet(noisy, torch.tensor([500]), text).sample.flatten(), text.flatten()])


@pytest.fixture(scope="module")
def base() -> torch.Tensor:
    return said(load_pipeline("embedded"))


@pytest.mark.parametrize("name", SPECS)
def test_nothing_changes_at_first_and_the_file_says_what_was_trained(name: str, base: torch.Tensor, tmp_path: Path):
    spec, path, pipeline = SPECS[name], tmp_path / "x.safetensors", load_pipeline("embedded")
    check_network(pipeline.unet, pipeline.text_encoder, spec)
    parameters = add_lora(pipeline.unet, pipeline.text_encoder, spec, seed=1).all
    torch.testing.assert_close(said(pipeline), base, atol=1e-5, rtol=0)
    draws = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.data.add_(torch.randn(parameter.shape, generator=draws) * 0.1)
    trained = said(pipeline)
    assert (trained - base).abs().max() > 0.01
    pipeline.unet.disable_adapters()
    if spec.train_text_encoder:
        pipeline.text_encoder.disable_adapters()
    assert torch.equal(said(pipeline), base)
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, spec), {})

    evaluated = load_pipeline("embedded")
    applied = apply_lora(evaluated, path)
    assert applied.form == "LyCORIS"
    torch.testing.assert_close(said(evaluated), trained, atol=1e-5, rtol=0)
    applied.remove()
    assert torch.equal(said(evaluated), base)

    continued, other = load_pipeline("embedded"), replace(spec, alpha=2.5)
    check_lora(path, continued.unet, continued.text_encoder, other)
    add_lora(continued.unet, continued.text_encoder, other, seed=2)
    load_lora(path, continued.unet, continued.text_encoder, other)
    torch.testing.assert_close(said(continued), trained, atol=1e-5, rtol=0)


def test_the_first_layers_are_drawn_by_the_seed_and_leave_the_global_state(tmp_path: Path):
    files = []
    for seed in (1, 1, 2):
        pipeline, before = load_pipeline("embedded"), torch.get_rng_state()
        add_lora(pipeline.unet, pipeline.text_encoder, SPECS["lokr"], seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        files.append(lora_tensors(pipeline.unet, pipeline.text_encoder, SPECS["lokr"]))
    same = [all(torch.equal(one[key], two[key]) for key in one) for one, two in pairwise(files)]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (replace(SPECS["oft"], rank=2), "trained with other settings: .*; give the same network.rank, or"),
        (replace(SPECS["lokr"], rank=4), r"holds OFT \(lora_.*but network.algo is lokr; set it to oft"),
        (replace(SPECS["oft"], shortcuts=False), r"holds lora_unet_.*conv_shortcut; set network.shortcuts to true"),
    ],
)
def test_a_file_of_other_settings_is_refused_by_them(spec: LoraSpec, says: str, tmp_path: Path):
    pipeline, path, own = load_pipeline("embedded"), tmp_path / "x.safetensors", SPECS["oft"]
    add_lora(pipeline.unet, pipeline.text_encoder, own, seed=1)
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, own), {})
    fresh = load_pipeline("embedded")
    with pytest.raises(InputError, match=says):
        check_lora(path, fresh.unet, fresh.text_encoder, spec)


def test_a_plain_lora_is_named_where_another_network_is_to_go_on_from_it(tmp_path: Path):
    pipeline, path, own = load_pipeline("embedded"), tmp_path / "x.safetensors", LoraSpec(4, 4.0)
    add_lora(pipeline.unet, pipeline.text_encoder, own, seed=1)
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, own), {})
    fresh = load_pipeline("embedded")
    with pytest.raises(InputError, match=r"holds LoRA \(lora_.*but network.algo is loha; set it to lora"):
        check_lora(path, fresh.unet, fresh.text_encoder, SPECS["loha"])


def test_a_rotation_with_a_constraint_is_measured_as_lycoris_reads_it_and_not_continued(tmp_path: Path):
    """Q of norm 2 held to alpha x outputs = 0.25 x 4 = 1: half of it."""
    free = {"oft_blocks": torch.tensor([[[0.0, 1.0], [-0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])}
    half = {"oft_blocks": free["oft_blocks"] / 2}
    weight = torch.randn(4, 3)
    held = delta({**free, "alpha": torch.tensor(0.25)}, (4, 3), weight)
    torch.testing.assert_close(held, delta({**half, "alpha": torch.tensor(0.0)}, (4, 3), weight))
    pipeline, spec = load_pipeline("embedded"), LoraSpec(4, 4.0, algo="oft")
    add_lora(pipeline.unet, None, spec, seed=1)
    tensors = lora_tensors(pipeline.unet, None, spec)
    save_file({**tensors, **{name: torch.tensor(1e-3) for name in tensors if "alpha" in name}}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"holds OFT with a constraint \(alpha\)"):
        load_lora(tmp_path / "x.safetensors", pipeline.unet, pipeline.text_encoder, spec)


def test_a_block_turns_its_outputs_by_the_cayley_transform():
    """Q = [[0, 1], [-1, 0]] makes R = (I + Q)(I - Q)^-1 = [[0, 1], [-1, 0]], a quarter turn: outputs (x0, x1) become (-x1, x0)."""
    blocks = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    torch.testing.assert_close(rotation_of(blocks), torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]))
    parts, weight = {"oft_blocks": blocks, "alpha": torch.tensor(0.0)}, torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert method_of(parts) == "OFT"
    torch.testing.assert_close(weight + delta(parts, (2, 2), weight), torch.tensor([[-3.0, -4.0], [1.0, 2.0]]))
    vector = torch.randn(3, 6)
    torch.testing.assert_close(vector_of(blocks_of(vector, 4)), vector)
    assert [block_size(320, wanted) for wanted in (1, 4, 7, 32)] == [1, 4, 5, 16]


def test_a_factor_scales_inputs_or_outputs():
    weight, factor = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 100.0])
    made = [delta({"weight": factor, "on_input": torch.tensor(side)}, (2, 2), weight).tolist() for side in (0.0, 1.0)]
    assert made == [[[10.0, 20.0], [300.0, 400.0]], [[10.0, 200.0], [30.0, 400.0]]]


def test_factors_that_lycoris_would_read_the_other_way_round_are_refused():
    pipeline = load_pipeline("embedded")
    with pytest.raises(InputError, match=r"network.lokr_factor: 32 is above the square root of a side of lora_unet_"):
        check_network(pipeline.unet, pipeline.text_encoder, LoraSpec(2, 2.0, algo="lokr", lokr_factor=32))


def test_scales_of_lokr_are_in_its_factors_and_alpha_is_the_rank(tmp_path: Path):
    pipeline, spec = load_pipeline("embedded"), LoraSpec(4, 6.0, algo="lokr")
    add_lora(pipeline.unet, None, spec, seed=1)
    save_lora(tmp_path / "x.safetensors", lora_tensors(pipeline.unet, None, spec), {})
    alphas = {tensor.item() for name, tensor in load_file(tmp_path / "x.safetensors").items() if name.endswith("alpha")}
    assert alphas == {4.0}
