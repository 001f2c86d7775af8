"""transformers' CLIPModel is the independent reference."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from fashion_ml.embedded import EMBEDDED_DIR
from fashion_ml.errors import InputError
from fashion_ml.metrics.fashion_clip import cosine, load_fashion_clip
from fashion_ml.metrics.transformers_clip import is_transformers_clip, load_transformers_clip

TEXTS = ["a red striped dress", "", "shoes " * 100]
SIZES = (150, 150), (300, 150), (150, 300)  # the crop is the same whichever way an odd pixel would be rounded
SMALL = {
    "projection_dim": 24,
    "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "vision_config": {
        **{"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3},
        **{"image_size": 64, "patch_size": 16},
    },
}


def save(folder: Path, activation: str, sizes: dict | None = None, **text: object) -> CLIPModel:  # type: ignore[type-arg]
    """A random CLIP in transformers' form, with its image processor; far from initial values, so that differences show."""
    torch.manual_seed(0)
    sizes = sizes or {}
    config = CLIPConfig(
        **{key: value for key, value in sizes.items() if key == "projection_dim"},
        text_config={**sizes.get("text_config", {}), "hidden_act": activation, **text},
        vision_config={**sizes.get("vision_config", {}), "hidden_act": activation},
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    size = config.vision_config.image_size
    CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}).save_pretrained(folder)
    return model


