"""A LoRA file of any program on a base is exactly what its numbers say, or it is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn import functional

from fashion_ml.errors import InputError
from fashion_ml.models.applied_lora import apply_lora
from fashion_ml.models.stable_diffusion import load_pipeline

Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"

Tensors = dict[str, torch.Tensor]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def kohya(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    unet = load_pipeline("embedded").unet
    return {name: tuple(unet.get_submodule(name).weight.shape) for name in (Q, K, CONV)}


def of_unet(pipeline: Any) -> torch.Tensor:
    """What the UNet makes of fixed inputs."""
    inputs = random(1, 4, 16, 16, seed=1), torch.tensor([300]), random(1, 32, 128, seed=2)
    with torch.no_grad():
        return pipeline.unet(inputs[0], inputs[1], encoder_hidden_states=inputs[2]).sample


def applied(tensors: Tensors, path: Path, metadata: dict[str, str] | None = None) -> torch.Tensor:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    pipeline = load_pipeline("embedded")
    apply_lora(pipeline, path)
    return of_unet(pipeline)


def with_weights(changes: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the UNet makes with something added to weights by hand."""
    pipeline = load_pipeline("embedded")
    for name, change in changes.items():
        pipeline.unet.get_submodule(name).weight.data += change
    return of_unet(pipeline)


