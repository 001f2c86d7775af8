"""Files of Stable Diffusion XL in other programs' own code: kohya's UNet and network, and the key rules of ComfyUI as Forge has them.

kohya's UNet is built by its own class with a tenth of the channels; its width of the text and its depth of attention are fixed there.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from fashion_ml.models.families.known import family_of
from fashion_ml.models.kohya_format import lora_tensors, save_lora
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.original_names import OriginalNames
from tests.full.readers import webui
from tests.full.readers.test_readers import Named, checkout
from tests.tiny_sdxl import tiny_sdxl

CHANNELS = 32
FULL = {"feed_forward": True, "projections": True, "train_text_encoder": True}
SPECS = {
    "usual targets": LoraSpec(rank=4, alpha=2.0, **FULL),
    "with convolutions": LoraSpec(
        rank=4, alpha=2.0, conv_rank=2, conv_alpha=1.0, convolutions=True, time_embeddings=True, shortcuts=True, **FULL
    ),
}


def narrow() -> Any:
    """SDXL's structure as diffusers has it, with kohya's sizes."""
    pipeline = tiny_sdxl()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipeline.unet = UNet2DConditionModel(
            block_out_channels=(CHANNELS, 2 * CHANNELS, 4 * CHANNELS),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(1, 1, 2),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ).eval()
    return pipeline


@torch.no_grad()
def said(pipeline: Any, unet: Any = None) -> list[torch.Tensor]:
    """UNet, kohya's own where it is given, and both text encoders."""
    draws, own = torch.Generator().manual_seed(3), pipeline.unet
    noisy, text = torch.randn(1, 4, 16, 16, generator=draws), torch.randn(1, 7, 2048, generator=draws)
    pooled, sizes, time = torch.randn(1, 1280, generator=draws), torch.tensor([[64.0, 48, 0, 4, 64, 64]]), torch.tensor([500])
    if unet is None:
        found = own(noisy, time, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
    else:
        found = unet(noisy, time, text, torch.cat([pooled, own.add_time_proj(sizes.flatten()).reshape(1, -1)], dim=1))
    ids = torch.arange(77)[None] * 7 + 3
    return [found, pipeline.text_encoder(ids)[0], pipeline.text_encoder_2(ids).text_embeds]


@pytest.fixture(scope="module", params=SPECS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[torch.Tensor]]:
    spec, pipeline, path = SPECS[request.param], narrow(), tmp_path_factory.mktemp("lora") / "lora.safetensors"
    encoders, draws = (pipeline.text_encoder, pipeline.text_encoder_2), torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, encoders, spec, seed=1).all:
        parameter.data.add_(0.03 * torch.randn(parameter.shape, generator=draws))
    save_lora(path, lora_tensors(pipeline.unet, encoders, spec), {})
    return path, said(pipeline)


def close(found: list[torch.Tensor], expected: list[torch.Tensor], base: list[torch.Tensor]) -> None:
    differences = [float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)]
    moved = [float((one - other).abs().max()) for one, other in zip(base, expected, strict=True)]
    sys.stderr.write(
        f"| differs by {' '.join(f'{one:.1e}' for one in differences)} | moved by {' '.join(f'{one:.1e}' for one in moved)} |\n"
    )
    assert max(differences) < 1e-5
    assert min(moved) > 1e-2


def kohyas_unet(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = checkout("KOHYA", "library.sdxl_original_unet")
    monkeypatch.setattr(module, "MODEL_CHANNELS", CHANNELS)
    monkeypatch.setattr(module, "TIME_EMBED_DIM", 4 * CHANNELS)
    unet, names = module.SdxlUNet2DConditionModel().eval(), OriginalNames(pipeline.unet.config)
    unet.load_state_dict({names.of(name): tensor for name, tensor in pipeline.unet.state_dict().items()}, strict=True)
    return unet


def test_kohyas_own_unet_and_network_compute_what_was_trained(
    written: tuple[Path, list[torch.Tensor]], monkeypatch: pytest.MonkeyPatch
):
    path, expected = written
    pipeline, network = narrow(), checkout("KOHYA", "networks.lora")
    unet, base = kohyas_unet(pipeline, monkeypatch), said(pipeline)
    close(said(pipeline, unet), base, expected)  # the base alone, under its original names
    texts, tensors = [Named(pipeline.text_encoder), Named(pipeline.text_encoder_2)], load_file(path)
    made, weights = network.create_network_from_weights(
        1.0, str(path), None, texts, unet, weights_sd=tensors, for_inference=True
    )
    assert {f"{one.lora_name}.lora_up.weight" for one in made.unet_loras + made.text_encoder_loras} == {
        name for name in tensors if "lora_up" in name
    }
    made.merge_to(texts, unet, weights, torch.float32, "cpu")
    close(said(pipeline, unet), expected, base)


def test_comfyuis_key_rules_find_every_module(written: tuple[Path, list[torch.Tensor]]):
    folder = os.environ.get("FORGE")
    if not folder:
        pytest.skip("FORGE names no checkout")
    path, expected = written
    pipeline = narrow()
    base, names = said(pipeline), OriginalNames(pipeline.unet.config)
    weights = {f"diffusion_model.{names.of(name)}": tensor for name, tensor in pipeline.unet.state_dict().items()}
    for short, part in (("clip_l", pipeline.text_encoder), ("clip_g", pipeline.text_encoder_2)):
        weights |= {
            f"{short}.transformer.text_model.{n.removeprefix('text_model.')}": one for n, one in part.state_dict().items()
        }
    config = {
        "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10,
    }  # fmt: skip
    model = SimpleNamespace(
        state_dict=lambda: weights,
        diffusion_model=SimpleNamespace(config=config),
        config=SimpleNamespace(huggingface_repo="xl"),
    )
    memory = SimpleNamespace(cast_to_device=lambda tensor, device, dtype: tensor.to(device, dtype))
    stubs = {"memory_management": memory, "utils": None, "operations": None, "__path__": [str(Path(folder) / "backend")]}
    with webui.importing(Path(folder), backend=stubs), torch.no_grad():
        reader = importlib.import_module("backend.patcher.lora")
        rules = importlib.import_module("packages_3rdparty.comfyui_lora_collection.lora")
        known = dict[str, str]()
        rules.model_lora_keys_unet(model, known)
        rules.model_lora_keys_clip(model, known)
        patches, left = reader.load_lora(load_file(path), known)
        assert not left
        for name, patch in patches.items():
            weights[name].copy_(reader.merge_lora_to_weight([(1.0, patch, 1.0, None, None)], weights[name], name))
    close(said(pipeline), expected, base)


def test_kohyas_own_names_of_a_checkpoint_are_ours():
    """Its conversion of the second text encoder reads ours but for the projection, which open_clip and diffusers have transposed and it has
    not."""
    util, pipeline = checkout("KOHYA", "library.sdxl_model_util"), tiny_sdxl()
    state = pipeline.text_encoder_2.state_dict()
    theirs, _ = util.convert_sdxl_text_encoder_2_checkpoint(family_of(pipeline).texts[1].to_original(state), 77)
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], one) for name, one in state.items() if "text_projection" not in name)
    assert torch.equal(theirs["text_projection.weight"], state["text_projection.weight"].T)