def both(folder: Path, model: CLIPModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest difference of image and of text embeddings, L2-normalised, on the same pictures and texts."""
    ours, preprocess, tokenize = load_transformers_clip(folder)
    ours.eval()
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]
    processed = CLIPImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt").pixel_values
    assert (torch.stack([preprocess(p) for p in pictures]) - processed).abs().max() < 0.04  # two levels of 255, from rounding
    tokens = tokenize(TEXTS)
    with torch.no_grad():
        theirs = [
            model.visual_projection(model.vision_model(processed).pooler_output),
            model.text_projection(model.text_model(tokens).pooler_output),
        ]
        mine = [
            ours.encode_image(processed, normalize=True),
            ours.encode_text(tokens, normalize=True),
        ]
    return tuple((a - b / b.norm(dim=1, keepdim=True)).abs().max() for a, b in zip(mine, theirs, strict=True))  # type: ignore[return-value]


def test_vit_b_32_of_two_layers_gives_the_embeddings_of_transformers(tmp_path: Path):
    """Its widths, heads and patches are those of the real one."""
    two = {"num_hidden_layers": 2}
    assert max(both(tmp_path, save(tmp_path, "quick_gelu", {"text_config": two, "vision_config": two}))) < 1e-5


def test_a_small_one_with_gelu_gives_the_embeddings_of_transformers(tmp_path: Path):
    assert max(both(tmp_path, save(tmp_path, "gelu", SMALL))) < 1e-5


def test_another_activation_in_config_json_gives_other_embeddings(tmp_path: Path):
    model = save(tmp_path, "quick_gelu", SMALL)
    assert max(both(tmp_path, model)) < 1e-5
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    for tower in ("text_config", "vision_config"):
        tree[tower]["hidden_act"] = "gelu"
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert min(both(tmp_path, model)) > 1e-4


def test_without_a_word_about_the_activation_it_is_quick_gelu(tmp_path: Path):
    model = save(tmp_path, "quick_gelu", SMALL)
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    for tower in ("text_config", "vision_config"):
        tree[tower].pop("hidden_act")
    path.write_text(json.dumps(tree), encoding="utf-8")
    assert max(both(tmp_path, model)) < 1e-5


@pytest.mark.parametrize("eos", [2, 49407, 1000])
def test_the_end_of_the_text_is_found_as_transformers_finds_it(tmp_path: Path, eos: int):
    model = save(tmp_path, "gelu", SMALL, eos_token_id=eos)
    if eos == 1000:
        ours, _, _ = load_transformers_clip(tmp_path)
        tokens = torch.tensor([[49406, 5, 1000, 0, 0] + [0] * 72, [49406, 7, 8, 9, 1000] + [0] * 72])
        with torch.no_grad():
            theirs = model.text_projection(model.text_model(tokens).pooler_output)
            mine = ours.eval().encode_text(tokens)
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    else:
        assert both(tmp_path, model)[1] < 1e-5


@pytest.mark.parametrize(("text", "vision"), [("gelu", "quick_gelu"), ("relu", "relu")])
def test_activations_that_open_clip_cannot_express_are_named(tmp_path: Path, text: str, vision: str):
    save(tmp_path, "gelu", SMALL)
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["text_config"]["hidden_act"], tree["vision_config"]["hidden_act"] = text, vision
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{text} .text. and {vision}"):
        load_transformers_clip(tmp_path)


def test_weights_in_the_pickled_form_are_read_too(tmp_path: Path):
    model = save(tmp_path, "gelu", SMALL)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict() | {"text_model.embeddings.position_ids": torch.arange(77)}, tmp_path / "pytorch_model.bin")
    assert max(both(tmp_path, model)) < 1e-5


def test_only_a_clip_folder_is_one(tmp_path: Path):
    assert not is_transformers_clip(tmp_path)
    save(tmp_path, "gelu", SMALL)
    assert is_transformers_clip(tmp_path)


def test_the_same_weights_with_another_activation_are_another_encoder(tmp_path: Path):
    """The weights' hash is equal, the structure's is not: so are fingerprint and cache."""
    save(tmp_path / "quick", "quick_gelu", SMALL)
    save(tmp_path / "plain", "gelu", SMALL)
    first, second = (load_fashion_clip(name, str(tmp_path / name)) for name in ("quick", "plain"))
    assert first.weights_sha256 == second.weights_sha256
    assert first.structure_sha256 != second.structure_sha256
    assert first.structure_sha256 == load_fashion_clip("again", str(tmp_path / "quick")).structure_sha256


def test_an_encoder_without_weights_is_an_error_and_not_a_random_one(tmp_path: Path):
    source = EMBEDDED_DIR / "fashion_clip"
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"evaluation\.encoder: '.*' holds no weights \(open_clip_model\.safetensors\)"):
        load_fashion_clip(f"local-dir:{tmp_path}", f"local-dir:{tmp_path}")


def edited(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


LOST = "text_model.encoder.layers.1.self_attn.k_proj.bias"
UNFIT: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "one lost": (
        lambda t: {n: x for n, x in t.items() if n != LOST},
        rf"lacks 1 of its \d+ weights \({re.escape(LOST)}\): half a download",
    ),
    "an unknown wrapper": (lambda t: {f"clip.{n}": x for n, x in t.items()}, r"a wrapper put 'clip\.' before the names"),
    "NaN": (
        lambda t: {**t, LOST: t[LOST] * float("nan")},
        r"holds NaN or Inf in transformer\.resblocks\.1\.attn\.in_proj_bias \(32 numbers\)",
    ),
    "another shape": (
        lambda t: {**t, "visual_projection.weight": torch.zeros(8, 48)},
        r"another shape, visual\.proj: \[48, 8\]",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_an_encoder_in_transformers_form_has_every_weight_from_its_file(kind: str, tmp_path: Path):
    change, says = UNFIT[kind]
    save(tmp_path, "gelu", SMALL)
    edited(tmp_path / "model.safetensors", change)
    with pytest.raises(InputError, match=rf"^evaluation\.encoder: 'mine' .*{says}"):
        load_fashion_clip("mine", str(tmp_path))


def test_an_encoder_saved_inside_wrappers_gives_the_same_embeddings(tmp_path: Path):
    model = save(tmp_path, "gelu", SMALL)
    edited(tmp_path / "model.safetensors", lambda t: {f"module._orig_mod.{name}": tensor for name, tensor in t.items()})
    assert max(both(tmp_path, model)) < 1e-5


def test_a_tokenizer_of_another_vocabulary_is_not_the_encoders(tmp_path: Path):
    save(tmp_path, "gelu", SMALL)
    for path in (EMBEDDED_DIR / "stable_diffusion" / "tokenizer").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="'mine' knows 658 tokens, and the text encoder 49408: it is another model's"):
        load_fashion_clip("mine", str(tmp_path))
    for name in ("merges.txt", "tokenizer.json"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"'mine' lacks merges\.txt \(or tokenizer\.json\)"):
        load_fashion_clip("mine", str(tmp_path))


BIAS = "visual.layer1.0.bn1.running_mean"
OPEN_CLIP: dict[str, tuple[Callable[[Path], object], str]] = {
    "one lost": (
        lambda folder: edited(folder / "open_clip_model.safetensors", lambda t: {n: x for n, x in t.items() if n != BIAS}),
        rf"lacks 1 of its \d+ weights \({re.escape(BIAS)}\)",
    ),
    "NaN": (
        lambda folder: edited(folder / "open_clip_model.safetensors", lambda t: {**t, BIAS: t[BIAS] * float("nan")}),
        rf"holds NaN or Inf in {re.escape(BIAS)}",
    ),
    "fewer places, which open_clip would resize": (
        lambda folder: edited(
            folder / "open_clip_model.safetensors", lambda t: {**t, "positional_embedding": t["positional_embedding"][:16]}
        ),
        r"another shape, positional_embedding: \[16, 128\]",
    ),
    "a web page": (
        lambda folder: (folder / "open_clip_model.safetensors").write_text("<html>"),
        "open_clip_model.safetensors' is an HTML page",
    ),
    "no tokenizer": (
        lambda folder: [
            (folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
        ],
        "(has no tokenizer that can be read|has a tokenizer of .* tokens and a text encoder of 658)",
    ),
    "half a configuration": (
        lambda folder: (folder / "open_clip_config.json").write_text('{"model_cfg": '),
        "open_clip_config.json' cannot be read",
    ),
}


@pytest.mark.parametrize("kind", OPEN_CLIP)
def test_an_encoder_in_open_clips_form_has_every_weight_from_its_file(kind: str, tmp_path: Path):
    change, says = OPEN_CLIP[kind]
    folder = shutil.copytree(EMBEDDED_DIR / "fashion_clip", tmp_path / "clip")
    change(folder)
    with pytest.raises(InputError, match=rf"^evaluation\.encoder: .*{says}"):
        load_fashion_clip(f"local-dir:{folder}", f"local-dir:{folder}")


@pytest.mark.parametrize(
    "source", ["local-dir:/none/there", "models/clip/none", "./none", "clip.safetensors", "ViT-B-32@none.pt"]
)
def test_an_encoder_that_is_not_there_is_said_without_asking_the_network(source: str):
    with pytest.raises(InputError, match=r"^evaluation\.encoder: '.*' is not there"):
        load_fashion_clip(source, source)


def test_equal_embeddings_have_a_cosine_of_exactly_one():
    rows = torch.nn.functional.normalize(torch.randn(50, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert cosine(rows, rows) == [1.0] * 50
    assert cosine(rows[:1], -rows[:1]) == [-1.0]
