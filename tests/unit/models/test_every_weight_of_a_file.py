"""Single files as they are passed around: every weight of the base comes from the file, or one line says which does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from fashion_ml.errors import InputError
from fashion_ml.models import single_file
from fashion_ml.models.original_checkpoint import original_tensors
from fashion_ml.models.original_names import OriginalNames
from fashion_ml.models.single_file import CONFIGS, load_single_file
from fashion_ml.models.stable_diffusion import find_base, load_pipeline
from fashion_ml.models.vae import load_vae

Tensors = dict[str, torch.Tensor]
TEXT = "cond_stage_model.transformer.text_model."
UNET = "model.diffusion_model."
NARROW: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": [32, 32, 32, 32], "attention_head_dim": 8},
    "vae": {"block_out_channels": [32, 32, 32, 32]},
    "text_encoder": {"num_hidden_layers": 1, "intermediate_size": 32, "vocab_size": 16},
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The structures of SD 1.x and 2.x, narrow."""
    place = tmp_path_factory.mktemp("configs")
    for path in CONFIGS.rglob("*.json"):
        copy = place / path.relative_to(CONFIGS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(json.loads(path.read_text("utf-8")) | NARROW.get(path.parent.name, {})), "utf-8")
    return place


@pytest.fixture(autouse=True)
def narrow(configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_file, "CONFIGS", configs)


@pytest.fixture(scope="module")
def base(configs: Path) -> Any:
    """A random base of SD 1.x's structure, far from initial values."""
    torch.manual_seed(0)
    folder = configs / "sd1"
    parts = SimpleNamespace(
        unet=UNet2DConditionModel.from_config(folder / "unet"),
        vae=AutoencoderKL.from_config(folder / "vae"),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        scheduler=DDIMScheduler.from_config(folder / "scheduler"),
    )
    for model in (parts.unet, parts.vae, parts.text_encoder):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    return parts


@pytest.fixture(scope="module")
def tensors(base: Any) -> Tensors:
    return {name: tensor.half() for name, tensor in original_tensors(base).items()}


def write(tensors: Tensors, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def check_equal(base: Any, loaded: Any, parts: tuple[str, ...] = ("unet", "vae", "text_encoder")) -> None:
    """All weights are those of the base in half precision."""
    for part in parts:
        before, after = getattr(base, part).state_dict(), getattr(loaded, part).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(tensor.half(), after[name].half()) for name, tensor in before.items())


def renamed(rename: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {rename(name): tensor for name, tensor in tensors.items()}


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}


def also(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensor}


GOOD: dict[str, Callable[[Tensors], Tensors]] = {
    "NovelAI's text encoder": renamed(lambda name: name.replace(TEXT, "cond_stage_model.transformer.")),
    "position ids spoiled by a merge": also(f"{TEXT}embeddings.position_ids", torch.arange(77)[None].half() * 0.99),
    "DistributedDataParallel": renamed(lambda name: f"module.{name}"),
    "torch.compile of the UNet": renamed(lambda name: name.replace(UNET, f"{UNET}_orig_mod.")),
    "a text encoder inside wrappers": renamed(
        lambda name: name.replace(TEXT, "cond_stage_model.text_encoder.module.text_model.")
    ),
    "a VAE's training loss beside it": also("first_stage_model.loss.discriminator.main.0.weight", torch.ones(2)),
}


@pytest.mark.parametrize("kind", GOOD)
def test_known_spellings_are_renamed(kind: str, base: Any, tensors: Tensors, tmp_path: Path):
    check_equal(base, load_pipeline(str(write(GOOD[kind](tensors), tmp_path / "model.safetensors"))))


def test_the_ending_counts_in_any_case(base: Any, tensors: Tensors, tmp_path: Path):
    check_equal(base, load_pipeline(str(write(tensors, tmp_path / "MODEL.SAFETENSORS"))))


