"""A rank and an alpha of their own for the 3 x 3 convolutions: on the model, in the file, read again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fashion_ml.deploy.inspect_file import inspect_lora
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import check_lora, load_lora, lora_tensors, save_lora, spec_of
from fashion_ml.models.lora import LoraSpec, add_lora
from fashion_ml.models.stable_diffusion import load_pipeline

SPEC = LoraSpec(rank=4, alpha=2.0, convolutions=True, conv_rank=2, conv_alpha=1.5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A file of such a LoRA with weights that are not zero, and what the UNet then says."""
    pipeline, path = load_pipeline("embedded"), tmp_path_factory.mktemp("lora") / "lora.safetensors"
    draws = torch.Generator().manual_seed(0)
    for parameter in add_lora(pipeline.unet, pipeline.text_encoder, SPEC, seed=1).all:
        parameter.data.copy_(torch.randn(parameter.shape, generator=draws) * 0.1)
    save_lora(path, lora_tensors(pipeline.unet, pipeline.text_encoder, SPEC), {})
    return path, said(pipeline)


def said(pipeline: object) -> torch.Tensor:
    draws = torch.Generator().manual_seed(3)
    unet = pipeline.unet  # type: ignore[attr-defined]
    noisy = torch.randn(1, 4, 8, 8, generator=draws)
    text = torch.randn(1, 7, unet.config.cross_attention_dim, generator=draws)
    with torch.no_grad():
        return unet(noisy, torch.tensor([500]), text).sample


def test_the_file_has_the_rank_and_the_alpha_of_each_kind(written: tuple[Path, torch.Tensor]):
    tensors = load_file(written[0])
    downs = {name.partition(".")[0]: tensor for name, tensor in tensors.items() if name.endswith("lora_down.weight")}
    kinds = {tuple(tensor.shape[2:]) == (3, 3): set() for tensor in downs.values()}
    for name, tensor in downs.items():
        kinds[tuple(tensor.shape[2:]) == (3, 3)].add((tensor.shape[0], tensors[f"{name}.alpha"].item()))
    assert kinds == {False: {(4, 2.0)}, True: {(2, 1.5)}}
    assert spec_of(tensors) == SPEC
    assert inspect_lora(written[0])["rank"] == [2, 4]


def test_diffusers_and_a_continued_training_compute_what_was_trained(written: tuple[Path, torch.Tensor]):
    path, expected = written
    evaluated, continued = load_pipeline("embedded"), load_pipeline("embedded")
    apply_lora(evaluated, path)
    assert torch.allclose(said(evaluated), expected, atol=1e-5)
    again = LoraSpec(rank=4, alpha=4.0, convolutions=True, conv_rank=2)
    add_lora(continued.unet, continued.text_encoder, again, seed=2)
    load_lora(path, continued.unet, continued.text_encoder, again)
    assert torch.allclose(said(continued), expected, atol=1e-5)
    assert not torch.allclose(said(load_pipeline("embedded")), expected, atol=1e-2)


def test_another_rank_is_refused_by_the_name_of_its_setting(written: tuple[Path, torch.Tensor]):
    pipeline = load_pipeline("embedded")
    with pytest.raises(InputError, match=r"network\.conv_rank: 4, but .* has rank 2; set it to 2"):
        check_lora(written[0], pipeline.unet, pipeline.text_encoder, LoraSpec(rank=4, alpha=2.0, convolutions=True))


def test_alpha_of_convolutions_follows_their_rank_or_the_others_alpha():
    given = [(None, None), (2, None), (None, 3.0), (2, 3.0)]
    specs = [LoraSpec(rank=4, alpha=1.0, convolutions=True, conv_rank=rank, conv_alpha=alpha) for rank, alpha in given]
    assert [(spec.rank_of(True), spec.alpha_of(True)) for spec in specs] == [(4, 1.0), (2, 2.0), (4, 3.0), (2, 3.0)]
    assert all((spec.rank_of(False), spec.alpha_of(False)) == (4, 1.0) for spec in specs)


def test_inspecting_a_folder_names_the_file_inside(tmp_path: Path):
    with pytest.raises(InputError, match=r"is a folder; give a LoRA's \.safetensors file"):
        inspect_lora(tmp_path)
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(InputError, match=r"is a folder; give '.*a\.safetensors'"):
        inspect_lora(tmp_path)
