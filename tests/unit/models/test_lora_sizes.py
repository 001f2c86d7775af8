"""Which modules of Stable Diffusion 1.5 kohya's LoCon trains, and in which block each of them is."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from fashion_ml.config import validate
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import check_lora, load_lora, lora_tensors, mixed_ranks, save_lora, spec_of
from fashion_ml.models.lora import LoraSpec, add_lora, sized_targets
from fashion_ml.models.stable_diffusion import load_pipeline
from fashion_ml.models.unet_blocks import UnetBlocks
from fashion_ml.runs.lora import check_on_base
from tests.unit.models.test_lora_variants import EVERYWHERE, said


@pytest.fixture(scope="module")
def sd15() -> Any:
    """A UNet of its blocks, with layers 40 times as narrow."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(8, 16, 32, 32), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2
    )


def test_locon_is_on_kohyas_278_modules_of_stable_diffusion_15(sd15: Any):
    """sd-scripts: Linear and Conv2d in Transformer2DModel, ResnetBlock2D, Downsample2D and Upsample2D."""
    theirs = {
        f"lora_unet_{name}.{child}".replace(".", "_")
        for name, module in sd15.named_modules()
        if type(module).__name__ in ("Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D")
        for child, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    }
    ours = [one.key for one in sized_targets(sd15, None, LoraSpec(4, 4.0, **EVERYWHERE))[0][1]]
    assert set(ours) == theirs
    assert len(ours) == len(theirs) == 278


def test_blocks_are_numbered_as_there(sd15: Any):
    """0 to 11 down, of which 0, 3, 6 and 9 begin with no residual block, 12 the middle, 13 to 24 up; attention is in 1, 2, 4, 5, 7, 8."""
    blocks = UnetBlocks.of(sd15)
    assert (blocks.side, blocks.count) == (12, 25)
    targets = sized_targets(sd15, None, LoraSpec(4, 4.0, **EVERYWHERE))[0][1]
    attention = Counter(one.block for one in targets if re.search(r"attn1_to_q$", one.key))
    assert sorted(attention) == [1, 2, 4, 5, 7, 8, 12, *range(16, 25)]
    numbers = {one.key: one.block for one in targets}
    assert numbers["lora_unet_down_blocks_0_downsamplers_0_conv"] == 3
    assert numbers["lora_unet_down_blocks_3_resnets_1_conv1"] == 11
    assert numbers["lora_unet_mid_block_resnets_0_conv1"] == 12
    assert numbers["lora_unet_up_blocks_0_upsamplers_0_conv"] == numbers["lora_unet_up_blocks_0_resnets_2_conv1"] == 15


def test_blocks_of_another_unet_and_blocks_that_train_nothing_are_refused():
    pipeline = load_pipeline("embedded")
    with pytest.raises(
        InputError, match=r"network.block_ranks: 25 numbers, but the UNet of this base has 9 blocks \(its input, 3 down"
    ):
        add_lora(pipeline.unet, None, LoraSpec(4, 4.0, block_ranks=(4,) * 25), seed=0)
    with pytest.raises(InputError, match=r"network.block_ranks: no module is left to train"):
        add_lora(pipeline.unet, None, LoraSpec(4, 4.0, block_ranks=(0,) * 9), seed=0)
    config = validate({"data": {"train_data_dir": "embedded"}, "optimizer": {"block_lr": [0.0] * 9}})
    with pytest.raises(InputError, match=r"optimizer.block_lr: no module is left to train; give a factor above 0"):
        check_on_base(config, pipeline, torch.device("cpu"), 1)


def test_a_file_of_many_ranks_is_measured_continued_and_described_as_it_is(tmp_path: Path):
    spec = LoraSpec(
        4, 4.0, **EVERYWHERE, block_ranks=(0, 1, 2, 3, 4, 5, 6, 7, 8), block_alphas=(1.0,) * 9, conv_block_ranks=(2,) * 9
    )
    pipeline, path = load_pipeline("embedded"), tmp_path / "x.safetensors"
    draws = torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, None, spec, seed=1).all:
        parameter.data.add_(torch.randn(parameter.shape, generator=draws) * 0.1)
    tensors = lora_tensors(pipeline.unet, None, spec)
    save_lora(path, tensors, {})
    evaluated, again = load_pipeline("embedded"), load_pipeline("embedded")
    apply_lora(evaluated, path)
    torch.testing.assert_close(said(evaluated), said(pipeline), atol=1e-5, rtol=0)
    own = mixed_ranks(path)
    assert own is not None
    assert own["lora_unet_mid_block_resnets_0_time_emb_proj"] == (4, 1.0)
    assert own["lora_unet_mid_block_resnets_0_conv1"] == (2, 2.0)
    assert spec_of(tensors).modules == own
    continued = LoraSpec(64, 64.0, **EVERYWHERE, modules=own)
    check_lora(path, again.unet, again.text_encoder, continued)
    add_lora(again.unet, None, continued, seed=2)
    load_lora(path, again.unet, again.text_encoder, continued)
    torch.testing.assert_close(said(again), said(pipeline), atol=1e-5, rtol=0)


def test_a_block_of_another_rank_is_refused_by_its_number(tmp_path: Path):
    pipeline, path = load_pipeline("embedded"), tmp_path / "x.safetensors"
    spec = LoraSpec(4, 4.0, block_ranks=(2, 2, 2, 2, 3, 2, 2, 2, 2))
    add_lora(pipeline.unet, None, spec, seed=1)
    save_lora(path, lora_tensors(pipeline.unet, None, spec), {})
    fresh = load_pipeline("embedded")
    with pytest.raises(InputError, match=r"network.block_ranks: 2 for block 4, but .* has rank 3 in lora_unet_mid_block"):
        check_lora(path, fresh.unet, fresh.text_encoder, LoraSpec(4, 4.0, block_ranks=(2,) * 9))