def test_an_averaged_unet_and_what_a_training_left_are_not_read_and_said(
    base: Any, tensors: Tensors, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    averaged = {f"model_ema.{name.replace('.', '')}": tensor * 0 for name, tensor in tensors.items() if name.startswith(UNET)}
    path = write(
        {**tensors, **averaged, "optimizer.state": torch.zeros(3), "betas": torch.zeros(9)}, tmp_path / "m.safetensors"
    )
    with caplog.at_level("INFO", "fashion_ml"):
        check_equal(base, load_single_file(path))
    assert "m.safetensors: the averaged UNet in it (model_ema, 682 tensors) is not read" in caplog.text
    assert "1 tensors in it belong to no part of Stable Diffusion and are not read (first optimizer.state)" in caplog.text


OUT = f"{UNET}out.2.weight"
BAD: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a lost norm": (
        without("final_layer_norm"),
        r"lacks 2 of its 20 weights \(first final_layer_norm\.weight\): half a download",
    ),
    "no embedding": (without("token_embedding"), r"lacks 1 of its 20 weights \(embeddings\.token_embedding\.weight\)"),
    "a VAE that only decodes": (
        without("first_stage_model.encoder"),
        r"lacks 102 of its 240 .*first_stage_model\.encoder\.conv_in",
    ),
    "a VAE without quant_conv": (
        without("quant_conv"),
        r"lacks 4 of its 240 weights \(first first_stage_model\.quant_conv\.weight",
    ),
    "a lost attention": (without("input_blocks.1.1.transformer_blocks.0.attn1"), r"lacks 5 of its 682 .*attn1\.to_q\.weight"),
    "no output": (
        without("diffusion_model.out."),
        r"lacks 4 of its 682 weights \(first model\.diffusion_model\.out\.0\.weight",
    ),
    "another shape": (
        also(OUT, torch.zeros(4, 16, 3, 3)),
        r"1 weight of another shape, model\.diffusion_model\.out\.2\.weight: \[4, 16",
    ),
    "an unknown weight": (
        also(f"{UNET}adapter.weight", torch.zeros(1)),
        r"holds 1 that its model does not have \(adapter\.weight\)",
    ),
    "NaN": (
        lambda t: {**t, OUT: t[OUT] * float("nan")},
        r"NaN or Inf in model\.diffusion_model\.out\.2\.weight \(1152 numbers\)",
    ),
    "Inf in two": (
        lambda t: {
            name: tensor / 0 if name.endswith("out.2.bias") or "ln_final" in name else tensor for name, tensor in t.items()
        },
        r"NaN or Inf in model\.diffusion_model\.out\.2\.bias \(4 numbers\)",
    ),
    "quantised": (
        lambda t: {**t, OUT: t[OUT].to(torch.int8), f"{UNET}out.2.weight.absmax": torch.zeros(1)},
        "holds 1 that its model does not have .*: it is quantised",
    ),
    "whole numbers": (
        lambda t: {**t, OUT: t[OUT].to(torch.int8)},
        r"1 weights as whole numbers .*out\.2\.weight, torch\.int8\)",
    ),
    "a LoRA not merged": (
        also(f"{UNET}out.2.lora_A.default.weight", torch.zeros(1)),
        "saved with a LoRA on it; merge the LoRA first",
    ),
    "one weight twice": (
        also(f"{TEXT}module.final_layer_norm.bias", torch.zeros(768)),
        r"holds one weight twice with different values, as .*final_layer_norm",
    ),
}


def test_weights_under_two_spellings_with_equal_values_are_read_once(base: Any, tensors: Tensors, tmp_path: Path):
    text = {name: tensor for name, tensor in tensors.items() if name.startswith(TEXT)}
    both = {f"{TEXT}module.{name.removeprefix(TEXT)}": tensor.clone() for name, tensor in text.items()}
    check_equal(base, load_single_file(write({**tensors, **both}, tmp_path / "m.safetensors")))