def plain(shape: tuple[int, ...], rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Up and down of a weight of that shape."""
    ones = [1] * (len(shape) - 2)
    return random(shape[0], rank, *ones, seed=seed), random(rank, *shape[1:], seed=seed + 1)


def mixed(shapes: dict[str, tuple[int, ...]]) -> tuple[Tensors, dict[str, torch.Tensor]]:
    """A kohya file whose modules differ in rank and alpha, and what it adds, by the formula."""
    tensors, adds = Tensors(), {}
    for seed, (name, rank, alpha) in enumerate(((Q, 4, 1.0), (K, 2, 3.0), (CONV, 3, 0.5)), 10):
        up, down = plain(shapes[name], rank, 2 * seed)
        tensors |= {f"{kohya(name)}.lora_up.weight": up, f"{kohya(name)}.lora_down.weight": down}
        tensors[f"{kohya(name)}.alpha"] = torch.tensor(alpha)
        adds[name] = (alpha / rank * (up.flatten(1) @ down.flatten(1))).reshape(shapes[name])
    return tensors, adds


def test_every_module_has_its_own_rank_and_alpha(shapes: dict[str, tuple[int, ...]], tmp_path: Path):
    tensors, adds = mixed(shapes)
    torch.testing.assert_close(applied(tensors, tmp_path / "x.safetensors"), with_weights(adds), atol=1e-5, rtol=1e-5)


def test_a_file_of_one_rank_is_bit_for_bit_what_diffusers_makes_of_it(shapes: dict[str, tuple[int, ...]], tmp_path: Path):
    tensors = Tensors()
    for seed, name in enumerate((Q, K, CONV)):
        up, down = plain(shapes[name], 4, 2 * seed)
        tensors |= {f"{kohya(name)}.lora_up.weight": up, f"{kohya(name)}.lora_down.weight": down}
        tensors[f"{kohya(name)}.alpha"] = torch.tensor(2.7)
    ours = applied(tensors, tmp_path / "x.safetensors")
    pipeline = load_pipeline("embedded")
    pipeline.load_lora_weights(str(tmp_path), weight_name="x.safetensors")
    assert torch.equal(ours, of_unet(pipeline))


def test_without_an_alpha_and_with_0_the_scale_is_1_as_kohya_reads_it(shapes: dict[str, tuple[int, ...]], tmp_path: Path):
    up, down = plain(shapes[Q], 4, 0)
    tensors = {f"{kohya(Q)}.lora_up.weight": up, f"{kohya(Q)}.lora_down.weight": down}
    expected = with_weights({Q: up @ down})
    for more in ({}, {f"{kohya(Q)}.alpha": torch.tensor(0.0)}):
        torch.testing.assert_close(applied(tensors | more, tmp_path / "x.safetensors"), expected, atol=1e-5, rtol=1e-5)


def test_strength_scales_what_is_added_and_0_and_removal_give_the_base_bit_for_bit(
    shapes: dict[str, tuple[int, ...]], tmp_path: Path
):
    tensors, adds = mixed(shapes)
    whole = torch.randn(shapes[K], generator=torch.Generator().manual_seed(7)) * 0.1
    tensors = {name: x for name, x in tensors.items() if not name.startswith(kohya(K))} | {f"{kohya(K)}.diff": whole}
    adds[K] = whole
    save_file(tensors, tmp_path / "x.safetensors")
    pipeline, base = load_pipeline("embedded"), of_unet(load_pipeline("embedded"))
    lora = apply_lora(pipeline, tmp_path / "x.safetensors")
    full = of_unet(pipeline)
    assert lora.methods == {"LoRA": 2, "full difference": 1}
    lora.set_strength(0.4)
    half = with_weights({name: 0.4 * change for name, change in adds.items()})
    torch.testing.assert_close(of_unet(pipeline), half, atol=1e-5, rtol=1e-5)
    lora.set_strength(0)
    assert torch.equal(of_unet(pipeline), base)
    lora.set_strength(1)
    assert torch.equal(of_unet(pipeline), full)
    lora.remove()
    assert torch.equal(of_unet(pipeline), base)
    apply_lora(pipeline, tmp_path / "x.safetensors")
    assert torch.equal(of_unet(pipeline), full)


def test_locon_with_a_core_is_three_convolutions_one_after_the_other(shapes: dict[str, tuple[int, ...]], tmp_path: Path):
    out, into, *_ = shapes[CONV]
    down, core, up = random(3, into, 1, 1, seed=1), random(3, 3, 3, 3, seed=2), random(out, 3, 1, 1, seed=3)
    names = {"lora_down": down, "lora_mid": core, "lora_up": up}
    tensors = {f"{kohya(CONV)}.{name}.weight": tensor for name, tensor in names.items()}
    pipeline = load_pipeline("embedded")
    layer = pipeline.unet.get_submodule(CONV)
    before = layer.forward
    layer.forward = lambda x: (  # alpha 1.5 of rank 3
        before(x) + 0.5 * functional.conv2d(functional.conv2d(functional.conv2d(x, down), core, padding=1), up)
    )
    found = applied({**tensors, f"{kohya(CONV)}.alpha": torch.tensor(1.5)}, tmp_path / "x.safetensors")
    torch.testing.assert_close(found, of_unet(pipeline), atol=1e-5, rtol=1e-5)


LOHA = {"r": 3, "alpha": 2, "target_modules": [Q, K, CONV], "init_weights": False}


@pytest.mark.parametrize(
    "config",
    [
        lambda: LoHaConfig(**LOHA),
        lambda: LoHaConfig(**LOHA, use_effective_conv2d=True),
        lambda: LoKrConfig(**LOHA),
        lambda: LoKrConfig(**LOHA, decompose_both=True, decompose_factor=4),
        lambda: LoKrConfig(**LOHA, decompose_both=True, use_effective_conv2d=True, decompose_factor=8),
        lambda: LoraConfig(r=3, lora_alpha=2, target_modules=[Q, K, CONV], init_lora_weights=False),
        lambda: LoraConfig(
            r=3, lora_alpha=2, target_modules=[Q, K], alpha_pattern={"attn2.to_k": 7}, rank_pattern={"attn1.to_q": 5},
            init_lora_weights=False,
        ),
        lambda: LoraConfig(r=3, lora_alpha=2, target_modules=[Q, K], use_rslora=True, init_lora_weights=False),
        lambda: LoraConfig(r=3, lora_alpha=2, target_modules=[Q, K], use_dora=True, init_lora_weights=False),
    ],
)  # fmt: skip
def test_an_adapter_of_peft_is_what_peft_computes(config: Callable[[], Any], tmp_path: Path):
    pipeline = load_pipeline("embedded")
    torch.manual_seed(0)
    model = get_peft_model(
        pipeline.unet, config(), autocast_adapter_dtype=False
    )  # peft 0.19 casts by dtypes newer than torch 2.6
    for name, parameter in model.named_parameters():  # peft's own draws differ by kind
        if "lora_" in name or "hada_" in name or "lokr_" in name:
            parameter.data.add_(0.4 * torch.randn(parameter.shape))
    model.save_pretrained(tmp_path)
    pipeline.unet = model.base_model.model
    expected = of_unet(pipeline)
    fresh = load_pipeline("embedded")
    assert apply_lora(fresh, tmp_path / "adapter_model.safetensors").form == "PEFT"
    torch.testing.assert_close(of_unet(fresh), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected, of_unet(load_pipeline("embedded")), atol=1e-3)


def test_diffusers_own_files_of_mixed_alphas_say_them_in_their_metadata(tmp_path: Path):
    pipeline = load_pipeline("embedded")
    config = LoraConfig(r=3, lora_alpha=2, target_modules=[Q, K], alpha_pattern={Q: 9}, init_lora_weights=False)
    pipeline.unet.add_adapter(config)
    expected = of_unet(pipeline)
    layers = get_peft_model_state_dict(pipeline.unet)
    told = {"unet_lora_adapter_metadata": pipeline.unet.peft_config["default"].to_dict()}
    pipeline.save_lora_weights(str(tmp_path), unet_lora_layers=layers, **told)
    fresh = load_pipeline("embedded")
    apply_lora(fresh, tmp_path / "pytorch_lora_weights.safetensors")
    torch.testing.assert_close(of_unet(fresh), expected, atol=1e-5, rtol=1e-5)


def test_one_module_is_found_under_the_names_of_every_program(shapes: dict[str, tuple[int, ...]], tmp_path: Path):
    up, down = plain(shapes[Q], 4, 0)
    expected = applied({f"{kohya(Q)}.lora_up.weight": up, f"{kohya(Q)}.lora_down.weight": down}, tmp_path / "kohya.safetensors")
    old = f"unet.{Q.replace('attn1.', 'attn1.processor.')}_lora"
    for first, second in (
        (f"unet.{Q}.lora.up.weight", f"unet.{Q}.lora.down.weight"),
        (f"{old}.up.weight", f"{old}.down.weight"),
        (f"{old.removeprefix('unet.')}.up.weight", f"{old.removeprefix('unet.')}.down.weight"),
        (f"unet.{Q}.lora_B.weight", f"unet.{Q}.lora_A.weight"),
        (f"base_model.model.{Q}.lora_B.default.weight", f"base_model.model.{Q}.lora_A.default.weight"),
        (
            f"lycoris_{kohya(Q).removeprefix('lora_unet_')}.lora_up.weight",
            f"lycoris_{kohya(Q).removeprefix('lora_unet_')}.lora_down.weight",
        ),
    ):
        assert torch.equal(applied({first: up, second: down}, tmp_path / "x.safetensors"), expected), first


@pytest.mark.parametrize(
    "name",
    [
        f"lora_te_text_model_{TEXT.replace('.', '_')}.lora_{{}}.weight",
        f"text_encoder.text_model.{TEXT}.lora_linear_layer.{{}}.weight",
        f"text_encoder.text_model.{TEXT.replace('q_proj', 'to_q_lora')}.{{}}.weight",
        f"lycoris_text_model_{TEXT.replace('.', '_')}.lora_{{}}.weight",
    ],
)
def test_the_text_encoder_has_its_part_too(name: str, tmp_path: Path):
    def read(pipeline: Any) -> torch.Tensor:
        with torch.no_grad():
            return pipeline.text_encoder(torch.arange(32)[None] + 3)[0]

    pipeline, by_hand = load_pipeline("embedded"), load_pipeline("embedded")
    hand = getattr(by_hand.text_encoder, "text_model", by_hand.text_encoder).get_submodule(TEXT)
    up, down = plain(tuple(hand.weight.shape), 2, 0)
    hand.weight.data += up @ down
    save_file({name.format("up"): up, name.format("down"): down}, tmp_path / "x.safetensors")
    apply_lora(pipeline, tmp_path / "x.safetensors")
    torch.testing.assert_close(read(pipeline), read(by_hand), atol=1e-5, rtol=1e-5)


def module(name: str, **parts: torch.Tensor) -> Tensors:
    return {f"{name}.{part.replace('__', '.')}": tensor for part, tensor in parts.items()}


GOOD = {"lora_up__weight": torch.ones(128, 2), "lora_down__weight": torch.ones(2, 128)}
"""Of to_q, 128 to 128."""
LOHA_PARTS = {"hada_w1_a": torch.ones(128, 2), "hada_w1_b": torch.ones(2, 128)}
LOHA_PARTS |= {"hada_w2_a": torch.ones(128, 2), "hada_w2_b": torch.ones(2, 128)}
REFUSED: list[tuple[Tensors, str]] = [
    (module(kohya(Q), oft_blocks=torch.ones(4, 4, 4)), r"made for another base .*turns 16 outputs, and the base's weight is \[128, 128\]"),
    (module(kohya(Q), oft_diag=torch.ones(4, 4, 4)), r"holds OFT of another kind .*\(lora_unet_\S+oft_diag\), which is not applied"),
    (module(kohya(Q), weight=torch.ones(64), on_input=torch.tensor(1.0)), "made for another base .*scales 64 inputs, and the base"),
    (module(kohya(Q), **GOOD) | module(kohya(Q), lora_up__bias=torch.ones(128)), "holds a LoRA with biases"),
    (module(kohya(Q), **LOHA_PARTS, dora_scale=torch.ones(128, 1)), "holds DoRA of LoHa"),
    (module(kohya(Q), **GOOD, dora_scale=torch.ones(1, 128)), "holds DoRA along the inputs"),
    (module(kohya(Q), lora_up__weight=torch.ones(128, 2)), "holds only up of the module of .*no whole LoRA"),
    (module(kohya(Q), **GOOD | {"lora_up__weight": torch.ones(64, 2)}), r"was made for another base .*\[64, 128\]"),
    (module("lora_te1_text_model_encoder_layers_0_mlp_fc1", **GOOD), r"is a LoRA of SDXL \(it holds lora_te1_"),
    (module(kohya(K), lora_up__weight=torch.ones(128, 2), lora_down__weight=torch.ones(2, 1024)), r"a LoRA of SD 2\.x \(cross-att"),
    (module(kohya(Q), **GOOD) | module(kohya(Q.replace("_blocks.1", "_blocks.7")), **GOOD), "holds 2 modules, .* lacks 1 .first lora"),
    (module(kohya(Q), **GOOD) | module("unet." + Q, **GOOD), "holds one module twice"),
    (module(kohya(Q), **GOOD) | {"strange.lora_thing": torch.ones(1)}, "holds what is of no LoRA known here .strange"),
]  # fmt: skip


@pytest.mark.parametrize(("tensors", "says"), REFUSED)
def test_what_is_not_applied_is_refused_by_name(tensors: Tensors, says: str, tmp_path: Path):
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=says) as error:
        apply_lora(load_pipeline("embedded"), tmp_path / "x.safetensors")
    assert len(error.value.problems) == 1


def test_a_base_that_the_metadata_names_is_said(tmp_path: Path):
    save_file(module(kohya(Q), **GOOD), tmp_path / "x.safetensors", {"ss_base_model_version": "sdxl_base_v1-0"})
    with pytest.raises(InputError, match=r"a LoRA of SDXL \(its metadata says ss_base_model_version sdxl_base_v1-0\)"):
        apply_lora(load_pipeline("embedded"), tmp_path / "x.safetensors")


def test_alpha_of_peft_without_its_configuration_is_said(
    shapes: dict[str, tuple[int, ...]], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    up, down = plain(shapes[Q], 2, 0)
    applied(
        {f"base_model.model.{Q}.lora_B.weight": up, f"base_model.model.{Q}.lora_A.weight": down}, tmp_path / "x.safetensors"
    )
    assert "says no alpha" in caplog.text
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 1}), encoding="utf-8")
    found = applied(
        {f"base_model.model.{Q}.lora_B.weight": up, f"base_model.model.{Q}.lora_A.weight": down}, tmp_path / "x.safetensors"
    )
    torch.testing.assert_close(found, with_weights({Q: 0.5 * up @ down}), atol=1e-5, rtol=1e-5)
