"""LoRA files of Stable Diffusion XL: kohya's names and shapes, other programs' names, and what each loader computes from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashion_ml.deploy.export import _for_diffusers
from fashion_ml.deploy.inspect_file import inspect_lora
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora, fit_lora
from fashion_ml.models.base_folder import empty_model
from fashion_ml.models.diffusers_folder import write_lora_folder
from fashion_ml.models.kohya_format import check_lora, load_lora, lora_tensors, save_lora, spec_of, target_weights
from fashion_ml.models.lora import LoraSpec, add_lora, sized_targets
from fashion_ml.models.single_file import CONFIGS
from fashion_ml.models.stable_diffusion import load_pipeline
from tests.tiny_sdxl import tiny_sdxl

LAYOUT = Path(__file__).parent / "kohya_sdxl.txt"
"""Modules of networks.lora of sd-scripts 48d368f for its own SDXL with both text encoders, network_dim 4 and conv_dim 2: name, shape of
lora_down, shape of lora_up."""
DEFAULT = LoraSpec(rank=4, alpha=2.0, feed_forward=True, projections=True, train_text_encoder=True)
LOCON = LoraSpec(
    rank=4, alpha=2.0, conv_rank=2, conv_alpha=1.0, feed_forward=True, projections=True, train_text_encoder=True, convolutions=True,
    time_embeddings=True, shortcuts=True,
)  # fmt: skip
CONVOLUTIONS = r"_(in_layers_2|out_layers_3|emb_layers_1|skip_connection|op|conv)$"
QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def encoders(pipeline: Any) -> tuple[Any, Any]:
    return pipeline.text_encoder, pipeline.text_encoder_2


@torch.no_grad()
def said(pipeline: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What UNet and both text encoders make of fixed inputs."""
    draws = torch.Generator().manual_seed(3)
    unet = pipeline.unet.config
    noisy, text = torch.randn(1, 4, 16, 16, generator=draws), torch.randn(1, 7, unet.cross_attention_dim, generator=draws)
    pooled = torch.randn(1, unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim, generator=draws)
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 48, 0, 4, 64, 64]])}
    ids = torch.arange(77)[None] * 7 + 3
    first, second = pipeline.text_encoder(ids)[0], pipeline.text_encoder_2(ids).text_embeds
    return pipeline.unet(noisy, torch.tensor([500]), text, added_cond_kwargs=added).sample, first, second


@cache
def of_base() -> tuple[torch.Tensor, ...]:
    return said(tiny_sdxl())


def trained(spec: LoraSpec, path: Path) -> tuple[torch.Tensor, ...]:
    """Write a LoRA with numbers of its own, and return what the trained models say."""
    pipeline, draws = tiny_sdxl(), torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, encoders(pipeline), spec, seed=1).all:
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    save_lora(path, lora_tensors(pipeline.unet, encoders(pipeline), spec), {})
    return said(pipeline)


def close(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...], most: float = 1e-5) -> None:
    for one, other, base in zip(found, expected, of_base(), strict=True):
        assert float((one - other).abs().max()) < most
        assert float((base - other).abs().max()) > 100 * most


@pytest.mark.parametrize("spec", [DEFAULT, LOCON], ids=["usual targets", "with convolutions"])
def test_keys_and_shapes_at_full_size_are_kohyas_own(spec: LoraSpec):
    folder = CONFIGS / "sdxl"
    parts = {
        part: empty_model(part, json.loads((folder / part / "config.json").read_bytes()), part)
        for part in ("unet", "text_encoder", "text_encoder_2")
    }
    models = parts["unet"], (parts["text_encoder"], parts["text_encoder_2"])
    ranks = {one.key: one.rank for _, found in sized_targets(*models, spec) for one in found}
    ours = set()
    for key, weight in target_weights(*models, spec):
        down, up = (ranks[key], *weight.shape[1:]), (len(weight), ranks[key], *[1] * (weight.dim() - 2))
        ours.add(f"{key} {'x'.join(map(str, down))} {'x'.join(map(str, up))}")
    theirs = set(LAYOUT.read_text("utf-8").splitlines())
    if not spec.convolutions:
        theirs = {line for line in theirs if not re.search(CONVOLUTIONS, line.split()[0])}
    assert ours == theirs
    assert len(ours) == len(ranks)


@pytest.mark.parametrize("algo", ["lora", "loha"])
def test_a_file_has_what_trains_and_no_more(algo: str):
    pipeline = tiny_sdxl()
    spec = LoraSpec(rank=2, alpha=2.0, algo=algo, convolutions=True, train_text_encoder=True)
    expected = {key for key, _ in target_weights(pipeline.unet, encoders(pipeline), spec)}
    add_lora(pipeline.unet, encoders(pipeline), spec, seed=1)
    assert {name.partition(".")[0] for name in lora_tensors(pipeline.unet, encoders(pipeline), spec)} == expected
    assert {key.partition("_text_model_")[0] for key in expected if "_te" in key[:7]} == {"lora_te1", "lora_te2"}


