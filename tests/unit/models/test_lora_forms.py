"""A LoRA file is called what it is, by names and shapes, and a converted one computes what the given one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashion_ml.deploy.export_file import convert_lora
from fashion_ml.deploy.inspect_file import inspect_lora
from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.kohya_format import check_lora
from fashion_ml.models.lora import LoraSpec
from fashion_ml.models.lora_forms import TRANSFORMER, dora_axis, recognise
from fashion_ml.models.stable_diffusion import load_pipeline

Tensors = dict[str, torch.Tensor]
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
KOHYA = "lora_unet_" + ATTENTION.replace(".", "_")
TEXT = "encoder_layers_0_self_attn_q_proj"


def plain(
    name: str, down: str = ".lora_down.weight", up: str = ".lora_up.weight", width: int = 768
) -> dict[str, tuple[int, ...]]:
    return {name + down: (4, width), name + up: (320, 4)}


FORMS: list[tuple[str, dict[str, tuple[int, ...]], str, str, str]] = [
    ("kohya", plain(KOHYA), "LoRA", "kohya", "SD 1.x"),
    ("kohya of SD 2", plain(KOHYA, width=1024), "LoRA", "kohya", "SD 2.x"),
    ("kohya of SDXL", plain(KOHYA, width=2048), "LoRA", "kohya", "SDXL"),
    ("SDXL's second text encoder", plain(f"lora_te2_text_model_{TEXT}"), "LoRA", "kohya", "SDXL"),
    ("original names of SD 1", plain("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"), "LoRA", "kohya", "SD 1.x"),
    ("LoCon", {"lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3), **plain(KOHYA)}, "LoCon", "kohya", "SD 1.x"),
    (
        "LoCon with a core",
        {**plain(KOHYA), f"{KOHYA}.lora_mid.weight": (4, 4, 3, 3)},
        "LoCon with a core",
        "LyCORIS in kohya's trainer",
        "SD 1.x",
    ),
    ("DoRA", {**plain(KOHYA), f"{KOHYA}.dora_scale": (320, 1)}, "DoRA", "kohya", "SD 1.x"),
    (
        "DoRA of inputs",
        {**plain(KOHYA), f"{KOHYA}.dora_scale": (1, 768)},
        "DoRA along the inputs",
        "LyCORIS in kohya's trainer",
        "SD 1.x",
    ),
    ("LoHa", {f"{KOHYA}.hada_w1_a": (320, 4), f"{KOHYA}.hada_w1_b": (4, 768)}, "LoHa", "LyCORIS in kohya's trainer", "SD 1.x"),
    ("LoKr", {f"{KOHYA}.lokr_w1": (4, 4), f"{KOHYA}.lokr_w2": (80, 192)}, "LoKr", "LyCORIS in kohya's trainer", "SD 1.x"),
    ("LyCORIS alone", plain("lycoris_" + ATTENTION.replace(".", "_")), "LoRA", "LyCORIS", "SD 1.x"),
    ("OFT", {f"{KOHYA}.oft_blocks": (4, 80, 80)}, "OFT", "LyCORIS in kohya's trainer", "unknown"),
    ("(IA)^3", {f"{KOHYA}.weight": (320,), f"{KOHYA}.on_input": ()}, "(IA)^3", "LyCORIS in kohya's trainer", "unknown"),
    ("diffusers", plain(f"unet.{ATTENTION}", ".lora_A.weight", ".lora_B.weight"), "LoRA", "diffusers", "SD 1.x"),
    (
        "diffusers, older",
        plain(f"unet.{ATTENTION}", ".lora.down.weight", ".lora.up.weight"),
        "LoRA",
        "diffusers before 0.26",
        "SD 1.x",
    ),
    (
        "diffusers, processors",
        plain(ATTENTION.replace("to_k", "processor.to_k"), "_lora.down.weight", "_lora.up.weight"),
        "LoRA",
        "diffusers before 0.22",
        "SD 1.x",
    ),
    ("PEFT", plain(f"base_model.model.{ATTENTION}", ".lora_A.weight", ".lora_B.weight"), "LoRA", "PEFT", "SD 1.x"),
    ("cloneofsimo", {"unet:0:up": (320, 4), "unet:0:down": (4, 768)}, "LoRA", "cloneofsimo", "unknown"),
    ("Flux of kohya", plain("lora_unet_double_blocks_0_img_attn_qkv", width=3072), "LoRA", "kohya", "Flux"),
    (
        "Flux with its text encoder",
        {**plain(f"lora_te1_text_model_{TEXT}"), **plain("lora_unet_single_blocks_0_linear1", width=3072)},
        "LoRA",
        "kohya",
        "Flux",
    ),
    (
        "Flux of diffusers",
        plain("transformer.single_transformer_blocks.0.attn.to_q", ".lora_A.weight", ".lora_B.weight"),
        "LoRA",
        "diffusers",
        "Flux",
    ),
    ("SD 3", plain("lora_unet_joint_blocks_0_x_block_attn_qkv"), "LoRA", "kohya", "SD 3"),
    (
        "SD 3 of diffusers",
        plain("transformer.transformer_blocks.0.attn.to_q", ".lora_A.weight", ".lora_B.weight", width=1536),
        "LoRA",
        "diffusers",
        "SD 3",
    ),
    (
        "one of many transformers",
        plain("transformer.transformer_blocks.0.attn.to_q", ".lora_A.weight", ".lora_B.weight", width=3072),
        "LoRA",
        "diffusers",
        TRANSFORMER,
    ),
    ("a transformer in kohya's names", plain("lora_unet_blocks_0_self_attn_q", width=1536), "LoRA", "kohya", TRANSFORMER),
    ("SDXL's modules in kohya's names", plain("lora_unet_input_blocks_4_1_proj_in", width=640), "LoRA", "kohya", "SDXL"),
    (
        "SDXL's middle block in kohya's names",
        plain("lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q", width=1280),
        "LoRA",
        "kohya",
        "SDXL",
    ),
    (
        "SDXL in ComfyUI's names",
        plain("diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k", ".lora_A.weight", ".lora_B.weight", width=2048),
        "LoRA",
        "ComfyUI",
        "SDXL",
    ),
]


@pytest.mark.parametrize(("shapes", "method", "names", "base"), [one[1:] for one in FORMS], ids=[one[0] for one in FORMS])
def test_a_file_is_named_by_its_names_and_shapes(shapes: dict[str, tuple[int, ...]], method: str, names: str, base: str):
    form = recognise(shapes, {})
    assert form is not None
    assert (method in form.methods, form.names, form.base) == (True, names, base), form


def test_a_base_model_is_no_lora():
    assert recognise({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, {}) is None


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((320, 1), "outputs"), ((1, 320), "inputs"), ((320,), "outputs"), ((1, 4, 1, 1), "inputs"), ((4, 1, 1, 1), "outputs")],
)
def test_magnitudes_are_told_apart_by_their_shape(shape: tuple[int, ...], axis: str):
    assert dora_axis(shape) == axis


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def said(path: Path) -> torch.Tensor:
    pipeline = load_pipeline("embedded")
    apply_lora(pipeline, path)
    with torch.no_grad():
        inputs: Any = random(1, 4, 16, 16, seed=1), torch.tensor([300]), random(1, 32, 128, seed=2)
        return pipeline.unet(*inputs).sample


def given(form: str) -> tuple[Tensors, dict[str, str]]:
    out, width = load_pipeline("embedded").unet.get_submodule(ATTENTION).weight.shape
    down, up = random(4, width, seed=3), random(out, 4, seed=4)
    magnitude = random(out, seed=5).abs() + 1
    told = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 2})}
    forms: dict[str, tuple[Tensors, dict[str, str]]] = {
        "diffusers": ({f"unet.{ATTENTION}.lora_A.weight": down, f"unet.{ATTENTION}.lora_B.weight": up}, told),
        "older": ({f"unet.{ATTENTION}.lora.down.weight": down, f"unet.{ATTENTION}.lora.up.weight": up}, {}),
        "processors": (
            {f"{ATTENTION[:-5]}.processor.to_k_lora.{part}.weight": one for part, one in (("down", down), ("up", up))},
            {},
        ),
        "PEFT": (
            {
                f"base_model.model.{ATTENTION}.lora_A.weight": down,
                f"base_model.model.{ATTENTION}.lora_B.weight": up,
                f"base_model.model.{ATTENTION}.lora_magnitude_vector": magnitude,
            },
            {},
        ),
        "LyCORIS": (
            {
                f"lycoris_{ATTENTION.replace('.', '_')}.{name}": random(*shape, seed=seed)
                for seed, (name, shape) in enumerate(
                    (("hada_w1_a", (out, 2)), ("hada_w1_b", (2, width)), ("hada_w2_a", (out, 2)), ("hada_w2_b", (2, width)))
                )
            }
            | {f"lycoris_{ATTENTION.replace('.', '_')}.alpha": torch.tensor(1.0)},
            {},
        ),
    }
    return forms[form]


@pytest.mark.parametrize("form", ["diffusers", "older", "processors", "PEFT", "LyCORIS"])
def test_a_converted_file_computes_what_the_given_one_does(form: str, tmp_path: Path):
    tensors, metadata = given(form)
    save_file(tensors, tmp_path / "given.safetensors", metadata)
    convert_lora(tmp_path / "given.safetensors", "kohya", tmp_path / "kohya.safetensors", "embedded")
    assert all(name.startswith(f"{KOHYA}.") for name in load_file(tmp_path / "kohya.safetensors"))
    torch.testing.assert_close(said(tmp_path / "kohya.safetensors"), said(tmp_path / "given.safetensors"), atol=1e-5, rtol=0)


def test_a_file_of_stable_diffusion_1_is_converted_without_its_base(tmp_path: Path):
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"unet.{name}.lora_A.weight": random(4, 768).half(), f"unet.{name}.lora_B.weight": random(320, 4).half()}
    save_file(tensors, tmp_path / "given.safetensors")
    convert_lora(tmp_path / "given.safetensors", "kohya", tmp_path / "kohya.safetensors")
    made = load_file(tmp_path / "kohya.safetensors")
    module = "lora_unet_" + name.replace(".", "_")
    assert made[f"{module}.alpha"].item() == 4
    assert torch.equal(made[f"{module}.lora_down.weight"], tensors[f"unet.{name}.lora_A.weight"])


def test_what_cannot_be_converted_is_refused_by_its_name(tmp_path: Path):
    for shapes, says in (
        (plain("lora_unet_double_blocks_0_img_attn_qkv"), "is LoRA of Flux, in the names of kohya: nothing here"),
        ({"unet:0:up": (320, 4), "unet:0:down": (4, 320)}, "modules have numbers instead of names"),
        (plain(f"unet.{ATTENTION}", ".lora_A.weight", ".lora_B.weight", 128), "cross-attention of 128 numbers.*--base"),
    ):
        path = tmp_path / "x.safetensors"
        save_file({name: random(*shape) for name, shape in shapes.items()}, path)
        with pytest.raises(InputError, match=says):
            convert_lora(path, "kohya", tmp_path / "y.safetensors")


def test_going_on_from_another_form_names_it_and_the_command(tmp_path: Path):
    pipeline, path = load_pipeline("embedded"), tmp_path / "x.safetensors"
    save_file(given("older")[0], path)
    with pytest.raises(InputError, match=r"in the names of diffusers before 0\.26, .*export FILE OUT --format kohya"):
        check_lora(path, pipeline.unet, pipeline.text_encoder, LoraSpec(rank=4, alpha=4.0))


def test_inspecting_says_norms_effective_rank_hashes_nan_and_draws(tmp_path: Path):
    down = torch.zeros(2, 3)
    down[0, 0], down[1, 1] = 3.0, 4.0
    path, up = tmp_path / "x.safetensors", torch.eye(5, 2)
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    bad = {f"{KOHYA}.lora_down.weight": torch.full((2, 3), float("nan")), f"{KOHYA}.lora_up.weight": torch.ones(5, 2)}
    own = {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up, f"{module}.alpha": torch.tensor(1.0)}
    save_file(own | bad, path)
    facts = inspect_lora(path, tmp_path / "x.png")
    assert facts["norms"]["mid"] == pytest.approx(2.5)  # half of sqrt(3^2 + 4^2)
    assert facts["effective_ranks"]["mid"] == pytest.approx((3 / 7) ** (-3 / 7) * (4 / 7) ** (-4 / 7))
    assert facts["scale"] == [0.5, 1.0]
    assert facts["not_finite"] == [f"{KOHYA}.lora_down.weight"]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