@pytest.mark.parametrize("kind", BAD)
def test_a_weight_that_does_not_fit_is_named_with_how_many_and_why(kind: str, tensors: Tensors, tmp_path: Path):
    change, says = BAD[kind]
    path = write(change(tensors), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.base: '.*model\.safetensors' .*{says}") as caught:
        load_pipeline(str(path))
    assert "\n" not in str(caught.value)


FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda whole: b"", "is empty; download it again"),
    "git-lfs": (
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "is a git-lfs pointer, not the weights",
    ),
    "a web page": (lambda whole: b"\n<!DOCTYPE html><html>Sign in</html>", "is an HTML page, not the weights"),
    "an error text": (lambda whole: b"Entry not found", "is a text that begins 'Entry not found', not the weights"),
    "half": (lambda whole: whole[: len(whole) // 2], r"ends after \d+ of \d+ bytes \(half a download\)"),
    "half a header": (lambda whole: whole[:200], r"ends within its header \(half a download\)"),
    "three bytes": (lambda whole: whole[:3], r"ends after 3 bytes \(half a download\)"),
    "a renamed pickle": (lambda whole: b"PK\x03\x04 and so on", "is a pickled PyTorch file named .safetensors"),
    "GGUF": (lambda whole: b"GGUF\x03\x00\x00\x00" + bytes(64), "is a quantised GGUF file"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_holds_no_weights_is_named_for_what_it_is(kind: str, tensors: Tensors, tmp_path: Path):
    change, says = FILES[kind]
    path = write({name: tensors[name] for name in list(tensors)[:3]}, tmp_path / "model.safetensors")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=rf"model\.base: '.*model\.safetensors' {says}"):
        find_base(str(path))


KINDS = {
    "model.diffusion_model.joint_blocks.0.x": "is a Stable Diffusion 3 checkpoint",
    "double_blocks.0.img_attn.qkv.weight": "is a Flux checkpoint",
    "control_model.input_hint_block.0.weight": "is a ControlNet",
    "emb_params": "is a textual inversion, not a base model",
    "lora_unet_x.lora_down.weight": "is a LoRA, not a base model",
    "unet.down_blocks.0.lora_A.weight": "is a LoRA, not a base model",
    "lora_unet_x.hada_w1_a": "is a LoRA, not a base model",
    "down_blocks.0.resnets.0.conv1.weight": "is the UNet of a diffusers folder alone; give the folder",
    "first_stage_model.encoder.down.0.block.0.conv1.weight": "is a VAE alone",
    "text_model.encoder.layers.0.mlp.fc1.weight": "is a text encoder alone",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named(name: str, tmp_path: Path):
    path = write({name: torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=rf"model\.base: '.*x\.safetensors' {KINDS[name]}"):
        find_base(str(path))


@pytest.mark.parametrize(
    "given",
    [
        "m.safetensors",
        "models/v1-5.safetensors",
        "models/v1.CKPT",
        "C:\\models\\v1-5",
        "D:model",
        "a/b/c",
        "./none",
        "~/none",
        "x/y/",
    ],
)
def test_what_can_only_be_a_path_is_said_not_to_be_there(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for field, load in (("base", load_pipeline), ("vae", load_vae)):
        with pytest.raises(InputError, match=rf"model\.{field}: '.*' is not there"):
            load(given)


def test_the_nearest_name_is_beside_a_path_that_is_not_there(tmp_path: Path):
    (tmp_path / "v1-5-pruned.safetensors").touch()
    with pytest.raises(InputError, match=r"is not there; did you mean 'v1-5-pruned\.safetensors' beside it\?"):
        find_base(str(tmp_path / "v1-5-prunde.safetensors"))
    with pytest.raises(InputError, match="is an address; give the hub id runwayml/stable-diffusion-v1-5"):
        find_base("https://huggingface.co/runwayml/stable-diffusion-v1-5")


VAES: dict[str, Callable[[Any, Tensors], Tensors]] = {
    "original": lambda base, t: {n.removeprefix("first_stage_model."): x for n, x in t.items() if n.startswith("first_stage")},
    "with its prefix": lambda base, t: {n: x for n, x in t.items() if n.startswith("first_stage_model.")},
    "of a whole checkpoint": lambda base, t: t,
    "diffusers": lambda base, t: {n: x.half() for n, x in base.vae.state_dict().items()},
    "diffusers in a wrapper": lambda base, t: {f"module.vae.{n}": x.half() for n, x in base.vae.state_dict().items()},
    "older attention": lambda base, t: {
        n.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value").replace("to_out.0", "proj_attn"): x.half()
        for n, x in base.vae.state_dict().items()
    },
}


@pytest.mark.parametrize("kind", VAES)
def test_a_vae_is_read_from_any_file_that_holds_one(kind: str, base: Any, tensors: Tensors, tmp_path: Path):
    path = write(VAES[kind](base, tensors), tmp_path / "vae.safetensors")
    check_equal(base, SimpleNamespace(vae=load_vae(str(path))), ("vae",))


def test_a_vae_that_lacks_a_weight_or_holds_nan_is_refused(base: Any, tensors: Tensors, tmp_path: Path):
    path = tmp_path / "vae.safetensors"
    state = VAES["original"](base, tensors)
    write(without("decoder.conv_out.bias")(state), path)
    with pytest.raises(InputError, match=r"model\.vae: '.*' lacks 1 of its 240 weights \(decoder\.conv_out\.bias\)"):
        load_vae(str(path))
    write({**state, "decoder.conv_out.bias": torch.full((3,), float("inf"))}, path)
    with pytest.raises(InputError, match=r"model\.vae: '.*' holds NaN or Inf in decoder\.conv_out\.bias \(3 numbers\)"):
        load_vae(str(path))
    write({f"{TEXT}x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"model\.vae: '.*' holds no VAE"):
        load_vae(str(path))


def test_the_text_encoder_of_sd_2_computes_what_open_clip_does(configs: Path, base: Any, tensors: Tensors, tmp_path: Path):
    """open_clip's own text tower, read through its layout, gives the same hidden states before the last layer."""
    torch.manual_seed(1)
    sizes = {"context_length": 77, "vocab_size": 16, "width": 1024, "heads": 16, "layers": 2, "mlp_ratio": 32 / 1024}
    clip = open_clip.CLIP(8, {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8}, sizes).eval()
    for parameter in clip.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    text = {name: tensor for name, tensor in clip.state_dict().items() if not name.startswith("visual.")}
    unet = UNet2DConditionModel.from_config(configs / "sd2" / "unet")
    original = OriginalNames(unet.config)
    own = {f"{UNET}{original.of(name)}": tensor for name, tensor in unet.state_dict().items()}
    vae = {name: tensor for name, tensor in tensors.items() if name.startswith("first_stage_model.")}
    path = write(
        {**own, **vae, **{f"cond_stage_model.model.{name}": tensor for name, tensor in text.items()}},
        tmp_path / "sd2.safetensors",
    )
    pipeline = load_pipeline(str(path))
    tokens = torch.randint(0, 16, (2, 77))
    with torch.no_grad():
        ours = pipeline.text_encoder(tokens).last_hidden_state
        hidden = clip.token_embedding(tokens) + clip.positional_embedding
        theirs = clip.ln_final(clip.transformer.resblocks[0](hidden, attn_mask=clip.attn_mask))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