@pytest.mark.parametrize("spec", [DEFAULT, LOCON], ids=["usual targets", "with convolutions"])
def test_applied_to_a_fresh_base_a_file_computes_what_was_trained(spec: LoraSpec, tmp_path: Path):
    expected = trained(spec, tmp_path / "lora.safetensors")
    pipeline = tiny_sdxl()
    applied = apply_lora(pipeline, tmp_path / "lora.safetensors")
    close(said(pipeline), expected)
    applied.merge()
    close(said(pipeline), expected)


def test_training_goes_on_from_a_file_and_a_strength_of_0_is_the_base(tmp_path: Path):
    expected = trained(LOCON, tmp_path / "lora.safetensors")
    found = spec_of(load_file(tmp_path / "lora.safetensors"))
    assert found == LOCON
    pipeline = tiny_sdxl()
    add_lora(pipeline.unet, encoders(pipeline), LOCON, seed=2)
    load_lora(tmp_path / "lora.safetensors", pipeline.unet, encoders(pipeline), LOCON)
    close(said(pipeline), expected)
    fresh = tiny_sdxl()
    apply_lora(fresh, tmp_path / "lora.safetensors").remove()
    assert all(torch.equal(one, other) for one, other in zip(said(fresh), of_base(), strict=True))


@pytest.mark.parametrize(
    ("spec", "switch"),
    [
        (LoraSpec(4, 2.0, feed_forward=True, projections=True), "holds lora_te1_.*; set network.train_text_encoder to true"),
        (LoraSpec(4, 2.0, projections=True, train_text_encoder=True), "holds lora_unet_.*_ff_net_.*; set network.feed_forward to true"),
        (LoraSpec(8, 2.0, feed_forward=True, projections=True, train_text_encoder=True), "network.rank: 8, but .* has rank 4"),
        (LOCON, r"lacks lora_unet_input_blocks_1_0_emb_layers_1; set network.time_embeddings to false"),
    ],
)  # fmt: skip
def test_a_file_of_other_settings_says_which(spec: LoraSpec, switch: str, tmp_path: Path):
    trained(DEFAULT, tmp_path / "lora.safetensors")
    pipeline = tiny_sdxl()
    with pytest.raises(InputError, match=switch):
        check_lora(tmp_path / "lora.safetensors", pipeline.unet, encoders(pipeline), spec)


def test_blocks_are_numbered_as_kohya_does():
    """sd-scripts' `get_block_index`: 1 to 9 input, 10 to 12 middle, 13 to 21 output blocks."""
    targets = {one.key: one.block for one in sized_targets(tiny_sdxl().unet, None, LOCON)[0][1]}
    assert targets["lora_unet_input_blocks_1_0_in_layers_2"] == 2
    assert targets["lora_unet_input_blocks_3_0_op"] == 4
    assert targets["lora_unet_middle_block_1_proj_in"] == 11
    assert targets["lora_unet_output_blocks_5_2_conv"] == 18
    assert targets["lora_unet_output_blocks_8_0_out_layers_3"] == 21
    with pytest.raises(InputError, match=r"network.block_ranks: 25 numbers, but the UNet of this base has 23 blocks"):
        sized_targets(tiny_sdxl().unet, None, LoraSpec(4, 4.0, block_ranks=(4,) * 25))
    ranks = tuple(2 if block == 11 else 0 for block in range(23))
    only = sized_targets(tiny_sdxl().unet, None, LoraSpec(4, 4.0, block_ranks=ranks))[0][1]
    assert {one.key.partition("_transformer")[0] for one in only} == {"lora_unet_middle_block_1"}


@pytest.mark.parametrize("spec", [DEFAULT, LOCON], ids=["usual targets", "with convolutions"])
def test_diffusers_computes_the_same_from_kohyas_names_and_from_its_own(spec: LoraSpec, tmp_path: Path):
    expected = trained(spec, tmp_path / "lora.safetensors")
    theirs = tiny_sdxl()
    theirs.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    close(said(theirs), expected)
    tensors, metadata = _for_diffusers(fit_lora(tiny_sdxl(), tmp_path / "lora.safetensors"))
    write_lora_folder(tmp_path / "folder", tensors, metadata)
    folder = tiny_sdxl()
    folder.load_lora_weights(str(tmp_path / "folder"))
    close(said(folder), expected)
    ours = tiny_sdxl()
    apply_lora(ours, tmp_path / "folder" / "pytorch_lora_weights.safetensors")
    close(said(ours), expected)


def test_diffusers_unet_alone_reads_the_folder(tmp_path: Path):
    expected = trained(LOCON, tmp_path / "lora.safetensors")
    tensors, _ = _for_diffusers(fit_lora(tiny_sdxl(), tmp_path / "lora.safetensors"))
    theirs = tiny_sdxl()
    theirs.unet.load_lora_adapter({name: one for name, one in tensors.items() if name.startswith("unet.")}, prefix="unet")
    assert float((said(theirs)[0] - expected[0]).abs().max()) < 1e-5


NAMES: dict[str, Callable[[str], str]] = {
    "kohya's of diffusers' modules": lambda name: f"lora_unet_{name.replace('.', '_')}.lora_{{}}.weight",
    "ComfyUI": lambda name: "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_{}.weight",
    "diffusers": lambda name: f"unet.{name}.lora.{{}}.weight",
    "LyCORIS": lambda name: f"lycoris_unet_{name.replace('.', '_')}.lora_{{}}.weight",
    "PEFT": lambda name: f"base_model.model.{name}.lora_{{}}.weight",
}


@pytest.mark.parametrize("names", NAMES)
def test_one_module_is_found_under_the_names_of_every_program(names: str, tmp_path: Path):
    shape = tiny_sdxl().unet.get_submodule(QUERY).weight.shape
    draws = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, shape[1], generator=draws), torch.randn(shape[0], 4, generator=draws)
    name = NAMES[names](QUERY)
    save_file({name.format("down"): down, name.format("up"): up}, tmp_path / "x.safetensors")
    fitted = fit_lora(tiny_sdxl(), tmp_path / "x.safetensors")
    assert list(fitted.file.modules) == ["lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("text_encoder.text_model.A.B.lora_linear_layer.{}.weight", "lora_te1"),
        ("text_encoder_2.text_model.A.B.lora_linear_layer.{}.weight", "lora_te2"),
        ("text_encoder_2.A.B.lora.{}.weight", "lora_te2"),
        ("lora_te2_text_model_A_B.lora_{}.weight", "lora_te2"),
        ("lycoris_te2_text_model_A_B.lora_{}.weight", "lora_te2"),
        ("lycoris_text_encoder_2_text_model_A_B.lora_{}.weight", "lora_te2"),
        ("lycoris_text_encoder_text_model_A_B.lora_{}.weight", "lora_te1"),
    ],
)
def test_each_text_encoder_is_found_under_the_names_of_every_program(name: str, key: str, tmp_path: Path):
    join = "_" if "A_B" in name else "."
    name = name.replace(f"A{join}B", "encoder.layers.0.self_attn.q_proj".replace(".", join))
    width = {"lora_te1": 32, "lora_te2": 48}[key]
    save_file({name.format("down"): torch.ones(2, width), name.format("up"): torch.ones(width, 2)}, tmp_path / "x.safetensors")
    fitted = fit_lora(tiny_sdxl(), tmp_path / "x.safetensors")
    assert list(fitted.file.modules) == [f"{key}_text_model_encoder_layers_0_self_attn_q_proj"]


def test_a_file_of_another_family_is_refused(tmp_path: Path):
    trained(DEFAULT, tmp_path / "xl.safetensors")
    with pytest.raises(InputError, match=r"is a LoRA of SDXL \(it holds lora_te1_"):
        fit_lora(load_pipeline("embedded"), tmp_path / "xl.safetensors")
    key = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file(
        {f"{key}.lora_down.weight": torch.ones(2, 768), f"{key}.lora_up.weight": torch.ones(32, 2)}, tmp_path / "1.safetensors"
    )
    with pytest.raises(InputError, match=r"is a LoRA of SD 1.x \(cross-attention of 768 numbers, this base has 80\)"):
        fit_lora(tiny_sdxl(), tmp_path / "1.safetensors")
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    save_file(
        {f"{text}.lora_down.weight": torch.ones(2, 32), f"{text}.lora_up.weight": torch.ones(32, 2)}, tmp_path / "t.safetensors"
    )
    with pytest.raises(InputError, match=r"has names of which this base has none \(first lora_te_text_model"):
        fit_lora(tiny_sdxl(), tmp_path / "t.safetensors")


def test_inspect_says_base_encoders_and_convolutions(tmp_path: Path):
    trained(LOCON, tmp_path / "xl.safetensors")
    found = inspect_lora(tmp_path / "xl.safetensors")
    assert (found["base"], found["names"], found["methods"]) == ("SDXL", "kohya", ["LoCon"])
    assert found["rank"] == [2, 4]
    assert found["targets"]["text encoder"] == found["targets"]["second text encoder"] == 18
    assert found["targets"]["convolutions"] == 38
    assert found["targets"]["time embeddings"] == 17
    assert "other" not in found["targets"]
    assert {"text 2", "text2 2", "input 3", "mid", "output 8"} <= found["norms"].keys()
